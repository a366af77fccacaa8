package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// cleanInterval is the time between two looks for what belongs to no row. Only
// a crash leaves such things, so the look at start is the one that counts.
const cleanInterval = time.Minute

// clean ends machines whose VM has ended and removes directories of machines
// without a row.
func (s *Supervisor) clean(ctx context.Context, v *view) error {
	s.mu.Lock()
	due := s.cleaned.IsZero() || v.now.Sub(s.cleaned) >= cleanInterval
	if due {
		s.cleaned = v.now
	}
	s.mu.Unlock()
	if !due {
		return nil
	}
	var failed error
	have := map[string]bool{}
	for _, vm := range v.vms {
		have[vm.Dir] = true
		if vm.State != state.VMStopped && vm.State != state.VMFailed {
			continue
		}
		running, err := vmm.Running(vm.Dir)
		if err == nil && running {
			s.log.Warn("machine of an ended VM ran", "job_id", vm.Spec)
			err = s.evict(ctx, vm.Dir)
		}
		failed = errors.Join(failed, err)
	}
	entries, err := os.ReadDir(s.self.Root)
	if err != nil {
		return errors.Join(failed, fmt.Errorf("list machines: %w", err))
	}
	for _, e := range entries {
		hash, err := message.ParseItemHash(e.Name())
		dir := filepath.Join(s.self.Root, e.Name())
		if err != nil || !e.IsDir() || have[dir] {
			continue // Not a machine's, or a machine with a row.
		}
		s.log.Warn("removed machine without a row", "job_id", hash)
		failed = errors.Join(failed, s.evict(ctx, dir), vmm.Remove(dir))
	}
	return failed
}

// evict ends whatever machine runs in dir.
func (s *Supervisor) evict(ctx context.Context, dir string) error {
	m, err := s.parts.Driver.Adopt(ctx, dir)
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for a running machine: %w", err)
	}
	timed, cancel := context.WithTimeout(ctx, haltMargin)
	defer cancel()
	if err := m.Kill(timed); err != nil {
		return fmt.Errorf("kill machine in %s: %w", dir, err)
	}
	return nil
}
