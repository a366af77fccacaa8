//go:build !machine

package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-yamux/v5"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
	words "github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

// These tests boot the image of functions in a real machine. They start QEMU
// themselves, without the product's driver, so that they show what this program
// does and no more.

// bootMax bounds a step of a machine that is translated on a busy computer.
const bootMax = 3 * time.Minute

const poll = 10 * time.Millisecond // Of what QEMU does not tell of.

// machine is a running function and the host's end of its streams.
type machine struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	ended  chan struct{}
	conn   net.Conn
	mux    *yamux.Session
	toHost chan net.Conn // Streams of the guest to the run port.
	api    chan net.Conn // To the port of the host's interface.
}

func startMachine(t *testing.T, drives ...string) *machine {
	t.Helper()
	return startWith(t, nil, drives...)
}

// startWith starts a machine with further arguments of QEMU.
func startWith(t *testing.T, more []string, drives ...string) *machine {
	t.Helper()
	img := vmmtest.FunctionImage(t)
	dir, err := os.MkdirTemp("", "fn") //nolint:usetesting // A socket's path must be short.
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, ended: make(chan struct{})}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "pc,usb=off,vmport=off,hpet=off,graphics=off",
		"-accel", "tcg", "-cpu", "max", "-m", "128M", "-kernel", img.Kernel, "-initrd", img.Initrd,
		"-append", img.Cmdline + " no_timer_check lpj=10400000",
		"-chardev", "file,id=console,path=" + filepath.Join(dir, "console"), "-serial", "chardev:console",
		"-device", "virtio-serial-pci", "-chardev", "socket,id=streams,path=" + filepath.Join(dir, "streams") + ",server=on,wait=off",
		"-device", "virtserialport,chardev=streams,name=" + words.StreamsPort,
		"-chardev", "socket,id=qmp,path=" + filepath.Join(dir, "qmp") + ",server=on,wait=off", "-mon", "chardev=qmp,mode=control",
	}
	args = append(args, more...)
	for i, d := range append([]string{img.Rootfs}, drives...) {
		args = append(args, "-drive", fmt.Sprintf("if=none,id=d%d,format=raw,read-only=%s,file=%s", i, readOnly(d), d), "-device", fmt.Sprintf("virtio-blk-pci,drive=d%d", i))
	}
	cmd := exec.Command("qemu-system-x86_64", args...)
	m.cmd = cmd
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(m.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-m.ended
		if t.Failed() {
			console, _ := os.ReadFile(filepath.Join(dir, "console"))
			t.Logf("qemu: %s\nconsole:\n%s", said.String(), console)
		}
		os.RemoveAll(dir)
	})
	m.connect()
	return m
}

func readOnly(drive string) string {
	if strings.HasSuffix(drive, ".ext4") {
		return "off"
	}
	return "on"
}

// connect begins a session.
func (m *machine) connect() {
	m.t.Helper()
	deadline := time.Now().Add(bootMax)
	for {
		c, err := net.Dial("unix", filepath.Join(m.dir, "streams"))
		if err == nil {
			m.conn = c
			break
		}
		select {
		case <-m.ended:
			m.t.Fatal("the machine has ended")
		case <-time.After(poll):
		}
		if time.Now().After(deadline) {
			m.t.Fatal(err)
		}
	}
	var nonce words.Nonce
	_, _ = rand.Read(nonce[:])
	if _, err := m.conn.Write(nonce.Hello()); err != nil {
		m.t.Fatal(err)
	}
	_ = m.conn.SetReadDeadline(deadline)
	r := bufio.NewReader(m.conn)
	if err := words.AwaitAnswer(r, nonce, 1<<20); err != nil {
		m.t.Fatal(err)
	}
	_ = m.conn.SetReadDeadline(time.Time{})
	config := yamux.DefaultConfig()
	config.EnableKeepAlive, config.LogOutput = false, io.Discard
	var err error
	if m.mux, err = yamux.Client(&readAhead{m.conn, r}, config, nil); err != nil {
		m.t.Fatal(err)
	}
	m.toHost, m.api = make(chan net.Conn, 16), make(chan net.Conn, 16)
	go func(mux *yamux.Session, run, api chan net.Conn) {
		for {
			s, err := mux.AcceptStream()
			if err != nil {
				return
			}
			var port [4]byte
			if _, err := io.ReadFull(s, port[:]); err != nil {
				continue
			}
			switch binary.BigEndian.Uint32(port[:]) {
			case words.PortRun:
				run <- s
			case words.PortAPI:
				api <- s
			}
		}
	}(m.mux, m.toHost, m.api)
}

