package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/flight"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
)

// straysMax is how many blocks in a row of a stream may be ones that nothing here
// links to: streams come with parents first.
const straysMax = 64

// source gives blocks, or lies about them.
type source interface {
	// name is one word, for metrics and logs.
	name() string
	// open begins to ask for the blocks of one content, until ctx ends.
	open(ctx context.Context) (session, error)
}

// session is a source that is asked for one content.
type session interface {
	// get returns a block; nothing is said of its bytes. It is called from several
	// goroutines.
	get(ctx context.Context, c cid.Cid) ([]byte, error)
	// parallel is how many blocks are asked for at the same time.
	parallel() int
	// patience is how long the first block may take, if the others may take so long.
	patience(stall time.Duration) time.Duration
}

// streamer is a session that can send all blocks below one at once, as an archive.
type streamer interface {
	stream(ctx context.Context, root cid.Cid) (io.ReadCloser, error)
}

var (
	// errStalled ends a source that sent nothing for too long.
	errStalled = errors.New("no block came in time")
	// errLied ends a source that sent something else than it was asked for.
	errLied = errors.New("the source sent what is not the content")
)

// isSourceError says whether another source may help.
func isSourceError(err error) bool {
	kind := errs.KindOf(err)
	return kind == errs.Unavailable || kind == errs.NotFound || errors.Is(err, errLied)
}

// Fetch makes content be here: at once if it is, else from whoever has it, block by
// block. Callers that want the same share one fetch, which ends when the last of
// them gives up. What came stays for the next try if nobody had all of it; that is
// errs.Unavailable. Content that is too large, or for which there is no room, is
// errs.Exhausted, and one that is no files and folders errs.Invalid; nothing is left
// of those.
func (s *Swarm) Fetch(ctx context.Context, c cid.Cid) (ipfs.Root, error) {
	root, err := s.store.Root(c)
	if errs.KindOf(err) != errs.NotFound {
		return root, err
	}
	root, err = s.flights.Do(ctx, contentKey(c), func(ctx context.Context) (ipfs.Root, error) { return s.fetch(ctx, c) })
	var left *flight.LeftError
	switch {
	case errors.As(err, &left):
		return ipfs.Root{}, errs.New(errs.Unavailable, "fetch %s: %w", c, left)
	case err != nil:
		return ipfs.Root{}, fmt.Errorf("fetch %s: %w", c, err)
	}
	return root, nil
}

// contentKey names content, in whichever version its CID is.
func contentKey(c cid.Cid) string { return c.Hash().String() + string(rune(c.Prefix().Codec)) }

// fetch waits for its turn and fetches.
func (s *Swarm) fetch(ctx context.Context, c cid.Cid) (ipfs.Root, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.FetchTimeout, errs.New(errs.Unavailable, "it took longer than %v", s.cfg.FetchTimeout))
	defer cancel()
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return ipfs.Root{}, errs.New(errs.Unavailable, "%w", context.Cause(ctx))
	}
	start := time.Now()
	a, err := s.store.Arrive(ctx, c, int64(s.cfg.MaxFetchGB*bytesPerGB))
	if err != nil {
		return ipfs.Root{}, err
	}
	t := &transfer{s: s, content: c, a: a}
	from, err := t.fromAny(ctx)
	if err != nil {
		return ipfs.Root{}, t.end(err)
	}
	_, fetched := a.Size()
	root, err := a.Commit()
	if err != nil {
		return ipfs.Root{}, err
	}
	s.log.Info("fetched content", "cid", c.String(), "bytes", fetched, "via", from, "took", time.Since(start))
	return root, nil
}

// transfer is the state of one fetch.
type transfer struct {
	s       *Swarm
	content cid.Cid
	a       *ipfs.Arrival
	roomy   bool // There is room for what the root claims.
}

// end keeps what came if another try may bring the rest, else drops it.
func (t *transfer) end(err error) error {
	if isSourceError(err) {
		return errors.Join(err, t.a.Suspend())
	}
	return errors.Join(err, t.a.Abort())
}

// fromAny asks source after source for what is missing, and says which had the last
// of it; "here" if nothing was missing.
func (t *transfer) fromAny(ctx context.Context) (string, error) {
	if missing, err := t.missing(); err != nil || !missing {
		return "here", err
	}
	var failures []error
	for _, src := range t.s.sources {
		err := t.from(ctx, src)
		if ctx.Err() != nil && err != nil {
			err = errs.New(errs.Unavailable, "%w", context.Cause(ctx))
			t.s.metrics.fetches.WithLabelValues(src.name(), outcomeEnded).Inc()
			return "", err
		}
		t.s.metrics.ended(src.name(), err)
		if err == nil {
			return src.name(), nil
		}
		if !isSourceError(err) {
			return "", err // No source can help.
		}
		here, fetched := t.a.Size()
		t.s.log.Debug("source ended", "cid", t.content.String(), "via", src.name(), "bytes", here, "fetched", fetched, "err", err)
		failures = append(failures, fmt.Errorf("%s: %w", src.name(), err))
	}
	if len(failures) == 0 {
		return "", errs.New(errs.Unavailable, "there is nobody to ask")
	}
	return "", errs.New(errs.Unavailable, "%d sources asked, none gave it: %w", len(failures), errors.Join(failures...))
}

