package functions_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/functions"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// host is a computer with machines in memory, whose guests speak the protocol
// of functions and run a program that does what it is asked by its path.
type host struct {
	mu        sync.Mutex
	machines  map[string]*fakeMachine // By directory; guarded by mu
	features  []string                // Guests announce; guarded by mu
	failAlone bool                    // Programs need a network to start; guarded by mu
	restless  bool                    // Guests of templates say that they have booted anew, and start no more; guarded by mu
	boots     int                     // guarded by mu
	clones    int                     // guarded by mu
	specs     []vmm.Spec              // guarded by mu
	events    []string                // That programs were called with; guarded by mu
}

func newHost() *host {
	return &host{
		machines: map[string]*fakeMachine{},
		features: []string{guest.FeatureStream, guest.FeatureConcurrent, guest.FeatureReseed},
	}
}

func (h *host) counts() (boots, clones int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.boots, h.clones
}

func (h *host) heard() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.events...)
}

// running returns the machines that run, but for templates.
func (h *host) running() (out []*fakeMachine) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.machines {
		if !m.ended() && !m.template {
			out = append(out, m)
		}
	}
	return out
}

// driver is one process's driver of the host.
type driver struct{ h *host }

func (d *driver) Name() string { return "fake" }
func (d *driver) Close() error { return nil }
func (d *driver) Probe(context.Context, vmm.Image) (vmm.Capabilities, error) {
	return vmm.Capabilities{}, nil
}

func (d *driver) Start(_ context.Context, spec vmm.Spec) (vmm.Machine, error) {
	m, err := d.h.add(spec, false)
	if err != nil {
		return nil, err
	}
	d.h.mu.Lock()
	d.h.boots++
	d.h.mu.Unlock()
	return m, nil
}

func (d *driver) Adopt(_ context.Context, dir string) (vmm.Machine, error) {
	d.h.mu.Lock()
	defer d.h.mu.Unlock()
	m := d.h.machines[dir]
	if m == nil || m.ended() {
		return nil, errs.New(errs.NotFound, "no machine in %s", dir)
	}
	m.newSession()
	return m, nil
}

func (d *driver) StartTemplate(_ context.Context, spec vmm.Spec) (vmm.Template, error) {
	return d.h.add(spec, true)
}

func (d *driver) StartClone(_ context.Context, spec vmm.Spec, dir string) (vmm.Machine, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "memory"))
	if err != nil {
		return nil, errs.New(errs.NotFound, "no snapshot: %v", err)
	}
	if string(raw) == "rotten" {
		return nil, errs.New(errs.NotFound, "the snapshot is damaged")
	}
	m, err := d.h.add(spec, false)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.configured = string(raw) == "configured"
	m.clone = true
	m.mu.Unlock()
	d.h.mu.Lock()
	d.h.clones++
	d.h.mu.Unlock()
	return m, nil
}

func (h *host) add(spec vmm.Spec, template bool) (*fakeMachine, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(spec.Dir, 0o700); err != nil {
		return nil, err
	}
	m := &fakeMachine{h: h, spec: spec, template: template, done: make(chan struct{}), again: make(chan struct{}), listeners: map[uint32]*pipeListener{}}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.machines[spec.Dir] = m
	h.specs = append(h.specs, spec)
	return m, nil
}

// fakeMachine is a machine and its guest.
type fakeMachine struct {
	h        *host
	spec     vmm.Spec
	template bool
	done     chan struct{}
	once     sync.Once

	mu         sync.Mutex
	listeners  map[uint32]*pipeListener // Of the host; guarded by mu
	said       bool                     // Ready, in this session; guarded by mu
	configured bool                     // guarded by mu
	clone      bool                     // guarded by mu
	config     guest.Config             // guarded by mu
	starts     int                      // Of its program; guarded by mu
	again      chan struct{}            // Closed when it was started a second time, if it is restless
	reseed     guest.Reseed             // guarded by mu
	halted     bool                     // guarded by mu
	greeting   string                   // What the guest API answered while the program started; guarded by mu
}