// readAhead is a connection of which some was read.
type readAhead struct {
	net.Conn
	r io.Reader
}

func (c *readAhead) Read(p []byte) (int, error) { return c.r.Read(p) }

// ready waits for the guest to say that it is up.
func (m *machine) ready() words.Ready {
	m.t.Helper()
	select {
	case c := <-m.toHost:
		ready, err := words.ReadReady(bufio.NewReader(c))
		if err != nil {
			m.t.Fatal(err)
		}
		return ready
	case <-time.After(bootMax):
		m.t.Fatal("the guest does not say that it is ready")
	}
	return words.Ready{}
}

// say opens a stream to a port of the guest and sends raw.
func (m *machine) say(port uint32, raw []byte) (net.Conn, *bufio.Reader) {
	m.t.Helper()
	c, err := m.mux.OpenStream(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, port), raw...)); err != nil {
		m.t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(bootMax))
	return c, bufio.NewReader(c)
}

func (m *machine) configure(c words.Config) words.Result {
	m.t.Helper()
	raw, err := c.Encode(words.Version2)
	if err != nil {
		m.t.Fatal(err)
	}
	_, r := m.say(words.PortRun, raw)
	res, err := words.ReadResult(r)
	if err != nil {
		m.t.Fatal(err)
	}
	return res
}

func (m *machine) call(method, path string, body []byte) words.Reply {
	m.t.Helper()
	raw, err := words.Run{Scope: words.Scope{
		Type: words.TypeHTTP, Method: method, Path: path, QueryString: "a=1&b=%C3%A9", Body: body,
		Headers: []words.Header{{Name: []byte("host"), Value: []byte("example.org")}, {Name: []byte("x-bytes"), Value: []byte("\xff")}},
	}}.Encode()
	if err != nil {
		m.t.Fatal(err)
	}
	_, r := m.say(words.PortRun, raw)
	reply, err := words.ReadReply(r)
	if err != nil {
		m.t.Fatal(err)
	}
	return reply
}

// halt ends the machine and checks that it says so.
func (m *machine) halt() {
	m.t.Helper()
	_, r := m.say(words.PortRun, []byte(words.Halt))
	said, _ := io.ReadAll(r)
	if string(said) != words.HaltStop+words.HaltStopped {
		m.t.Errorf("halt is answered %q", said)
	}
	select {
	case <-m.ended:
	case <-time.After(bootMax):
		m.t.Error("the machine does not end after halt")
	}
}

const bootProgram = `
import asyncio, json, os, random, socket

started = []
waiting = None

async def app(scope, receive, send):
    global waiting
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            started.append(event["type"])
            if event["type"] == "lifespan.shutdown":
                print("the program shuts down", flush=True)
            await send({"type": event["type"] + ".complete"})
            if event["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "aleph.message":
        event = await receive()
        await send({"type": "aleph.message.response", "body": event["body"].upper()})
        return
    path = scope["path"]
    body, more = b"", True
    if path == "/echo":  # A piece for each that comes.
        await send({"type": "http.response.start", "status": 201, "headers": [(b"X-Kind", b"stream")]})
        await send({"type": "http.response.body", "body": b"", "more_body": True})  # Sends the headers.
        while more:
            message = await receive()
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message["body"].upper(), "more_body": more})
        return
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    if path == "/raise":
        raise ValueError("wanted")
    if path == "/wait":  # Two calls at a time, or it never ends.
        if waiting is None:
            waiting = asyncio.get_running_loop().create_future()
            await waiting
        else:
            waiting.set_result(None)
    if path == "/crash":
        os._exit(3)
    answer = {
        "path": path, "query": scope["query_string"].decode(), "method": scope["method"], "body": len(body), "started": started,
        "host": dict(scope["headers"])[b"host"].decode(), "bytes": list(dict(scope["headers"])[b"x-bytes"]),
        "hostname": socket.gethostname(), "variable": os.environ.get("GREETING"), "random": random.random(),
    }
    if path == "/api":
        s = socket.socket(socket.AF_UNIX)
        s.connect(os.environ["ALEPH_API_UNIX_SOCKET"])
        s.sendall(b"GET /cache/key HTTP/1.0\r\n\r\n")
        s.shutdown(socket.SHUT_WR)
        answer["api"] = b"".join(iter(lambda: s.recv(4096), b"")).decode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
`

