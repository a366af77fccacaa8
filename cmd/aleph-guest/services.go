package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	restartMin = 500 * time.Millisecond
	restartMax = 30 * time.Second
	// steadyAfter is how long a service must have run for its next restart to
	// be quick again.
	steadyAfter = time.Minute
	// upMax bounds how long the machine waits for its services to listen
	// before it calls itself ready without them.
	upMax = 30 * time.Second
	// upPoll is how often a service is asked. Each try takes time that the
	// service could use to start.
	upPoll = 10 * time.Millisecond
	// readyHeader in the first lines of a service names where it listens when
	// it is up, for example "# aleph-ready: tcp 8080".
	readyHeader = "# aleph-ready:"
	headerBytes = 1024
	// searchPath is where programs are looked for.
	searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// service is a program that is kept running.
type service struct {
	path string
	port string // Where it listens when it is up; "" is up at once.

	mu  sync.Mutex
	pid int // guarded by mu; 0 when it does not run
}

// readServices finds the executable files of dir.
func readServices(dir string) ([]*service, error) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	var all []*service
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		port, err := readyPort(path)
		if err != nil {
			return nil, err
		}
		all = append(all, &service{path: path, port: port})
	}
	return all, nil
}

// readyPort reads the ready header of a service.
func readyPort(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("open service: %w", err)
	}
	defer f.Close()
	head := make([]byte, headerBytes)
	n, err := f.Read(head)
	if n == 0 && err != nil {
		return "", nil // An empty file has no header.
	}
	for line := range strings.Lines(string(head[:n])) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), readyHeader)
		if !ok {
			continue
		}
		proto, port, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if proto != "tcp" {
			return "", fmt.Errorf("service %s is ready at %q, want tcp PORT", path, rest)
		}
		return strings.TrimSpace(port), nil
	}
	return "", nil
}

// startServices starts every service, with the machine's variables in their
// environment, and keeps them running until ctx ends.
func (g *guest) startServices(ctx context.Context, dir string, variables map[string]string) {
	all, err := readServices(dir)
	if err != nil {
		g.logf("%v", err)
	}
	g.mu.Lock()
	g.procs = all
	g.mu.Unlock()
	env := environment(variables)
	for _, s := range all {
		go g.supervise(ctx, s, env)
	}
}

// environment is what services see: the usual, and the variables.
func environment(variables map[string]string) []string {
	env := []string{"PATH=" + searchPath, "HOME=/root", "LANG=C.UTF-8"}
	names := make([]string, 0, len(variables))
	for name := range variables {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		env = append(env, name+"="+variables[name])
	}
	return env
}

// supervise runs a service again whenever it ends, at once at first and then
// ever more slowly.
func (g *guest) supervise(ctx context.Context, s *service, env []string) {
	delay := restartMin
	for {
		begin := time.Now()
		err := g.runService(ctx, s, env)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begin) > steadyAfter {
			delay = restartMin
		}
		g.logf("service %s ended (%v), starts again in %v", filepath.Base(s.path), err, delay)
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		delay = min(2*delay, restartMax)
	}
}

// runService runs a service once.
func (g *guest) runService(ctx context.Context, s *service, env []string) error {
	console := g.console.Fd()
	pid, ended, err := g.reaper.start(s.path, []string{s.path}, &syscall.ProcAttr{
		Dir: "/", Env: env, Files: []uintptr{console, console, console},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	s.set(pid)
	defer s.set(0)
	select {
	case status := <-ended:
		return fmt.Errorf("status %d, signal %d", status.ExitStatus(), status.Signal())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *service) set(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid = pid
}

// waitServices returns when every service listens where it says, or after
// upMax with a line about those that do not.
func (g *guest) waitServices(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, upMax)
	defer cancel()
	g.mu.Lock()
	all := g.procs
	g.mu.Unlock()
	for _, s := range all {
		if s.port == "" {
			continue
		}
		if err := waitListening(ctx, net.JoinHostPort("127.0.0.1", s.port)); err != nil {
			g.logf("service %s does not listen on port %s", filepath.Base(s.path), s.port)
		}
	}
}

// waitListening returns when a connection to addr is taken.
func waitListening(ctx context.Context, addr string) error {
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "tcp4", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(upPoll):
		}
	}
}

// stopServices asks every process to end, waits a little, and makes them.
func (g *guest) stopServices() {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		// -1 is every process but this one.
		if err := unix.Kill(-1, sig); err != nil {
			return // There is none.
		}
		deadline := time.Now().Add(stopGrace)
		for time.Now().Before(deadline) {
			if g.reaper.isAlone() {
				return
			}
			time.Sleep(stopPoll)
		}
	}
}
