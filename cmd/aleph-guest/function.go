//go:build !machine

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm/agent"
	words "github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

const (
	// callsMax bounds the calls at a time. More wait.
	callsMax = 256
	// apiSocket is where programs find the host's interface, as they are told in
	// their environment.
	apiSocket = "/tmp/socat-socket"
	// configTimeout and the others bound what a host may take for its words.
	haltGrace = 10 * time.Second
	// rehearseMax bounds what a rehearsal takes of a template's start. What was not
	// rehearsed copies do for the first time.
	rehearseMax = 10 * time.Second
	// answerGrace is for the last bytes to the host before the machine ends.
	answerGrace = 100 * time.Millisecond
)

// function is a machine that answers calls of one program.
type function struct {
	g       *guest
	streams streams
	shim    *shim // nil where the runtime has no Python
	slots   chan struct{}
	output  *output
	random  *os.File // The kernel's generator, open so that a copy need not look for it.

	mu         sync.Mutex
	configured bool     // guarded by mu; a config came
	program    program  // guarded by mu; nil before the program is up
	mounts     []string // guarded by mu; of volumes, in their order
}

// program answers calls.
type program interface {
	// call answers one call. The body ends with the request's.
	call(ctx context.Context, scope words.Scope, body io.Reader, to replyWriter) error
	// stop ends the program in good order.
	stop(ctx context.Context) error
	// reseed parts the program from copies of it.
	reseed(ctx context.Context) error
}

// replyWriter takes the answer of a call: its begin, unless the call is an event,
// and any number of pieces.
type replyWriter interface {
	start(status int, headers []words.Header) error
	io.Writer
}

// programError is an error that the program raised.
type programError struct{ text, traceback string }

func (e *programError) Error() string { return e.text }

// errProgramGone is that the process of the program has ended by itself. The
// machine ends with it.
var errProgramGone = errors.New("the program's process has ended")

// bringUpOf returns what brings the machine up, by what it is.
func (g *guest) bringUpOf() func(context.Context) error {
	if hasArgument(words.FunctionArgument) {
		return g.bringUpFunction
	}
	return g.bringUp
}

// bringUpFunction does everything until the machine can be told what it is for.
func (g *guest) bringUpFunction(ctx context.Context) error {
	modules, err := readModules()
	if err != nil {
		return err
	}
	if err := modules.load("virtio", busOf("/sys"), "disk"); err != nil {
		return err
	}
	g.mark("drivers")
	others := make(chan error, 1)
	go func() { others <- modules.load(channelOf("/sys"), "other") }()
	if err := waitFor(rootDevice); err != nil {
		return err
	}
	if err := mountRuntime(); err != nil {
		return err
	}
	g.mark("mounted")
	if err := <-others; err != nil {
		return err
	}
	if err := switchRoot(); err != nil {
		return err
	}
	g.mark("root")
	if err := linkUp("lo"); err != nil {
		return err
	}
	f := &function{g: g, slots: make(chan struct{}, callsMax), output: newOutput(dataDir)}
	if f.shim, err = g.startShim(ctx); err != nil {
		return err
	}
	if f.streams, err = openStreams("/sys"); err != nil {
		return err
	}
	if f.random, err = os.OpenFile("/dev/urandom", os.O_RDWR, 0); err != nil {
		return fmt.Errorf("open the kernel's generator: %w", err)
	}
	if err := f.listen(ctx); err != nil {
		return err
	}
	if f.shim != nil {
		if err := f.shim.awaitUp(ctx); err != nil {
			return err
		}
	}
	g.mark("ready")
	close(g.ready)
	g.logf("ready for a program after %d ms", g.Info().Timings["ready"])
	if _, err := virtioPort("/sys/class/virtio-ports", agent.PortName); err == nil {
		go g.serveAgent(ctx)
	}
	f.streams.Run(ctx, f.sayReady)
	return nil
}