// TestFunctionBoots boots the image, makes it an ASGI program and calls that in
// every way, over two sessions.
func TestFunctionBoots(t *testing.T) {
	t.Parallel()
	m := startMachine(t)
	ready := m.ready()
	if ready.Version != words.Version2 || !ready.Has(words.FeatureStream) || !ready.Has(words.FeatureConcurrent) || !ready.Has(words.FeatureReseed) || ready.Configured {
		t.Errorf("ready is %+v, want version 2 with all features and no config", ready)
	}
	if reply := m.call("GET", "/", nil); !reply.Failed || !strings.Contains(reply.Error, "not up") {
		t.Errorf("a call before the config is answered %+v, want that the program is not up", reply)
	}
	same := words.Reseed{Seed: bytes.Repeat([]byte{1}, words.SeedBytes), Time: 2e18}
	m.reseed(same)
	res := m.configure(words.Config{
		Interface: words.ASGI, Encoding: words.Plain, Entrypoint: "app", Code: []byte(bootProgram),
		VMHash: strings.Repeat("decadeca", 8), Variables: map[string]string{"GREETING": "it's me"},
	})
	if !res.Success {
		t.Fatalf("config: %+v", res)
	}
	if res := m.configure(words.Config{Interface: words.ASGI}); res.Success || !strings.Contains(res.Error, "already") {
		t.Errorf("a second config: %+v, want it refused", res)
	}
	first := m.answer("/hello", 5_000_000)
	for key, want := range map[string]any{
		"path": "/hello", "query": "a=1&b=%C3%A9", "method": "POST", "body": 5e6, "host": "example.org", "variable": "it's me",
		"hostname": "33fn5sw6zlpmvxwk33fn5sw6zlpmvxwk33fn5sw6zlpmvxwk33fa",
	} {
		if first[key] != want {
			t.Errorf("%s is %v in the program, want %v", key, first[key], want)
		}
	}
	if got := fmt.Sprint(first["started"], first["bytes"]); got != "[lifespan.startup] [255]" {
		t.Errorf("the program saw %s, want its startup once and the bytes of the header", got)
	}
	if reply := m.call("GET", "/raise", nil); !reply.Failed || reply.Error != "wanted" || !strings.Contains(reply.Traceback, "ValueError: wanted") {
		t.Errorf("an error is answered %+v, want it and its traceback", reply)
	}
	m.callTwice("/wait")
	m.callStreamed()
	m.callEvent()
	m.callAPI()

	// The host comes again, as after its restart.
	m.mux.Close()
	m.connect()
	if ready := m.ready(); !ready.Configured {
		t.Errorf("in the second session ready is %+v, want the config to be there", ready)
	}
	m.reseed(same)
	if second := m.answer("/again", 0); second["random"] == first["random"] {
		t.Error("random numbers repeat after a reseed")
	}
	m.halt()
	console, err := os.ReadFile(filepath.Join(m.dir, "console"))
	if err != nil || !strings.Contains(string(console), "the program shuts down") {
		t.Errorf("console has %q, %v; want what the program printed at its end", console, err)
	}
}

