package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// node is a host with blobs and a keeper.
type node struct {
	host  *p2p.Host
	blobs *blob.Store
	keep  *storage.Keeper
	log   *bytes.Buffer
}

func open(t *testing.T, name string, maxBytes int64, bootstrap ...string) *node {
	t.Helper()
	n := &node{log: new(bytes.Buffer)}
	log := slog.New(slog.NewTextHandler(n.log, nil))
	reg := prometheus.NewRegistry()
	var err error
	if n.blobs, err = blob.Open(t.TempDir(), blob.Config{MaxSizeGB: float64(maxBytes) / 1e9}, reg, log); err != nil {
		t.Fatal(err)
	}
	n.host = p2ptest.Open(t, name, bootstrap...)
	if n.keep, err = storage.New(n.blobs, n.host, reg, log); err != nil {
		t.Fatal(err)
	}
	return n
}

// network returns n nodes that are all connected to the first.
func network(t *testing.T, count int) []*node {
	t.Helper()
	nodes := []*node{open(t, "0", 1e9)}
	for i := 1; i < count; i++ {
		nodes = append(nodes, open(t, fmt.Sprint(i), 1e9, nodes[0].host.Addrs()...))
	}
	for _, n := range nodes {
		p2ptest.Start(t, n.host)
	}
	for _, n := range nodes[1:] {
		p2ptest.Meet(t, nodes[0].host, n.host)
	}
	return nodes
}

func (n *node) put(t *testing.T, data []byte) message.ItemHash {
	t.Helper()
	info, err := n.blobs.Put(t.Context(), bytes.NewReader(data), "")
	if err != nil {
		t.Fatal(err)
	}
	return info.Hash
}

