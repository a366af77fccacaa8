package measure_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

func TestQuantilesAreOfTheNearestRank(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, tt := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{nil, 0.5, 0},
		{[]float64{7}, 0.5, 7},
		{[]float64{7}, 0.99, 7},
		{[]float64{2, 1}, 0.5, 1},
		{[]float64{3, 1, 2}, 0.5, 2},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
	} {
		if got := measure.Quantile(tt.values, tt.q); got != tt.want {
			t.Errorf("quantile %v of %d values is %v, want %v", tt.q, len(tt.values), got, tt.want)
		}
	}
}

func TestFiguresAreWrittenForPeople(t *testing.T) {
	for _, tt := range []struct {
		v    float64
		unit string
		want string
	}{{0, "s", "0 s"}, {5, "ms", "5 ms"}, {0.126, "s", "0.13 s"}, {1234567, "B", "1,234,567 B"}, {1000.4, "/s", "1,000 /s"}, {999.5, "/s", "999.50 /s"}} {
		if got := measure.Figure(tt.v, tt.unit); got != tt.want {
			t.Errorf("%v %s is written %q, want %q", tt.v, tt.unit, got, tt.want)
		}
	}
}

// TestAReportIsWritten looks for each figure in the table, and reads the others files.
func TestAReportIsWritten(t *testing.T) {
	var said strings.Builder
	r := &measure.Report{Name: "x", Title: "Title", Command: "make x", About: "About.", Quantile: 0.99, Say: measure.Progress(&said, "x")}
	first := r.Add("One", "first", "ms", 1, 2, 3)
	first.Aim, first.CPUUS = 10, 1500
	first.Against("peer", 4)
	r.Add("One", "second", "B", 7)
	r.Add("Two", "third", "/s", 8)
	r.Note("Two", "What two is.")
	r.Plot(measure.Plot{Name: "p", Title: "Plot", Text: "See:", Series: []measure.Series{{Name: "a", X: []float64{10, 1000}, Y: []float64{0.5, 500}}, {Name: "b", X: []float64{10, 1000}, Y: []float64{3, 3}}}, Aim: 5, AimText: "aim"})
	dir := filepath.Join(t.TempDir(), "new")

	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}

	table, err := os.ReadFile(filepath.Join(dir, "x.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# Title", "About.", "## One", "| first | 2 ms | 3 ms | 3 | 1,500 us | 10 ms | 4 ms peer | 0.50 |", "| second | 7 B |  | 1 |", "## Two\n\nWhat two is.\n\n|", "![Plot](x-p.svg)",
	} {
		if !strings.Contains(string(table), want) {
			t.Errorf("the table has no %q:\n%s", want, table)
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "x.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Results []measure.Result }
	if err := json.Unmarshal(raw, &got); err != nil || len(got.Results) != 3 || got.Results[0] != *first {
		t.Errorf("results %+v, %v", got.Results, err)
	}
	plot, err := os.ReadFile(filepath.Join(dir, "x-p.svg"))
	if err != nil {
		t.Fatal(err)
	}
	if err := wellFormed(string(plot)); err != nil || strings.Contains(string(plot), "NaN") || strings.Count(string(plot), "<polyline") != 2 {
		t.Errorf("plot %s, %v", plot, err)
	}
	if !strings.Contains(said.String(), "first: median 2 ms") {
		t.Errorf("progress %s", said.String())
	}
}

// TestWhatIsNotMeasuredAgainStays replaces one group and its plot in a report, and adds one.
func TestWhatIsNotMeasuredAgainStays(t *testing.T) {
	dir := t.TempDir()
	report := func() *measure.Report {
		return &measure.Report{Name: "x", Title: "Title", Command: "make x", Quantile: 0.99, Say: measure.Progress(io.Discard, "x")}
	}
	plot := func(name string, high float64) measure.Plot {
		return measure.Plot{Name: name, Title: name, Series: []measure.Series{{Name: "line", X: []float64{1, 10}, Y: []float64{1, high}}}}
	}
	first := report()
	if err := first.Keep(dir); err != nil {
		t.Fatalf("keep nothing: %v", err)
	}
	for _, group := range []string{"One", "Two", "Three"} {
		first.Add(group, "old a", "s", 1)
		first.Add(group, "old b", "s", 1)
		first.Note(group, "Old note of "+group+".")
	}
	first.Plot(plot("two", 7))
	first.Plot(plot("three", 8))
	if err := first.Write(dir); err != nil {
		t.Fatal(err)
	}

	var table []byte
	for range 2 { // What stayed once stays again.
		second := report()
		if err := second.Keep(dir); err != nil {
			t.Fatal(err)
		}
		second.Add("Four", "new", "s", 2)
		second.Add("Two", "new", "s", 2)
		second.Note("Two", "New note.")
		second.Plot(plot("two", 9))
		err := second.Write(dir)
		if err == nil {
			table, err = os.ReadFile(filepath.Join(dir, "x.md"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	var got []string
	for line := range strings.Lines(string(table)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "## ") || strings.HasPrefix(line, "| old") || strings.HasPrefix(line, "| new") || strings.Contains(line, "note") || strings.HasPrefix(line, "![") {
			got = append(got, strings.TrimSpace(strings.SplitN(strings.Trim(line, "| "), "|", 2)[0]))
		}
	}
	want := []string{
		"## One", "Old note of One.", "old a", "old b", "## Two", "New note.", "new", "## Three", "Old note of Three.", "old a", "old b", "## Four", "new",
		"![three](x-three.svg)", "![two](x-two.svg)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the table has %q, want %q", got, want)
	}
	if n := strings.Count(string(table), "Measured at 2"); n != 2 {
		t.Errorf("of %d groups it is said when they were measured, want of the two that stay:\n%s", n, table)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := report().Keep(dir); err == nil {
		t.Error("a broken report was kept")
	}
}

func wellFormed(text string) error {
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("at %d: %w", d.InputOffset(), err)
		}
	}
}

func TestThisProcessUsesTimeAndMemory(t *testing.T) {
	if used, err := measure.CPU(); err != nil || used <= 0 {
		t.Errorf("CPU: %v, %v", used, err)
	}
	if _, err := measure.CPUOf(os.Getpid()); err != nil {
		t.Errorf("CPUOf: %v", err)
	}
	if _, err := measure.CPUOfChildren(os.Getpid()); err != nil {
		t.Errorf("CPUOfChildren: %v", err)
	}
	if busy, err := measure.Busy(t.Context(), 50*time.Millisecond); err != nil || busy < 0 || busy > float64(runtime.NumCPU()) {
		t.Errorf("Busy: %v, %v", busy, err)
	}
	if load, err := measure.Load(); err != nil || load < 0 {
		t.Errorf("Load: %v, %v", load, err)
	}
	if held, err := measure.Memory(os.Getpid(), measure.Resident); err != nil || held < 1e6 {
		t.Errorf("Memory: %v, %v", held, err)
	}
	if _, err := measure.Memory(os.Getpid(), "VmNothing"); err == nil {
		t.Error("memory of no kind was read")
	}
}