func (m *machine) reseed(s words.Reseed) {
	m.t.Helper()
	raw, err := s.Encode()
	if err != nil {
		m.t.Fatal(err)
	}
	_, r := m.say(words.PortReseed, raw)
	if res, err := words.ReadResult(r); err != nil || !res.Success {
		m.t.Fatalf("reseed: %+v, %v", res, err)
	}
}

// answer calls the program and returns what it answers.
func (m *machine) answer(path string, size int) map[string]any {
	m.t.Helper()
	reply := m.call("POST", path, make([]byte, size))
	var got map[string]any
	if err := json.Unmarshal(reply.Body, &got); err != nil || reply.Status != http.StatusOK {
		m.t.Fatalf("%s is answered %+v, %v", path, reply, err)
	}
	return got
}

// callTwice makes two calls of which neither ends without the other.
func (m *machine) callTwice(path string) {
	m.t.Helper()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if reply := m.call("GET", path, nil); reply.Status != http.StatusOK {
				m.t.Errorf("one of two calls is answered %+v", reply)
			}
		})
	}
	wg.Wait()
}

// callStreamed sends a body in pieces, each after the answer to the last.
func (m *machine) callStreamed() {
	m.t.Helper()
	raw, err := words.Run{Stream: true, Scope: words.Scope{Type: words.TypeHTTP, Method: "POST", Path: "/echo"}}.Encode()
	if err != nil {
		m.t.Fatal(err)
	}
	c, r := m.say(words.PortRun, raw)
	reply, err := words.ReadReply(r)
	if err != nil || reply.Status != http.StatusCreated || len(reply.Headers) != 1 || string(reply.Headers[0].Name) != "x-kind" {
		// The program answers before the body comes, which is the point.
		m.t.Fatalf("a streamed call is answered %+v, %v", reply, err)
	}
	body, to := words.NewBodyReader(r), words.NewBodyWriter(c)
	for _, piece := range []string{"one", "two"} {
		if _, err := io.WriteString(to, piece); err != nil {
			m.t.Fatal(err)
		}
		got := make([]byte, len(piece))
		if _, err := io.ReadFull(body, got); err != nil || string(got) != strings.ToUpper(piece) {
			m.t.Fatalf("a piece comes back as %q, %v", got, err)
		}
	}
	if err := to.Close(); err != nil {
		m.t.Fatal(err)
	}
	if rest, err := io.ReadAll(body); err != nil || len(rest) != 0 {
		m.t.Errorf("the body ends with %q, %v", rest, err)
	}
	if end, err := words.ReadReply(r); err != nil || end.Failed {
		m.t.Errorf("the call ends with %+v, %v", end, err)
	}
}

func (m *machine) callEvent() {
	m.t.Helper()
	raw, err := words.Run{Scope: words.Scope{Type: words.TypeEvent, Body: []byte(`{"type":"POST"}`)}}.Encode()
	if err != nil {
		m.t.Fatal(err)
	}
	_, r := m.say(words.PortRun, raw)
	if reply, err := words.ReadReply(r); err != nil || reply.Failed || reply.Status != 0 || string(reply.Body) != `{"TYPE":"POST"}` {
		m.t.Errorf("an event is answered %+v, %v", reply, err)
	}
}

// callAPI lets the program ask the host, and answers.
func (m *machine) callAPI() {
	m.t.Helper()
	go func() {
		c := <-m.api
		defer c.Close()
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err == nil {
			fmt.Fprintf(c, "HTTP/1.0 200 OK\r\n\r\nvalue of %s", req.URL.Path)
		}
	}()
	if got, _ := m.answer("/api", 0)["api"].(string); !strings.HasSuffix(got, "value of /cache/key") {
		m.t.Errorf("the host's interface answers %q in the program", got)
	}
}

