package executor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// exports opens files of the exports of a supervisor.
type exports struct {
	hook  *hook
	from  *executor.Supervisor
	spec  message.ItemHash
	away  error
	cut   string // File that is not given away; "" for none.
	whole bool   // It knows no ranges.
	spoil bool   // A byte changes on the way.
	asked func() // When a file is opened; nil for nothing.
}

func (e *exports) Open(ctx context.Context, from executor.Exporter, path string, offset, end int64) (f io.ReadCloser, whole bool, err error) {
	if e.asked != nil {
		e.asked()
	}
	err = e.hook.around(func() error {
		if e.away != nil {
			return e.away
		}
		if e.cut != "" && strings.HasSuffix(path, e.cut) {
			return errs.New(errs.Unavailable, "the line is cut")
		}
		job, err := e.from.ExportOf(ctx, e.spec)
		if err != nil {
			return err
		}
		if job.Token == "" || from.Token != job.Token {
			return errs.New(errs.Denied, "token %q", from.Token)
		}
		file, err := e.from.OpenExport(ctx, e.spec, strings.TrimPrefix(path, "/disk/"))
		if err != nil {
			return err
		}
		_, err = file.Seek(offset, io.SeekStart)
		f = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(file, end-offset), file}
		if e.whole {
			f = file
		}
		if e.spoil && offset == 0 {
			f = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(strings.NewReader("x"), io.LimitReader(file, end-1)), file}
			_, err = file.Seek(1, io.SeekStart)
		}
		return err
	})
	return f, e.whole, err
}

// pair is two nodes, and a machine with a volume that runs on the first.
type pair struct {
	t        *testing.T
	from, to *world
	a, b     *executor.Supervisor
	spec     message.ItemHash
	stops    []func()
}

func newPair(t *testing.T) *pair {
	t.Helper()
	return newPairWith(t, func(*world) {})
}

func newPairWith(t *testing.T, change func(*world)) *pair {
	t.Helper()
	p := &pair{t: t, from: newWorld(t), to: newWorld(t)}
	for _, w := range []*world{p.from, p.to} {
		w.core = newCore()
		w.cfg.Interval = 10 * time.Second
		change(w)
		p.spec = w.src.withVolumes(`{"persistence":"host","name":"data","size_mib":3}`)
	}
	p.to.exports = &exports{spec: p.spec}
	p.start()
	p.from.leased(p.a, p.spec)
	return p
}

func (p *pair) start() {
	p.t.Helper()
	p.a, p.b = p.from.supervisor(), p.to.supervisor()
	p.to.exports.from = p.a
	p.stops = []func(){p.from.run(p.a), p.to.run(p.b)}
}

func (p *pair) stop() {
	for _, stop := range p.stops {
		stop()
	}
}

// sleep checks meanwhile that not both run.
func (p *pair) sleep(d time.Duration) {
	p.t.Helper()
	for range d / time.Second {
		time.Sleep(time.Second)
		if a, b := p.from.host.Running(), p.to.host.Running(); len(a)+len(b) > 1 {
			p.t.Fatalf("both run: %v and %v", a, b)
		}
	}
}

// export exports the machine, and returns what an import of it asks for.
func (p *pair) export() (want executor.ImportRequest, err error) {
	p.t.Helper()
	e, err := p.a.BeginExport(p.t.Context(), p.spec)
	for n := 0; err == nil && e.State == disk.Exporting && e.Err == nil && n < 60; n++ {
		p.sleep(time.Second)
		e, err = p.a.ExportOf(p.t.Context(), p.spec)
	}
	if err != nil || e.State != disk.Exported {
		return want, fmt.Errorf("export: %+v: %w", e, err)
	}
	want = executor.ImportRequest{Spec: p.spec, From: executor.Exporter{Host: "a.example", Port: 443, Token: e.Token}}
	for _, f := range e.Files {
		want.Files = append(want.Files, executor.ExportedFile{File: f, Path: "/disk/" + f.Name})
	}
	return want, nil
}