// missing says whether anything is.
func (t *transfer) missing() (bool, error) {
	c, ok, err := t.a.Next()
	if ok {
		t.a.Again(c)
	}
	return ok, err
}

// from asks one source for what is missing.
func (t *transfer) from(ctx context.Context, src source) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sess, err := src.open(ctx)
	if err != nil {
		return err
	}
	if st, ok := sess.(streamer); ok && t.a.Claimed() == 0 {
		if err := t.stream(ctx, cancel, src, st); err != nil && (!isSourceError(err) || errors.Is(err, errLied)) {
			return err
		} else if err != nil {
			t.s.log.Debug("stream ended", "cid", t.content.String(), "via", src.name(), "err", err)
		}
		if ctx.Err() != nil {
			return errs.New(errs.Unavailable, "%w", context.Cause(ctx))
		}
	}
	return t.blocks(ctx, src, sess)
}

// put takes a block in.
func (t *transfer) put(ctx context.Context, src source, c cid.Cid, block []byte) error {
	err := t.a.Put(c, block)
	if errors.Is(err, ipfs.ErrBadBlock) {
		t.s.log.Warn("source dropped", "cid", t.content.String(), "via", src.name(), "err", err)
		return errs.New(errs.Unavailable, "%w: %w", errLied, err)
	}
	if err != nil {
		return err
	}
	t.s.metrics.blocks.WithLabelValues(src.name()).Inc()
	t.s.metrics.bytes.WithLabelValues(src.name()).Add(float64(len(block)))
	return t.makeRoom(ctx)
}

// makeRoom sees to it, once it is known, that there is room for what the root claims.
func (t *transfer) makeRoom(ctx context.Context) error {
	if t.roomy || t.s.room == nil || t.a.Claimed() == 0 {
		return nil
	}
	t.roomy = true
	here, _ := t.a.Size()
	return t.s.room(ctx, max(t.a.Claimed()-here, 0))
}

// answer is what a source said to the question for a block.
type answer struct {
	cid   cid.Cid
	block []byte
	err   error
}

// blocks asks for block after block, several at the same time, until none is missing.
func (t *transfer) blocks(ctx context.Context, src source, sess session) error {
	ctx, cancel := context.WithCancelCause(ctx)
	answers := make(chan answer)
	asked := map[cid.Cid]struct{}{}
	defer func() {
		cancel(nil)
		for c := range asked {
			<-answers // Each says something, if only that ctx ended.
			t.a.Again(c)
		}
	}()
	wait := sess.patience(t.s.cfg.StallTimeout)
	stall := time.NewTimer(wait)
	defer stall.Stop()
	for {
		for len(asked) < sess.parallel() {
			c, ok, err := t.a.Next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			asked[c] = struct{}{}
			go func() {
				block, err := sess.get(ctx, c)
				answers <- answer{c, block, err}
			}()
		}
		if len(asked) == 0 {
			return nil
		}
		select {
		case got := <-answers:
			delete(asked, got.cid)
			err := got.err
			if err == nil {
				err = t.put(ctx, src, got.cid, got.block)
			}
			if err != nil {
				t.a.Again(got.cid)
				return err
			}
			wait = t.s.cfg.StallTimeout
			stall.Reset(wait)
		case <-stall.C:
			return errs.New(errs.Unavailable, "%w: %v passed", errStalled, wait)
		case <-ctx.Done():
			return errs.New(errs.Unavailable, "%w", context.Cause(ctx))
		}
	}
}

// stream reads an archive of all blocks. What it lacks is still missing afterwards.
func (t *transfer) stream(ctx context.Context, cancel context.CancelCauseFunc, src source, st streamer) (err error) {
	// Reading does not end by itself, so the stall ends what it reads from.
	stall := time.AfterFunc(t.s.cfg.StallTimeout, func() { cancel(errStalled) })
	defer stall.Stop()
	body, err := st.stream(ctx, t.content)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	car, err := ipfs.OpenCAR(body)
	if err != nil {
		return streamError(err)
	}
	strays := 0
	for {
		c, block, err := car.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return streamError(err)
		}
		if !t.a.Wants(c) {
			if strays++; strays > straysMax {
				return errs.New(errs.Unavailable, "%w: %d blocks in a row are no part of it", errLied, strays)
			}
			continue
		}
		strays = 0
		if err := t.put(ctx, src, c, block); err != nil {
			return err
		}
		stall.Reset(t.s.cfg.StallTimeout)
	}
}

// streamError says that the source is at fault, not the content.
func streamError(err error) error { return errs.New(errs.Unavailable, "read the stream: %w", err) }
