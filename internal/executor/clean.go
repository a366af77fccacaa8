package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// cleanInterval is the time between two looks for what belongs to no row.
	// Only a crash leaves such things, so the look at start is the one that
	// counts.
	cleanInterval = time.Minute
	// lostDir of the root holds what belonged to no row.
	lostDir = "lost"
	// lostKept is how long it does: no crash leaves a machine without a row, so
	// the database was lost or is an old copy, and somebody must be able to
	// notice before disks are gone.
	lostKept = 24 * time.Hour
)

// clean ends machines whose VM has ended, sets directories aside that are of
// machines without a row, and removes images that nobody uses.
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
	if v.synced { // Until then a job may be on the chain whose row has not come back.
		failed = errors.Join(failed, s.setAsideStray(ctx, v.now, have))
	}
	return errors.Join(failed, s.forgetLost(v.now), s.tendBackups(ctx, v), s.forgetLogs(v.now), s.forgetHistory(ctx, v.now), s.prune(ctx, v.now.Add(-unpackedMax)))
}

// setAsideStray ends machines that have no row, and moves their directories to
// where they stay for a while.
func (s *Supervisor) setAsideStray(ctx context.Context, now time.Time, have map[string]bool) error {
	entries, err := os.ReadDir(s.self.Root)
	if err != nil {
		return fmt.Errorf("list machines: %w", err)
	}
	var failed error
	for _, e := range entries {
		hash, err := message.ParseItemHash(e.Name())
		dir := filepath.Join(s.self.Root, e.Name())
		if err != nil || !e.IsDir() || have[dir] {
			continue // Not a machine's, or a machine with a row.
		}
		if s.isComing(hash, now) {
			continue
		}
		// It may have come since the rows were read: its row is written before it is
		// no longer on its way.
		if _, err := s.db.VM(ctx, hash); !errors.Is(err, errs.NotFound) {
			failed = errors.Join(failed, err)
			continue
		}
		to := filepath.Join(s.self.Root, lostDir, fmt.Sprintf("%s-%d", hash, now.Unix()))
		err = s.evict(ctx, dir)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o700)
		}
		if err == nil {
			err = os.Rename(dir, to)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("set machine %s aside: %w", hash, err))
			continue
		}
		s.log.Error("machine without a row set aside: is the database an old copy?", "job_id", hash, "path", to, "removed_at", now.Add(lostKept).UTC())
	}
	return failed
}

// forgetLost removes what was set aside long enough ago.
func (s *Supervisor) forgetLost(now time.Time) error {
	root := filepath.Join(s.self.Root, lostDir)
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list what was set aside: %w", err)
	}
	var failed error
	for _, e := range entries {
		_, at, _ := strings.Cut(e.Name(), "-")
		unix, err := strconv.ParseInt(at, 10, 64)
		if err != nil || now.Sub(time.Unix(unix, 0)) < lostKept {
			continue
		}
		s.log.Warn("removed machine that was set aside", "path", filepath.Join(root, e.Name()))
		failed = errors.Join(failed, vmm.Remove(filepath.Join(root, e.Name())))
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
