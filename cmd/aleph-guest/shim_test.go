//go:build !machine

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	words "github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

// The shim runs here in the Python of this computer.

// newShim starts a shim and returns what it and its program print.
func newShim(t testing.TB) (*shim, func() string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatalf("python3 is missing, run packaging/setup/debian.sh test: %v", err)
	}
	dir, err := os.MkdirTemp("", "shim") //nolint:usetesting // A socket's path must be short.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	console, err := os.Create(filepath.Join(dir, "console"))
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	s, err := startShim(t.Context(), waiter{}, python, dir, console.Fd())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.kill()
		<-s.ended
	})
	if err := s.awaitUp(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, read(t, console.Name()))
	}
	return s, func() string { return read(t, console.Name()) }
}

// waiter starts programs and waits for those only: the tests have other children.
type waiter struct{}

func (waiter) start(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan unix.WaitStatus, error) {
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return 0, nil, err
	}
	ended := make(chan unix.WaitStatus, 1)
	go func() {
		var status unix.WaitStatus
		for {
			if _, err := unix.Wait4(pid, &status, 0, nil); !errors.Is(err, unix.EINTR) {
				break
			}
		}
		ended <- status
	}()
	return pid, ended, nil
}

func load(t testing.TB, source string) *shim {
	t.Helper()
	s, _ := newShim(t)
	if err := s.load(t.Context(), shimLoad{Source: &source, Entrypoint: "app", Environ: map[string]string{"GREETING": "hi"}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func get(path string) words.Scope {
	return words.Scope{Type: words.TypeHTTP, Method: "GET", Path: path, Headers: []words.Header{{Name: []byte("x"), Value: []byte("\x80")}}}
}

const echo = `
import os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["path"] == "/deaf":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"X", scope["headers"][0][1]), (b"a", b"1"), (b"a", b"2")]})
    await send({"type": "http.response.body", "body": os.environ["GREETING"].encode() + body, "more_body": True})
    await send({"type": "http.response.body", "body": b"!"})
`

func TestShimCalls(t *testing.T) {
	t.Parallel()
	s := load(t, echo)
	body := bytes.Repeat([]byte("x"), 3*shimPiece+1)
	for range 3 { // Over one connection.
		w := &wholeReply{}
		if err := s.call(t.Context(), get("/"), bytes.NewReader(body), w); err != nil {
			t.Fatal(err)
		}
		if want := "hi" + string(body) + "!"; w.status != 200 || w.body.String() != want {
			t.Errorf("answer is %d with %d bytes, want 200 with %d", w.status, w.body.Len(), len(want))
		}
		if got := fmt.Sprintf("%q", w.headers); got != `[{"x" "\x80"} {"a" "1"} {"a" "2"}]` {
			t.Errorf("headers are %s", got)
		}
	}
	// A program need not read what it was sent.
	w := &wholeReply{}
	if err := s.call(t.Context(), get("/deaf"), bytes.NewReader(body), w); err != nil || w.status != 204 || w.body.Len() != 0 {
		t.Errorf("answer is %d, %v; want 204", w.status, err)
	}
	if err := s.call(t.Context(), get("/"), strings.NewReader(""), &wholeReply{}); err != nil {
		t.Errorf("the call after that: %v", err)
	}
	if err := s.reseed(t.Context()); err != nil {
		t.Errorf("reseed: %v", err)
	}
}

// A rehearsal does all that a call does but for the program, and leaves a connection
// for the call and the reseed that follow.
func TestShimRehearses(t *testing.T) {
	t.Parallel()
	s := load(t, `
async def app(scope, receive, send):
    raise RuntimeError("called")
`)
	f := &function{g: &guest{}, slots: make(chan struct{}, 1), output: newOutput(t.TempDir())}
	if err := f.rehearse(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	w := &wholeReply{}
	if err := s.rehearse(t.Context(), get("/"), bytes.NewReader([]byte("body")), w); err != nil || w.status != 200 {
		t.Errorf("a rehearsed call is answered %d, %v; want 200", w.status, err)
	}
	if len(s.idle) != 1 {
		t.Errorf("%d connections are kept, want one", len(s.idle))
	}
	if err := s.reseed(t.Context()); err != nil {
		t.Errorf("reseed after a rehearsal: %v", err)
	}
	// A small body is through before the answer, so the connection is free with it.
	if err := s.call(t.Context(), get("/"), bytes.NewReader(nil), &wholeReply{}); err == nil || !strings.Contains(err.Error(), "called") {
		t.Errorf("a call: %v, want what the program raises", err)
	}
	if len(s.idle) != 1 {
		t.Errorf("%d connections are kept after that, want the same one", len(s.idle))
	}
}

// What the program raises comes with its traceback, and the next call is served.
func TestShimErrors(t *testing.T) {
	t.Parallel()
	s := load(t, `
import asyncio
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    path = scope["path"]
    if path == "/raise":
        raise ValueError("wanted")
    if path == "/silent":
        return
    if path == "/cancel":
        raise asyncio.CancelledError("on its own")
    await send({"type": "http.response.start", "status": 200})
    if path == "/early":
        raise ValueError("before the body")
    await send({"type": "http.response.body", "body": b"part", "more_body": path == "/late"})
    if path == "/late":
        raise ValueError("within the body")
    if path == "/ok":  # Who waits for the end of the call comes to it.
        while (await receive())["type"] != "http.disconnect":
            pass
`)
	for path, want := range map[string]string{
		"/raise": "ValueError: wanted", "/silent": "without a response", "/early": "before the body", "/late": "within the body",
		"/cancel": "on its own",
	} {
		err := s.call(t.Context(), get(path), strings.NewReader(""), &wholeReply{})
		var raised *programError
		if !errors.As(err, &raised) || !strings.Contains(raised.text+raised.traceback, want) {
			t.Errorf("%s: %v, want an error of the program about %q", path, err, want)
		}
	}
	w := &wholeReply{}
	if err := s.call(t.Context(), get("/ok"), strings.NewReader(""), w); err != nil || w.body.String() != "part" {
		t.Errorf("after errors: %q, %v", w.body.String(), err)
	}
	// That the answer cannot be passed on is not the program's fault.
	if err := s.call(t.Context(), get("/ok"), strings.NewReader(""), refusing{}); !errors.Is(err, errRefused) {
		t.Errorf("an answer that nobody takes: %v", err)
	}
}

var errRefused = errors.New("refused")

type refusing struct{}

func (refusing) start(int, []words.Header) error { return nil }
func (refusing) Write([]byte) (int, error)       { return 0, errRefused }

func TestShimLoadErrors(t *testing.T) {
	t.Parallel()
	const lifespan = "async def app(scope, receive, send):\n    await receive()\n    "
	for name, tt := range map[string]struct{ source, want string }{
		"syntax":   {"def", "SyntaxError"},
		"absent":   {"other = 1", "app"},
		"raise":    {"raise ValueError('at import')", "at import"},
		"exit":     {"import sys; sys.exit('no more')", "no more"},
		"lifespan": {lifespan + "await send({'type': 'lifespan.startup.failed', 'message': 'no database'})", "no database"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := newShim(t)
			err := s.load(t.Context(), shimLoad{Source: &tt.source, Entrypoint: "app"})
			var raised *programError
			if !errors.As(err, &raised) || !strings.Contains(raised.text+raised.traceback, tt.want) {
				t.Errorf("load: %v, want an error of the program about %q", err, tt.want)
			}
		})
	}
}

// A program is found on the path that it was given, its lifespan's state is in
// its calls, and its end is told to it.
func TestShimModulesAndLifespan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "pkg/web.py"), `
class Site:
    async def app(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["word"] = b"kept"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("the end", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": scope["state"]["word"]})
site = Site()
`, 0o644)
	s, console := newShim(t)
	if err := s.load(t.Context(), shimLoad{Path: []string{dir}, Entrypoint: "pkg.web:site.app"}); err != nil {
		t.Fatal(err)
	}
	w := &wholeReply{}
	if err := s.call(t.Context(), get("/"), strings.NewReader(""), w); err != nil || w.body.String() != "kept" {
		t.Errorf("answer %q, %v; want the state of the lifespan", w.body.String(), err)
	}
	if err := s.stop(t.Context()); err != nil || !strings.Contains(console(), "the end") {
		t.Errorf("stop: %v, console %q; want the program to be told", err, console())
	}
}

