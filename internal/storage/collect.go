package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// collectEvery is the time between two passes. What is over may stay longer, so
	// it need not be short.
	collectEvery = 5 * time.Minute
	// collectDelayMax bounds the pause after failed passes.
	collectDelayMax = time.Hour
	// pinsMax and filesMax bound what one pass ends, so that messages are not kept
	// waiting: it holds the database for each file once, and for pinsBatch pins.
	pinsMax, pinsBatch, filesMax = 2000, 200, 500
)

// Collector deletes the files that nothing wants any more, with their bytes. Use
// NewCollector, then Run.
//
// A file goes in the transaction that finds it without a pin, bytes first. So who
// pins it in a transaction before sees it stay, and who does after that finds that
// the bytes are not here. After a crash in the middle the file is known without its
// bytes, and the next pass forgets it.
//
// Blobs that neither a row nor content names are left: they may be uploads on their way,
// what a crash left of an add, or all that is there after the rows were restored from an
// older copy. They go when others need room; see Keeper.MakeRoom.
type Collector struct {
	db      *state.DB
	blobs   *blob.Store
	content *ipfs.Store
	log     *slog.Logger
	files   prometheus.Counter
}

// NewCollector returns a Collector of files whose bytes are in blobs and in IPFS
// content.
func NewCollector(db *state.DB, blobs *blob.Store, content *ipfs.Store, reg prometheus.Registerer, log *slog.Logger) (*Collector, error) {
	c := &Collector{db: db, blobs: blobs, content: content, log: log, files: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "aleph_storage_collected_files_total", Help: "Files that nothing wanted any more and that were deleted.",
	})}
	if err := reg.Register(c.files); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return c, nil
}

// Run deletes what nothing wants, until ctx ends; it returns ctx's cause.
func (c *Collector) Run(ctx context.Context) error {
	more := make(chan struct{}, 1)
	return loop.Every(ctx, c.log, collectEvery, collectDelayMax, more, func(ctx context.Context) error {
		again, err := c.Collect(ctx, time.Now())
		if again && err == nil {
			more <- struct{}{}
		}
		return err
	})
}

// Collect takes out pins whose time is over by now, and deletes files that nothing
// pins. It says whether there may be more of either.
func (c *Collector) Collect(ctx context.Context, now time.Time) (more bool, err error) {
	pins, err := c.dropPins(ctx, now)
	if err != nil {
		return false, err
	}
	loose, err := c.db.LooseFiles(ctx, "", filesMax)
	if err != nil {
		return false, err
	}
	deleted := 0
	var failed error
	for _, hash := range loose {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		gone, err := c.collect(ctx, hash)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("delete file %s: %w", hash, err)) // Others may go.
		}
		if gone {
			deleted++
		}
	}
	if pins > 0 || deleted > 0 {
		c.log.Info("files collected", "pins", pins, "count", deleted)
	}
	return pins == pinsMax || len(loose) == filesMax, failed
}

// dropPins takes out pins, the longest over first, and says how many.
func (c *Collector) dropPins(ctx context.Context, now time.Time) (dropped int, err error) {
	for dropped < pinsMax {
		n := 0
		err := c.db.Update(ctx, func(tx *state.Tx) error {
			over, err := tx.PinsOver(ctx, state.PinGrace, now, pinsBatch)
			if err != nil {
				return err
			}
			for _, p := range over {
				if err := tx.DropPin(ctx, p.Key); err != nil {
					return err
				}
			}
			n = len(over)
			return nil
		})
		if err != nil {
			return dropped, err
		}
		dropped += n
		if n < pinsBatch {
			break
		}
	}
	return dropped, nil
}

// collect deletes one file unless something pins it by now.
func (c *Collector) collect(ctx context.Context, hash message.ItemHash) (gone bool, err error) {
	err = c.db.Update(ctx, func(tx *state.Tx) error {
		pinned, err := tx.Pinned(ctx, hash)
		if err != nil || pinned {
			return err
		}
		if err := c.deleteBytes(ctx, tx, hash); err != nil {
			return err
		}
		gone = true
		return tx.DropFileInfo(ctx, hash)
	})
	if err != nil {
		return false, err
	}
	if gone {
		c.files.Inc()
		c.log.Debug("file deleted", "item_hash", hash)
	}
	return gone, nil
}

// deleteBytes deletes a file's bytes, but those that IPFS content or another file
// needs.
func (c *Collector) deleteBytes(ctx context.Context, tx *state.Tx, hash message.ItemHash) error {
	if hash.Type() == message.Storage {
		if _, ok := hash.Digest(); !ok {
			return nil // No blob has such a name.
		}
		_, err := c.content.Free(hash, func() error { return c.blobs.Delete(hash) })
		return err
	}
	id, err := ipfs.ParseCID(string(hash))
	if errs.KindOf(err) == errs.Invalid {
		return nil // No content has such a name.
	}
	if err != nil {
		return err
	}
	unused, err := c.content.Delete(id)
	if err != nil {
		return err
	}
	for _, b := range unused {
		if wanted, err := c.wanted(ctx, tx, b); err != nil {
			return err
		} else if wanted {
			continue
		}
		if _, err := c.content.Free(b, func() error { return c.blobs.Delete(b) }); err != nil {
			return err
		}
	}
	return nil
}

// wanted reports whether a blob is a file too, or is about to be one.
func (c *Collector) wanted(ctx context.Context, tx *state.Tx, hash message.ItemHash) (bool, error) {
	pinned, err := tx.Pinned(ctx, hash)
	if err != nil || pinned {
		return pinned, err
	}
	_, err = tx.FileInfo(ctx, hash)
	if errors.Is(err, errs.NotFound) {
		return false, nil
	}
	return err == nil, err
}