// source makes a handler that sends what the function says.
func source(size int64, body func() io.ReadSeeker) p2p.BlobHandler {
	return func(context.Context, p2p.PeerID, message.ItemHash) (io.ReadSeekCloser, int64, error) {
		return nopCloser{body()}, size, nil
	}
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

// breaking reads data up to end and then fails.
type breaking struct {
	*bytes.Reader
	end int64
}

func (b breaking) Read(p []byte) (int, error) {
	at := b.Size() - int64(b.Len())
	if at >= b.end {
		return 0, errors.New("line went dead")
	}
	return b.Reader.Read(p[:min(int64(len(p)), b.end-at)])
}

func image(size int) []byte { return bytes.Repeat([]byte("0123456789abcdef"), size/16) }

func TestFetchFindsWhoHasTheBlob(t *testing.T) {
	nodes := network(t, 3)
	data := image(5 << 20)
	hash := nodes[1].put(t, data)
	var last int64

	info, err := nodes[0].keep.FetchFrom(t.Context(), hash, storage.FetchOptions{Progress: func(done, total int64) {
		if done < last || total != int64(len(data)) {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	}})

	if err != nil || info.Size != int64(len(data)) || last != int64(len(data)) {
		t.Fatalf("FetchFrom = %+v, %v, progress to %d", info, err, last)
	}
	if err := nodes[0].blobs.Verify(t.Context(), hash); err != nil {
		t.Error(err)
	}
	if info, err := nodes[0].keep.Fetch(t.Context(), hash); err != nil || info.Hash != hash {
		t.Errorf("Fetch of what is here = %+v, %v", info, err)
	}
	if info, err := nodes[0].keep.Stat(hash); err != nil || info.Size != int64(len(data)) {
		t.Errorf("Stat = %+v, %v", info, err)
	}
}

func TestACorruptingSourceIsDroppedAndAnotherTried(t *testing.T) {
	nodes := network(t, 3)
	data := image(3 << 20)
	hash := nodes[1].put(t, data)
	corrupt := bytes.Clone(data)
	corrupt[1<<20] ^= 1
	nodes[2].host.HandleBlob(source(int64(len(data)), func() io.ReadSeeker { return bytes.NewReader(corrupt) }))

	info, err := nodes[0].keep.FetchFrom(t.Context(), hash, storage.FetchOptions{Sources: []p2p.PeerID{nodes[2].host.ID(), nodes[1].host.ID()}})

	if err != nil || info.Hash != hash {
		t.Fatalf("FetchFrom = %+v, %v", info, err)
	}
	if err := nodes[0].blobs.Verify(t.Context(), hash); err != nil {
		t.Error(err)
	}
	if log := nodes[0].log.String(); !strings.Contains(log, "source dropped") || !strings.Contains(log, string(nodes[2].host.ID())) {
		t.Errorf("log does not say who was dropped: %s", log)
	}
}

func TestOnlyCorruptSourcesLeaveNothing(t *testing.T) {
	nodes := network(t, 2)
	data := image(1 << 20)
	nodes[1].host.HandleBlob(source(int64(len(data)), func() io.ReadSeeker { return bytes.NewReader(data) }))
	wanted := message.HashOf([]byte("something else"))

	_, err := nodes[0].keep.FetchFrom(t.Context(), wanted, storage.FetchOptions{Sources: []p2p.PeerID{nodes[1].host.ID()}})

	if errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "hash to") {
		t.Errorf("FetchFrom: %v, want errs.Unavailable that says why", err)
	}
	if nodes[0].blobs.Used() != 0 || nodes[0].blobs.Has(wanted) {
		t.Errorf("%d bytes are left", nodes[0].blobs.Used())
	}
}

func TestATransferGoesOnWithAnotherSource(t *testing.T) {
	nodes := network(t, 3)
	data := image(4 << 20)
	hash := nodes[1].put(t, data)
	// This one sends half of it and breaks off.
	nodes[2].host.HandleBlob(source(int64(len(data)), func() io.ReadSeeker { return breaking{bytes.NewReader(data), 2 << 20} }))
	var offsets []int64
	var mu sync.Mutex
	serve := func(ctx context.Context, from p2p.PeerID, h message.ItemHash) (io.ReadSeekCloser, int64, error) {
		r, err := nodes[1].blobs.Open(h)
		if err != nil {
			return nil, 0, err
		}
		return seekSpy{r, func(at int64) {
			mu.Lock()
			defer mu.Unlock()
			offsets = append(offsets, at)
		}}, r.Info.Size, nil
	}
	nodes[1].host.HandleBlob(serve)

	_, err := nodes[0].keep.FetchFrom(t.Context(), hash, storage.FetchOptions{Sources: []p2p.PeerID{nodes[2].host.ID(), nodes[1].host.ID()}})
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(offsets) != 1 || offsets[0] == 0 {
		t.Errorf("the second source was asked from %v, want once and not from the start", offsets)
	}
}

type seekSpy struct {
	io.ReadSeekCloser
	seen func(int64)
}

func (s seekSpy) Seek(offset int64, whence int) (int64, error) {
	s.seen(offset)
	return s.ReadSeekCloser.Seek(offset, whence)
}

func TestAMixOfTwoSourcesIsUntangled(t *testing.T) {
	nodes := network(t, 3)
	data := image(4 << 20)
	hash := nodes[1].put(t, data)
	// The liar sends a corrupt half and breaks off, so the honest one's half
	// cannot make it whole.
	corrupt := bytes.Clone(data)
	corrupt[5] ^= 1
	nodes[2].host.HandleBlob(source(int64(len(data)), func() io.ReadSeeker { return breaking{bytes.NewReader(corrupt), 2 << 20} }))

	info, err := nodes[0].keep.FetchFrom(t.Context(), hash, storage.FetchOptions{Sources: []p2p.PeerID{nodes[2].host.ID(), nodes[1].host.ID()}})

	if err != nil || info.Hash != hash {
		t.Fatalf("FetchFrom = %+v, %v", info, err)
	}
}

func TestNobodyHasIt(t *testing.T) {
	nodes := network(t, 2)
	absent := message.HashOf([]byte("absent"))
	stranger, err := p2p.PeerIDOf(p2ptest.Key("stranger"))
	if err != nil {
		t.Fatal(err)
	}

	for _, sources := range [][]p2p.PeerID{nil, {nodes[1].host.ID(), stranger}} {
		_, err := nodes[0].keep.FetchFrom(t.Context(), absent, storage.FetchOptions{Sources: sources})
		if errs.KindOf(err) != errs.Unavailable {
			t.Errorf("from %v: %v, want errs.Unavailable", sources, err)
		}
	}
	if _, err := nodes[0].keep.Fetch(t.Context(), "nonsense"); errs.KindOf(err) != errs.Invalid {
		t.Errorf("Fetch of nonsense: %v, want errs.Invalid", err)
	}
}

func TestALiarAboutTheSizeIsDropped(t *testing.T) {
	nodes := network(t, 3)
	data := image(2 << 20)
	hash := nodes[1].put(t, data)
	nodes[2].host.HandleBlob(source(int64(len(data))+5, func() io.ReadSeeker { return bytes.NewReader(data) }))

	if _, err := nodes[0].keep.FetchFrom(t.Context(), hash, storage.FetchOptions{Sources: []p2p.PeerID{nodes[2].host.ID(), nodes[1].host.ID()}}); err != nil {
		t.Errorf("FetchFrom: %v", err)
	}
}

func TestALiarAboutTheSizeKeepsNobodyFromSending(t *testing.T) {
	nodes := network(t, 3)
	data := image(1 << 20)
	hash := nodes[1].put(t, data)
	for name, lie := range map[string]p2p.BlobHandler{
		"more than there is room for": source(1<<50, func() io.ReadSeeker { return bytes.NewReader(data) }),
		"more than there is":          source(4<<20, func() io.ReadSeeker { return breaking{bytes.NewReader(image(4 << 20)), 2 << 20} }),
	} {
		t.Run(name, func(t *testing.T) {
			if err := nodes[0].blobs.Delete(hash); err != nil {
				t.Fatal(err)
			}
			nodes[2].host.HandleBlob(lie)

			_, err := nodes[0].keep.FetchFrom(t.Context(), hash, storage.FetchOptions{Sources: []p2p.PeerID{nodes[2].host.ID(), nodes[1].host.ID()}})
			if err != nil {
				t.Errorf("FetchFrom: %v", err)
			}
		})
	}
}

func TestABlobThatDoesNotFitIsExhausted(t *testing.T) {
	big := open(t, "big", 1e9)
	small := open(t, "small", 1000, big.host.Addrs()...)
	p2ptest.Start(t, big.host, small.host)
	p2ptest.Meet(t, big.host, small.host)
	hash := big.put(t, image(1<<20))

	_, err := small.keep.Fetch(t.Context(), hash)

	if errs.KindOf(err) != errs.Exhausted || small.blobs.Used() != 0 {
		t.Errorf("Fetch: %v, used %d; want errs.Exhausted and nothing left", err, small.blobs.Used())
	}
}

func TestCallersShareOneTransfer(t *testing.T) {
	nodes := network(t, 2)
	data := image(1 << 20)
	hash := message.HashOf(data)
	opened, release := make(chan struct{}, 16), make(chan struct{})
	nodes[1].host.HandleBlob(func(context.Context, p2p.PeerID, message.ItemHash) (io.ReadSeekCloser, int64, error) {
		opened <- struct{}{}
		<-release
		return nopCloser{bytes.NewReader(data)}, int64(len(data)), nil
	})
	opts := storage.FetchOptions{Sources: []p2p.PeerID{nodes[1].host.ID()}}
	leaver, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := nodes[0].keep.FetchFrom(leaver, hash, opts)
		first <- err
	}()
	<-opened
	var wg sync.WaitGroup
	waiting := make(chan struct{}, 4)
	for range 4 {
		wg.Go(func() {
			waiting <- struct{}{}
			if _, err := nodes[0].keep.FetchFrom(t.Context(), hash, opts); err != nil {
				t.Error(err)
			}
		})
	}
	for range 4 {
		<-waiting
	}
	p2ptest.Wait(t, "the others joined", func() bool { return nodes[0].keep.Waiters(hash) == 5 })

	leave() // the one that started it gives up; the others go on
	if err := <-first; errs.KindOf(err) != errs.Unavailable {
		t.Errorf("the leaver got %v, want errs.Unavailable", err)
	}
	close(release)
	wg.Wait()

	if len(opened) != 0 {
		t.Errorf("%d more transfers were started, want one in all", len(opened))
	}
}