func (m *fakeMachine) ID() string                               { return m.spec.ID }
func (m *fakeMachine) PID() int                                 { return 1 << 30 }
func (m *fakeMachine) Accelerator() vmm.Accelerator             { return vmm.TCG }
func (m *fakeMachine) Ready(context.Context) error              { return nil }
func (m *fakeMachine) Info(context.Context) (vmm.Info, error)   { return vmm.Info{}, nil }
func (m *fakeMachine) Stats(context.Context) (vmm.Stats, error) { return vmm.Stats{}, nil }
func (m *fakeMachine) Done() <-chan struct{}                    { return m.done }
func (m *fakeMachine) Exit() vmm.Exit                           { return vmm.Exit{Reason: "the test says so"} }

func (m *fakeMachine) Stop(context.Context, time.Duration) error { return m.Kill(context.Background()) }

func (m *fakeMachine) Kill(context.Context) error {
	m.once.Do(func() { close(m.done) })
	return nil
}

func (m *fakeMachine) ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// Save implements vmm.Template.
func (m *fakeMachine) Save(_ context.Context, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	m.mu.Lock()
	what := "booted"
	if m.configured {
		what = "configured"
	}
	m.mu.Unlock()
	return errors.Join(os.WriteFile(filepath.Join(dir, "memory"), []byte(what), 0o600), m.Kill(context.Background()))
}

// newSession is what a guest sees of another process of the host.
func (m *fakeMachine) newSession() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listeners, m.said = map[uint32]*pipeListener{}, false
}

// reboot is a guest that boots anew in its machine.
func (m *fakeMachine) reboot() {
	m.mu.Lock()
	m.configured = false
	l := m.listeners[guest.PortRun]
	m.mu.Unlock()
	m.sayReady(l)
}

func (m *fakeMachine) sayReady(l *pipeListener) {
	m.mu.Lock()
	r := guest.Ready{Version: guest.Version2, Features: m.h.features, Configured: m.configured}
	m.mu.Unlock()
	raw, _ := r.Encode()
	us, them := net.Pipe()
	l.conns <- them
	_, _ = us.Write(raw)
	_ = us.Close()
}

// Listen implements vmm.Streamer: the guest is up as soon as somebody hears it.
func (m *fakeMachine) Listen(port uint32) (net.Listener, error) {
	l := &pipeListener{conns: make(chan net.Conn, 8), closed: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listeners[port] = l
	if port == guest.PortRun && !m.said {
		m.said = true
		go m.sayReady(l)
	}
	return l, nil
}

// Dial implements vmm.Streamer.
func (m *fakeMachine) Dial(_ context.Context, port uint32) (net.Conn, error) {
	if m.ended() {
		return nil, errs.New(errs.Unavailable, "the machine has ended")
	}
	us, them := net.Pipe()
	go func() {
		defer them.Close()
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			select {
			case <-m.done:
				them.Close()
			case <-stop:
			}
		}()
		m.take(port, them)
	}()
	return us, nil
}

// take is the guest.
func (m *fakeMachine) take(port uint32, c net.Conn) {
	r := bufio.NewReader(c)
	if port == guest.PortReseed {
		reseed, err := guest.ReadReseed(r)
		m.mu.Lock()
		m.reseed = reseed
		m.mu.Unlock()
		answer(c, guest.Result{Success: err == nil})
		return
	}
	first, err := r.Peek(1)
	switch {
	case err != nil:
	case first[0] == 'h':
		m.mu.Lock()
		m.halted = true
		m.mu.Unlock()
		io.WriteString(c, guest.HaltStop+guest.HaltStopped)
	case first[0] >= '0' && first[0] <= '9':
		m.start(r, c)
	default:
		run, err := guest.ReadRun(r)
		if err == nil {
			m.run(run, r, c)
		}
	}
}

func (m *fakeMachine) start(r *bufio.Reader, c net.Conn) {
	config, err := guest.ReadConfig(r)
	if err != nil {
		answer(c, guest.Result{Error: err.Error()})
		return
	}
	m.h.mu.Lock()
	alone := m.h.failAlone && config.IP == ""
	restless := m.h.restless && m.template
	m.h.mu.Unlock()
	m.mu.Lock()
	m.starts++
	first := m.starts == 1
	m.mu.Unlock()
	switch {
	case restless && first:
		m.reboot() // Before the host has an answer, so that it is still at it.
		select {
		case <-m.again:
		case <-m.done:
		}
	case restless:
		close(m.again)
		answer(c, guest.Result{Error: "not again"})
		return
	}
	if alone || strings.Contains(string(config.Code), "broken") {
		answer(c, guest.Result{Error: "cannot start", Traceback: "Traceback of the start"})
		return
	}
	// A program may ask its host while it starts.
	greeting := m.ask()
	m.mu.Lock()
	m.config, m.configured, m.greeting = config, true, greeting
	m.mu.Unlock()
	answer(c, guest.Result{Success: true})
}

