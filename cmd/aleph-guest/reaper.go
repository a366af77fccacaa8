package main

import (
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper waits for every child of process 1: those it started, and orphans
// that it inherited.
type reaper struct {
	mu      sync.Mutex // held over fork, so that no child ends unknown
	waiting map[int]chan unix.WaitStatus
	alone   bool // No process but this one is left; guarded by mu.
}

func newReaper() *reaper {
	return &reaper{waiting: map[int]chan unix.WaitStatus{}}
}

// start starts a program and returns its number and a channel that gives how
// it ended.
func (r *reaper) start(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan unix.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return 0, nil, err
	}
	ch := make(chan unix.WaitStatus, 1)
	r.waiting[pid] = ch
	return pid, ch, nil
}

// run reaps for ever.
func (r *reaper) run() {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGCHLD)
	for range ch {
		for r.reap() {
		}
	}
}

// reap takes one ended child in and reports whether there was one.
func (r *reaper) reap() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var status unix.WaitStatus
	pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
	if errors.Is(err, unix.EINTR) {
		return true
	}
	r.alone = errors.Is(err, unix.ECHILD)
	if err != nil || pid <= 0 {
		return false
	}
	if ch, ok := r.waiting[pid]; ok {
		delete(r.waiting, pid)
		ch <- status
	}
	return true
}

// isAlone reports whether every other process of the machine has ended: all
// are descendants of this one, and orphans become its children.
func (r *reaper) isAlone() bool {
	for r.reap() {
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.alone
}
