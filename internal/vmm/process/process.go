// Package process holds on to processes of this host, such as hypervisors, that
// may not be children of this one, and to what drivers keep about them: all that
// the drivers of machines have in common below their hypervisors.
package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// clockTick is the unit of times in /proc: USER_HZ, which is 100 on every
// Linux of x86.
const clockTick = 10 * time.Millisecond

// Process is a process of this host that may be not our child.
type Process struct {
	PID   int
	Start uint64 // Ticks after the boot of the host.
	fd    *os.File
}

// Stat is the part of /proc/PID/stat that drivers use.
type Stat struct {
	PID          int
	Start        uint64
	User, System uint64 // Ticks.
	RSSPages     int64
}

// CPU is the time that the process has used.
func (s Stat) CPU() time.Duration { return time.Duration(s.User+s.System) * clockTick }

// RSSBytes is the memory that the process has.
func (s Stat) RSSBytes() int64 { return s.RSSPages * int64(os.Getpagesize()) }

// ParseStat reads a /proc/PID/stat line. The name in it may hold anything.
func ParseStat(line string) (Stat, error) {
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 1 || end < open {
		return Stat{}, fmt.Errorf("process line %.60q has no name", line)
	}
	// Fields are counted from 3 behind the name, as in proc(5).
	const firstField = 3
	fields := strings.Fields(line[end+1:])
	at := func(n int) string {
		if n-firstField < len(fields) {
			return fields[n-firstField]
		}
		return ""
	}
	pid, err1 := strconv.Atoi(strings.TrimSpace(line[:open]))
	user, err2 := strconv.ParseUint(at(14), 10, 64)
	system, err3 := strconv.ParseUint(at(15), 10, 64)
	start, err4 := strconv.ParseUint(at(22), 10, 64)
	rss, err5 := strconv.ParseInt(at(24), 10, 64)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return Stat{}, fmt.Errorf("process line %.60q: %w", line, err)
	}
	return Stat{PID: pid, Start: start, User: user, System: system, RSSPages: rss}, nil
}

// StatLine is the line of a process that runs, or errs.NotFound.
func StatLine(pid int) (string, error) {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return "", errs.New(errs.NotFound, "no process %d", pid)
	}
	if err != nil {
		return "", fmt.Errorf("read process %d: %w", pid, err)
	}
	return string(raw), nil
}

// ReadStat reads the line of a process that runs, or gives errs.NotFound.
func ReadStat(pid int) (Stat, error) {
	line, err := StatLine(pid)
	if err != nil {
		return Stat{}, err
	}
	return ParseStat(line)
}

// Open takes hold of the process with the number that started at the time, or
// gives errs.NotFound.
func Open(pid int, start uint64) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, errs.New(errs.NotFound, "no process %d", pid)
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	p := &Process{PID: pid, Start: start, fd: os.NewFile(uintptr(fd), fmt.Sprintf("pidfd %d", pid))}
	// With the descriptor open the number cannot pass to another process.
	s, err := ReadStat(pid)
	if err == nil && s.Start != start {
		err = errs.New(errs.NotFound, "process %d is another one now", pid)
	}
	if err != nil {
		p.fd.Close()
		return nil, err
	}
	return p, nil
}

// readable reports whether the descriptor of a process is: then it has ended.
func readable(fd uintptr) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0
}

// Wait returns nil when the process has ended, or an error when Close was called
// before.
func (p *Process) Wait() error {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch process %d: %w", p.PID, err)
	}
	if err := raw.Read(readable); err != nil {
		return fmt.Errorf("watch process %d: %w", p.PID, err)
	}
	return nil
}

// Kill ends the process; one that has ended is fine.
func (p *Process) Kill() error {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) }); err != nil {
		return fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	if failed != nil && !errors.Is(failed, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", p.PID, failed)
	}
	return nil
}

// Reap takes the status of a process that has ended when it is our child.
func (p *Process) Reap() (status unix.WaitStatus, ours bool) {
	pid, err := unix.Wait4(p.PID, &status, unix.WNOHANG, nil)
	return status, err == nil && pid == p.PID
}

// HasEnded reports whether the process has ended.
func (p *Process) HasEnded() bool {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return true
	}
	ended := false
	err = raw.Control(func(fd uintptr) { ended = readable(fd) })
	return err != nil || ended
}

// Close lets go of the process, which goes on.
func (p *Process) Close() { p.fd.Close() }