// ask asks the host.
func (m *fakeMachine) ask() string {
	m.mu.Lock()
	l := m.listeners[guest.PortAPI]
	m.mu.Unlock()
	if l == nil {
		return "nobody listens"
	}
	us, them := net.Pipe()
	l.conns <- them
	raw, _ := io.ReadAll(us)
	return string(raw)
}

func answer(c net.Conn, r guest.Result) {
	raw, _ := r.Encode()
	_, _ = c.Write(raw)
}

// run is the program.
func (m *fakeMachine) run(run guest.Run, r *bufio.Reader, c net.Conn) {
	body := run.Scope.Body
	if run.Stream && run.Scope.Path != "/early" {
		body, _ = io.ReadAll(guest.NewBodyReader(r))
	}
	reply := guest.Reply{Status: 200, Headers: []guest.Header{{Name: []byte("content-type"), Value: []byte("text/plain")}}}
	m.mu.Lock()
	who := fmt.Sprintf("code=%s seed=%s ip=%s clone=%v", m.config.Code, hex.EncodeToString(m.reseed.Seed), m.config.IP+m.reseed.IP, m.clone)
	configured := m.configured
	m.mu.Unlock()
	switch run.Scope.Path {
	case "/echo":
		reply.Body = append([]byte(run.Scope.Method+" "+run.Scope.QueryString+" "), body...)
	case "/who":
		reply.Body = []byte(who)
	case "/hang":
		_, _ = c.Read(make([]byte, 1))
		return
	case "/raise":
		reply = guest.Reply{Failed: true, Error: "ValueError", Traceback: "Traceback: ValueError"}
	case "/crash":
		m.Kill(context.Background())
		return
	case "/garbage":
		io.WriteString(c, "\xc1")
		return
	case "/late":
		reply.Body = []byte("a first part")
	default:
		if run.Scope.Type == guest.TypeEvent {
			m.h.mu.Lock()
			m.h.events = append(m.h.events, string(body))
			m.h.mu.Unlock()
			reply = guest.Reply{Body: body}
		} else {
			reply.Status = 404
		}
	}
	if !configured {
		reply = guest.Reply{Failed: true, Error: "not configured"}
	}
	if !run.Stream || reply.Failed {
		raw, _ := reply.Encode()
		_, _ = c.Write(raw)
		return
	}
	out := reply.Body
	reply.Body = nil
	raw, _ := reply.Encode()
	_, _ = c.Write(raw)
	w := guest.NewBodyWriter(c)
	_, _ = w.Write(out)
	_ = w.Close()
	last := guest.Reply{}
	if run.Scope.Path == "/late" {
		last = guest.Reply{Failed: true, Error: "late"}
	}
	raw, _ = last.Encode()
	_, _ = c.Write(raw)
}

// pipeListener is a listener of one port.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

// world is what a service works with.
type world struct {
	t    *testing.T
	dir  string
	host *host
	nets func(message.ItemHash) // A network is about to be made, of a machine that starts.

	mu       sync.Mutex
	programs map[message.ItemHash]*message.Program // guarded by mu
	files    map[message.ItemHash]string           // Newest content by ref; guarded by mu
	roomMiB  int                                   // That is free; guarded by mu
	up       map[message.ItemHash]bool             // Networks; guarded by mu
	away     map[message.ItemHash]bool             // Programs that nobody tells about; guarded by mu
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{
		t: t, dir: t.TempDir(), host: newHost(), programs: map[message.ItemHash]*message.Program{}, files: map[message.ItemHash]string{},
		roomMiB: 4096, up: map[message.ItemHash]bool{},
	}
}

func hashOf(name string) message.ItemHash { return message.HashOf([]byte(name)) }

