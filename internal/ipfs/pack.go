package ipfs

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// batchSize is from how many bytes of the index on they are written; a block
	// may be the last of them with up to blockMax.
	batchSize = 64 << 10
	// batchLen is how many blocks are dropped at a time, about 100 kB.
	batchLen = 1024
)

// recentMax is how many blocks a pack remembers, about 200 kB.
const recentMax = 4096

// pack is the blocks of a root that is being added. One goroutine at a time may
// use it; it ends with commit or abort.
type pack struct {
	s       *Store
	id      packID
	batch   *pebble.Batch
	written bool // some of the pack is in the index
	recent  map[digest]struct{}
	sources []message.ItemHash // by number; "" for the blob that is still being written
	done    bool
}

// begin starts a pack. It is invisible, and written down as unfinished before
// anything else of it is.
func (s *Store) begin() (*pack, error) {
	if err := s.room(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.last + 1
	// At once, not with what the pack writes: packs end in any order, and one
	// that began earlier would set the number back.
	if err := s.db.Set([]byte{keyLast}, id.append(nil), pebble.NoSync); err != nil {
		return nil, fmt.Errorf("begin a pack: %w", err)
	}
	p := &pack{s: s, id: id, batch: s.db.NewBatch(), recent: map[digest]struct{}{}}
	if err := p.batch.Set(openKey(id), nil, nil); err != nil {
		return nil, fmt.Errorf("begin a pack: %w", err)
	}
	s.last = id
	s.hidden[id] = struct{}{}
	return p, nil
}

// room says errs.Exhausted if the index may not grow.
func (s *Store) room() error {
	if used := int64(s.db.Metrics().DiskSpaceUsage()); used > s.indexMax {
		return errs.New(errs.Exhausted, "the index of ipfs takes %d bytes of %d; raise [ipfs] max_index_gb or delete content", used, s.indexMax)
	}
	return s.ballast.check()
}

// use gives a blob a number in the pack. From then on Uses reports it.
func (p *pack) use(blob message.ItemHash) uint32 {
	if i := slices.Index(p.sources, blob); i >= 0 {
		return uint32(i)
	}
	source := p.reserve()
	p.name(source, blob)
	return source
}

// reserve gives a number to a blob that is still being written; name says
// later which it is.
func (p *pack) reserve() uint32 {
	p.sources = append(p.sources, "")
	return uint32(len(p.sources) - 1)
}

func (p *pack) name(source uint32, blob message.ItemHash) {
	p.s.hold(blob, 1)
	p.sources[source] = blob
}

// put notes where a block is. A block that the pack has already stays where it
// is, or moves to where it also is. Files of zeros are one block again and
// again, so what was put last is remembered: each copy would slow down reading.
func (p *pack) put(d digest, at place) error {
	if _, ok := p.recent[d]; ok {
		return nil
	}
	if len(p.recent) == recentMax {
		clear(p.recent)
	}
	p.recent[d] = struct{}{}
	err := errors.Join(
		p.batch.Set(p.id.append(blockPrefix(d)), at.encode(), nil),
		p.batch.Set(append(packPrefix(p.id), d[:]...), nil, nil),
	)
	if err != nil {
		return fmt.Errorf("note a block: %w", err)
	}
	if p.batch.Len() < batchSize {
		return nil
	}
	return p.flush()
}

// flush writes the batch, if there is room for it. It need not last yet: the
// commit's sync covers all that the engine wrote before it.
func (p *pack) flush() error {
	if err := p.s.room(); err != nil {
		return err
	}
	if err := p.batch.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("write the index of ipfs: %w", err)
	}
	if err := p.batch.Close(); err != nil {
		return fmt.Errorf("write the index of ipfs: %w", err)
	}
	p.batch = p.s.db.NewBatch()
	p.written = true
	return nil
}

// commit makes the root visible, for good. A root that is there already stays,
// and the pack is dropped.
func (p *pack) commit(r Root) (Root, error) {
	if err := p.seal(r); err != nil {
		return Root{}, errors.Join(err, p.abort())
	}
	old, there, err := p.publish(r.CID)
	if err != nil || there {
		return old, errors.Join(err, p.abort())
	}
	p.finish()
	return r, nil
}

