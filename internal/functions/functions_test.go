package functions_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/functions"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestCallsShareOneMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.add("hello", nil)
	s, _ := w.start(nil)

	var calls sync.WaitGroup
	for range 10 {
		calls.Go(func() {
			status, body, err := get(t.Context(), s, spec, http.MethodPost, "/echo?a=1", "the body")
			if err != nil || status != 200 || body != "POST a=1 the body" {
				t.Errorf("call: %d %q, %v", status, body, err)
			}
		})
	}
	calls.Wait()

	if boots, clones := w.host.counts(); boots != 1 || clones != 0 {
		t.Errorf("%d boots and %d clones for ten calls, want one boot", boots, clones)
	}
	all := s.Machines()
	if len(all) != 1 || all[0].Spec != spec || all[0].How != "boot" || all[0].Network.IP != "172.16.7.2/30" {
		t.Errorf("machines: %+v", all)
	}
	m := w.host.running()[0]
	if m.greeting != "hello "+string(spec[:8]) {
		t.Errorf("a program that asked its host while it started heard %q", m.greeting)
	}
	if m.config.VMHash != string(spec) {
		t.Errorf("config is for %q", m.config.VMHash)
	}
}

// TestTheNextStartIsFromASnapshot: one that the first call had made, whose
// copies know who they are.
func TestTheNextStartIsFromASnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.add("hello", nil)
	s, _ := w.start(nil)
	mustGet(t, s, spec, "/who", 200)
	snapshots := filepath.Join(w.dir, "functions", "snapshots", "*", "vm", "memory")
	eventually(t, "a snapshot", func() bool { found, _ := filepath.Glob(snapshots); return len(found) == 1 })

	seen := map[string]bool{}
	for range 2 {
		if err := s.Stop(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		body := mustGet(t, s, spec, "/who", 200)
		if !strings.Contains(body, "clone=true") || !strings.Contains(body, "ip=172.16.7.2") || strings.Contains(body, "seed= ") || seen[body] {
			t.Errorf("copy is %q, want one with its own seed and address", body)
		}
		seen[body] = true
	}
	if boots, clones := w.host.counts(); boots != 1 || clones != 2 {
		t.Errorf("%d boots and %d clones, want 1 and 2", boots, clones)
	}

	// A snapshot that does not serve is replaced.
	found, _ := filepath.Glob(snapshots)
	if err := os.WriteFile(found[0], []byte("rotten"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if body := mustGet(t, s, spec, "/who", 200); !strings.Contains(body, "clone=false") {
		t.Errorf("after a rotten snapshot: %q, want a boot", body)
	}
	eventually(t, "another snapshot", func() bool { raw, _ := os.ReadFile(found[0]); return string(raw) == "configured" })
	if err := s.Forget(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(snapshots); len(left) != 0 {
		t.Errorf("snapshots of a forgotten program: %v", left)
	}
}

// TestWhatASnapshotIsOf: the runtime only, if the program has volumes, cannot
// start alone, or wants it so; nothing, if it wants that.
func TestWhatASnapshotIsOf(t *testing.T) {
	t.Parallel()
	host := "host"
	volume := message.Volume{Kind: message.Persistent, SizeMiB: 4, Persistence: &host}
	for name, c := range map[string]struct {
		edit  func(*message.Program)
		alone bool
		want  string
	}{
		"program":  {want: "configured"},
		"volumes":  {edit: func(p *message.Program) { p.Volumes = []message.Volume{volume} }, want: "booted"},
		"alone":    {alone: true, want: "booted"},
		"runtime":  {edit: func(p *message.Program) { p.Metadata = message.Metadata{"snapshot": []byte(`"runtime"`)} }, want: "booted"},
		"not kept": {edit: func(p *message.Program) { p.Metadata = message.Metadata{"snapshot": []byte(`"none"`)} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.host.failAlone = c.alone
			spec := w.add("hello", c.edit)
			s, _ := w.start(nil)
			mustGet(t, s, spec, "/who", 200)
			if c.want != "" {
				eventually(t, "a snapshot", func() bool {
					found, _ := filepath.Glob(filepath.Join(w.dir, "functions", "snapshots", "*", "vm", "memory"))
					if len(found) == 0 {
						return false
					}
					raw, _ := os.ReadFile(found[0])
					return string(raw) == c.want
				})
			}
			if err := s.Stop(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			mustGet(t, s, spec, "/who", 200)
			if _, clones := w.host.counts(); (clones == 1) != (c.want != "") {
				t.Errorf("%d clones", clones)
			}
		})
	}
}

func TestWhatGoesWrongIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.add("hello", func(p *message.Program) { p.Resources.Seconds = 1 })
	broken := w.add("broken", nil)
	lost := w.add("lost", func(p *message.Program) { p.Runtime.Ref = hashOf("no runtime") })
	w.mu.Lock()
	delete(w.files, hashOf("no runtime"))
	w.mu.Unlock()
	huge := w.add("huge", func(p *message.Program) { p.Resources.MemoryMiB = 1 << 20 })
	s, _ := w.start(nil)

	for _, c := range []struct {
		spec     message.ItemHash
		path     string
		status   int
		text     string
		endsAlso bool
	}{
		{spec, "/hang", 504, "Program did not respond within `resource.seconds`", false},
		{spec, "/raise", 500, "Traceback: ValueError", false},
		{spec, "/garbage", 502, "VM responded with something that is not a reply", false},
		{spec, "/crash", 502, "VM did not respond and was shut down", true},
		{spec, "/nothing", 404, "", false},
		{broken, "/", 500, "Error during vm initialisation", true},
		{lost, "/", 400, "Code, runtime or data not available", false},
		{huge, "/", 503, "This CRN cannot host the requested workload at this time.", false},
		{hashOf("unknown"), "/", 404, "Item hash " + string(hashOf("unknown")) + " not found", false},
	} {
		if body := mustGet(t, s, c.spec, c.path, c.status); body != c.text {
			t.Errorf("%s: %q, want %q", c.path, body, c.text)
		}
		if c.endsAlso {
			eventually(t, "the machine to go", func() bool {
				for _, m := range s.Machines() {
					if m.Spec == c.spec {
						return false
					}
				}
				return true
			})
		}
	}
	// A program that crashed is started again.
	mustGet(t, s, spec, "/who", 200)
	// One that fails in the middle of its reply does not look whole.
	if _, body, err := get(t.Context(), s, spec, http.MethodGet, "/late", ""); err == nil || body != "a first part" {
		t.Errorf("late failure: %q, %v; want an error behind the first part", body, err)
	}
}

// TestARuntimeThatDoesNotStream: bodies go whole, within what it takes.
func TestARuntimeThatDoesNotStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.host.features = nil
	spec := w.add("hello", nil)
	s, _ := w.start(nil)

	status, body, err := get(t.Context(), s, spec, http.MethodPut, "/echo", "whole")
	if err != nil || status != 200 || body != "PUT  whole" {
		t.Errorf("call: %d %q, %v", status, body, err)
	}
	if status, _, err := get(t.Context(), s, spec, http.MethodPut, "/echo", strings.Repeat("x", guest.MaxRun)); err != nil || status != 413 {
		t.Errorf("body that is too large: %d, %v; want 413", status, err)
	}
	if found, _ := filepath.Glob(filepath.Join(w.dir, "functions", "snapshots", "*")); len(found) != 0 {
		t.Errorf("snapshots %v of a runtime whose copies cannot be told apart", found)
	}
}

func TestAChangeOfTheProgramTakesEffect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.add("hello", nil)
	s, _ := w.start(nil)
	if body := mustGet(t, s, spec, "/who", 200); !strings.Contains(body, "code=hello v1") {
		t.Fatalf("program is %q", body)
	}
	w.setFile(hashOf("hello code"), "hello v2")

	if body := mustGet(t, s, spec, "/who", 200); !strings.Contains(body, "code=hello v2") {
		t.Errorf("after an amendment the program is %q", body)
	}
	w.forget(spec)
	mustGet(t, s, spec, "/who", 404)
	eventually(t, "everything of it to be free", func() bool {
		return len(w.host.running()) == 0 && w.networks() == 0 && w.free() == 4096
	})
}

func TestAMachineThatIdlesEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.add("hello", nil)
	s, _ := w.start(func(c *functions.Config) { c.ReuseTimeout = 20 * time.Millisecond })
	mustGet(t, s, spec, "/who", 200)
	m := w.host.running()
	eventually(t, "the machine to end", func() bool { return len(s.Machines()) == 0 })
	if len(m) == 1 {
		m[0].mu.Lock()
		defer m[0].mu.Unlock()
		if !m[0].halted {
			t.Error("the program was not told to end")
		}
	}
}

