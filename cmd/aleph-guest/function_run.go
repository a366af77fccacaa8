//go:build !machine

package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	words "github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

// dataDir is where programs find their input and leave what they give back.
const dataDir = "/data"

// runWhole answers a call in one piece.
func (f *function) runWhole(ctx context.Context, p program, scope words.Scope, c net.Conn, r *bufio.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The host says no more; when its stream breaks nobody wants the answer. An
	// end is no break: some hosts close their half.
	go func() {
		if _, err := io.Copy(io.Discard, r); err != nil {
			cancel()
		}
	}()
	w := &wholeReply{}
	err := p.call(ctx, scope, bytes.NewReader(scope.Body), w)
	if errors.Is(err, errProgramGone) {
		return err
	}
	if err != nil {
		f.send(c, failed(err))
		return nil
	}
	reply := words.Reply{Status: w.status, Headers: w.headers, Body: w.body.Bytes()}
	if reply.OutputData, err = f.output.data(); err != nil {
		f.g.logf("output data: %v", err)
	}
	f.send(c, reply)
	return nil
}

// wholeReply keeps an answer.
type wholeReply struct {
	status  int
	headers []words.Header
	body    bytes.Buffer
}

func (w *wholeReply) start(status int, headers []words.Header) error {
	w.status, w.headers = status, headers
	return nil
}

// Write implements io.Writer.
func (w *wholeReply) Write(p []byte) (int, error) {
	if w.body.Len()+len(p) > words.MaxReply {
		return 0, fmt.Errorf("the answer has more than the %d bytes that a host takes in one piece", words.MaxReply)
	}
	return w.body.Write(p)
}

// runStreamed answers a call while it runs.
func (f *function) runStreamed(ctx context.Context, p program, scope words.Scope, c net.Conn, r *bufio.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body := &streamedBody{r: words.NewBodyReader(r), rest: r, cancel: cancel}
	w := &streamedReply{c: c, body: words.NewBodyWriter(c)}
	err := p.call(ctx, scope, body, w)
	switch {
	case errors.Is(err, errProgramGone):
		return err
	case err == nil && !w.started:
		err = errors.New("the application ended without a response")
	}
	if w.started {
		if err := w.body.Close(); err != nil {
			return nil // The host does not listen any more.
		}
	}
	reply := words.Reply{}
	if err != nil {
		reply = failed(err)
	} else if reply.OutputData, err = f.output.data(); err != nil {
		f.g.logf("output data: %v", err)
	}
	f.send(c, reply)
	return nil
}

// streamedBody is the request's body. A stream that breaks ends the call, also
// when the program does not read.
type streamedBody struct {
	r      io.Reader
	rest   io.Reader
	cancel context.CancelFunc
}

// Read implements io.Reader.
func (b *streamedBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if errors.Is(err, io.EOF) {
		if b.rest != nil {
			rest := b.rest
			b.rest = nil
			go func() {
				if _, err := io.Copy(io.Discard, rest); err != nil {
					b.cancel()
				}
			}()
		}
		return n, io.EOF
	}
	if err != nil {
		b.cancel()
	}
	return n, err
}

// streamedReply sends an answer on.
type streamedReply struct {
	c       net.Conn
	body    *words.BodyWriter
	started bool
}

func (w *streamedReply) start(status int, headers []words.Header) error {
	raw, err := words.Reply{Status: status, Headers: headers}.Encode()
	if err != nil {
		return err
	}
	w.started = true
	_, err = w.c.Write(raw)
	return err
}

// Write implements io.Writer.
func (w *streamedReply) Write(p []byte) (int, error) { return w.body.Write(p) }

// output is the directory of what programs give back. Most have none or leave it
// empty, which is known by its times and costs no listing at each call.
type output struct {
	dir   string
	empty atomic.Int64 // When the directory, found empty, had changed, in nanoseconds of Unix time.
}

// emptyAge is how long a directory must not have changed for its time to tell of
// the next change: file systems count time in ticks.
const emptyAge = time.Second

func newOutput(dir string) *output {
	o := &output{dir: dir}
	o.empty.Store(math.MinInt64)
	return o
}

func (o *output) isEmpty() bool {
	var st unix.Stat_t
	if err := unix.Stat(o.dir, &st); err != nil {
		return true
	}
	changed := st.Mtim.Nano()
	if changed == o.empty.Load() {
		return true
	}
	entries, err := os.ReadDir(o.dir)
	if err != nil {
		return true
	}
	if len(entries) > 0 {
		return false
	}
	if time.Since(time.Unix(0, changed)) > emptyAge {
		o.empty.Store(changed)
	}
	return true
}

// data is a zip of what lies in the directory, unless that is a volume.
func (o *output) data() ([]byte, error) {
	if o.isEmpty() || isMountPoint(o.dir) {
		return nil, nil
	}
	dir := o.dir
	var buf bytes.Buffer
	w := zip.NewWriter(&limitedBuffer{&buf, words.MaxInline})
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		to, err := w.Create(name)
		if err != nil {
			return err
		}
		from, err := root.Open(name)
		if err != nil {
			return err
		}
		defer from.Close()
		_, err = io.Copy(to, from)
		return err
	})
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("pack %s: %w", dir, err)
	}
	return buf.Bytes(), nil
}

// isMountPoint reports whether dir begins a file system.
func isMountPoint(dir string) bool {
	var here, above unix.Stat_t
	if unix.Stat(dir, &here) != nil || unix.Stat(filepath.Dir(dir), &above) != nil {
		return false
	}
	return here.Dev != above.Dev
}

// limitedBuffer refuses what is more than it may hold.
type limitedBuffer struct {
	*bytes.Buffer
	limit int
}

// Write implements io.Writer.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.limit {
		return 0, fmt.Errorf("more than %d bytes", b.limit)
	}
	return b.Buffer.Write(p)
}