// TestFunctionRunsExecutables boots a machine with volumes and a program that
// speaks HTTP itself.
func TestFunctionRunsExecutables(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	site := filepath.Join(dir, "site")
	write(t, filepath.Join(site, "index.html"), "from a volume\n", 0o644)
	squashed, data := filepath.Join(dir, "site.squashfs"), filepath.Join(dir, "data.ext4")
	tool(t, "mksquashfs", site, squashed, "-quiet", "-no-progress")
	if err := os.WriteFile(data, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(data, 16<<20); err != nil {
		t.Fatal(err)
	}
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", data)
	m := startMachine(t, squashed, data)
	m.ready()
	code := zipped(t, map[string]string{
		"bin/server": "#!/bin/sh\necho kept > /srv/data/file\ncp /srv/site/index.html /opt/code\nexec busybox httpd -f -p 8080 -h /opt/code\n",
	})
	res := m.configure(words.Config{
		Interface: words.Executable, Encoding: words.Zip, Entrypoint: "bin/server", Code: code, VMHash: strings.Repeat("00", 32),
		Volumes: []words.Volume{{Mount: "/srv/site", Device: "vdb", ReadOnly: true}, {Mount: "/srv/data", Device: "vdc"}},
	})
	if !res.Success {
		t.Fatalf("config: %+v", res)
	}
	if reply := m.call("GET", "/index.html", nil); reply.Status != http.StatusOK || string(reply.Body) != "from a volume\n" {
		t.Errorf("the program answers %+v", reply)
	}
	if reply := m.call("GET", "/absent", nil); reply.Status != http.StatusNotFound {
		t.Errorf("what is not there is answered %+v", reply)
	}
	m.halt()
	if got := tool(t, "debugfs", "-R", "cat /file", data); !strings.HasSuffix(got, "kept\n") {
		t.Errorf("the volume has %q, want what the program wrote", got)
	}
}

// TestFunctionEndsWithItsProgram boots a machine whose program's process ends.
func TestFunctionEndsWithItsProgram(t *testing.T) {
	t.Parallel()
	m := startMachine(t)
	m.ready()
	res := m.configure(words.Config{Interface: words.ASGI, Encoding: words.Zip, Entrypoint: "main:nothing", Code: zipped(t, map[string]string{"main.py": bootProgram})})
	if res.Success || !strings.Contains(res.Error, "nothing") || !strings.Contains(res.Traceback, "AttributeError") {
		t.Fatalf("a config that names no program: %+v", res)
	}

	m = startMachine(t)
	m.ready()
	res = m.configure(words.Config{Interface: words.ASGI, Encoding: words.Zip, Entrypoint: "main:app", Code: zipped(t, map[string]string{"main.py": bootProgram})})
	if !res.Success {
		t.Fatalf("config: %+v", res)
	}
	raw, err := words.Run{Scope: words.Scope{Type: words.TypeHTTP, Method: "GET", Path: "/crash"}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	_, r := m.say(words.PortRun, raw)
	if reply, err := words.ReadReply(r); err == nil {
		t.Errorf("a call that ends the program is answered %+v, want no answer", reply)
	}
	select {
	case <-m.ended:
	case <-time.After(bootMax):
		t.Error("the machine goes on without its program")
	}
}

// snapshot writes the machine's memory to a file, and ends it.
func (m *machine) snapshot() string {
	m.t.Helper()
	m.mux.Close() // So that the copies begin without a session.
	c, err := net.Dial("unix", filepath.Join(m.dir, "qmp"))
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(bootMax))
	r := bufio.NewScanner(c)
	r.Scan() // The greeting.
	do := func(command string) string {
		if _, err := io.WriteString(c, command+"\n"); err != nil {
			m.t.Fatal(err)
		}
		for r.Scan() {
			if strings.Contains(r.Text(), `"return"`) || strings.Contains(r.Text(), `"error"`) {
				return r.Text()
			}
		}
		m.t.Fatalf("%s: %v", command, r.Err())
		return ""
	}
	do(`{"execute": "qmp_capabilities"}`)
	file := filepath.Join(m.t.TempDir(), "state")
	do(`{"execute": "migrate", "arguments": {"uri": "exec:cat > ` + file + `"}}`)
	for {
		said := do(`{"execute": "query-migrate"}`)
		if strings.Contains(said, `"status": "completed"`) {
			break
		}
		if strings.Contains(said, "failed") {
			m.t.Fatalf("snapshot: %s", said)
		}
		<-time.After(poll)
	}
	do(`{"execute": "quit"}`)
	<-m.ended
	return file
}

const copyProgram = `
import json, os, random, socket, time, uuid
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    answer = {"random": random.random(), "urandom": os.urandom(16).hex(), "uuid": str(uuid.uuid4())}
    answer |= {"hostname": socket.gethostname(), "time": time.time(), "mac": open("/sys/class/net/eth0/address").read().strip()}
    # The gateway is the host, whose loopback it reaches.
    with socket.create_connection(("10.0.2.2", int(scope["path"][1:])), 30) as s:
        answer["from"] = s.getsockname()[0]
        answer["said"] = s.recv(100).decode()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.connect(("2001:db8::1", 9))
        answer["from6"] = s.getsockname()[0]
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
`

// greeter listens on the loopback and greets who comes.
func greeter(t *testing.T) (path string) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello")
			c.Close()
		}
	}()
	return fmt.Sprintf("/%d", l.Addr().(*net.TCPAddr).Port)
}

