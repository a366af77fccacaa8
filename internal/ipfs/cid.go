package ipfs

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Version says in which form CIDs are made. It decides about the leaves of
// files too: version 0 wraps them, version 1 takes them raw.
type Version int

// The versions. Kubo makes V0 unless it is asked for V1.
const (
	V0 Version = 0
	V1 Version = 1
)

// digest is the sha256 of a block, which names it whatever version and codec a
// CID says.
type digest [sha256.Size]byte

// node returns the CID of a dag-pb block.
func (v Version) node(d digest) cid.Cid {
	if v == V0 {
		return cid.NewCidV0(multihash(d))
	}
	return cid.NewCidV1(cid.DagProtobuf, multihash(d))
}

// leaf returns the CID of a leaf of a file.
func (v Version) leaf(d digest) cid.Cid {
	if v == V0 {
		return cid.NewCidV0(multihash(d))
	}
	return cid.NewCidV1(cid.Raw, multihash(d))
}

// cidLen is the length of a CID that the version makes.
func (v Version) cidLen() int { return v.node(digest{}).ByteLen() }

// multihash writes the digest with the prefix that says sha2-256, 32 bytes.
func multihash(d digest) mh.Multihash {
	return append(mh.Multihash{mh.SHA2_256, sha256.Size}, d[:]...)
}

// ParseCID reads the text form of a CID of a kind that can be stored, or
// returns errs.Invalid.
func ParseCID(text string) (cid.Cid, error) {
	c, err := cid.Decode(text)
	if err != nil {
		return cid.Undef, errs.New(errs.Invalid, "%.100q is no CID: %w", text, err)
	}
	if err := checkCID(c); err != nil {
		return cid.Undef, errs.New(errs.Invalid, "CID %.100s: %w", text, err)
	}
	return c, nil
}

// decodeCID reads the bytes of a CID, all of them.
func decodeCID(b []byte) (cid.Cid, error) {
	n, c, err := cid.CidFromBytes(b)
	if err != nil {
		return cid.Undef, fmt.Errorf("malformed CID: %w", err)
	}
	if n != len(b) {
		return cid.Undef, fmt.Errorf("CID with %d bytes after it", len(b)-n)
	}
	return c, checkCID(c)
}

// checkCID refuses what this package cannot hash or cannot follow.
func checkCID(c cid.Cid) error {
	if !c.Defined() {
		return errors.New("it is empty")
	}
	p := c.Prefix()
	if p.Codec != cid.DagProtobuf && p.Codec != cid.Raw {
		return fmt.Errorf("codec %#x is not supported, want dag-pb or raw", p.Codec)
	}
	switch {
	case p.MhType == mh.SHA2_256 && p.MhLength == sha256.Size:
		return nil
	case p.MhType == mh.IDENTITY && p.MhLength <= identityMax:
		return nil
	case p.MhType == mh.IDENTITY:
		return fmt.Errorf("it holds %d bytes itself, want at most %d", p.MhLength, identityMax)
	default:
		return fmt.Errorf("hash function %#x with %d bytes is not supported, want sha2-256", p.MhType, p.MhLength)
	}
}

// checkInput is checkCID for what callers hand in.
func checkInput(c cid.Cid) error {
	if err := checkCID(c); err != nil {
		return errs.New(errs.Invalid, "CID %s: %w", c, err)
	}
	return nil
}

// inlined returns the block that an identity CID holds itself.
func inlined(c cid.Cid) ([]byte, bool) {
	if c.Prefix().MhType != mh.IDENTITY {
		return nil, false
	}
	decoded, err := mh.Decode(c.Hash())
	if err != nil {
		return nil, false
	}
	return decoded.Digest, true
}

// digestOf returns the name of the block of a CID that checkCID let pass and
// that is not inlined.
func digestOf(c cid.Cid) (d digest) {
	hash := c.Hash()
	copy(d[:], hash[len(hash)-sha256.Size:])
	return d
}

// Spellings are the texts by which content may be known: that of its CID, and of
// the other version of it if there is one.
func Spellings(c cid.Cid) []string {
	out := []string{c.String()}
	switch p := c.Prefix(); {
	case p.Codec != cid.DagProtobuf || p.MhType != mh.SHA2_256:
	case p.Version == uint64(V0):
		out = append(out, cid.NewCidV1(cid.DagProtobuf, c.Hash()).String())
	default:
		out = append(out, cid.NewCidV0(c.Hash()).String())
	}
	return out
}
