package measure

import (
	"context"
	"fmt"
	"os"
	"runtime"
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

// The fields of /proc/PID/stat that tell processor time, counted from the first behind
// the name: the process's own, and that of children that it has waited for.
const (
	ownTime, childrenTime = 11, 13 // In user mode; the next is in the kernel.
	hertz                 = 100
)

// CPUOf is the processor time that a process has used, to the hundredth of a second.
func CPUOf(pid int) (time.Duration, error) { return cpuOf(pid, ownTime) }

// CPUOfChildren is the processor time of the children of a process that have ended, to
// the hundredth of a second.
func CPUOfChildren(pid int) (time.Duration, error) { return cpuOf(pid, childrenTime) }

func cpuOf(pid, field int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read processor time of process %d: %w", pid, err)
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if len(fields) <= field+1 {
		return 0, fmt.Errorf("read processor time of process %d: %d fields", pid, len(fields))
	}
	var ticks int64
	for _, text := range fields[field : field+2] {
		n, err := strconv.ParseInt(text, 10, 64)
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

// Busy is how many processors of this machine were busy during a time in which this
// process waits: what others would have of a measurement's time.
func Busy(ctx context.Context, d time.Duration) (float64, error) {
	busy, all, err := ticks()
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	busyAfter, allAfter, err := ticks()
	if err != nil {
		return 0, err
	}
	return float64(busyAfter-busy) / max(1, float64(allAfter-all)) * float64(runtime.NumCPU()), nil
}

// ticks are those that the processors were busy, and all.
func ticks() (busy, all int64, err error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, fmt.Errorf("read processor time: %w", err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	fields := strings.Fields(line)
	const idle, waits, last = 4, 5, 8 // Behind the name; what guests have is in the first already.
	if len(fields) <= last {
		return 0, 0, fmt.Errorf("read processor time: %d fields", len(fields))
	}
	for i, text := range fields[1 : last+1] {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read processor time: %w", err)
		}
		all += n
		if i+1 != idle && i+1 != waits {
			busy += n
		}
	}
	return busy, all, nil
}

// Load is how many processes of this machine want to run, on average over a minute.
func Load() (float64, error) {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, fmt.Errorf("read load: %w", err)
	}
	first, _, _ := strings.Cut(string(raw), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0, fmt.Errorf("read load: %w", err)
	}
	return load, nil
}