func (p *pair) imported(want executor.ImportRequest) error {
	p.t.Helper()
	i, err := p.b.BeginImport(p.t.Context(), want)
	for n := 0; err == nil && i.State == disk.Importing && i.Err == nil && n < 60; n++ {
		p.sleep(time.Second)
		i, err = p.b.ImportOf(p.t.Context(), p.spec)
	}
	if err != nil {
		return err
	}
	return i.Err
}

// move does what a scheduler does to move a machine.
func (p *pair) move() error {
	p.t.Helper()
	want, err := p.export()
	if err == nil {
		err = p.imported(want)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	return p.a.FinishExport(ctx, p.spec)
}

func TestAMachineMovesToAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		defer p.stop()
		want, err := p.export()
		if err != nil {
			t.Fatal(err)
		}
		if len(want.Files) != 2 || len(p.from.host.Running()) != 0 {
			t.Fatalf("the export has %d files and %v run, want two and none", len(want.Files), p.from.host.Running())
		}
		var refused *executor.Refusal
		if err := p.a.Request(t.Context(), p.spec); !errors.As(err, &refused) {
			t.Errorf("a request while it moves: %v, want a refusal", err)
		}
		if _, err := p.a.Reboot(t.Context(), p.spec, "0xowner"); !errors.Is(err, errs.Conflict) {
			t.Errorf("a reboot while it moves: %v, want a conflict", err)
		}
		if err := p.a.FinishExport(t.Context(), p.spec); !errors.Is(err, errs.Conflict) {
			t.Errorf("it is given up before anybody has it: %v, want a conflict", err)
		}
		wrong := want
		wrong.From.Token = "wrong"
		if err := p.imported(wrong); !errors.Is(err, errs.Denied) {
			t.Errorf("with a wrong token: %v, want denied", err)
		}
		if err := p.b.Request(t.Context(), p.spec); !errors.As(err, &refused) {
			t.Errorf("a request before its disks are here: %v, want a refusal", err)
		}
		if err := p.imported(want); err != nil {
			t.Fatal(err)
		}
		p.sleep(30 * time.Second)
		vm := p.to.wantState(p.spec, state.VMRunning)
		for _, name := range []string{"disk.qcow2", "volumes/data.ext4"} {
			if _, err := os.Stat(filepath.Join(vm.Dir, name)); err != nil {
				t.Error(err)
			}
		}
		// Nobody says that it has arrived, and the source is restarted meanwhile.
		p.sleep(disk.ExportFor)
		p.stop()
		p.start()
		p.sleep(disk.ExportFor)
		if vm := p.from.wantState(p.spec, state.VMHalted); !strings.Contains(vm.Detail, "another node") {
			t.Errorf("the row says %q, want why it waits", vm.Detail)
		}
		p.to.wantState(p.spec, state.VMRunning)
		if err := p.a.FinishExport(t.Context(), p.spec); err != nil {
			t.Fatal(err)
		}
		p.from.wantNothing()
		if l, err := p.from.db.Lease(t.Context(), p.spec); err != nil || l.End == nil || l.End.Cause != state.EndMoved {
			t.Errorf("the lease is %+v (%v), want it to tell that the machine moved", l, err)
		}
		if i, err := p.b.BeginImport(t.Context(), want); err != nil || i.State != disk.Imported {
			t.Errorf("a second import: %+v, %v, want the first", i, err)
		}
	})
}

func TestAMachineThatNobodyFetchesComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		defer p.stop()
		want, err := p.export()
		if err != nil {
			t.Fatal(err)
		}
		p.to.exports.away = errs.New(errs.Unavailable, "the line is cut")
		if err := p.imported(want); !errors.Is(err, errs.Unavailable) {
			t.Errorf("import: %v, want unavailable", err)
		}
		p.sleep(disk.ExportFor + time.Minute)
		p.from.wantState(p.spec, state.VMRunning)
		if e, err := p.a.ExportOf(t.Context(), p.spec); err != nil || e.Err == nil {
			t.Errorf("the export is %+v (%v), want it failed", e, err)
		}
		p.to.exports.away = nil
		if err := p.imported(want); !errors.Is(err, errs.Denied) {
			t.Errorf("import of what was called off: %v, want denied", err)
		}
		p.from.wantState(p.spec, state.VMRunning)
		if err := p.move(); err != nil {
			t.Fatal(err)
		}
		p.sleep(30 * time.Second)
		p.to.wantState(p.spec, state.VMRunning)
	})
}

// TestFilesOfAnExportThatWasCalledOffGiveNoRight: the target has a file of an
// export that was called off, and the next one has the same bytes.
func TestFilesOfAnExportThatWasCalledOffGiveNoRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		defer p.stop()
		first, err := p.export()
		if err != nil {
			t.Fatal(err)
		}
		p.to.exports.cut = first.Files[1].Name
		if err := p.imported(first); err == nil {
			t.Fatal("it came without its second file")
		}
		p.sleep(disk.ExportFor + time.Minute)
		p.from.wantState(p.spec, state.VMRunning)
		second, err := p.export()
		if err != nil || second.Files[0].SHA256 != first.Files[0].SHA256 {
			t.Fatalf("the second export has %+v (%v), want the bytes of the first", second.Files, err)
		}
		p.to.exports.cut = ""
		if err := p.imported(second); err != nil {
			t.Fatal(err)
		}
		p.sleep(disk.ExportFor + 2*time.Minute)
		p.to.wantState(p.spec, state.VMRunning)
	})
}

// TestASpoiledFileGivesNothingAway: the target refuses it, and the source goes on.
func TestASpoiledFileGivesNothingAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		defer p.stop()
		want, err := p.export()
		if err != nil {
			t.Fatal(err)
		}
		p.to.exports.spoil = true
		if err := p.imported(want); !errors.Is(err, errs.Unavailable) {
			t.Errorf("import of a spoiled file: %v, want unavailable", err)
		}
		if m, err := disk.MoveOf(p.from.vm(p.spec).Dir); err != nil || len(m.Served) != 0 {
			t.Errorf("the source has given away %q (%v), want nothing", m.Served, err)
		}
		p.sleep(disk.ExportFor + time.Minute)
		p.from.wantState(p.spec, state.VMRunning)
		p.to.exports.spoil = false
		if err := p.move(); err != nil {
			t.Fatal(err)
		}
		p.sleep(30 * time.Second)
		p.to.wantState(p.spec, state.VMRunning)
		p.from.wantNothing()
	})
}

// TestAnExporterThatKnowsNoRanges gives each file once, and with it its end.
func TestAnExporterThatKnowsNoRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		defer p.stop()
		asked := 0
		p.to.exports.whole, p.to.exports.asked = true, func() { asked++ }
		if err := p.move(); err != nil {
			t.Fatal(err)
		}
		if asked != 2 {
			t.Errorf("it was asked %d times for its two files, want twice", asked)
		}
		p.sleep(30 * time.Second)
		p.to.wantState(p.spec, state.VMRunning)
		p.from.wantNothing()
	})
}