// mountRuntime mounts the runtime's disk, which is read only, below a layer in
// memory.
func mountRuntime() error {
	err := mountAll([]mount{{rootDevice, "/rom", "squashfs", unix.MS_RDONLY, ""}})
	if err != nil {
		return err
	}
	if err := mountAll([]mount{{"tmpfs", "/layer", "tmpfs", 0, "mode=0755"}}); err != nil {
		return err
	}
	for _, dir := range []string{"/layer/upper", "/layer/work"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("make layer: %w", err)
		}
	}
	if err := mountAll([]mount{{"overlay", newRoot, "overlay", unix.MS_NOATIME, "lowerdir=/rom,upperdir=/layer/upper,workdir=/layer/work"}}); err != nil {
		return err
	}
	for _, dir := range []string{"proc", "sys", "dev", "run", "tmp"} {
		if err := os.MkdirAll(filepath.Join(newRoot, dir), 0o755); err != nil {
			return fmt.Errorf("complete runtime: %w", err)
		}
	}
	return nil
}

// listen takes the host's streams and what programs say to it.
func (f *function) listen(ctx context.Context) error {
	run, err := f.streams.Listen(words.PortRun)
	if err != nil {
		return fmt.Errorf("listen for calls: %w", err)
	}
	reseed, err := f.streams.Listen(words.PortReseed)
	if err != nil {
		return fmt.Errorf("listen for reseeds: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(apiSocket), 0o1777); err != nil {
		return fmt.Errorf("make socket of the host's interface: %w", err)
	}
	api, err := net.ListenUnix("unix", &net.UnixAddr{Name: apiSocket})
	if err != nil {
		return fmt.Errorf("make socket of the host's interface: %w", err)
	}
	// For programs that run as others than root.
	if err := os.Chmod(apiSocket, 0o777); err != nil { //nolint:gosec // The machine is the program's.
		return fmt.Errorf("open socket of the host's interface: %w", err)
	}
	go f.serve(ctx, run, f.take)
	go f.serve(ctx, reseed, f.takeReseed)
	go f.serve(ctx, api, f.forward)
	return nil
}

func (f *function) serve(ctx context.Context, l net.Listener, handle func(context.Context, net.Conn)) {
	for {
		c, err := l.Accept()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			f.g.logf("accept: %v", err)
			time.Sleep(acceptPause)
			continue
		}
		go handle(ctx, c)
	}
}

// sayReady tells the host that the machine is up.
func (f *function) sayReady() {
	f.mu.Lock()
	configured := f.program != nil
	f.mu.Unlock()
	raw, err := words.Ready{
		Version: words.Version2, Configured: configured,
		Features: []string{words.FeatureStream, words.FeatureConcurrent, words.FeatureReseed},
	}.Encode()
	if err != nil {
		f.g.logf("say ready: %v", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), portTimeout)
	defer cancel()
	c, err := f.streams.Dial(ctx, words.PortRun)
	if err != nil {
		f.g.logf("say ready: %v", err)
		return
	}
	defer c.Close()
	if _, err := c.Write(raw); err != nil && !errors.Is(err, io.EOF) {
		f.g.logf("say ready: %v", err)
	}
}

// take does what the host says on a stream to the run port.
func (f *function) take(ctx context.Context, c net.Conn) {
	r := bufio.NewReader(c)
	first, err := r.Peek(1)
	if err != nil {
		c.Close()
		return
	}
	switch {
	case first[0] >= '0' && first[0] <= '9':
		f.takeConfig(ctx, c, r)
	case first[0] == words.Halt[0]:
		f.takeHalt(ctx, c, r)
	default:
		f.slots <- struct{}{}
		defer func() { <-f.slots }()
		f.takeRun(ctx, c, r)
	}
}

func (f *function) takeConfig(ctx context.Context, c net.Conn, r *bufio.Reader) {
	defer c.Close()
	config, err := words.ReadConfig(r)
	if err == nil {
		err = f.configure(ctx, config)
	}
	f.answer(c, err)
}

// answer says how a config or a reseed went.
func (f *function) answer(c net.Conn, err error) {
	res := words.Result{Success: err == nil}
	if err != nil {
		f.g.logf("%v", err)
		res.Error = err.Error()
		var raised *programError
		if errors.As(err, &raised) {
			res.Error, res.Traceback = raised.text, raised.traceback
		}
	}
	raw, err := res.Encode()
	if err == nil {
		_, err = c.Write(raw)
	}
	if err != nil {
		f.g.logf("answer the host: %v", err)
	}
}

