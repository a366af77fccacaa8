package firecracker

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

// process is a process of this host. It is never our child: the jailer starts it
// in a PID namespace of its own and ends.
type process struct {
	pid   int
	start uint64 // Ticks after the boot of the host.
	fd    *os.File
}

// stat is the part of /proc/PID/stat that we use.
type stat struct {
	pid          int
	start        uint64
	user, system uint64 // Ticks.
	rssPages     int64
}

// parseStat reads a /proc/PID/stat line. The name in it may hold anything.
func parseStat(line string) (stat, error) {
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 1 || end < open {
		return stat{}, fmt.Errorf("process line %.60q has no name", line)
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
		return stat{}, fmt.Errorf("process line %.60q: %w", line, err)
	}
	return stat{pid: pid, start: start, user: user, system: system, rssPages: rss}, nil
}

// statLine is the line of a process that runs, or errs.NotFound.
func statLine(pid int) (string, error) {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return "", errs.New(errs.NotFound, "no process %d", pid)
	}
	if err != nil {
		return "", fmt.Errorf("read process %d: %w", pid, err)
	}
	return string(raw), nil
}

func readStat(pid int) (stat, error) {
	line, err := statLine(pid)
	if err != nil {
		return stat{}, err
	}
	return parseStat(line)
}

// openProcess takes hold of the process with the number that started at the
// time, or gives errs.NotFound.
func openProcess(pid int, start uint64) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, errs.New(errs.NotFound, "no process %d", pid)
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	p := &process{pid: pid, start: start, fd: os.NewFile(uintptr(fd), fmt.Sprintf("pidfd %d", pid))}
	// With the descriptor open the number cannot pass to another process.
	s, err := readStat(pid)
	if err == nil && s.start != start {
		err = errs.New(errs.NotFound, "process %d is another one now", pid)
	}
	if err != nil {
		p.fd.Close()
		return nil, err
	}
	return p, nil
}

// findProcess finds the process of the machine: by what the last daemon wrote
// down, or, where that one died before it could, by what the jailer did.
func findProcess(dir string, rec record) (*process, error) {
	raw, err := os.ReadFile(filepath.Join(dir, processFile))
	if err == nil {
		s, err := parseStat(string(raw))
		if err != nil {
			return nil, err
		}
		return openProcess(s.pid, s.start)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the process of %s: %w", dir, err)
	}
	return jailedProcess(dir, rec)
}

// jailedProcess takes hold of the process that the jailer has started, and
// writes down which it is.
func jailedProcess(dir string, rec record) (*process, error) {
	raw, err := os.ReadFile(filepath.Join(rec.root(dir), rec.Exec+".pid"))
	if err != nil {
		return nil, fmt.Errorf("read the number of the process: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid <= 1 {
		return nil, fmt.Errorf("the number of the process is %.20q", raw)
	}
	line, err := statLine(pid)
	if err != nil {
		return nil, err
	}
	s, err := parseStat(line)
	if err != nil {
		return nil, err
	}
	p, err := openProcess(pid, s.start)
	if err != nil {
		return nil, err
	}
	// The number may be another's by now: ours has our id among its arguments.
	args, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err == nil && !strings.Contains(string(args), rec.ID) {
		err = errs.New(errs.NotFound, "process %d is not of machine %s", pid, rec.ID)
	}
	if err == nil {
		err = replaceFile(filepath.Join(dir, processFile), []byte(line))
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// wait returns nil when the process has ended, or an error when close was
// called before.
func (p *process) wait() error {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch process %d: %w", p.pid, err)
	}
	// The descriptor is readable when the process has ended.
	if err := raw.Read(readable); err != nil {
		return fmt.Errorf("watch process %d: %w", p.pid, err)
	}
	return nil
}

func readable(fd uintptr) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0
}

// kill ends the process; one that has ended is fine.
func (p *process) kill() error {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return fmt.Errorf("kill process %d: %w", p.pid, err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) }); err != nil {
		return fmt.Errorf("kill process %d: %w", p.pid, err)
	}
	if failed != nil && !errors.Is(failed, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", p.pid, failed)
	}
	return nil
}

// hasEnded reports whether the process has ended.
func (p *process) hasEnded() bool {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return true
	}
	ended := false
	err = raw.Control(func(fd uintptr) { ended = readable(fd) })
	return err != nil || ended
}

func (p *process) close() { p.fd.Close() }