// TestIdleMachinesMakeRoom: for those that are called.
// TestAMachineThatIsNotReusedAnswersTheCallThatStartedIt: none ends before that call
// has begun.
func TestAMachineThatIsNotReusedAnswersTheCallThatStartedIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.add("hello", func(p *message.Program) { p.Metadata = message.Metadata{"snapshot": []byte(`"none"`)} })
	s, _ := w.start(func(c *functions.Config) { c.ReuseTimeout = 0 })

	for range 5 {
		mustGet(t, s, spec, "/who", 200)
	}

	if boots, clones := w.host.counts(); boots > 5 || clones != 0 {
		t.Errorf("%d boots and %d clones for five calls, want a boot each at most", boots, clones)
	}
}

func TestIdleMachinesMakeRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, _ := w.start(func(c *functions.Config) { c.Machines, c.Snapshots = 2, false })
	for _, name := range []string{"a", "b", "c"} {
		mustGet(t, s, w.add(name, nil), "/who", 200)
	}
	if all := w.host.running(); len(all) != 2 {
		t.Errorf("%d machines run, want 2", len(all))
	}
	big := w.add("big", func(p *message.Program) { p.Resources.MemoryMiB = 4096 })
	mustGet(t, s, big, "/who", 200)
	if all := w.host.running(); len(all) != 1 {
		t.Errorf("%d machines run, want the big one only", len(all))
	}
}

func TestQueuesAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.add("hello", nil)
	s, _ := w.start(func(c *functions.Config) { c.Concurrency, c.Queue = 1, 1 })
	mustGet(t, s, spec, "/who", 200)

	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	statuses := make(chan int, 8)
	for range 8 {
		calls.Go(func() {
			status, _, _ := get(ctx, s, spec, http.MethodGet, "/hang", "")
			statuses <- status
		})
	}
	refused := 0
	for range 5 {
		if <-statuses == 503 {
			refused++
		}
	}
	cancel()
	calls.Wait()
	if refused != 5 {
		t.Errorf("%d of 8 calls were refused while one runs and two wait, want 5", refused)
	}
}

// TestADrainWaitsForCalls, refuses others, and ends machines.
func TestADrainWaitsForCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.add("hello", nil)
	held := w.add("held", nil)
	s, stop := w.start(nil)
	if err := s.Hold(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	if err := s.Hold(t.Context(), hashOf("unknown")); !errors.Is(err, errs.NotFound) {
		t.Errorf("hold of a program that is not known: %v", err)
	}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://host/who", nil)
	resp, err := s.Call(t.Context(), spec, r)
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	eventually(t, "the drain", func() bool {
		status, _, _ := get(t.Context(), s, spec, http.MethodGet, "/who", "")
		return status == 503
	})
	select {
	case <-stopped:
		t.Error("stopped while a call runs")
	default:
	}
	resp.Body.Close()
	<-stopped
	all := w.host.running()
	if len(all) != 1 || all[0].config.VMHash != string(held) {
		t.Errorf("%d machines run on, want the held one", len(all))
	}
}