// configure makes the machine what the host says, once.
func (f *function) configure(ctx context.Context, config words.Config) error {
	f.mu.Lock()
	again := f.configured
	f.configured = true
	f.mu.Unlock()
	if again {
		return errors.New("the machine has its config already")
	}
	if err := f.setUp(ctx, config); err != nil {
		return err
	}
	p, err := f.startProgram(ctx, config)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.program = p
	f.mu.Unlock()
	f.g.mark("program")
	f.g.logf("program is up after %d ms", f.g.Info().Timings["program"])
	return nil
}

// takeRun calls the program.
func (f *function) takeRun(ctx context.Context, c net.Conn, r *bufio.Reader) {
	f.mu.Lock()
	p := f.program
	f.mu.Unlock()
	f.takeRunOf(ctx, p, c, r)
}

// takeRunOf calls a program, which is nil if there is none.
func (f *function) takeRunOf(ctx context.Context, p program, c net.Conn, r *bufio.Reader) {
	defer c.Close()
	run, err := words.ReadRun(r)
	if err == nil && p == nil {
		err = errors.New("the program is not up")
	}
	if err != nil {
		f.send(c, words.Reply{Failed: true, Error: err.Error()})
		return
	}
	if run.Stream {
		err = f.runStreamed(ctx, p, run.Scope, c, r)
	} else {
		err = f.runWhole(ctx, p, run.Scope, c, r)
	}
	if errors.Is(err, errProgramGone) {
		// As with a machine whose only process it is: the host sees a stream
		// that ends without an answer.
		f.g.logf("%v", err)
		f.g.end(powerOffNow)
	}
}

func (f *function) send(c net.Conn, reply words.Reply) {
	raw, err := reply.Encode()
	if err != nil {
		raw, err = words.Reply{Failed: true, Error: err.Error()}.Encode()
	}
	if err == nil {
		_, err = c.Write(raw)
	}
	if err != nil {
		f.g.logf("answer the host: %v", err)
	}
}

// failed is the reply of an error.
func failed(err error) words.Reply {
	reply := words.Reply{Failed: true, Error: err.Error()}
	var raised *programError
	if errors.As(err, &raised) {
		reply.Error, reply.Traceback = raised.text, raised.traceback
	}
	return reply
}

// takeHalt ends the machine.
func (f *function) takeHalt(ctx context.Context, c net.Conn, r *bufio.Reader) {
	defer c.Close()
	word := make([]byte, len(words.Halt))
	if _, err := io.ReadFull(r, word); err != nil || string(word) != words.Halt {
		return
	}
	unix.Sync()
	f.mu.Lock()
	p := f.program
	f.mu.Unlock()
	if p != nil {
		ctx, cancel := context.WithTimeout(ctx, haltGrace)
		if err := p.stop(ctx); err != nil {
			f.g.logf("stop program: %v", err)
		}
		cancel()
	}
	_, err := io.WriteString(c, words.HaltStop)
	f.unmount()
	if err == nil {
		_, err = io.WriteString(c, words.HaltStopped)
	}
	if err != nil {
		f.g.logf("answer the host: %v", err)
	}
	c.Close()
	time.Sleep(answerGrace)
	f.g.end(powerOffNow)
}

// unmount writes volumes out and lets go of them, the last first.
func (f *function) unmount() {
	unix.Sync()
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.mounts) > 0 {
		last := len(f.mounts) - 1
		if err := unix.Unmount(f.mounts[last], unix.MNT_DETACH); err != nil {
			f.g.logf("unmount %s: %v", f.mounts[last], err)
		}
		f.mounts = f.mounts[:last]
	}
}

// forward carries what a program says to the host's interface, and back.
func (f *function) forward(ctx context.Context, c net.Conn) {
	defer c.Close()
	host, err := f.streams.Dial(ctx, words.PortAPI)
	if err != nil {
		f.g.logf("the host's interface: %v", err)
		return
	}
	defer host.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(host, c)
		closeWrite(host)
	}()
	_, _ = io.Copy(c, host)
	closeWrite(c)
	// A program that is done listening is not waited for.
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	<-done
}

// closeWrite tells the other end that nothing follows.
func closeWrite(c net.Conn) {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
}
