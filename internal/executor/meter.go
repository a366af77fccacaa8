package executor

import (
	"context"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// meterInterval is how often the usage of running jobs is written.
	meterInterval = 10 * time.Second
	// usagePeriod is the length of a usage row, in seconds of chain time.
	usagePeriod = 3600
)

// meter writes the usage of jobs by chain time, from the start of billing to
// its end, without overlap and with no gap but the pauses.
func (s *Supervisor) meter(ctx context.Context, v *view) error {
	s.mu.Lock()
	due := v.now.Sub(s.metered) >= meterInterval
	if due {
		s.metered = v.now
	}
	s.mu.Unlock()
	for _, vm := range v.vms {
		j := v.jobs[vm.Spec]
		if j == nil || j.StartedAt == 0 || j.NodeID != s.self.NodeID || !due && !j.Status.Ended() {
			continue
		}
		stats, cpu := s.measure(ctx, vm.Spec)
		err := s.db.Update(ctx, func(tx *state.Tx) error { return s.record(ctx, tx, *j, v.head.Time, stats, cpu) })
		if err != nil {
			return fmt.Errorf("meter job %s: %w", vm.Spec, err)
		}
	}
	return nil
}

// measure returns what the job's machine uses, and its CPU time since the last
// look; nothing when it does not run.
func (s *Supervisor) measure(ctx context.Context, spec message.ItemHash) (vmm.Stats, time.Duration) {
	s.mu.Lock()
	w := s.workers[spec]
	s.mu.Unlock()
	if w == nil {
		return vmm.Stats{}, 0
	}
	m := w.current()
	if m == nil {
		return vmm.Stats{}, 0
	}
	stats, err := m.Stats(ctx)
	if err != nil {
		return vmm.Stats{}, 0 // It has just ended.
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.cpu
	if w.machine != m {
		return stats, 0
	}
	w.cpu = stats.CPU
	if last < 0 || stats.CPU < last {
		return stats, 0
	}
	return stats, stats.CPU - last
}

// record brings the job's usage up to the chain time now, or to the end of its
// billing or the begin of its pause.
func (s *Supervisor) record(ctx context.Context, tx *state.Tx, j state.Job, now uint64, stats vmm.Stats, cpu time.Duration) error {
	vm, err := tx.VM(ctx, j.Spec)
	if err != nil {
		return ignoreNotFound(err) // Removed since the pass looked.
	}
	rows, err := tx.Usages(ctx, j.Spec)
	if err != nil {
		return err
	}
	end := now
	if j.Status.Ended() {
		end = j.StoppedAt
	} else if len(rows) > 0 {
		end = max(end, rows[len(rows)-1].To) // The head may be behind itself for a moment.
	}
	if vm.PausedAt != 0 {
		end = min(end, vm.PausedAt)
	}
	rows, err = trim(ctx, tx, rows, j.StartedAt, end)
	if err != nil {
		return err
	}
	at, paused := j.StartedAt, uint64(0)
	if n := len(rows); n > 0 && rows[n-1].To < vm.ResumedAt {
		at, paused = vm.ResumedAt, rows[n-1].To
	} else if n > 0 {
		last := rows[n-1]
		last.CPUMs += cpu.Milliseconds()
		last.RSSMiB = max(last.RSSMiB, stats.RSSBytes>>20)
		last.To = max(last.To, min(end, last.From+usagePeriod))
		if err := tx.PutUsage(ctx, last); err != nil {
			return err
		}
		at, cpu = last.To, 0
	}
	for at < end {
		u := state.Usage{
			Spec: j.Spec, NodeID: s.self.NodeID, From: at, To: min(end, at+usagePeriod), Paused: paused,
			CPUMs: cpu.Milliseconds(), RSSMiB: stats.RSSBytes >> 20,
		}
		if err := tx.PutUsage(ctx, u); err != nil {
			return err
		}
		at, cpu, paused = u.To, 0, 0
	}
	return nil
}

// trim removes what does not follow on from start, at once or after a pause, or
// lies beyond end: the chain has moved one of them. It returns what is left.
func trim(ctx context.Context, tx *state.Tx, rows []state.Usage, start, end uint64) ([]state.Usage, error) {
	var kept []state.Usage
	at := start
	for _, u := range rows {
		follows := u.From == at || u.Paused != 0 && u.Paused == at
		if !follows || u.From >= end {
			if err := tx.RemoveUsage(ctx, u); err != nil {
				return nil, err
			}
			continue
		}
		if u.To > end {
			u.To = end
			if err := tx.PutUsage(ctx, u); err != nil {
				return nil, err
			}
		}
		at = u.To
		kept = append(kept, u)
	}
	return kept, nil
}