// TestHeldProgramsGoOn: after the end of their machine, a reboot of the guest,
// and of the node; what an earlier process has left otherwise ends.
func TestHeldProgramsGoOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.add("held", nil)
	s, stop := w.start(nil)
	if err := s.Hold(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	first := w.host.running()[0]
	first.reboot()
	eventually(t, "the program after a reboot", func() bool { first.mu.Lock(); defer first.mu.Unlock(); return first.configured })
	mustGet(t, s, spec, "/who", 200)

	first.Kill(t.Context())
	eventually(t, "another machine", func() bool { all := w.host.running(); return len(all) == 1 && all[0] != first })
	mustGet(t, s, spec, "/who", 200)
	second := w.host.running()[0]
	stop()

	s, stop = w.start(nil)
	eventually(t, "the machine to be taken over", func() bool { all := s.Machines(); return len(all) == 1 && all[0].How == "adopted" })
	mustGet(t, s, spec, "/who", 200)
	if all := w.host.running(); len(all) != 1 || all[0] != second {
		t.Error("the machine was not the one that ran")
	}
	// Not held any more: it ends, also after a crash.
	if err := s.Stop(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	mustGet(t, s, spec, "/who", 200)
	stop()
	if n := len(w.host.running()); n != 0 {
		t.Errorf("%d machines run on", n)
	}
}

// TestLogsOutliveMachines: of all that a program had, one after the other, over a
// restart, until they are old.
func TestLogsOutliveMachines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.add("hello", nil)
	s, stop := w.start(nil)
	if _, err := s.Console(t.Context(), spec, false); errs.KindOf(err) != errs.NotFound {
		t.Errorf("the log of a program that was never called: %v", err)
	}
	for _, line := range []string{"one\n", "two\n", "three\n"} {
		mustGet(t, s, spec, "/who", 200)
		if err := os.WriteFile(filepath.Join(w.host.running()[0].spec.Dir, vmm.ConsoleFile), []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		if line == "three\n" {
			break // It runs on until the node stops.
		}
		if err := s.Stop(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	read := func() string {
		t.Helper()
		r, err := s.Console(t.Context(), spec, false)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		raw, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	if got := read(); got != "one\ntwo\nthree\n" {
		t.Errorf("the log while the third machine runs is %q", got)
	}
	stop()
	if err := os.RemoveAll(filepath.Join(w.dir, "functions", "programs")); err != nil {
		t.Fatal(err)
	}

	s, stop = w.start(nil)
	if got := read(); got != "one\ntwo\nthree\n" {
		t.Errorf("the log after a restart is %q", got)
	}
	owner, err := s.LogOwner(spec)
	if err != nil || owner == "" {
		t.Errorf("the log is of %q, %v", owner, err)
	}
	stop()
	// Another program's is newer, and with it there is more than may be.
	other := w.add("other", nil)
	s, stop = w.start(func(c *functions.Config) { c.LogMiB = 16 })
	mustGet(t, s, other, "/who", 200)
	if err := os.WriteFile(filepath.Join(w.host.running()[0].spec.Dir, vmm.ConsoleFile), make([]byte, vmm.ConsoleMax), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(w.dir, "functions", "logs", string(spec), vmm.ConsoleFile), 15<<20+1); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if _, err := s.LogOwner(spec); errs.KindOf(err) != errs.NotFound {
		t.Errorf("the older log, with which there is more than may be: %v, want errs.NotFound", err)
	}
	if _, err := s.LogOwner(other); err != nil {
		t.Errorf("the newer log: %v", err)
	}
	spec = other
	stop()
	old := time.Now().Add(-32 * 24 * time.Hour)
	if err := os.Chtimes(filepath.Join(w.dir, "functions", "logs", string(spec), "owner"), old, old); err != nil {
		t.Fatal(err)
	}
	s, _ = w.start(nil)
	eventually(t, "the old log to go", func() bool {
		_, err := s.Console(t.Context(), spec, false)
		return errs.KindOf(err) == errs.NotFound
	})
}

// TestAHoldOutlivesItsMachine: a program whose machine has ended is held by the next
// process too, and the one after, although neither can start it; until it is let go.
func TestAHoldOutlivesItsMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.add("held", nil)
	s, stop := w.start(nil)
	if err := s.Hold(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	runtime := w.takeFile(hashOf("runtime"))
	w.host.running()[0].Kill(t.Context())
	eventually(t, "its machine to be gone", func() bool { return len(s.Machines()) == 0 })
	stop()

	for range 2 {
		s, stop = w.start(nil)
		eventually(t, "the program to be held", func() bool { return slices.Equal(s.Held(), []message.ItemHash{spec}) })
		stop()
	}
	w.setFile(hashOf("runtime"), runtime)
	s, stop = w.start(nil)
	eventually(t, "another machine", func() bool { return len(w.host.running()) == 1 })
	w.takeFile(hashOf("runtime"))
	w.host.running()[0].Kill(t.Context())
	eventually(t, "that to be gone", func() bool { return len(s.Machines()) == 0 })
	if err := s.Stop(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	stop()

	w.setFile(hashOf("runtime"), runtime)
	s, stop = w.start(nil)
	defer stop()
	mustGet(t, s, spec, "/who", 200)
	if held := s.Held(); len(held) > 0 {
		t.Errorf("held is %v, want nothing after it was let go", held)
	}
}

// TestAHoldDuringAStartIsNoted: the next process holds a program whose hold came while
// a call's start was under way.
func TestAHoldDuringAStartIsNoted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spec := w.add("held", nil)
	begun, goOn := make(chan struct{}), make(chan struct{})
	w.nets = func(message.ItemHash) { // After the note of the machine was written.
		close(begun)
		<-goOn
	}
	s, stop := w.start(func(c *functions.Config) { c.Snapshots = false })
	var both sync.WaitGroup
	both.Go(func() {
		if status, body, err := get(t.Context(), s, spec, http.MethodGet, "/who", ""); err != nil || status != http.StatusOK {
			t.Errorf("the call: %d %q, %v", status, body, err)
		}
	})
	<-begun
	both.Go(func() {
		if err := s.Hold(t.Context(), spec); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the hold", func() bool { return len(s.Held()) == 1 })
	close(goOn)
	both.Wait()
	w.nets = nil
	first := w.host.running()
	stop()

	s, _ = w.start(nil)
	eventually(t, "the machine to be taken over", func() bool { all := s.Machines(); return len(all) == 1 && all[0].How == "adopted" })
	if all := w.host.running(); len(first) != 1 || len(all) != 1 || all[0] != first[0] || len(s.Held()) != 1 {
		t.Errorf("%d machines run, %d programs are held; want the one that ran, held", len(all), len(s.Held()))
	}
}

func TestVolumesOfPrograms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	host, mount, name := "host", "data", "my/state"
	spec := w.add("state", func(p *message.Program) {
		p.Code.Encoding = "squashfs"
		p.Volumes = []message.Volume{
			{Kind: message.Immutable, Ref: hashOf("a volume"), Mount: &mount},
			{Kind: message.Persistent, SizeMiB: 4, Persistence: &host, Name: &name},
			{Kind: message.Ephemeral, SizeMiB: 4},
		}
	})
	w.setFile(hashOf("a volume"), "squashed")
	s, _ := w.start(func(c *functions.Config) { c.Snapshots = false })
	mustGet(t, s, spec, "/who", 200)
	m := w.host.running()[0]
	m.mu.Lock()
	got := m.config.Volumes
	m.mu.Unlock()
	want := []guest.Volume{
		{Mount: "/opt/code", Device: "vdb", ReadOnly: true},
		{Mount: "/data", Device: "vdc", ReadOnly: true},
		{Mount: "/mnt/mystate", Device: "vdd"},
		{Mount: "/mnt/unamed_volume_2", Device: "vde"},
	}
	if len(got) != len(want) {
		t.Fatalf("volumes %+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("volume %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	kept, passing := m.spec.Volumes[2].Path, m.spec.Volumes[3].Path
	for _, name := range []string{kept, passing} {
		raw, err := os.ReadFile(name)
		if err != nil || len(raw) != 4<<20 || raw[0x438] != 0x53 || raw[0x439] != 0xef {
			t.Errorf("%s is no ext4 of 4 MiB: %v", filepath.Base(name), err)
		}
	}
	if err := s.Stop(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("persistent volume after a stop: %v", err)
	}
	if _, err := os.Stat(passing); err == nil {
		t.Error("ephemeral volume stays after a stop")
	}
	if err := s.Forget(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kept); err == nil {
		t.Error("persistent volume stays after the program was forgotten")
	}
}

// TestATemplateThatBootsAnewEndsAlone: what a guest says of itself ends its machine at
// most.
func TestATemplateThatBootsAnewEndsAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.host.restless = true
	spec := w.add("hello", nil)
	s, _ := w.start(nil)
	mustGet(t, s, spec, "/who", 200)
	eventually(t, "the end of a template that started twice", func() bool {
		w.host.mu.Lock()
		defer w.host.mu.Unlock()
		for _, m := range w.host.machines {
			m.mu.Lock()
			twice := m.template && m.starts > 1
			m.mu.Unlock()
			if twice && m.ended() {
				return true
			}
		}
		return false
	})
	mustGet(t, s, spec, "/who", 200)
}
