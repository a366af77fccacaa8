package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// dueMax bounds the messages of one pass; the rest wait for the next.
	dueMax = 200
	// fetchParallel bounds the files that are fetched at the same time, as
	// each takes the whole line.
	fetchParallel = 4
	// fetchMax bounds the transfer of one file.
	fetchMax = 30 * time.Minute
	// passDelayMax bounds the pause after failed passes.
	passDelayMax = 30 * time.Second
)

// Run looks again at messages that wait, until ctx ends; it returns ctx's
// cause. Files are fetched beside the other messages, which do not wait for
// them.
func (p *Pipeline) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_ = loop.Every(ctx, p.log, p.cfg.RetryInterval, passDelayMax, nil, p.fetchPass) // ends with ctx, as the other
	})
	return loop.Every(ctx, p.log, p.cfg.RetryInterval, passDelayMax, p.db.Wake("files"), p.retryPass)
}

// due returns the pending messages, STORE or others, that are due.
func (p *Pipeline) due(ctx context.Context, now time.Time, stores bool) ([]state.Message, error) {
	all, err := p.db.MessagesDue(ctx, now, dueMax)
	if err != nil {
		return nil, err
	}
	var out []state.Message
	for _, m := range all {
		if (m.Type == string(message.TypeStore)) == stores {
			out = append(out, m)
		}
	}
	return out, nil
}

// retryPass looks again at everything but files.
func (p *Pipeline) retryPass(ctx context.Context) error {
	due, err := p.due(ctx, time.Now(), false)
	if err != nil {
		return err
	}
	for i := range due {
		if err := p.retry(ctx, &due[i]); err != nil {
			return err
		}
	}
	return nil
}

// fetchPass fetches files and looks again at the messages that name them.
func (p *Pipeline) fetchPass(ctx context.Context) error {
	due, err := p.due(ctx, time.Now(), true)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	turns := make(chan struct{}, fetchParallel)
	failed := make([]error, len(due))
	for i := range due {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			failed[i] = p.retry(ctx, &due[i])
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

// retry gets what the message waits for, if it can be had, and judges it
// again. A refusal is an end like any other.
func (p *Pipeline) retry(ctx context.Context, m *state.Message) error {
	var env message.Envelope
	if err := json.Unmarshal(m.Envelope, &env); err != nil {
		return fmt.Errorf("decode stored message %s: %w", m.ItemHash, err)
	}
	p.obtainMissing(ctx, &env)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // Asked to stop; the row is still due.
	}
	_, err := p.judge(ctx, m, time.Now())
	var rejected *message.RejectError
	if errors.As(err, &rejected) {
		p.log.Info("message refused", "item_hash", m.ItemHash, "err", err)
		return nil
	}
	return err
}

// obtainMissing asks other nodes for what the message names and is not here.
// What cannot be had now is missing still; judging will say so.
func (p *Pipeline) obtainMissing(ctx context.Context, env *message.Envelope) {
	if s, err := env.Store(); err == nil && p.cfg.KeepFiles && s.ItemType == message.Storage {
		ctx, cancel := context.WithTimeout(ctx, fetchMax)
		defer cancel()
		if _, err := p.files.Fetch(ctx, s.ItemHash); err != nil {
			p.log.Debug("file not fetched", "item_hash", s.ItemHash, "err", err)
		}
		return
	}
	i, err := env.Instance()
	if err != nil {
		return
	}
	for _, ref := range refs(i) {
		if _, err := p.db.File(ctx, ref); !errors.Is(err, errs.NotFound) {
			continue
		}
		if _, err := p.Obtain(ctx, ref); err != nil {
			p.log.Debug("message not obtained", "item_hash", ref, "err", err)
		}
	}
}
