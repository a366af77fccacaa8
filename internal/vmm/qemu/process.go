package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// processFile holds the /proc/PID/stat line of the hypervisor.
const processFile = "process"

// clockTick is the unit of times in /proc: USER_HZ, which is 100 on every
// Linux of x86.
const clockTick = 10 * time.Millisecond

// launcher becomes the hypervisor. Before that it writes down which process
// it is, so that there is no moment in which a machine runs and nothing says
// so; joins the control group; and bounds the size of the files that it
// writes, so that a console cannot fill the disk while nobody trims it. A
// write beyond that fails, instead of killing the process by SIGXFSZ.
const launcher = `read -r line < /proc/$$/stat && echo "$line" > process || exit 70
if [ -n "$ALEPH_CGROUP" ]; then echo $$ > "$ALEPH_CGROUP/cgroup.procs" || exit 71; fi
trap '' XFSZ
ulimit -f "$ALEPH_FILE_BLOCKS" || exit 72
exec "$0" "$@"`

// process is a process of this host that may be not our child.
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
	var s stat
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 1 || end < open {
		return s, fmt.Errorf("process line %.60q has no name", line)
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
		return s, fmt.Errorf("process line %.60q: %w", line, err)
	}
	return stat{pid: pid, start: start, user: user, system: system, rssPages: rss}, nil
}

// readStat reads the line of a process that runs, or errs.NotFound.
func readStat(pid int) (stat, error) {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return stat{}, errs.New(errs.NotFound, "no process %d", pid)
	}
	if err != nil {
		return stat{}, fmt.Errorf("read process %d: %w", pid, err)
	}
	return parseStat(string(raw))
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

// wait returns nil when the process has ended, or an error when close was
// called before.
func (p *process) wait() error {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch process %d: %w", p.pid, err)
	}
	// The descriptor is readable when the process has ended.
	err = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return err == nil && n > 0
	})
	if err != nil {
		return fmt.Errorf("watch process %d: %w", p.pid, err)
	}
	return nil
}

// signal sends a signal; a process that has ended is fine.
func (p *process) signal(sig unix.Signal) error {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	if failed != nil && !errors.Is(failed, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.pid, failed)
	}
	return nil
}

// reap takes the status of a process that has ended when it is our child.
func (p *process) reap() (status unix.WaitStatus, ours bool) {
	pid, err := unix.Wait4(p.pid, &status, unix.WNOHANG, nil)
	return status, err == nil && pid == p.pid
}

func (p *process) close() { p.fd.Close() }

// launch is what a process is started with.
type launch struct {
	binary    string
	args      []string
	dir       string
	lock      *os.File // Inherited: held until the process ends.
	cgroup    string   // "" for none.
	fileBytes int64    // Size limit of what it writes.
	log       string   // Name of the file for its own output, in dir.
	state     *os.File // Inherited as inheritedState; nil for none.
}

// start starts a process of its own session.
func (l launch) start() (*os.Process, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("open null device: %w", err)
	}
	defer null.Close()
	out, err := os.OpenFile(filepath.Join(l.dir, l.log), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make hypervisor log: %w", err)
	}
	defer out.Close()
	const blockBytes = 512 // Of ulimit -f.
	argv := append([]string{"sh", "-c", launcher, l.binary}, l.args...)
	files := []*os.File{null, out, out, l.lock}
	if l.state != nil {
		files = append(files, l.state)
	}
	p, err := os.StartProcess("/bin/sh", argv, &os.ProcAttr{
		Dir:   l.dir,
		Env:   []string{"PATH=/usr/bin:/bin", "ALEPH_CGROUP=" + l.cgroup, fmt.Sprintf("ALEPH_FILE_BLOCKS=%d", l.fileBytes/blockBytes)},
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start hypervisor: %w", err)
	}
	return p, nil
}

// hasEnded reports whether the process has ended.
func (p *process) hasEnded() bool {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return true
	}
	ended := false
	err = raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		ended = err == nil && n > 0
	})
	return err != nil || ended
}