// TestWhoIsToldOfProgressKeepsNobodyWaiting but the transfer: others come and leave.
func TestWhoIsToldOfProgressKeepsNobodyWaiting(t *testing.T) {
	nodes := network(t, 2)
	hash := nodes[1].put(t, image(4<<20))
	told, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	opts := storage.FetchOptions{Sources: []p2p.PeerID{nodes[1].host.ID()}, Progress: func(int64, int64) {
		once.Do(func() { close(told) })
		<-release
	}}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := nodes[0].keep.FetchFrom(t.Context(), hash, opts); err != nil {
			t.Error(err)
		}
	})
	<-told

	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := nodes[0].keep.FetchFrom(ctx, hash, storage.FetchOptions{Progress: func(int64, int64) { t.Error("who has left is told") }})
		left <- err
	}()
	p2ptest.Wait(t, "another one joined", func() bool { return nodes[0].keep.Waiters(hash) == 2 })
	leave()
	if err := <-left; errs.KindOf(err) != errs.Unavailable {
		t.Errorf("the leaver got %v, want errs.Unavailable", err)
	}
	close(release)
	wg.Wait()
}

func TestATransferEndsWhenNobodyWaits(t *testing.T) {
	nodes := network(t, 2)
	opened := make(chan struct{})
	ended := make(chan struct{})
	nodes[1].host.HandleBlob(func(ctx context.Context, _ p2p.PeerID, _ message.ItemHash) (io.ReadSeekCloser, int64, error) {
		close(opened)
		<-ended
		return nil, 0, errs.New(errs.NotFound, "too late")
	})
	defer close(ended)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-opened
		cancel()
	}()

	_, err := nodes[0].keep.FetchFrom(ctx, message.HashOf(nil), storage.FetchOptions{Sources: []p2p.PeerID{nodes[1].host.ID()}})

	if errs.KindOf(err) != errs.Unavailable || nodes[0].blobs.Used() != 0 {
		t.Errorf("FetchFrom: %v, used %d", err, nodes[0].blobs.Used())
	}
}

func TestNewOnOneRegistryTwice(t *testing.T) {
	n := open(t, "n", 1000)
	reg := prometheus.NewRegistry()
	for i, want := range []bool{true, false} {
		if _, err := storage.New(n.blobs, n.host, reg, slog.New(slog.DiscardHandler)); (err == nil) != want {
			t.Errorf("keeper %d: %v", i, err)
		}
	}
}
