//go:build !machine

package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-yamux/v5"
	"golang.org/x/sys/unix"

	words "github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

// hostEnd is the host's end of a port.
type hostEnd struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func (h *hostEnd) Read(p []byte) (int, error) { return h.r.Read(p) }

func (h *hostEnd) hello() {
	h.t.Helper()
	var nonce words.Nonce
	_, _ = rand.Read(nonce[:])
	if _, err := h.Write(nonce.Hello()); err != nil {
		h.t.Fatal(err)
	}
	if err := words.AwaitAnswer(h.r, nonce, 1<<20); err != nil {
		h.t.Fatal(err)
	}
}

// newPort returns streams and the host's end of them.
func newPort(t *testing.T) (*muxStreams, *hostEnd) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[1]), "host")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	port, err := newVirtioFile(os.NewFile(uintptr(fds[0]), "port"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { port.Close() })
	return newMuxStreams(port), &hostEnd{t, c, bufio.NewReader(c)}
}

// TestStreamsOutliveTheirHost begins sessions one after the other on one port,
// and uses the last in both directions.
func TestStreamsOutliveTheirHost(t *testing.T) {
	t.Parallel()
	m, host := newPort(t)
	if _, err := m.Dial(t.Context(), 1); err == nil {
		t.Error("without a host it was reached")
	}
	l, err := m.Listen(7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Listen(7); err == nil {
		t.Error("a port was listened to twice")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := make(chan struct{}, 8)
	go m.Run(ctx, func() { began <- struct{}{} })
	if _, err := host.Write([]byte("garbage")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		host.hello()
		<-began
	}
	mux, err := yamux.Client(host, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer mux.Close()
	in, err := mux.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(append(binary.BigEndian.AppendUint32(nil, 7), "ping"...)); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "ping" {
		t.Errorf("a stream of the host says %q, %v", got, err)
	}
	if out, err := m.Dial(t.Context(), 9); err != nil {
		t.Error(err)
	} else if _, err := io.WriteString(out, "pong"); err != nil {
		t.Error(err)
	}
	theirs, err := mux.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	got = make([]byte, 8)
	if _, err := io.ReadFull(theirs, got); err != nil || string(got) != "\x00\x00\x00\x09pong" {
		t.Errorf("a stream of the guest says %q, %v", got, err)
	}
	lost, err := mux.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lost.Write([]byte{0, 0, 0, 8}); err != nil {
		t.Fatal(err)
	}
	if _, err := lost.Read(got); err == nil {
		t.Error("a stream to a port where nobody listens was not reset")
	}
	l.Close()
	if _, err := l.Accept(); err == nil {
		t.Error("a closed listener took a stream")
	}
}

// TestExecutableIsCalled calls a program that is already up, in a test server's
// place.
func TestExecutableIsCalled(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Saw", strings.Join([]string{r.Method, r.URL.Path, r.URL.RawQuery, r.Host, r.Header.Get("A"), r.Header.Get("Te"), string(body)}, "|"))
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "answer")
	}))
	defer srv.Close()
	g, _ := newGuest(t)
	e := g.newExecutable("/nowhere", nil)
	e.addr = srv.Listener.Addr().String()
	scope := words.Scope{
		Type: words.TypeHTTP, Method: "PUT", Path: "/a b/é", QueryString: "q=%20", Headers: []words.Header{
			{Name: []byte("host"), Value: []byte("example.org")},
			{Name: []byte("a"), Value: []byte("1")},
			{Name: []byte("te"), Value: []byte("trailers")},
			{Name: []byte("content-length"), Value: []byte("4")},
		},
	}
	for _, body := range []io.Reader{bytes.NewReader([]byte("body")), io.MultiReader(strings.NewReader("bo"), strings.NewReader("dy"))} {
		w := &wholeReply{}
		if err := e.call(t.Context(), scope, body, w); err != nil || w.status != http.StatusTeapot || w.body.String() != "answer" {
			t.Errorf("answer %d %q, %v", w.status, w.body.String(), err)
		}
		saw := ""
		for _, h := range w.headers {
			if string(h.Name) == "x-saw" {
				saw = string(h.Value)
			}
		}
		if want := "PUT|/a b/é|q=%20|example.org|1||body"; saw != want {
			t.Errorf("the program saw %q, want %q", saw, want)
		}
	}
	if err := e.call(t.Context(), words.Scope{Type: words.TypeEvent}, strings.NewReader(""), &wholeReply{}); err == nil {
		t.Error("an event was taken by a program that speaks HTTP")
	}
}

func TestExecutableThatDoesNotListen(t *testing.T) {
	t.Parallel()
	g, _ := newGuest(t)
	e := g.newExecutable("/nowhere", nil)
	e.addr, e.upMax = "127.0.0.1:1", 10*time.Millisecond
	w := &wholeReply{}
	if err := e.call(t.Context(), get("/"), strings.NewReader(""), w); err != nil || w.status != http.StatusServiceUnavailable || w.body.Len() == 0 {
		t.Errorf("answer %d, %v; want 503 and a page", w.status, err)
	}
}

func TestUnzipStaysInItsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "in", "code")
	raw := zipOf(t, func(w *zip.Writer) {
		header := &zip.FileHeader{Name: "bin/run"}
		header.SetMode(0o755)
		add(t, w, header, "run")
		add(t, w, &zip.FileHeader{Name: "dir/"}, "")
		link := &zip.FileHeader{Name: "link"}
		link.SetMode(os.ModeSymlink | 0o777)
		add(t, w, link, "/etc/passwd")
	})
	if err := unzip(raw, dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "bin/run")); err != nil || info.Mode().Perm()&0o111 == 0 {
		t.Errorf("bin/run: %v; want it executable", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "link")); err == nil {
		t.Error("a link was unpacked")
	}
	for _, name := range []string{"../outside", "/etc/outside", "a/../../outside"} {
		raw := zipOf(t, func(w *zip.Writer) { add(t, w, &zip.FileHeader{Name: name}, "x") })
		_ = unzip(raw, dir)
		for _, at := range []string{filepath.Join(dir, "..", "outside"), "/etc/outside"} {
			if _, err := os.Lstat(at); err == nil {
				t.Errorf("%q was written to %s", name, at)
			}
		}
	}
	if err := unzip([]byte("not a zip"), dir); err == nil {
		t.Error("what is not a zip was unpacked")
	}
}

func zipOf(t *testing.T, fill func(*zip.Writer)) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	fill(w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func add(t *testing.T, w *zip.Writer, header *zip.FileHeader, text string) {
	t.Helper()
	f, err := w.CreateHeader(header)
	if err == nil && text != "" {
		_, err = io.WriteString(f, text)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestPlaceExecutable(t *testing.T) {
	dir := t.TempDir()
	path, err := placeExecutable(words.Config{Encoding: words.Plain, Entrypoint: "bin/run", Code: []byte("x")}, dir)
	if info, serr := os.Stat(path); err != nil || serr != nil || info.Mode().Perm()&0o100 == 0 {
		t.Errorf("plain code: %q, %v, %v", path, err, serr)
	}
	for _, c := range []words.Config{
		{Encoding: words.Plain, Entrypoint: "../run"},
		{Encoding: words.Squashfs, Entrypoint: "absent"},
		{Encoding: words.Squashfs, Entrypoint: "bin"},
		{Encoding: "tar", Entrypoint: "run"},
		{Encoding: words.Zip, Entrypoint: "run"},
	} {
		if _, err := placeExecutable(c, dir); err == nil {
			t.Errorf("%s code at %q was placed", c.Encoding, c.Entrypoint)
		}
	}
}

func TestOutputData(t *testing.T) {
	dir := t.TempDir()
	if raw, err := newOutput(filepath.Join(dir, "absent")).data(); raw != nil || err != nil {
		t.Errorf("output of no directory is %d bytes, %v", len(raw), err)
	}
	o := newOutput(dir)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(dir, old, old); err != nil {
		t.Fatal(err)
	}
	for range 2 { // The second time without a listing.
		if raw, err := o.data(); raw != nil || err != nil {
			t.Errorf("output of an empty directory is %d bytes, %v", len(raw), err)
		}
	}
	write(t, filepath.Join(dir, "a/b"), "text", 0o644)
	raw, err := o.data()
	if err != nil {
		t.Fatal(err)
	}
	back := t.TempDir()
	if err := unzip(raw, back); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(back, "a/b")); got != "text" {
		t.Errorf("output has %q", got)
	}
	if !isMountPoint("/proc") || isMountPoint(filepath.Join(dir, "a")) {
		t.Error("mount points are not told from directories")
	}
}

func TestDevicesOfTheMachine(t *testing.T) {
	sys := t.TempDir()
	if busOf(sys) != busMMIO || channelOf(sys) != "" {
		t.Error("a machine without buses is taken for one with PCI")
	}
	write(t, filepath.Join(sys, "bus/pci/devices/0000:00:00.0"), "", 0o644)
	write(t, filepath.Join(sys, "bus/virtio/devices/virtio0/device"), "0x0013\n", 0o644)
	if busOf(sys) != busPCI || channelOf(sys) != "vsock" {
		t.Error("a machine with PCI and a vsock is taken for another")
	}
	if s, err := openStreams(sys); err != nil || s != (vsockStreams{}) {
		t.Errorf("streams are %T, %v; want those of a vsock", s, err)
	}
	if _, err := openStreams(t.TempDir()); err == nil {
		t.Error("a machine without a channel has streams")
	}
}

// tool runs a program of the system and returns what it prints.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) {
		path = filepath.Join("/usr/sbin", name)
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return string(out)
}
