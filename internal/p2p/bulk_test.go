package p2p_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// brittle breaks after some bytes, as often as it may.
type brittle struct {
	*bytes.Reader
	left   int64
	breaks *atomic.Int32
}

func (b *brittle) Close() error { return nil }

func (b *brittle) Read(p []byte) (int, error) {
	if b.left <= 0 && b.breaks.Add(-1) >= 0 {
		return 0, errors.New("the disk is gone")
	}
	n, err := b.Reader.Read(p[:min(int64(len(p)), max(b.left, 1<<16))])
	b.left -= int64(n)
	return n, err
}

// WriteTo hides that of the reader.
func (b *brittle) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{b}) }

func TestBulkIsTakenUpWhereItBroke(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	const part = 300_000
	var breaks atomic.Int32
	breaks.Store(3)
	a, b := pair(t, func(a *p2p.Host) {
		a.HandleBulk("memory", func(_ context.Context, _ p2p.PeerID, name string) (io.ReadSeekCloser, int64, error) {
			if name != "machine 7" {
				return nil, 0, errs.New(errs.NotFound, "no %s", name)
			}
			return &brittle{bytes.NewReader(data), part, &breaks}, int64(len(data)), nil
		})
	})
	for _, offset := range []int64{0, 5, int64(len(data))} {
		var got bytes.Buffer
		n, size, err := b.CopyBulk(t.Context(), a.ID(), "memory", "machine 7", offset, &got)
		if err != nil || n != int64(len(data))-offset || size != int64(len(data)) || !bytes.Equal(got.Bytes(), data[offset:]) {
			t.Errorf("from %d: %d of %d bytes, %v", offset, n, size, err)
		}
	}
	if left := breaks.Load(); left > 0 {
		t.Errorf("the transfer broke %d times less than it was to", left)
	}
}

func TestBulkKeepsTheKindOfAFailure(t *testing.T) {
	shrinking := int64(4)
	a, b := pair(t, func(a *p2p.Host) {
		a.HandleBulk("some", func(_ context.Context, _ p2p.PeerID, name string) (io.ReadSeekCloser, int64, error) {
			if name == "shrinks" {
				shrinking--
				return &brittle{bytes.NewReader(make([]byte, 1<<20)), 0, new(atomic.Int32)}, shrinking, nil
			}
			return nil, 0, errs.New(errs.Kind(name), "secret of %s", name)
		})
	})
	for _, tt := range []struct {
		kind, name string
		offset     int64
		want       errs.Kind
		text       string
	}{
		{"some", string(errs.Denied), 0, errs.Denied, "secret"},
		{"some", string(errs.NotFound), 0, errs.NotFound, "secret"},
		{"some", string(errs.Exhausted), 0, errs.Exhausted, "secret"},
		{"some", string(errs.Internal), 0, errs.Unavailable, "internal error"},
		{"other", "x", 0, errs.NotFound, "nothing of kind"},
		{"some", strings.Repeat("x", wire.MaxBulkName+1), 0, errs.Invalid, "name has"},
		{"some", "shrinks", 1 << 20, errs.Invalid, "behind the end"},
	} {
		_, _, err := b.OpenBulk(t.Context(), a.ID(), tt.kind, tt.name, tt.offset)
		if errs.KindOf(err) != tt.want || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("OpenBulk(%s, %.20s): %v, want kind %q with %q", tt.kind, tt.name, err, tt.want, tt.text)
		}
	}
	// Who asks further is not told another size.
	n, _, err := b.CopyBulk(t.Context(), a.ID(), "some", string(errs.Denied), 0, io.Discard)
	if n != 0 || errs.KindOf(err) != errs.Denied {
		t.Errorf("CopyBulk of what is denied: %d bytes, %v", n, err)
	}
	full := errors.New("no room")
	a.HandleBulk("big", func(context.Context, p2p.PeerID, string) (io.ReadSeekCloser, int64, error) {
		return &brittle{bytes.NewReader(make([]byte, 1<<20)), 1 << 20, new(atomic.Int32)}, 1 << 20, nil
	})
	if _, _, err := b.CopyBulk(t.Context(), a.ID(), "big", "x", 0, failing{full}); !errors.Is(err, full) {
		t.Errorf("CopyBulk to a full disk: %v, want what the disk says", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// counted counts what is read of it.
type counted struct {
	size int64
	at   int64
	read *atomic.Int64
}

func (c *counted) Close() error { return nil }

func (c *counted) Seek(offset int64, _ int) (int64, error) {
	c.at = offset
	return offset, nil
}

func (c *counted) Read(p []byte) (int, error) {
	n := int(min(int64(len(p)), c.size-c.at))
	if n == 0 {
		return 0, io.EOF
	}
	c.at += int64(n)
	c.read.Add(int64(n))
	return n, nil
}

// TestBulkWaitsForASlowReader: what nobody reads is not read from the disk, but for what
// fits into the stream's window.
func TestBulkWaitsForASlowReader(t *testing.T) {
	const size, window = 1 << 30, 32 << 20
	var read atomic.Int64
	a, b := pair(t, func(a *p2p.Host) {
		a.HandleBulk("huge", func(context.Context, p2p.PeerID, string) (io.ReadSeekCloser, int64, error) {
			return &counted{size: size, read: &read}, size, nil
		})
	})
	body, _, err := b.OpenBulk(t.Context(), a.ID(), "huge", "x", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := io.ReadFull(body, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	last := int64(-1)
	p2ptest.Wait(t, "the sender stops", func() bool {
		now := read.Load()
		still := now == last
		last = now
		return still
	})
	if last > window {
		t.Errorf("%d bytes are read for a peer that takes one MiB, want at most %d", last, window)
	}
}

func TestBulkIsBoundedPerPeer(t *testing.T) {
	a, b := pair(t, func(a *p2p.Host) {
		a.HandleBulk("huge", func(context.Context, p2p.PeerID, string) (io.ReadSeekCloser, int64, error) {
			return &counted{size: 1 << 30, read: new(atomic.Int64)}, 1 << 30, nil
		})
	})
	var open sync.WaitGroup
	bodies := make(chan io.ReadCloser, p2p.BodiesPerPeerMax)
	for range p2p.BodiesPerPeerMax {
		open.Go(func() {
			body, _, err := b.OpenBulk(t.Context(), a.ID(), "huge", "x", 0)
			if err != nil {
				t.Error(err)
				return
			}
			bodies <- body
		})
	}
	open.Wait()
	close(bodies)

	if _, _, err := b.OpenBulk(t.Context(), a.ID(), "huge", "x", 0); errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "to this peer already") {
		t.Errorf("one more: %v, want errs.Unavailable and why", err)
	}

	for body := range bodies {
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
	p2ptest.Wait(t, "there is room again", func() bool {
		body, _, err := b.OpenBulk(t.Context(), a.ID(), "huge", "x", 0)
		if err == nil {
			_ = body.Close()
		}
		return err == nil
	})
}
