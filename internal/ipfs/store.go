package ipfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	bytesPerGB    = 1_000_000_000
	maxIndexGBMax = 10_000 // more is a slip of the finger
)

// Config bounds the index of a coordinator's IPFS content. The bytes are blobs,
// which [storage] max_size_gb bounds.
type Config struct {
	MaxIndexGB float64 `toml:"max_index_gb"` // Most that the index of IPFS blocks may take on disk, in gigabytes (10^9 bytes).
}

// DefaultConfig allows 10 GB, which index some 10 TB of files.
func DefaultConfig() Config { return Config{MaxIndexGB: 10} }

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if !(c.MaxIndexGB > 0 && c.MaxIndexGB <= maxIndexGBMax) {
		return fmt.Errorf("max_index_gb is %g, want more than 0 and at most %d", c.MaxIndexGB, maxIndexGBMax)
	}
	return nil
}

// Store is the IPFS content of a node. Use Open. It is safe for concurrent use;
// one process may have it open.
type Store struct {
	db       *pebble.DB
	ballast  *ballast
	blobs    Blobs
	indexMax int64
	log      *slog.Logger
	reg      prometheus.Registerer
	metrics  []prometheus.Collector
	rotten   prometheus.Counter

	roots   [64]sync.Mutex // by root, for who adds or deletes it
	changes atomic.Uint64  // how often a root came or went

	mu     sync.Mutex
	last   packID                   // guarded by mu
	hidden map[packID]struct{}      // packs that are unfinished or half deleted; guarded by mu
	held   map[message.ItemHash]int // blobs of unfinished packs; guarded by mu
}

// Open opens the index in dir, creating it as needed, and drops what was not
// finished there.
func Open(dir string, blobs Blobs, cfg Config, reg prometheus.Registerer, log *slog.Logger) (*Store, error) {
	return open(dir, vfs.Default, blobs, cfg, reg, log)
}

func open(dir string, disk vfs.FS, blobs Blobs, cfg Config, reg prometheus.Registerer, log *slog.Logger) (*Store, error) {
	db, ballast, err := openIndex(filepath.Join(dir, "index"), disk, log)
	if err != nil {
		return nil, err
	}
	s := &Store{
		db: db, ballast: ballast, blobs: blobs, indexMax: int64(cfg.MaxIndexGB * bytesPerGB), log: log, reg: reg,
		hidden: map[packID]struct{}{}, held: map[message.ItemHash]int{},
	}
	if err := errors.Join(s.load(), s.register()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// load reads what is kept in memory.
func (s *Store) load() error {
	v, ok, err := s.value([]byte{keyLast})
	if err != nil {
		return err
	}
	if ok && len(v) == packLen {
		s.last = packID(binary.BigEndian.Uint64(v))
	}
	return s.sweep()
}

func (s *Store) register() error {
	s.rotten = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "aleph_ipfs_rotten_blocks_total", Help: "Blocks that were read and did not hash to their name.",
	})
	size := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "aleph_ipfs_index_bytes", Help: "Bytes of the index of IPFS blocks.",
	}, func() float64 { return float64(s.db.Metrics().DiskSpaceUsage()) })
	for _, c := range []prometheus.Collector{s.rotten, size} {
		if err := s.reg.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
		s.metrics = append(s.metrics, c)
	}
	return nil
}

// Close closes the index. Nothing may be in use.
func (s *Store) Close() error {
	for _, c := range s.metrics {
		s.reg.Unregister(c)
	}
	s.metrics = nil
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close the index of ipfs: %w", err)
	}
	return nil
}

// isHidden says whether a pack is unfinished or half deleted.
func (s *Store) isHidden(p packID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, hidden := s.hidden[p]
	return hidden
}

func (s *Store) hide(p packID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hidden[p] = struct{}{}
}

func (s *Store) unhide(p packID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.hidden, p)
}

// lockRoot lets nobody else add or delete the root until unlock is called.
func (s *Store) lockRoot(c cid.Cid) (unlock func()) {
	hash := c.Hash()
	mu := &s.roots[int(hash[len(hash)-1])%len(s.roots)]
	mu.Lock()
	return mu.Unlock
}

func (s *Store) root(c cid.Cid) (Root, bool, error) {
	v, ok, err := s.value(rootKey(c))
	if err != nil || !ok {
		return Root{}, false, err
	}
	r, _, err := decodeRoot(c, v)
	return r, err == nil, err
}

// Root returns content that was added under this CID, or errs.NotFound. A CID
// that is only part of other content is none.
func (s *Store) Root(c cid.Cid) (Root, error) {
	if err := checkInput(c); err != nil {
		return Root{}, err
	}
	r, ok, err := s.root(c)
	if err != nil {
		return Root{}, err
	}
	if !ok {
		return Root{}, errs.New(errs.NotFound, "no IPFS content %s", c)
	}
	return r, nil
}

// Roots returns everything that was added, by the bytes of the CIDs.
func (s *Store) Roots(ctx context.Context) iter.Seq2[Root, error] {
	return func(yield func(Root, error) bool) {
		err := s.scan([]byte{keyRoot}, func(key, value []byte) (bool, error) {
			if ctx.Err() != nil {
				return false, context.Cause(ctx)
			}
			c, err := cid.Cast(append([]byte(nil), key[1:]...))
			if err != nil {
				return false, fmt.Errorf("decode the name of a root: %w", err)
			}
			r, _, err := decodeRoot(c, value)
			return err == nil && yield(r, nil), err
		})
		if err != nil {
			yield(Root{}, err)
		}
	}
}

// Changes counts roots that came or went since Open, so that who looks at all of
// them need not look when it is what it was.
func (s *Store) Changes() uint64 { return s.changes.Load() }

// Uses says whether IPFS content needs the blob, so that it must stay.
func (s *Store) Uses(blob message.ItemHash) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.usesLocked(blob)
}

// Free calls remove unless IPFS content needs the blob, and says whether it
// did. No add begins to use the blob meanwhile, so remove must be short.
func (s *Store) Free(blob message.ItemHash, remove func() error) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used, err := s.usesLocked(blob)
	if err != nil || used {
		return false, err
	}
	return true, remove()
}

// usesLocked is Uses for who holds mu. A pack lets go of its blobs only after
// the index says who uses them.
func (s *Store) usesLocked(blob message.ItemHash) (used bool, err error) {
	d, err := blobDigest(blob)
	if err != nil {
		return false, err
	}
	if s.held[blob] > 0 {
		return true, nil
	}
	err = s.scan(append([]byte{keyUse}, d[:]...), func(_, _ []byte) (bool, error) {
		used = true
		return false, nil
	})
	return used, err
}
