package executor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// drainMax bounds how far ahead a drain may end.
const drainMax = 366 * 24 * time.Hour

// Drain has the node take nothing new, and tells its machines by when they should
// be elsewhere. It stops none, then or later: each ends as its job or its lease
// does. by is who ordered it, which the caller has checked.
func (s *Supervisor) Drain(ctx context.Context, by string, until time.Time) error {
	now := time.Now().UTC()
	if ahead := until.Sub(now); ahead <= 0 || ahead > drainMax {
		return errs.New(errs.Invalid, "the drain's deadline %s is not within a year from now, %s", until.UTC().Format(time.RFC3339), now.Format(time.RFC3339))
	}
	d := state.Drain{Until: until.UTC().Truncate(time.Second), By: by, At: now}
	err := s.db.Update(ctx, func(tx *state.Tx) error {
		old, err := tx.Drain(ctx)
		if ignoreNotFound(err) != nil {
			return err
		}
		if err := tx.PutDrain(ctx, d); err != nil {
			return err
		}
		if err == nil && old.Until.Equal(d.Until) {
			return nil // They know.
		}
		return noteAll(ctx, tx, drainText(&d), now)
	})
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	s.log.Info("node drains", "until", d.Until, "by", by)
	return nil
}

// EndDrain has the node take machines again.
func (s *Supervisor) EndDrain(ctx context.Context, by string) error {
	err := s.db.Update(ctx, func(tx *state.Tx) error {
		if _, err := tx.Drain(ctx); err != nil {
			return ignoreNotFound(err)
		}
		if err := tx.RemoveDrain(ctx); err != nil {
			return err
		}
		return noteAll(ctx, tx, "the node drains no longer", time.Now().UTC())
	})
	if err != nil {
		return fmt.Errorf("end drain: %w", err)
	}
	s.log.Info("node drains no longer", "by", by)
	return nil
}

func drainText(d *state.Drain) string {
	return fmt.Sprintf("the node drains and takes nothing new: its machines should be elsewhere by %s", d.Until.Format(time.RFC3339))
}

// orders are the rows that may forbid to take anything new.
type orders interface {
	Node(ctx context.Context, id uint32) (*state.Node, error)
	Drain(ctx context.Context) (*state.Drain, error)
}

// drains returns the order to drain, or nil.
func drains(ctx context.Context, r orders) (*state.Drain, error) {
	d, err := r.Drain(ctx)
	if errors.Is(err, errs.NotFound) {
		return nil, nil
	}
	return d, err
}

// closed says why the node takes no new leases; "" when it does. The message
// network needs no registry, so a node that the chain does not know is open.
func (s *Supervisor) closed(ctx context.Context, r orders) (string, error) {
	d, err := drains(ctx, r)
	if err != nil {
		return "", err
	}
	if d != nil {
		return drainText(d), nil
	}
	self, err := r.Node(ctx, s.self.NodeID)
	if err == nil && self.Status == state.NodeDraining {
		return "the node is draining in the registry and takes nothing new", nil
	}
	return "", ignoreNotFound(err)
}
