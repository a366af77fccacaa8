package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/flight"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// hasMax bounds the time in which a peer says whether it has a blob.
	hasMax = 5 * time.Second
	// hasParallel bounds the peers that are asked at the same time.
	hasParallel = 16
	// hasPeersMax bounds the peers that are asked in all.
	hasPeersMax = 128
	// resumesMax bounds how often one source may break off and be resumed.
	resumesMax = 3
	// tooBigMax is after how many sources whose bytes have no room here it is believed that
	// there is none: one may say that a small blob is large.
	tooBigMax = 8
	// copyBuffer is how much is read from a peer at a time.
	copyBuffer = 256 << 10
	// progressStep is how many bytes pass between two reports of progress.
	progressStep = 1 << 20
	// unknownStep is for how many bytes room is made at a time while it is not known how
	// many there are.
	unknownStep = 64 << 20
)

// Progress is told how many of total bytes are here. The transfer waits for it, nobody else.
type Progress func(doneBytes, totalBytes int64)

// FetchOptions says how to fetch.
type FetchOptions struct {
	Sources  []p2p.PeerID // Peers to try first; others that have the blob come after.
	Progress Progress     // May be nil.
}

// watchers are told of the progress of transfers that they wait for.
type watchers struct {
	mu sync.Mutex
	of map[message.ItemHash]map[*watcher]struct{} // guarded by mu
}

// watcher is one who is told.
type watcher struct {
	mu sync.Mutex // Held while it is told.
	fn Progress   // nil when it has left; guarded by mu
}

// add has fn told until the function that is returned is called, after which it is not.
func (w *watchers) add(hash message.ItemHash, fn Progress) (remove func()) {
	if fn == nil {
		return func() {}
	}
	one := &watcher{fn: fn}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of[hash] == nil {
		w.of[hash] = map[*watcher]struct{}{}
	}
	w.of[hash][one] = struct{}{}
	return func() {
		w.mu.Lock()
		if delete(w.of[hash], one); len(w.of[hash]) == 0 {
			delete(w.of, hash)
		}
		w.mu.Unlock()
		one.mu.Lock()
		defer one.mu.Unlock()
		one.fn = nil
	}
}

// report tells those who watch a transfer. What they do with it takes its time, in which
// others come and leave.
func (w *watchers) report(hash message.ItemHash, doneBytes, totalBytes int64) {
	w.mu.Lock()
	all := slices.Collect(maps.Keys(w.of[hash]))
	w.mu.Unlock()
	for _, one := range all {
		one.tell(doneBytes, totalBytes)
	}
}

func (o *watcher) tell(doneBytes, totalBytes int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fn != nil {
		o.fn(doneBytes, totalBytes)
	}
}

// Fetch is FetchFrom without preferred sources or reports of progress.
func (k *Keeper) Fetch(ctx context.Context, hash message.ItemHash) (blob.Info, error) {
	return k.FetchFrom(ctx, hash, FetchOptions{})
}

// FetchFrom makes the blob be here: at once if it is, else from peers. Callers
// that want the same blob share one transfer, which ends when the last of them
// gives up. Without a peer that has the blob the error is errs.Unavailable;
// without room for it, also after what need not stay is gone, errs.Exhausted. A file
// of IPFS becomes the blob that the result names; see FetchContent.
func (k *Keeper) FetchFrom(ctx context.Context, hash message.ItemHash, opts FetchOptions) (blob.Info, error) {
	info, err := k.use(hash)
	if err == nil || errs.KindOf(err) != errs.NotFound {
		return info, err
	}
	defer k.watchers.add(hash, opts.Progress)()
	info, err = k.flights.Do(ctx, hash, func(ctx context.Context) (blob.Info, error) {
		return k.transfer(ctx, hash, opts.Sources)
	})
	var left *flight.LeftError
	switch {
	case errors.As(err, &left):
		return blob.Info{}, errs.New(errs.Unavailable, "fetch blob %s: %w", hash, left)
	case err != nil:
		return blob.Info{}, fmt.Errorf("fetch blob %s: %w", hash, err)
	}
	return info, nil
}

