package main

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

const (
	senders  = 500
	batch    = 512
	interval = 30 * time.Second // From one message to the next: a million take a year.
	filler   = 600              // Characters of a content, so that a message has about a kilobyte.
)

// begin is when the first message was made.
func begin() time.Time { return time.Unix(1_700_000_000, 0).UTC() }

// signed makes the messages from the first on, and how many bytes they have as JSON.
func signed(keys []*ecdsa.PrivateKey, first, n int) ([]*state.Message, int, error) {
	out := make([]*state.Message, n)
	sizes := make([]int, n)
	failed := make([]error, n)
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				out[i], sizes[i], failed[i] = signedPost(keys, first+i)
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, size := range sizes {
		sum += size
	}
	return out, sum, errors.Join(failed...)
}

func signedPost(keys []*ecdsa.PrivateKey, i int) (*state.Message, int, error) {
	key := keys[i%len(keys)]
	at := begin().Add(time.Duration(i) * interval)
	r := rand.New(rand.NewPCG(uint64(i), 1)) //nolint:gosec // The same each time.
	text := make([]byte, filler)
	for k := range text {
		text[k] = byte('a' + r.IntN(26))
	}
	content := fmt.Sprintf(`{"address":"%s","time":%d,"content":{"body":"%s"},"ref":"thread-%d","type":"chat"}`, crypto.PubkeyToAddress(key.PublicKey).Hex(), at.Unix(), text, i%1000)
	e := &message.Envelope{
		Chain: message.Ethereum, Type: message.TypePost, Time: at, ItemType: message.Inline, ItemContent: content, ItemHash: message.HashOf([]byte(content)),
	}
	if err := signature.SignEVM(key, e); err != nil {
		return nil, 0, err
	}
	c, err := message.ParseContent(e, []byte(content))
	if err != nil {
		return nil, 0, err
	}
	raw, err := e.MarshalJSON()
	return state.NewMessage(e, []byte(content), c, at), len(raw), err
}

// keysOf are the keys of the senders.
func keysOf() (keys []*ecdsa.PrivateKey, err error) {
	keys = make([]*ecdsa.PrivateKey, senders)
	for i := range keys {
		if keys[i], err = crypto.ToECDSA(crypto.Keccak256([]byte(fmt.Sprint("bench ", i)))); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// fill makes a database of all messages, and returns how many bytes one has on average.
func (b *bench) fill(ctx context.Context, dir string) (size int, err error) {
	keys, err := keysOf()
	if err != nil {
		return 0, err
	}
	db, err := state.Open(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	sum := 0
	for first := 0; first < b.messages; first += batch {
		all, bytes, err := signed(keys, first, min(batch, b.messages-first))
		if err != nil {
			return 0, err
		}
		sum += bytes
		if err := db.Update(ctx, func(tx *state.Tx) error { return errors.Join(tx.AddMessages(ctx, all), tx.AddPosts(ctx, all)) }); err != nil {
			return 0, err
		}
		if first/100_000 != (first+batch)/100_000 {
			b.say("%d messages made", first+batch)
		}
	}
	return sum / max(b.messages, 1), nil
}

// without makes a copy of a database that lacks n of its messages: the newest, or any.
func (b *bench) without(ctx context.Context, from, to string, n int, anywhere bool) (err error) {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	db, err := state.Open(ctx, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	ids := make([]int64, n)
	r := rand.New(rand.NewPCG(uint64(n), 2)) //nolint:gosec // The same each time.
	places := r.Perm(b.messages)
	for i := range ids {
		if ids[i] = int64(b.messages - 1 - i); anywhere {
			ids[i] = int64(places[i])
		}
	}
	for len(ids) > 0 {
		some := ids[:min(len(ids), batch)]
		ids = ids[len(some):]
		found, err := db.MessagesByID(ctx, some)
		if err != nil {
			return err
		}
		err = db.Update(ctx, func(tx *state.Tx) error {
			for _, m := range found {
				if _, err := tx.RemovePost(ctx, m); err != nil {
					return err
				}
				if err := tx.RemoveMessage(ctx, m); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
