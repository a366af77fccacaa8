package ipfs

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// The index's keys by their first byte. Packs are numbered and big-endian.
//
//	r <cid>             -> Root as JSON, its pack first
//	b <digest> <pack>   -> where the block is
//	p <pack> <digest>   -> nothing: the blocks of a pack, to delete them by
//	s <pack> <source>   -> the blob that the pack's blocks call by this number
//	u <blob> <pack>     -> nothing: who uses a blob
//	o <pack>            -> nothing: the pack is unfinished, or half deleted
//	n                   -> the last pack's number
const (
	keyRoot, keyBlock, keyPack, keySource, keyUse, keyOpen, keyLast = 'r', 'b', 'p', 's', 'u', 'o', 'n'

	packLen = 8
)

type packID uint64

func (p packID) append(key []byte) []byte { return binary.BigEndian.AppendUint64(key, uint64(p)) }

// packAt reads the pack's number at the end of a key.
func packAt(key []byte) packID { return packID(binary.BigEndian.Uint64(key[len(key)-packLen:])) }

func rootKey(c cid.Cid) []byte     { return append([]byte{keyRoot}, c.Bytes()...) }
func blockPrefix(d digest) []byte  { return append([]byte{keyBlock}, d[:]...) }
func packPrefix(p packID) []byte   { return p.append([]byte{keyPack}) }
func sourcePrefix(p packID) []byte { return p.append([]byte{keySource}) }
func openKey(p packID) []byte      { return p.append([]byte{keyOpen}) }
func useKey(blob digest, p packID) []byte {
	return p.append(append([]byte{keyUse}, blob[:]...))
}

func sourceKey(p packID, source uint32) []byte {
	return binary.BigEndian.AppendUint32(sourcePrefix(p), source)
}

// after returns the first key behind all that begin with the prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// form is how the bytes of a block are kept.
type form byte

const (
	formHere form = 1 // in the index itself
	formPart form = 2 // part of a blob
	formLeaf form = 3 // part of a blob, wrapped as a leaf of version 0
)

// place says where a block is.
type place struct {
	form   form
	here   []byte // the block, of formHere
	source uint32 // which of the pack's blobs, of the other forms
	offset int64
	length int64
}

func (p place) encode() []byte {
	if p.form == formHere {
		return append([]byte{byte(formHere)}, p.here...)
	}
	out := binary.AppendUvarint([]byte{byte(p.form)}, uint64(p.source))
	out = binary.AppendUvarint(out, uint64(p.offset))
	return binary.AppendUvarint(out, uint64(p.length))
}

// size is how many bytes the block has.
func (p place) size() int {
	switch p.form {
	case formHere:
		return len(p.here)
	case formLeaf:
		before, after := wrapLeaf(int(p.length))
		return len(before) + int(p.length) + len(after)
	default:
		return int(p.length)
	}
}

func decodePlace(v []byte) (place, error) {
	if len(v) == 0 {
		return place{}, errors.New("empty entry")
	}
	p := place{form: form(v[0])}
	v = v[1:]
	if p.form == formHere {
		p.here = v
		return p, nil
	}
	var nums [3]uint64
	for i := range nums {
		n, used := binary.Uvarint(v)
		if used <= 0 {
			return place{}, errors.New("short entry")
		}
		nums[i], v = n, v[used:]
	}
	p.source, p.offset, p.length = uint32(nums[0]), int64(nums[1]), int64(nums[2])
	if p.form != formPart && p.form != formLeaf || p.offset < 0 || p.length < 0 || p.length > blockMax || len(v) > 0 {
		return place{}, errors.New("malformed entry")
	}
	return p, nil
}

// Root is content that was added, and is kept until it is deleted.
type Root struct {
	CID  cid.Cid
	Kind Kind // KindFile, KindDirectory or KindSymlink
	// Size is what the network accounts: of a file its bytes, of a directory
	// Cumulative.
	Size int64
	// Cumulative is the bytes of all blocks, as the links say: a block that
	// occurs twice counts twice. Kubo calls it CumulativeSize.
	Cumulative int64
}

// rootRow is how a Root is written.
type rootRow struct {
	Pack       uint64 `json:"pack"`
	Kind       uint64 `json:"kind"`
	Size       int64  `json:"size"`
	Cumulative int64  `json:"cumulative"`
}

func (r Root) encode(p packID) ([]byte, error) {
	row, err := json.Marshal(rootRow{Pack: uint64(p), Kind: uint64(r.Kind), Size: r.Size, Cumulative: r.Cumulative})
	if err != nil {
		return nil, fmt.Errorf("encode root %s: %w", r.CID, err)
	}
	return row, nil
}

func decodeRoot(c cid.Cid, v []byte) (Root, packID, error) {
	var row rootRow
	if err := json.Unmarshal(v, &row); err != nil {
		return Root{}, 0, fmt.Errorf("decode root %s: %w", c, err)
	}
	return Root{CID: c, Kind: Kind(row.Kind), Size: row.Size, Cumulative: row.Cumulative}, packID(row.Pack), nil
}

// value returns a copy of the key's value, and false if there is none.
func (s *Store) value(key []byte) ([]byte, bool, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read the index of ipfs: %w", err)
	}
	return append([]byte(nil), v...), true, closer.Close()
}

// scan calls fn with each key that begins with the prefix, until it says stop.
// Key and value are the engine's and change after fn returns.
func (s *Store) scan(prefix []byte, fn func(key, value []byte) (goOn bool, err error)) (err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return fmt.Errorf("read the index of ipfs: %w", err)
	}
	defer func() {
		if closeErr := it.Close(); closeErr != nil && err == nil {
			err = fmt.Errorf("read the index of ipfs: %w", closeErr)
		}
	}()
	for ok := it.First(); ok; ok = it.Next() {
		goOn, err := fn(it.Key(), it.Value())
		if err != nil || !goOn {
			return err
		}
	}
	return nil
}

// blobOf returns the blob that a pack calls by the number.
func (s *Store) blobOf(p packID, source uint32) (message.ItemHash, error) {
	v, ok, err := s.value(sourceKey(p, source))
	if err != nil {
		return "", err
	}
	if !ok || len(v) != len(digest{}) {
		return "", errs.New(errs.Internal, "the index of ipfs is damaged: pack %d has no blob %d; delete and add its content anew", uint64(p), source)
	}
	return message.ItemHashOf(digest(v)), nil
}

// blobDigest is the other way round.
func blobDigest(hash message.ItemHash) (digest, error) {
	d, ok := hash.Digest()
	if !ok {
		return digest{}, errs.New(errs.Invalid, "blob name %.80q is not %d lower-case hex digits", string(hash), hex.EncodedLen(len(d)))
	}
	return d, nil
}
