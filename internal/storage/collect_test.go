package storage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/internal/storage/content"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// shelf is what a Collector deletes from.
type shelf struct {
	t       *testing.T
	db      *state.DB
	blobs   *blob.Store
	content *ipfs.Store
	c       *storage.Collector
}

func openShelf(t *testing.T) *shelf {
	t.Helper()
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	s := &shelf{t: t}
	var err error
	if s.db, err = state.Open(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if s.blobs, err = blob.Open(t.TempDir(), blob.DefaultConfig(), reg, log); err != nil {
		t.Fatal(err)
	}
	if s.content, err = ipfs.Open(t.TempDir(), content.Blobs(s.blobs), ipfs.DefaultConfig(), reg, log); err != nil {
		t.Fatal(err)
	}
	if s.c, err = storage.NewCollector(s.db, s.blobs, s.content, reg, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range []io.Closer{s.content, s.blobs, s.db} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func (s *shelf) update(fn func(ctx context.Context, tx *state.Tx) error) {
	s.t.Helper()
	ctx := s.t.Context()
	if err := s.db.Update(ctx, func(tx *state.Tx) error { return fn(ctx, tx) }); err != nil {
		s.t.Fatal(err)
	}
}

// blob puts bytes here without a row.
func (s *shelf) blob(text string) message.ItemHash {
	s.t.Helper()
	info, err := s.blobs.Put(s.t.Context(), strings.NewReader(text), "")
	if err != nil {
		s.t.Fatal(err)
	}
	return info.Hash
}

func (s *shelf) file(text string) message.ItemHash {
	s.t.Helper()
	hash := s.blob(text)
	s.known(hash)
	return hash
}

func (s *shelf) root(text string) message.ItemHash {
	s.t.Helper()
	r, err := s.content.Add(s.t.Context(), strings.NewReader(text), ipfs.V0)
	if err != nil {
		s.t.Fatal(err)
	}
	hash := message.ItemHash(r.CID.String())
	s.known(hash)
	return hash
}

func (s *shelf) known(hash message.ItemHash) {
	s.t.Helper()
	s.update(func(ctx context.Context, tx *state.Tx) error {
		return tx.PutFileInfo(ctx, state.FileInfo{Hash: hash, SizeBytes: 1})
	})
}

func (s *shelf) pin(key string, hash message.ItemHash, until time.Time) {
	s.t.Helper()
	s.update(func(ctx context.Context, tx *state.Tx) error {
		return tx.PutPin(ctx, state.Pin{Key: key, Kind: state.PinGrace, File: hash, At: time.Unix(1, 0), Until: until})
	})
}

// isHere reports whether the bytes of a file are here, and whether it is known.
func (s *shelf) isHere(hash message.ItemHash) (bytes, row bool) {
	s.t.Helper()
	_, err := s.db.FileInfo(s.t.Context(), hash)
	row = err == nil
	if hash.Type() == message.Storage {
		return s.blobs.Has(hash), row
	}
	id, err := ipfs.ParseCID(string(hash))
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.content.Root(id); err != nil {
		return false, row
	}
	if err := s.content.Verify(s.t.Context(), id); err != nil {
		s.t.Errorf("content %s: %v", hash, err)
	}
	return true, row
}

func (s *shelf) collect(now time.Time) (more bool) {
	s.t.Helper()
	more, err := s.c.Collect(s.t.Context(), now)
	if err != nil {
		s.t.Fatal(err)
	}
	return more
}

func (s *shelf) want(what string, hash message.ItemHash, bytes, row bool) {
	s.t.Helper()
	if b, r := s.isHere(hash); b != bytes || r != row {
		s.t.Errorf("%s: bytes are here %t and the row is %t, want %t and %t", what, b, r, bytes, row)
	}
}

func TestFilesThatNothingPinsGo(t *testing.T) {
	s := openShelf(t)
	now := time.Unix(1_750_000_000, 0)
	pinned, over, later, loose := s.file("pinned"), s.file("over"), s.file("later"), s.file("loose")
	root, looseRoot := s.root("pinned root"), s.root("loose root")
	s.pin("1", pinned, time.Time{})
	s.pin("2", over, now)
	s.pin("3", later, now.Add(time.Second))
	s.pin("4", root, time.Time{})
	blobOnly := s.blob("that no row names: it may have been uploaded")

	if s.collect(now) {
		t.Error("there is more after a pass over a few")
	}

	s.want("pinned", pinned, true, true)
	s.want("a pin that is over", over, false, false)
	s.want("a pin that is not over yet", later, true, true)
	s.want("loose", loose, false, false)
	s.want("pinned content", root, true, true)
	s.want("loose content", looseRoot, false, false)
	s.want("a blob", blobOnly, true, false)
	s.want("the blob of pinned content", message.HashOf([]byte("pinned root")), true, false)
	s.want("the blob of loose content", message.HashOf([]byte("loose root")), false, false)
	s.collect(now.Add(time.Second))
	s.want("later", later, false, false)
}

func TestBytesStayThatSomethingElseIsMadeOf(t *testing.T) {
	s := openShelf(t)
	const text = "both a file and content"
	file, root := s.file(text), s.root(text)
	s.pin("root", root, time.Time{})

	s.collect(time.Unix(1, 0))

	s.want("content over the bytes of a file that went", root, true, true)
	s.want("that file", file, true, false)

	const other = "content that goes, and a file that stays"
	file, root = s.file(other), s.root(other)
	s.pin("file", file, time.Time{})
	s.collect(time.Unix(1, 0))
	s.want("the file", file, true, true)
	s.want("its content", root, false, false)

	// Bytes that somebody is about to bring as a file are not deleted either.
	const third = "content that goes, and an upload"
	root = s.root(third)
	s.pin(state.GraceKey(message.HashOf([]byte(third))), message.HashOf([]byte(third)), time.Time{})
	s.collect(time.Unix(1, 0))
	s.want("an expected file", message.HashOf([]byte(third)), true, false)
	s.want("its content", root, false, false)
}

func TestAPassIsBounded(t *testing.T) {
	s := openShelf(t)
	s.update(func(ctx context.Context, tx *state.Tx) error {
		var err error
		for i := range 501 {
			err = errors.Join(err, tx.PutFileInfo(ctx, state.FileInfo{Hash: message.HashOf(fmt.Append(nil, i))}))
		}
		return err
	})

	first, second := s.collect(time.Unix(1, 0)), s.collect(time.Unix(1, 0))

	if loose, err := s.db.LooseFiles(t.Context(), "", 10); !first || second || err != nil || len(loose) > 0 {
		t.Errorf("there is more %t, then %t, and %d files are left, %v; want more, then nothing", first, second, len(loose), err)
	}
}

// TestCollectionRacesWithUploads brings files again and again while they are loose
// and are being deleted: what was said to be here must be here.
func TestCollectionRacesWithUploads(t *testing.T) {
	s := openShelf(t)
	ctx, rounds := t.Context(), 150
	if testing.Short() {
		rounds = 40
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := s.c.Collect(ctx, time.Unix(10, 0)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	bring := func(text string, asContent bool) error {
		hash := message.HashOf([]byte(text))
		commit := func() error { _, err := s.blobs.Put(ctx, strings.NewReader(text), ""); return err }
		if asContent {
			d, err := s.content.Draft(ctx, strings.NewReader(text), ipfs.V0)
			if err != nil {
				return err
			}
			hash, commit = message.ItemHash(d.Root.CID.String()), func() error { _, err := d.Commit(); return err }
		}
		pin := state.Pin{Key: state.GraceKey(hash), Kind: state.PinGrace, File: hash, At: time.Unix(1, 0), Until: time.Unix(20, 0)}
		expect := s.db.Update(ctx, func(tx *state.Tx) error { return tx.PutPin(ctx, pin) })
		if err := errors.Join(expect, commit()); err != nil {
			return err
		}
		err := s.db.Update(ctx, func(tx *state.Tx) error {
			return errors.Join(tx.PutFileInfo(ctx, state.FileInfo{Hash: hash, SizeBytes: 1}), tx.PutPin(ctx, pin))
		})
		if bytes, row := s.isHere(hash); err == nil && (!bytes || !row) {
			err = errs.New(errs.Internal, "%s was brought: bytes are here %t, the row is %t", hash, bytes, row)
		}
		// Nothing wants it any more.
		return errors.Join(err, s.db.Update(ctx, func(tx *state.Tx) error { return tx.DropPin(ctx, pin.Key) }))
	}
	var uploads sync.WaitGroup
	for _, asContent := range []bool{false, true} {
		uploads.Go(func() {
			for range rounds {
				if err := bring("the same bytes", asContent); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	uploads.Wait()
	close(stop)
	wg.Wait()
}

func TestCollectorRunsUntilItIsAskedToStop(t *testing.T) {
	s := openShelf(t)
	loose := s.file("loose")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.c.Run(ctx) }()
	deadline := time.After(20 * time.Second)
	for s.blobs.Has(loose) {
		select {
		case <-deadline:
			t.Fatal("the file stays")
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}