// add makes a program that is known.
func (w *world) add(name string, edit func(*message.Program)) message.ItemHash {
	w.t.Helper()
	p := &message.Program{}
	p.Address = "0xowner"
	p.Resources = message.Resources{VCPUs: 1, MemoryMiB: 128, Seconds: 30}
	p.Environment.Internet = true
	p.Code = message.ProgramCode{Encoding: "plain", Entrypoint: "main:app", Ref: hashOf(name + " code"), UseLatest: true}
	p.Runtime = message.ProgramRuntime{Ref: hashOf("runtime"), UseLatest: true}
	if edit != nil {
		edit(p)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.programs[hashOf(name)] = p
	w.files[p.Code.Ref] = name + " v1"
	w.files[p.Runtime.Ref] = "a root disk"
	return hashOf(name)
}

func (w *world) setFile(ref message.ItemHash, content string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files[ref] = content
}

// takeFile lets nobody have a file any more, and returns what is in it.
func (w *world) takeFile(ref message.ItemHash) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	content := w.files[ref]
	delete(w.files, ref)
	return content
}

func (w *world) forget(spec message.ItemHash) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.programs, spec)
}

func (w *world) Program(_ context.Context, spec message.ItemHash) (*message.Program, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away[spec] {
		return nil, errs.New(errs.Unavailable, "nobody tells about %s", spec)
	}
	if p := w.programs[spec]; p != nil {
		return p, nil
	}
	return nil, errs.New(errs.NotFound, "no program %s", spec)
}

func (w *world) File(_ context.Context, _ string, ref message.ItemHash, _ bool) (functions.File, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	content, ok := w.files[ref]
	if !ok {
		return functions.File{}, errs.New(errs.Unavailable, "nobody has %s", ref)
	}
	hash := message.HashOf([]byte(content))
	path := filepath.Join(w.dir, string(hash))
	return functions.File{Path: path, Hash: hash}, os.WriteFile(path, []byte(content), 0o600)
}

func (w *world) Reserve(_ context.Context, _ message.ItemHash, r state.Resources) (func(), error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	memoryMiB := r.MemoryMiB
	if memoryMiB > w.roomMiB {
		return nil, errs.New(errs.Exhausted, "%d MiB are free", w.roomMiB)
	}
	w.roomMiB -= memoryMiB
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.roomMiB += memoryMiB
	}), nil
}

func (w *world) free() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.roomMiB
}

func (w *world) Up(_ context.Context, spec message.ItemHash) (functions.Network, error) {
	if w.nets != nil {
		w.nets(spec)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up[spec] = true
	return functions.Network{Device: vmm.NetDevice{Kind: vmm.NetUser, MAC: "52:54:00:00:00:07"}, IP: "172.16.7.2/30", Route: "172.16.7.1"}, nil
}

func (w *world) Down(_ context.Context, spec message.ItemHash) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.up, spec)
	return nil
}

func (w *world) networks() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.up)
}

func (w *world) Boot(context.Context) (vmm.Image, error) {
	return vmm.Image{Name: "boot", Kernel: "/kernel", Initrd: "/initrd", Cmdline: "quiet"}, nil
}

func (w *world) ServeProgram(spec message.ItemHash, _ *message.Program, l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		io.WriteString(c, "hello "+string(spec[:8]))
		c.Close()
	}
}

// start runs a service; stop ends it as a node does.
func (w *world) start(edit func(*functions.Config)) (s *functions.Service, stop func()) {
	w.t.Helper()
	cfg := functions.DefaultConfig()
	cfg.Refresh, cfg.DrainTimeout = 0, 5*time.Second
	if edit != nil {
		edit(&cfg)
	}
	parts := functions.Parts{Driver: &driver{w.host}, Boots: w, Messages: w, Files: w, Room: w, Networks: w, Hosts: w}
	s, err := functions.New(w.t.Context(), cfg, filepath.Join(w.dir, "functions"), parts, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ran; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	w.t.Cleanup(stop)
	return s, stop
}

// get calls a program and returns status and body.
func get(ctx context.Context, s *functions.Service, spec message.ItemHash, method, path, body string) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://host"+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := s.Call(ctx, spec, r)
	if err != nil {
		var f *functions.Fault
		if errors.As(err, &f) {
			return f.Status, f.Text, nil
		}
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw), err
}

// mustGet is get, with the status that must be.
func mustGet(t *testing.T, s *functions.Service, spec message.ItemHash, path string, want int) string {
	t.Helper()
	status, body, err := get(t.Context(), s, spec, http.MethodGet, path, "")
	if err != nil || status != want {
		t.Fatalf("GET %s: %d %q, %v; want %d", path, status, body, err, want)
	}
	return body
}

// eventually waits for something that happens behind a call.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
