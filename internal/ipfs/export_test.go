package ipfs

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"
	"github.com/prometheus/client_golang/prometheus"
)

// Limits that tests go up to.
const (
	BlockMax     = blockMax
	DepthMax     = depthMax
	HeaderMax    = headerMax
	CARBlocksMax = carBlocksMax
	TreeMax      = treeMax
	IndexEntries = batchLen
)

// OpenOn opens a store whose index is on the given disk, with a small ballast.
func OpenOn(dir string, disk vfs.FS, blobs Blobs) (*Store, error) {
	return open(dir, disk, blobs, DefaultConfig(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
}

// SetIndexMax bounds the index.
func (s *Store) SetIndexMax(bytes int64) { s.indexMax = bytes }

// Unlink does the first half of Delete, as if the process ended then.
func (s *Store) Unlink(c cid.Cid) error {
	_, _, err := s.unlink(c)
	return err
}

// DropSome does a part of the second half.
func (s *Store) DropSome() error {
	s.mu.Lock()
	id := s.last
	s.mu.Unlock()
	_, err := s.dropSome(id)
	return err
}

// Leftovers counts entries of the index that no root owns.
func (s *Store) Leftovers() (int, error) {
	owned := map[packID]bool{}
	err := s.scan([]byte{keyRoot}, func(key, value []byte) (bool, error) {
		c, err := cid.Cast(append([]byte(nil), key[1:]...))
		if err != nil {
			return false, err
		}
		_, id, err := decodeRoot(c, value)
		owned[id] = true
		return true, err
	})
	if err != nil {
		return 0, err
	}
	n := 0
	for _, prefix := range []byte{keyBlock, keyUse, keyOpen} {
		if err := s.scan([]byte{prefix}, func(key, _ []byte) (bool, error) {
			if !owned[packAt(key)] {
				n++
			}
			return true, nil
		}); err != nil {
			return 0, err
		}
	}
	for _, prefix := range []byte{keyPack, keySource} {
		if err := s.scan([]byte{prefix}, func(key, _ []byte) (bool, error) {
			if !owned[packAt(key[:1+packLen])] {
				n++
			}
			return true, nil
		}); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// Rot changes a block that is in the index itself.
func (s *Store) Rot(c cid.Cid) error {
	key := []byte{}
	err := s.scan(blockPrefix(digestOf(c)), func(k, _ []byte) (bool, error) {
		key = append(key, k...)
		return false, nil
	})
	if err != nil {
		return err
	}
	return s.db.Set(key, place{form: formHere, here: []byte("rotten")}.encode(), nil)
}

// DecodeNode decodes a dag-pb block and returns how many links it has.
func DecodeNode(block []byte) (links int, err error) {
	n, err := decodeNode(block)
	if err != nil {
		return 0, err
	}
	return len(n.links), nil
}