// use notes that the blob is used, if it is here.
func (k *Keeper) use(hash message.ItemHash) (blob.Info, error) {
	name := k.Blob(hash)
	if k.names != nil && name.Type() == message.IPFS {
		if _, err := ipfs.ParseCID(string(name)); err != nil {
			return blob.Info{}, err
		}
		return blob.Info{}, errs.New(errs.NotFound, "no blob is known to be %s", name)
	}
	return k.blobs.Use(name, time.Now())
}

// transfer fetches the blob into the store.
func (k *Keeper) transfer(ctx context.Context, hash message.ItemHash, sources []p2p.PeerID) (_ blob.Info, err error) {
	// Another transfer may have ended between the caller's look and now.
	if info, err := k.use(hash); err == nil {
		return info, nil
	}
	start := time.Now()
	w, err := k.blobs.Create()
	if err != nil {
		return blob.Info{}, err
	}
	defer func() { err = errors.Join(err, w.Abort()) }()
	t := &transfer{k: k, hash: hash, w: w}
	if hash.Type() == message.IPFS {
		if t.content, err = newContent(hash); err != nil {
			return blob.Info{}, err
		}
	}
	from, err := t.fromAny(ctx, sources)
	if err != nil {
		k.fetches.WithLabelValues("failed").Inc()
		return blob.Info{}, err
	}
	name := w.Sum()
	if t.content != nil {
		if err := k.names.note(t.content.id, name); err != nil {
			return blob.Info{}, err
		}
	}
	info, err := w.Commit(name)
	if err != nil {
		return blob.Info{}, err
	}
	k.fetches.WithLabelValues("fetched").Inc()
	k.log.Info("fetched blob", "item_hash", hash, "bytes", info.Size, "peer", from, "took", time.Since(start))
	return info, nil
}

// Server has blobs and is no peer; corenode.FileServer is one.
type Server interface {
	Name() string
	// OpenFile opens a blob at an offset and returns its size, negative if that is not
	// known before its end.
	OpenFile(ctx context.Context, hash message.ItemHash, offset int64) (io.ReadCloser, int64, error)
}

// AskServers has blobs that no peer gives fetched from servers. Call it before the
// Keeper is used.
func (k *Keeper) AskServers(servers ...Server) { k.servers = servers }

// source is where a blob comes from.
type source struct {
	name string
	open func(ctx context.Context, offset int64) (io.ReadCloser, int64, error)
}

// ofPeers are the sources of a blob that peers are.
func (t *transfer) ofPeers(ids []p2p.PeerID) []source {
	out := make([]source, len(ids))
	for i, id := range ids {
		out[i] = source{string(id), func(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
			return t.k.net.OpenBlob(ctx, id, t.hash, offset)
		}}
	}
	return out
}

func (t *transfer) ofServers() []source {
	out := make([]source, len(t.k.servers))
	for i, s := range t.k.servers {
		out[i] = source{s.Name(), func(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
			return s.OpenFile(ctx, t.hash, offset)
		}}
	}
	return out
}

// transfer is the state of one: what is written so far, and by whom.
type transfer struct {
	k     *Keeper
	hash  message.ItemHash
	w     *blob.Writer
	wrote []string // names of those who sent the bytes that w has
	tried []source
	inWay bool // a source failed while bytes of others were here, which may be more than there are
	alone bool // bytes of two sources made a bad whole: one at a time from now on

	content *content // Set if hash is a CID: what w has is written to it too.
}