// Calls overlap, and one that nobody waits for any more is told so.
func TestShimConcurrencyAndDisconnect(t *testing.T) {
	t.Parallel()
	s := load(t, `
import asyncio
count, gone = 0, asyncio.Event()
async def app(scope, receive, send):
    global count
    if scope["type"] == "lifespan":
        return
    if scope["path"] == "/gone":
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        if (await receive())["type"] == "http.disconnect":
            gone.set()
        return
    if scope["path"] == "/wait":
        await gone.wait()
    else:
        count += 1
        while count < 8:
            await asyncio.sleep(0.01)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"all"})
`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			w := &wholeReply{}
			if err := s.call(t.Context(), get("/"), strings.NewReader(""), w); err != nil || w.body.String() != "all" {
				t.Errorf("answer %q, %v", w.body.String(), err)
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.call(ctx, get("/gone"), strings.NewReader(""), onWrite{cancel}); !errors.Is(err, context.Canceled) {
		t.Errorf("a call that was given up: %v", err)
	}
	if err := s.call(t.Context(), get("/wait"), strings.NewReader(""), &wholeReply{}); err != nil {
		t.Errorf("the program was not told that the caller has gone: %v", err)
	}
}

// onWrite does something when the answer begins.
type onWrite struct{ do func() }

func (onWrite) start(int, []words.Header) error { return nil }

func (w onWrite) Write(p []byte) (int, error) {
	w.do()
	return len(p), nil
}

func TestShimEvents(t *testing.T) {
	t.Parallel()
	s := load(t, `
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    event = await receive()
    if event["body"] == "quiet":
        return
    await send({"type": "x", "body": {"got": event["body"], "type": event["type"]}})
`)
	event := words.Scope{Type: words.TypeEvent}
	w := &wholeReply{}
	if err := s.call(t.Context(), event, strings.NewReader("é"), w); err != nil || w.status != 0 || w.body.String() != `{"got": "\u00e9", "type": "aleph.message"}` {
		t.Errorf("answer %d %q, %v", w.status, w.body.String(), err)
	}
	if err := s.call(t.Context(), event, strings.NewReader("quiet"), &wholeReply{}); err != nil {
		t.Errorf("an event that is not answered: %v", err)
	}
}

// When the process ends, it is said to be gone.
func TestShimGone(t *testing.T) {
	t.Parallel()
	s := load(t, "import os\nasync def app(scope, receive, send):\n    if scope['type'] == 'http':\n        os._exit(3)")
	if err := s.call(t.Context(), get("/"), strings.NewReader(""), &wholeReply{}); !errors.Is(err, errProgramGone) {
		t.Errorf("a call that ends the process: %v, want that it is gone", err)
	}
	if err := s.call(t.Context(), get("/"), strings.NewReader(""), &wholeReply{}); !errors.Is(err, errProgramGone) {
		t.Errorf("a call after that: %v, want that it is gone", err)
	}
	if err := s.reseed(t.Context()); !errors.Is(err, errProgramGone) {
		t.Errorf("reseed after that: %v, want that it is gone", err)
	}
}

// After a reseed the program does not go on with the random numbers that copies
// of it have too.
func TestShimReseed(t *testing.T) {
	t.Parallel()
	s := load(t, `
import random
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        random.seed(1)
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(random.getrandbits(64)).encode()})
`)
	if err := s.reseed(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := &wholeReply{}
	if err := s.call(t.Context(), get("/"), strings.NewReader(""), w); err != nil {
		t.Fatal(err)
	}
	seeded := strings.TrimSpace(tool(t, "python3", "-c", "import random; random.seed(1); print(random.getrandbits(64))"))
	if w.body.String() == seeded {
		t.Errorf("after a reseed the program draws %s, the number of its old seed", seeded)
	}
}

// BenchmarkShimCall is a call of a program that does nothing, without the host.
func BenchmarkShimCall(b *testing.B) {
	s := load(b, echo)
	for b.Loop() {
		if err := s.call(b.Context(), get("/deaf"), bytes.NewReader(nil), &wholeReply{}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestReadFrameRefuses(t *testing.T) {
	for _, raw := range []string{"", "B\x00\x00", "B\xff\xff\xff\xff", "B\x00\x00\x00\x02a"} {
		if _, _, err := readFrame(bufio.NewReader(strings.NewReader(raw)), nil); err == nil {
			t.Errorf("frame %q was taken", raw)
		}
	}
}
