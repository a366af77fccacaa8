package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/functions"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// program tells who its machine is. What it imports it imports before a
// snapshot is made.
const program = `
import json, os, random, socket, ssl, time, uuid
born = random.random()
calls = 0
async def app(scope, receive, send):
    global calls
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    calls += 1
    if scope["path"] == "/raise":
        raise ValueError("on purpose")
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    out = {"born": born, "calls": calls, "urandom": os.urandom(16).hex(), "random": random.random(), "tls": ssl.RAND_bytes(16).hex(), "uuid": str(uuid.uuid4()),
           "hostname": socket.gethostname(), "time": time.time(), "body": len(body), "variable": os.environ.get("GREETING", "")}
    await send({"type": "http.response.start", "status": 200, "headers": [[b"content-type", b"application/json"]]})
    await send({"type": "http.response.body", "body": json.dumps(out).encode()})
`

// told is what the program tells.
type told struct {
	Born     float64
	Calls    int
	Urandom  string
	Random   float64
	TLS      string
	UUID     string
	Hostname string
	Time     float64
	Body     int
	Variable string
}

// realWorld is a world with QEMU and the image of functions.
type realWorld struct {
	*world
	image     vmm.Image
	networked functions.Networks // nil for none.
}

func (w realWorld) Boot(context.Context) (vmm.Image, error) { return w.image, nil }

func (w realWorld) File(ctx context.Context, owner string, ref message.ItemHash, latest bool) (functions.File, error) {
	if ref == hashOf("runtime") {
		return functions.File{Path: w.image.Rootfs, Hash: ref}, nil
	}
	return w.world.File(ctx, owner, ref, latest)
}

// newRealWorld has one program.
func newRealWorld(t testing.TB) realWorld {
	t.Helper()
	w := realWorld{&world{
		dir: t.TempDir(), programs: map[message.ItemHash]*message.Program{}, files: map[message.ItemHash]string{}, roomMiB: 4096,
		up: map[message.ItemHash]bool{},
	}, vmmtest.FunctionImage(t), nil}
	asgi := "asgi"
	p := &message.Program{}
	p.Address, p.Resources = "0xowner", message.Resources{VCPUs: 1, MemoryMiB: 256, Seconds: 120}
	p.Variables = map[string]string{"GREETING": "hello"}
	p.Code = message.ProgramCode{Encoding: "plain", Entrypoint: "app", Interface: &asgi, Ref: hashOf("code")}
	p.Runtime = message.ProgramRuntime{Ref: hashOf("runtime")}
	w.programs[hashOf("real")], w.files[p.Code.Ref] = p, program
	return w
}

