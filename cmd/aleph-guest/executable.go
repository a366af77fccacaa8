//go:build !machine

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	words "github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

const (
	executableAddr = "127.0.0.1:8080"
	// executableUpMax is how long a call waits for the program to listen.
	executableUpMax = 90 * time.Second
	executablePoll  = 10 * time.Millisecond
	pollMax         = 500 * time.Millisecond
	executableIdle  = 64
)

// loadingPage is the answer while the program does not listen.
const loadingPage = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>Loading</title></head>
<body><p>The program is starting. This page tries again by itself.</p></body></html>
`

// executable is a program that speaks HTTP on a port of its own.
type executable struct {
	g      *guest
	path   string
	env    []string
	client *http.Transport
	addr   string
	upMax  time.Duration

	mu      sync.Mutex
	pid     int  // guarded by mu; 0 while it does not run
	stopped bool // guarded by mu
	up      bool // guarded by mu; it has listened
}

func (g *guest) newExecutable(path string, env []string) *executable {
	dial := net.Dialer{}
	return &executable{
		g: g, path: path, env: env, addr: executableAddr, upMax: executableUpMax,
		client: &http.Transport{
			DisableCompression: true, MaxIdleConnsPerHost: executableIdle, MaxResponseHeaderBytes: 1 << 20,
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				return dial.DialContext(ctx, "tcp4", addr)
			},
		},
	}
}

// supervise keeps the program running until it is stopped.
func (e *executable) supervise(ctx context.Context) {
	delay := restartMin
	for {
		begin := time.Now()
		err := e.run()
		e.mu.Lock()
		stopped := e.stopped
		e.mu.Unlock()
		if stopped || ctx.Err() != nil {
			return
		}
		if time.Since(begin) > steadyAfter {
			delay = restartMin
		}
		e.g.logf("program ended (%v), starts again in %v", err, delay)
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		delay = min(2*delay, restartMax)
	}
}

func (e *executable) run() error {
	e.mu.Lock()
	if e.stopped {
		e.mu.Unlock()
		return nil
	}
	console := e.g.console.Fd()
	pid, ended, err := e.g.reaper.start(e.path, []string{e.path}, &syscall.ProcAttr{
		Dir: "/", Env: e.env, Files: []uintptr{console, console, console}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	e.pid = pid
	e.mu.Unlock()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	status := <-ended
	e.mu.Lock()
	e.pid, e.up = 0, false
	e.mu.Unlock()
	return fmt.Errorf("status %d, signal %d", status.ExitStatus(), status.Signal())
}

// stop implements program: it asks the process to end.
func (e *executable) stop(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped = true
	if e.pid == 0 {
		return nil
	}
	return unix.Kill(e.pid, unix.SIGTERM)
}

// reseed implements program. What a program keeps of its own randomness is its
// own to care for; the kernel's is new.
func (e *executable) reseed(context.Context) error { return nil }

// call implements program.
func (e *executable) call(ctx context.Context, scope words.Scope, body io.Reader, to replyWriter) error {
	if scope.Type != words.TypeHTTP {
		return errors.New("a program with an interface of its own takes calls of HTTP only")
	}
	if err := e.awaitUp(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return loading(to)
	}
	req, err := e.request(ctx, scope, body)
	if err != nil {
		return err
	}
	resp, err := e.client.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("call the program: %w", err)
	}
	defer resp.Body.Close()
	var headers []words.Header
	for name, values := range resp.Header {
		for _, v := range values {
			headers = append(headers, words.Header{Name: []byte(strings.ToLower(name)), Value: []byte(v)})
		}
	}
	if err := to.start(resp.StatusCode, headers); err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{to}, resp.Body, make([]byte, words.MaxFrame))
	if err != nil {
		return fmt.Errorf("answer of the program: %w", err)
	}
	return nil
}

func (e *executable) request(ctx context.Context, scope words.Scope, body io.Reader) (*http.Request, error) {
	u := url.URL{Scheme: "http", Host: e.addr, Path: scope.Path, RawQuery: scope.QueryString}
	req, err := http.NewRequestWithContext(ctx, scope.Method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("call the program: %w", err)
	}
	length := int64(-1)
	for _, h := range scope.Headers {
		name, value := string(h.Name), string(h.Value)
		switch strings.ToLower(name) {
		case "host":
			req.Host = value
		case "content-length":
			if _, err := fmt.Sscan(value, &length); err != nil {
				length = -1
			}
		case "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade":
		default:
			req.Header.Add(name, value)
		}
	}
	if _, whole := body.(interface{ Len() int }); !whole {
		req.ContentLength = length // http.NewRequest knows that of a whole body.
		if length == 0 {
			req.Body = http.NoBody
		}
	}
	return req, nil
}

// awaitUp returns when the program listens.
func (e *executable) awaitUp(ctx context.Context) error {
	e.mu.Lock()
	up := e.up
	e.mu.Unlock()
	if up {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.upMax)
	defer cancel()
	var d net.Dialer
	for pause := executablePoll; ; pause = min(2*pause, pollMax) {
		c, err := d.DialContext(ctx, "tcp4", e.addr)
		if err == nil {
			e.mu.Lock()
			e.up = true
			e.mu.Unlock()
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

func loading(to replyWriter) error {
	err := to.start(http.StatusServiceUnavailable, []words.Header{
		{Name: []byte("content-type"), Value: []byte("text/html")},
		{Name: []byte("retry-after"), Value: []byte("5")},
	})
	if err == nil {
		_, err = io.WriteString(to, loadingPage)
	}
	return err
}
