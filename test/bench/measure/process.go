package measure

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// CPU is the processor time that this process has used.
func CPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// CPUOf is the processor time that a process has used, to the hundredth of a second.
func CPUOf(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read processor time of process %d: %w", pid, err)
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	const user, system, hertz = 11, 12, 100 // Behind the name: fields 14 and 15.
	if len(fields) <= system {
		return 0, fmt.Errorf("read processor time of process %d: %d fields", pid, len(fields))
	}
	var ticks int64
	for _, i := range []int{user, system} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read processor time of process %d: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / hertz, nil
}

// The kinds of memory that Memory tells of.
const (
	Resident = "VmRSS"   // All that a process holds.
	OwnPages = "RssAnon" // What of it is not files, as the program itself is.
)

// Memory is how many bytes of a kind a process has.
func Memory(pid int, kind string) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, kind+":"); ok {
			const kib = 1024
			n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return n * kib, err
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, kind)
}