// TestRoomIsKeptForWhatMoves: at the target while it is fetched, and at the source
// until another node has it.
func TestRoomIsKeptForWhatMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPairWith(t, func(w *world) { w.cfg.MemoryMiB = 512 })
		defer p.stop()
		other := state.Resources{VCPUs: 1, MemoryMiB: 512}
		hold := func(s *executor.Supervisor) error {
			free, err := s.Hold(t.Context(), message.HashOf([]byte("other")), other)
			if err == nil {
				free()
			}
			return err
		}
		want, err := p.export()
		if err != nil {
			t.Fatal(err)
		}
		if err := hold(p.a); !errors.Is(err, errs.Exhausted) {
			t.Errorf("room at the source of a machine that may come back: %v, want exhausted", err)
		}
		var during error
		p.to.exports.asked = func() { during = hold(p.b) }
		p.to.exports.cut = want.Files[1].Name
		if err := p.imported(want); err == nil {
			t.Fatal("it came without its second file")
		}
		if !errors.Is(during, errs.Exhausted) {
			t.Errorf("room at the target while it is fetched: %v, want exhausted", during)
		}
		if err := hold(p.b); err != nil {
			t.Errorf("room at the target after that failed: %v", err)
		}
		free, err := p.b.Hold(t.Context(), message.HashOf([]byte("other")), other)
		if err != nil {
			t.Fatal(err)
		}
		p.to.exports.cut = ""
		if err := p.imported(want); !errors.Is(err, errs.Exhausted) {
			t.Errorf("import without room: %v, want exhausted", err)
		}
		free()
		if err := p.imported(want); err != nil {
			t.Fatal(err)
		}
		p.sleep(disk.ExportFor + time.Minute) // Nobody says that it has arrived.
		p.to.wantState(p.spec, state.VMRunning)
		if err := hold(p.a); err != nil {
			t.Errorf("room at the source of a machine that another node has: %v", err)
		}
		// Its owner may have what is left of it there erased.
		if err := p.a.Erase(t.Context(), p.spec, "0xowner"); err != nil {
			t.Fatal(err)
		}
		p.from.wantNothing()
		p.to.wantState(p.spec, state.VMRunning)
	})
}

// TestADrainingNodeIsGivenNoMachine: it says so before it has it.
func TestADrainingNodeIsGivenNoMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		defer p.stop()
		want, err := p.export()
		if err != nil {
			t.Fatal(err)
		}
		p.to.exports.asked = func() {
			if err := p.b.Drain(t.Context(), "operator", time.Now().Add(time.Hour)); err != nil {
				t.Error(err)
			}
		}
		for range 2 { // While it is fetched, and before.
			if err := p.imported(want); !errors.Is(err, errs.Exhausted) {
				t.Errorf("import at a node that drains: %v, want exhausted", err)
			}
		}
		p.sleep(disk.ExportFor + time.Minute)
		p.from.wantState(p.spec, state.VMRunning)
	})
}

func TestAMachineWhoseCopyFailsComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		defer p.stop()
		// What is no disk cannot be copied.
		if err := os.WriteFile(filepath.Join(p.from.vm(p.spec).Dir, "volumes", "bad.qcow2"), []byte("work"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := p.export(); err == nil {
			t.Fatal("what cannot be copied was exported")
		}
		p.sleep(30 * time.Second)
		p.from.wantState(p.spec, state.VMRunning)
	})
}

// TestAMoveOutlivesCrashes stops either node at each of the calls of a move: not
// both run at any time, and after some tries the machine is on the other node.
func TestAMoveOutlivesCrashes(t *testing.T) {
	for _, side := range []string{"source", "target"} {
		for at := 1; ; at++ {
			reached := false
			for _, after := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					p := newPair(t)
					p.stop()
					w := p.from
					if side == "target" {
						w = p.to
					}
					w.hook = &hook{at: at, after: after}
					p.start()
					err := p.move()
					reached = reached || w.hook.reached()
					p.stop()
					w.hook = nil
					p.start()
					p.sleep(disk.ExportFor + 2*time.Minute)
					for n := 0; n < 3 && len(p.to.host.Running()) == 0; n++ {
						err = p.move()
						p.sleep(time.Minute)
					}
					if len(p.to.host.Running()) != 1 || len(p.from.host.Running()) != 0 {
						t.Errorf("%s crashes at call %d (after it: %v): it runs %d and %d times, want it on the target: %v",
							side, at, after, len(p.from.host.Running()), len(p.to.host.Running()), err)
					}
					p.stop()
				})
			}
			if !reached || t.Failed() {
				break
			}
		}
	}
}
