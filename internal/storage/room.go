package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Room tells what may go when there is no room for a blob.
type Room interface {
	// Needed returns a test for the blobs that must stay. It is asked after
	// the blobs were listed, and who comes to need one later calls Fetch, which
	// learns whether it is still here.
	Needed(ctx context.Context) (blob.Keep, error)
	// FreeDisk deletes what nobody needs beside the blobs.
	FreeDisk(ctx context.Context) error
}

// Reclaim lets the Keeper delete what room says need not stay. It is called
// before the Keeper is used; without it nothing is ever deleted.
func (k *Keeper) Reclaim(room Room) { k.room = room }

// MakeRoom makes a blob of the size fit, or returns errs.Exhausted.
func (k *Keeper) MakeRoom(ctx context.Context, size int64) error {
	err := k.blobs.Fits(size)
	if errs.KindOf(err) != errs.Exhausted || k.room == nil {
		return err
	}
	if errors.Is(err, blob.ErrDisk) {
		if err := k.room.FreeDisk(ctx); err != nil {
			return fmt.Errorf("free the disk: %w", err)
		}
	}
	return k.blobs.MakeRoom(size, func() (blob.Keep, error) {
		needed, err := k.room.Needed(ctx)
		if err != nil {
			return nil, err
		}
		return func(hash message.ItemHash, usedAt time.Time) bool { return k.fetching(hash) || needed(hash, usedAt) }, nil
	})
}

// fetching reports whether somebody waits for the blob.
func (k *Keeper) fetching(hash message.ItemHash) bool { return k.flights.Has(hash) }

// Drop deletes a blob that is of no use as it is, so that the next Fetch brings
// it anew.
func (k *Keeper) Drop(hash message.ItemHash) error { return k.blobs.Delete(k.Blob(hash)) }