// seal writes the last of the pack: its root and its blobs.
func (p *pack) seal(r Root) error {
	row, err := r.encode(p.id)
	if err != nil {
		return err
	}
	err = errors.Join(p.batch.Set(rootKey(r.CID), row, nil), p.batch.Delete(openKey(p.id), nil))
	for i, blob := range p.sources {
		d, digestErr := blobDigest(blob)
		err = errors.Join(err, digestErr,
			p.batch.Set(sourceKey(p.id, uint32(i)), d[:], nil), p.batch.Set(useKey(d, p.id), nil, nil))
	}
	if err != nil {
		return fmt.Errorf("seal a pack: %w", err)
	}
	return nil
}

// publish commits the pack, unless its root is there. Of two packs with one
// root the second sees the first.
func (p *pack) publish(c cid.Cid) (old Root, there bool, err error) {
	defer p.s.lockRoot(c)()
	if old, there, err = p.s.root(c); err != nil || there {
		return old, there, err
	}
	p.written = true
	if err := p.batch.Commit(pebble.Sync); err != nil {
		return Root{}, false, fmt.Errorf("write the index of ipfs: %w", err)
	}
	p.s.unhide(p.id)
	p.s.changes.Add(1)
	return Root{}, false, nil
}

// abort drops the pack. It does nothing after a commit.
func (p *pack) abort() error {
	if p.done {
		return nil
	}
	p.finish()
	if p.written {
		return p.s.drop(p.id)
	}
	p.s.unhide(p.id)
	return nil
}

// finish lets go of the batch and of the blobs.
func (p *pack) finish() {
	p.done = true
	for _, blob := range p.sources {
		p.s.hold(blob, -1)
	}
	p.batch.Close() // It gives memory back, no more.
}

// hold counts the packs in the making that use a blob.
func (s *Store) hold(blob message.ItemHash, n int) {
	if blob == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[blob] += n
	if s.held[blob] == 0 {
		delete(s.held, blob)
	}
}

// drop takes a hidden pack out of the index, piece by piece. It may end in the
// middle and be called again.
func (s *Store) drop(id packID) error {
	for {
		more, err := s.dropSome(id)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	b := s.db.NewBatch()
	defer b.Close()
	err := errors.Join(
		b.DeleteRange(sourcePrefix(id), after(sourcePrefix(id)), nil),
		b.Delete(openKey(id), nil),
		b.Commit(pebble.NoSync),
	)
	if err != nil {
		return fmt.Errorf("drop a pack: %w", err)
	}
	s.unhide(id)
	return nil
}

// dropSome drops the first blocks of a pack.
func (s *Store) dropSome(id packID) (more bool, err error) {
	b := s.db.NewBatch()
	defer b.Close()
	n := 0
	err = s.scan(packPrefix(id), func(key, _ []byte) (bool, error) {
		d := digest(key[1+packLen:])
		n++
		return n < batchLen, errors.Join(b.Delete(id.append(blockPrefix(d)), nil), b.Delete(key, nil))
	})
	if err == nil && n > 0 {
		err = b.Commit(pebble.NoSync)
	}
	if err != nil {
		return false, fmt.Errorf("drop a pack: %w", err)
	}
	return n == batchLen, nil
}

// sweep drops what a process that ended in the middle left.
func (s *Store) sweep() error {
	err := s.scan([]byte{keyOpen}, func(key, _ []byte) (bool, error) {
		s.hidden[packAt(key)] = struct{}{}
		return true, nil
	})
	if err != nil {
		return err
	}
	left := slices.Collect(maps.Keys(s.hidden))
	for _, id := range left {
		if err := s.drop(id); err != nil {
			return err
		}
	}
	if len(left) > 0 {
		s.log.Info("swept unfinished ipfs content", "part", "ipfs", "count", len(left))
	}
	return nil
}
