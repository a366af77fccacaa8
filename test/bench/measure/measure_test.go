package measure_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	if held, err := measure.Memory(os.Getpid(), measure.Resident); err != nil || held < 1e6 {
		t.Errorf("Memory: %v, %v", held, err)
	}
	if _, err := measure.Memory(os.Getpid(), "VmNothing"); err == nil {
		t.Error("memory of no kind was read")
	}
}