// fromAny tries the given sources, then every peer that says it has the blob, then
// the servers.
func (t *transfer) fromAny(ctx context.Context, sources []p2p.PeerID) (name string, err error) {
	var failures, full []error
	try := func(s source) (bool, error) {
		ok, err := t.from(ctx, s)
		if ctx.Err() != nil {
			return false, errs.New(errs.Unavailable, "%w", context.Cause(ctx))
		}
		if errs.KindOf(err) == errs.Exhausted {
			if full = append(full, err); len(full) >= tooBigMax {
				return false, full[0]
			}
		}
		failures = append(failures, err)
		return ok, nil
	}
	finds := []func() []source{
		func() []source { return t.ofPeers(sources) },
		func() []source { return t.ofPeers(t.k.holders(ctx, t.hash, sources)) },
		t.ofServers,
	}
	if t.content != nil {
		finds = finds[2:] // Peers know blobs only.
	}
	for _, find := range finds {
		for _, s := range find() {
			if slices.ContainsFunc(t.tried, func(o source) bool { return o.name == s.name }) {
				continue
			}
			t.tried = append(t.tried, s)
			ok, err := try(s)
			if err != nil || ok {
				return s.name, err
			}
		}
	}
	// Two honest halves cannot make a bad whole, so one of those who sent part
	// of it lied; each gets the chance to send all of it.
	if t.alone || t.inWay {
		t.alone = true
		for _, s := range t.tried {
			ok, err := try(s)
			if err != nil || ok {
				return s.name, err
			}
		}
	}
	if len(full) > 0 {
		return "", full[0]
	}
	if err := errors.Join(failures...); err != nil {
		return "", errs.New(errs.Unavailable, "%d peers and servers asked, none gave it: %w", len(t.tried), err)
	}
	if t.content != nil {
		return "", errs.New(errs.Unavailable, "files of IPFS come from core channel nodes; name one in [corenode] servers")
	}
	return "", errs.New(errs.Unavailable, "no peer that is connected has it")
}

// from fetches what is missing from one source, resuming it a few times. It
// reports whether the whole blob is here and verified.
func (t *transfer) from(ctx context.Context, s source) (bool, error) {
	if t.alone {
		if err := t.reset(); err != nil {
			return false, err
		}
	}
	var err error
	for range resumesMax {
		before := t.w.Size()
		if err = t.read(ctx, s); err == nil {
			return t.verify(s.name)
		}
		if ctx.Err() != nil || errs.KindOf(err) != errs.Unavailable || t.w.Size() == before {
			break
		}
	}
	t.inWay = t.inWay || slices.ContainsFunc(t.wrote, func(other string) bool { return other != s.name })
	level := slog.LevelWarn
	if errs.KindOf(err) == errs.NotFound {
		level = slog.LevelDebug // Nobody said that it has it.
	}
	t.k.log.Log(ctx, level, "source dropped", "item_hash", t.hash, "peer", s.name, "bytes", t.w.Size(), "err", err)
	t.k.fetches.WithLabelValues("source_failed").Inc()
	return false, err
}

// read appends what one stream of the source gives, to the announced end.
func (t *transfer) read(ctx context.Context, s source) (err error) {
	offset := t.w.Size()
	body, size, err := s.open(ctx, offset)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // only read from: nothing is lost
	if size < 0 {
		return t.readAll(ctx, s, body)
	}
	if size < offset {
		return errs.New(errs.Invalid, "peer %s says the blob has %d bytes, %d are here already", s.name, size, offset)
	}
	if err := t.k.MakeRoom(ctx, size-offset); err != nil {
		return err
	}
	if size > offset {
		t.isFrom(s)
	}
	if err := t.copy(io.LimitReader(body, size-offset), size); err != nil {
		return err
	}
	if t.w.Size() != size {
		return errs.New(errs.Unavailable, "peer %s broke off at byte %d of %d", s.name, t.w.Size(), size)
	}
	return nil
}

// isFrom notes that bytes are a source's.
func (t *transfer) isFrom(s source) {
	if !slices.Contains(t.wrote, s.name) {
		t.wrote = append(t.wrote, s.name)
	}
}