// start runs programs in real machines, as a process of a node does.
func (w realWorld) start(t testing.TB) (s *functions.Service, stop func()) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	driver := qemu.New(qemu.Config{CacheDir: filepath.Join(w.dir, "probe")}, log)
	cfg := functions.DefaultConfig()
	cfg.InitTimeout, cfg.ConfigTimeout, cfg.RestoreTimeout = 3*time.Minute, 3*time.Minute, time.Minute
	parts := functions.Parts{Driver: driver, Boots: w, Messages: w, Files: w, Room: w, Networks: w, Hosts: w}
	if w.networked != nil {
		parts.Networks = w.networked
	}
	s, err := functions.New(t.Context(), cfg, filepath.Join(w.dir, "functions"), parts, prometheus.NewRegistry(), log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-ran, driver.Close()); err != nil {
			t.Errorf("end: %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// snapshots is where the snapshots of the world are.
func (w realWorld) snapshots() string {
	return filepath.Join(w.dir, "functions", "snapshots", "*", "vm")
}

// ask calls the program.
func ask(t testing.TB, s *functions.Service, body string) (out told, took time.Duration) {
	t.Helper()
	begin := time.Now()
	status, raw, err := get(t.Context(), s, hashOf("real"), http.MethodPost, "/", body)
	took = time.Since(begin)
	if err != nil || status != http.StatusOK {
		t.Fatalf("call: %d %s, %v", status, raw, err)
	}
	if err := json.Unmarshal([]byte(raw), &out); err != nil {
		t.Fatalf("program says %q: %v", raw, err)
	}
	return out, took
}

func awaitSnapshot(t testing.TB, pattern string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(5 * time.Minute); ; {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("no snapshot was made")
		}
	}
}

// TestAProgramInARealMachine is called in one that boots, and in two copies of
// a snapshot, which have nothing in common but what the program did when it
// started.
func TestAProgramInARealMachine(t *testing.T) {
	t.Parallel()
	w := newRealWorld(t)
	s, stop := w.start(t)
	first, _ := ask(t, s, "12345")
	if first.Body != 5 || first.Variable != "hello" || first.Calls != 1 || !strings.HasPrefix(first.Hostname, "mf") && len(first.Hostname) < 32 {
		t.Errorf("the program says %+v", first)
	}
	if status, text, err := get(t.Context(), s, hashOf("real"), http.MethodGet, "/raise", ""); err != nil || status != 500 || !strings.Contains(text, "on purpose") {
		t.Errorf("raise: %d %q, %v", status, text, err)
	}
	if again, _ := ask(t, s, ""); again.Calls != 3 {
		t.Errorf("the third call is number %d", again.Calls)
	}
	awaitSnapshot(t, w.snapshots())

	seen := map[string]bool{}
	var born []float64
	for range 2 {
		if err := s.Stop(t.Context(), hashOf("real")); err != nil {
			t.Fatal(err)
		}
		got, _ := ask(t, s, strings.Repeat("x", 1<<20))
		if all := s.Machines(); len(all) != 1 || all[0].How != "snapshot" {
			t.Fatalf("machines %+v, want one from a snapshot", all)
		}
		if got.Calls != 1 || got.Body != 1<<20 || got.Hostname != first.Hostname {
			t.Errorf("the copy says %+v", got)
		}
		if off := time.Since(time.UnixMilli(int64(got.Time * 1000))); off.Abs() > time.Minute {
			t.Errorf("the copy's clock is off by %v", off)
		}
		born = append(born, got.Born)
		for _, v := range []string{got.Urandom, got.UUID, fmt.Sprint(got.Random), got.TLS} {
			if seen[v] {
				t.Errorf("two copies have %s in common", v)
			}
			seen[v] = true
		}
	}
	if born[0] != born[1] || born[0] == first.Born {
		t.Errorf("copies were born with %v, the first with %v: these are not copies of one snapshot", born, first.Born)
	}

	// A program that is held runs on while the node does not.
	if err := s.Hold(t.Context(), hashOf("real")); err != nil {
		t.Fatal(err)
	}
	stop()
	s, _ = w.start(t)
	got, _ := ask(t, s, "")
	if all := s.Machines(); got.Calls != 2 || len(all) != 1 || all[0].How != "adopted" {
		t.Errorf("after the node's restart call %d of %+v, want the second of one that was taken over", got.Calls, all)
	}
	if err := s.Stop(t.Context(), hashOf("real")); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkColdStart measures a call of a program that has no machine: from a
// snapshot, and by a boot. The median and the 95th percentile, in milliseconds,
// and what processors do for one machine, with a warm call and its end, which
// other work on the host changes less.
func BenchmarkColdStart(b *testing.B) {
	w := newRealWorld(b)
	s, _ := w.start(b)
	_, boot := ask(b, s, "")
	awaitSnapshot(b, w.snapshots())
	var all, warm []time.Duration
	before := processorTime(b)
	for b.Loop() {
		if err := s.Stop(b.Context(), hashOf("real")); err != nil {
			b.Fatal(err)
		}
		_, took := ask(b, s, "")
		all = append(all, took)
		if how := s.Machines()[0].How; how != "snapshot" {
			b.Fatalf("started by %s", how)
		}
		_, took = ask(b, s, "")
		warm = append(warm, took)
	}
	report := func(name string, all []time.Duration) {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-"+name+"-ms")
		b.ReportMetric(float64(all[len(all)*95/100].Microseconds())/1000, "p95-"+name+"-ms")
	}
	report("snapshot", all)
	report("warm", warm)
	if err := s.Stop(b.Context(), hashOf("real")); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((processorTime(b)-before).Milliseconds())/float64(len(all)), "cpu-ms/machine")
	b.ReportMetric(float64(boot.Milliseconds()), "boot-ms")
}

// processorTime is what this process and those that it has waited for have used.
func processorTime(t testing.TB) (total time.Duration) {
	t.Helper()
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var used syscall.Rusage
		if err := syscall.Getrusage(who, &used); err != nil {
			t.Fatal(err)
		}
		total += time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	return total
}