// TestFunctionCopies starts two machines from one snapshot. They have nothing in
// common that should be a machine's own, and each reaches the network by its own
// addresses.
func TestFunctionCopies(t *testing.T) {
	t.Parallel()
	device := []string{"-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=,mac=52:54:00:00:00:01"}
	path := greeter(t)
	m := startWith(t, device)
	m.ready()
	res := m.configure(words.Config{
		Interface: words.ASGI, Encoding: words.Plain, Entrypoint: "app", Code: []byte(copyProgram), IP: "10.0.2.15", Route: "10.0.2.2",
		IPv6: "fec0::15/64", IPv6Gateway: "fec0::2", DNSServers: []string{"10.0.2.3"},
	})
	if !res.Success {
		t.Fatalf("config: %+v", res)
	}
	got := m.answer(path, 0)
	if got["from"] != "10.0.2.15" || got["from6"] != "fec0::15" || got["said"] != "hello" || got["mac"] != "52:54:00:00:00:01" {
		t.Errorf("the first machine is %v, want it to reach the host by its addresses", got)
	}
	state := m.snapshot()
	var copies []map[string]any
	for i := range 2 {
		c := startWith(t, append([]string{"-incoming", "exec:cat " + state}, device...))
		if ready := c.ready(); !ready.Configured {
			t.Errorf("a copy says %+v, want the config to be there", ready)
		}
		own := words.Reseed{
			Seed: make([]byte, words.SeedBytes), Time: int64(2_000_000_000+1000*i) * 1e9, Hostname: fmt.Sprint("copy", i), MAC: fmt.Sprintf("52:54:00:00:01:%02x", i),
			IP: fmt.Sprintf("10.0.2.%d", 20+i), Route: "10.0.2.2", IPv6: fmt.Sprintf("fec0::%d/64", 20+i), IPv6Gateway: "fec0::2",
		}
		_, _ = rand.Read(own.Seed)
		c.reseed(own)
		got := c.answer(path, 0)
		if at, _ := got["time"].(float64); at < float64(2_000_000_000+1000*i) || at > float64(2_000_000_900+1000*i) {
			t.Errorf("copy %d has the time %v", i, got["time"])
		}
		if got["hostname"] != own.Hostname || got["mac"] != own.MAC || got["from"] != own.IP || fmt.Sprint(got["from6"], "/64") != own.IPv6 || got["said"] != "hello" {
			t.Errorf("copy %d is %v, want %+v", i, got, own)
		}
		copies = append(copies, got)
		_ = c.cmd.Process.Kill()
	}
	for _, own := range []string{"random", "urandom", "uuid"} {
		if copies[0][own] == copies[1][own] {
			t.Errorf("both copies have %s %v", own, copies[0][own])
		}
	}
}

func zipped(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for name, text := range files {
		f, err := w.Create(name)
		if err == nil {
			_, err = io.WriteString(f, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
