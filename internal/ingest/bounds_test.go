package ingest_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// stuckFiles has contents whose reading takes until it is let.
type stuckFiles struct {
	noFiles
	reading *atomic.Int64
	let     chan struct{}
}

func (f stuckFiles) Read(ctx context.Context, hash message.ItemHash, limit int64) ([]byte, error) {
	f.reading.Add(1)
	defer f.reading.Add(-1)
	<-f.let
	return f.noFiles.Read(ctx, hash, limit)
}

// hermit returns a pipeline that is on no network, and what ends it.
func hermit(t *testing.T, files ingest.Files, funds ingest.Funds) (pipe *ingest.Pipeline, db *state.DB, end func()) {
	t.Helper()
	db, err := state.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	end = func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	if pipe, err = ingest.New(patient(), domain(), db, alone{}, files, funds, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)); err != nil {
		end()
		t.Fatal(err)
	}
	return pipe, db, end
}

// TestContentsThatOthersPublishAreReadAFewAtATime, and keep nothing else waiting.
func TestContentsThatOthersPublishAreReadAFewAtATime(t *testing.T) {
	const heard = 3 * ingest.HeardContentsMax
	synctest.Test(t, func(t *testing.T) {
		files := stuckFiles{reading: new(atomic.Int64), let: make(chan struct{})}
		pipe, db, end := hermit(t, files, nil)
		defer end()
		var wg sync.WaitGroup
		var hashes []message.ItemHash
		for i := range heard {
			hashes = append(hashes, message.HashOf([]byte(fmt.Sprint("content ", i))))
			raw := elsewhereBy(t, key(t, "owner"), hashes[i])
			wg.Go(func() {
				if v := pipe.HearGossip(t.Context(), raw); v != p2p.Accept {
					t.Errorf("the message is %s", v)
				}
			})
		}
		synctest.Wait()
		ctx, leave := context.WithCancel(t.Context())
		late := message.HashOf([]byte("heard at the end"))
		left := make(chan struct{})
		go func() {
			pipe.HearGossip(ctx, elsewhereBy(t, key(t, "owner"), late))
			close(left)
		}()
		synctest.Wait()
		if n := files.reading.Load(); n != ingest.HeardContentsMax {
			t.Errorf("%d contents are read at the same time, want %d", n, ingest.HeardContentsMax)
		}
		inline, raw := envelope(t, key(t, "owner"), message.TypePost, map[string]any{"address": addressOf(key(t, "owner")), "time": 1, "type": "t", "content": 1})
		pipe.HearGossip(t.Context(), raw)
		if k, err := db.Known(t.Context(), inline); err != nil {
			t.Errorf("the message that has its content: %+v, %v; want it taken in meanwhile", k, err)
		}
		leave()
		<-left

		close(files.let)
		wg.Wait()
		for _, hash := range hashes {
			if k, err := db.Known(t.Context(), hash); err != nil || k.Status != state.MessagePending {
				t.Errorf("message %s: %+v, %v; want it to wait for its content", hash, k, err)
			}
		}
		if _, err := db.Known(t.Context(), late); errs.KindOf(err) != errs.NotFound {
			t.Errorf("the message whose hearer ended: %v, want it not taken in", err)
		}
	})
}

// stuckFunds answers for the chain when the question ends.
type stuckFunds struct{ asked, asking atomic.Int64 }

func (f *stuckFunds) Funds(ctx context.Context, _ common.Address, _ uint8) (balance, allowance, refund *big.Int, err error) {
	f.asked.Add(1)
	f.asking.Add(1)
	defer f.asking.Add(-1)
	<-ctx.Done()
	return nil, nil, nil, ctx.Err()
}

// TestWalletsAreAskedForAFewAtATime, and nobody waits for that longer than for an answer.
func TestWalletsAreAskedForAFewAtATime(t *testing.T) {
	const asked = 5 * ingest.RunwaysMax
	synctest.Test(t, func(t *testing.T) {
		chain := &stuckFunds{}
		pipe, _, end := hermit(t, noFiles{}, chain)
		defer end()
		began := time.Now()
		var wg sync.WaitGroup
		for range asked {
			wg.Go(func() {
				if n, err := pipe.Runway(t.Context(), addressOf(key(t, "owner"))); err == nil {
					t.Errorf("the wallet has %v", n)
				}
			})
		}
		synctest.Wait()
		if n := chain.asking.Load(); n != ingest.RunwaysMax {
			t.Errorf("%d questions are asked at the same time, want %d", n, ingest.RunwaysMax)
		}
		if n, err := pipe.Runway(t.Context(), "not of this chain"); err != nil || n.Sign() != 0 {
			t.Errorf("who has no wallet: %v, %v; want nothing without a question", n, err)
		}
		wg.Wait()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("all have waited for %v, want 3 s", took)
		}
	})
}
