package firecracker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
)

// findProcess finds the process of the machine: by what the last daemon wrote
// down, or, where that one died before it could, by what the jailer did.
func findProcess(ctx context.Context, dir string, rec record) (*process.Process, error) {
	raw, err := os.ReadFile(filepath.Join(dir, processFile))
	if err == nil {
		s, err := process.ParseStat(string(raw))
		if err != nil {
			return nil, err
		}
		return process.Open(s.PID, s.Start)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the process of %s: %w", dir, err)
	}
	return jailedProcess(ctx, dir, rec)
}

// jailedProcess takes hold of the process that the jailer has started, and
// writes down which it is.
func jailedProcess(ctx context.Context, dir string, rec record) (*process.Process, error) {
	raw, err := os.ReadFile(filepath.Join(rec.root(dir), rec.Exec+".pid"))
	if err != nil {
		return nil, fmt.Errorf("read the number of the process: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid <= 1 {
		return nil, fmt.Errorf("the number of the process is %.20q", raw)
	}
	line, err := process.StatLine(pid)
	if err != nil {
		return nil, err
	}
	s, err := process.ParseStat(line)
	if err != nil {
		return nil, err
	}
	p, err := process.Open(pid, s.Start)
	if err != nil {
		return nil, err
	}
	// The number may be another's by now: ours has our id among its arguments.
	args, err := arguments(ctx, p)
	if err == nil && !strings.Contains(args, rec.ID) {
		err = errs.New(errs.NotFound, "process %d is not of machine %s", pid, rec.ID)
	}
	if err == nil {
		err = process.ReplaceFile(filepath.Join(dir, processFile), []byte(line))
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// arguments returns what a process was started with. A process that is just
// taking up its program shows none for a moment, and one that has ended shows
// none at all, which is errs.NotFound.
func arguments(ctx context.Context, p *process.Process) (string, error) {
	const (
		takesUp = time.Second // bounds the moment
		between = time.Millisecond
	)
	ctx, cancel := context.WithTimeout(ctx, takesUp)
	defer cancel()
	again := time.NewTicker(between)
	defer again.Stop()
	for {
		args, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID), "cmdline"))
		if err != nil {
			return "", fmt.Errorf("read the arguments of process %d: %w", p.PID, err)
		}
		if len(args) > 0 {
			return string(args), nil
		}
		if p.HasEnded() {
			return "", errs.New(errs.NotFound, "process %d has ended", p.PID)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return "", fmt.Errorf("process %d shows no arguments: %w", p.PID, ctx.Err())
		}
	}
}