// readAll appends what a source gives whose end shows only when it is there.
func (t *transfer) readAll(ctx context.Context, s source, body io.Reader) error {
	t.isFrom(s)
	for {
		if err := t.k.MakeRoom(ctx, unknownStep); err != nil {
			return err
		}
		before := t.w.Size()
		if err := t.copy(io.LimitReader(body, unknownStep), 0); err != nil {
			return err
		}
		if t.w.Size()-before < unknownStep {
			return nil
		}
	}
}

// copy appends r to the blob and reports progress.
func (t *transfer) copy(r io.Reader, size int64) error {
	buf := make([]byte, copyBuffer)
	reported := t.w.Size()
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := t.write(buf[:n]); err != nil {
				return err
			}
		}
		if t.w.Size()-reported >= progressStep || (err == io.EOF && reported != t.w.Size()) {
			reported = t.w.Size()
			t.k.watchers.report(t.hash, reported, size)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return errs.New(errs.Unavailable, "read: %w", err)
		}
	}
}

// write appends bytes.
func (t *transfer) write(p []byte) error {
	n, err := t.w.Write(p)
	if t.content != nil {
		_, cerr := t.content.Write(p[:n])
		err = errors.Join(err, cerr)
	}
	return err
}

// verify compares the whole with its name. What does not match is thrown away.
func (t *transfer) verify(name string) (bool, error) {
	got := t.w.Sum()
	right, why := got == t.hash, fmt.Sprintf("bytes hash to %s", got)
	if t.content != nil {
		var err error
		if right, err = t.content.Matches(); err != nil {
			return false, err
		}
		why += ", which is not that file, or one that was not laid out as Kubo does it unasked (leaves of 256 KiB)"
	}
	if right {
		return true, nil
	}
	senders := t.wrote
	t.alone = t.alone || len(senders) > 1
	t.k.log.Warn("source dropped", "item_hash", t.hash, "peer", name, "err", why, "count", len(senders))
	t.k.fetches.WithLabelValues("corrupt").Inc()
	if err := t.reset(); err != nil {
		return false, err
	}
	return false, errs.New(errs.Invalid, "from %v: %s", senders, why)
}

// reset forgets what came.
func (t *transfer) reset() error {
	if t.content != nil {
		t.content.Reset()
	}
	t.wrote = nil
	return t.w.Reset()
}

// content is a file of IPFS as it comes.
type content struct {
	*ipfs.Matcher

	id cid.Cid
}

func newContent(hash message.ItemHash) (*content, error) {
	id, err := ipfs.ParseCID(string(hash))
	if err != nil {
		return nil, err
	}
	m, err := ipfs.NewMatcher(id)
	return &content{m, id}, err
}

// holders asks the peers that are connected, and the bootstrap peers, who has
// the blob. Those in skip are not asked.
func (k *Keeper) holders(ctx context.Context, hash message.ItemHash, skip []p2p.PeerID) []p2p.PeerID {
	peers := slices.Concat(k.net.Bootstrap(), k.net.Connected())
	slices.Sort(peers)
	peers = slices.DeleteFunc(slices.Compact(peers), func(id p2p.PeerID) bool { return slices.Contains(skip, id) })
	peers = peers[:min(len(peers), hasPeersMax)]
	has := make([]bool, len(peers))
	var wg sync.WaitGroup
	turns := make(chan struct{}, hasParallel)
	for i, id := range peers {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			ctx, cancel := context.WithTimeout(ctx, hasMax)
			defer cancel()
			var reply hasReply
			if err := k.net.Ask(ctx, id, hasRequest{Kind: kindHas, Hash: hash}, &reply); err != nil {
				k.log.Debug("peer did not say whether it has a blob", "item_hash", hash, "peer", id, "err", err)
				return
			}
			has[i] = reply.Has
		})
	}
	wg.Wait()
	var out []p2p.PeerID
	for i, id := range peers {
		if has[i] {
			out = append(out, id)
		}
	}
	return out
}
