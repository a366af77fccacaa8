package ipfs

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Delete removes content that was added under this CID, and returns the blobs
// that no other content needs: they may go by Free, unless somebody outside
// needs them. Content that is not here is no error. After a crash in the middle
// the content is there as before, or gone with all its blocks.
func (s *Store) Delete(c cid.Cid) (unused []message.ItemHash, err error) {
	if err := checkInput(c); err != nil {
		return nil, err
	}
	id, blobs, err := s.unlink(c)
	if err != nil || id == 0 {
		return nil, err
	}
	if err := s.drop(id); err != nil {
		return nil, err
	}
	for _, blob := range blobs {
		used, err := s.Uses(blob)
		if err != nil {
			return nil, err
		}
		if !used {
			unused = append(unused, blob)
		}
	}
	return unused, nil
}

// unlink takes the root away, for good, and leaves its pack to be dropped. The
// pack is 0 if there is no such root.
func (s *Store) unlink(c cid.Cid) (packID, []message.ItemHash, error) {
	defer s.lockRoot(c)()
	v, ok, err := s.value(rootKey(c))
	if err != nil || !ok {
		return 0, nil, err
	}
	_, id, err := decodeRoot(c, v)
	if err != nil {
		return 0, nil, err
	}
	b := s.db.NewBatch()
	defer b.Close()
	var blobs []message.ItemHash
	err = s.scan(sourcePrefix(id), func(_, value []byte) (bool, error) {
		blobs = append(blobs, message.ItemHashOf(digest(value)))
		return true, b.Delete(useKey(digest(value), id), nil)
	})
	if err != nil {
		return 0, nil, err
	}
	s.hide(id)
	err = errors.Join(b.Delete(rootKey(c), nil), b.Set(openKey(id), nil, nil), b.Commit(pebble.Sync))
	if err != nil {
		s.unhide(id)
		return 0, nil, fmt.Errorf("delete %s: %w", c, err)
	}
	s.changes.Add(1)
	return id, blobs, nil
}
