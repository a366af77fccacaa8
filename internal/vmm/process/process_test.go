package process_test

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
)

func TestParseStat(t *testing.T) {
	line := "4242 (qemu (x) y) S 1 4242 4242 0 -1 4194624 1 2 3 4 150 25 0 0 20 0 3 0 987654 500000000 60000 18446744073709551615"
	got, err := process.ParseStat(line)
	if want := (process.Stat{PID: 4242, Start: 987654, User: 150, System: 25, RSSPages: 60000}); err != nil || got != want {
		t.Errorf("ParseStat = %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "1", "1 x", "(x) S", "x (y) S 1", "1 (y) S", ")1("} {
		if _, err := process.ParseStat(bad); err == nil {
			t.Errorf("process.ParseStat(%q) was taken", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("1 (init) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 2 1 1 1")
	f.Fuzz(func(_ *testing.T, line string) { _, _ = process.ParseStat(line) })
}

func TestProcessIsNotMistaken(t *testing.T) {
	self, err := process.ReadStat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	p, err := process.Open(os.Getpid(), self.Start)
	if err != nil {
		t.Fatal(err)
	}
	if p.HasEnded() {
		t.Error("this process has ended")
	}
	p.Close()
	if _, err := process.Open(os.Getpid(), self.Start+1); !errors.Is(err, errs.NotFound) {
		t.Errorf("a process of another time: %v, want not found", err)
	}
	if _, err := process.Open(1<<22+1, 1); err == nil {
		t.Error("a process that cannot exist was opened")
	}
}

func TestMarkerIsFoundAcrossWrites(t *testing.T) {
	m := &process.Marker{Want: []byte("probe ok")}
	for _, s := range []string{"noise pro", "be o", "k\n"} {
		if _, err := io.WriteString(m, s); err != nil {
			t.Fatal(err)
		}
	}
	if !m.Found {
		t.Error("the marker was not found")
	}
	b := &process.Head{}
	io.WriteString(b, strings.Repeat("x", 5000))
	io.WriteString(b, "more")
	if len(b.String()) != 1024 {
		t.Errorf("kept %d bytes, want 1024", len(b.String()))
	}
}
