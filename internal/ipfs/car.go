package ipfs

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// CAR is an archive of blocks (CARv1) that is being read. Use OpenCAR.
type CAR struct {
	Root cid.Cid // what the header says

	in  *bufio.Reader
	buf []byte // of Next
}

// carBuffer is how much of an archive is read at a time.
const carBuffer = 256 << 10

// varintLenMax is the most bytes of a number of 64 bits.
const varintLenMax = 10

// OpenCAR reads the header of an archive. Its errors are errs.Invalid, unless
// they are r's, and their texts those of the network's other implementations,
// which stand behind "Invalid CAR file: ".
func OpenCAR(r io.Reader) (*CAR, error) {
	in := bufio.NewReaderSize(r, carBuffer)
	length, err := readVarint(in)
	if errors.Is(err, io.EOF) {
		err = invalid("malformed varint: truncated")
	}
	if err != nil {
		return nil, err
	}
	if length > headerMax {
		return nil, invalid("header exceeds maximum size (%d > %d)", length, headerMax)
	}
	header := make([]byte, length)
	if _, err := io.ReadFull(in, header); err != nil {
		if isEOF(err) {
			return nil, invalid("truncated header")
		}
		return nil, err
	}
	root, err := decodeHeader(header)
	if err != nil {
		return nil, err
	}
	return &CAR{Root: root, in: in}, nil
}

func invalid(format string, args ...any) error { return errs.New(errs.Invalid, format, args...) }

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// readVarint reads a number. It returns io.EOF only before the first byte.
func readVarint(in io.ByteReader) (v uint64, err error) {
	for i := range varintLenMax {
		b, err := in.ReadByte()
		if errors.Is(err, io.EOF) && i > 0 {
			return 0, invalid("malformed varint: truncated")
		}
		if err != nil {
			return 0, err
		}
		if i == varintLenMax-1 && b > 1 {
			return 0, invalid("malformed varint: exceeds 64 bits")
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, invalid("malformed varint: exceeds %d bytes", varintLenMax)
}

// decodeHeader reads {"roots": [cid], "version": 1}. Other keys are skipped.
func decodeHeader(header []byte) (cid.Cid, error) {
	in := &cbor{rest: header}
	version := "None"
	var roots []cid.Cid
	var hasRoots bool
	for range in.head(cborMap, "not a map") {
		switch in.text() {
		case "version":
			version = strconv.FormatUint(in.head(cborUint, "version is not a number"), 10)
		case "roots":
			hasRoots = true
			roots = in.cids()
		default:
			in.skip(0)
		}
		if in.err != nil {
			break // The count may be a lie.
		}
	}
	switch {
	case in.err != nil:
		return cid.Undef, in.err
	case version != "1":
		return cid.Undef, invalid("unsupported CAR version (got %s, expected 1)", version)
	case !hasRoots:
		return cid.Undef, invalid("malformed DAG-CBOR header: " + noList)
	case len(roots) != 1:
		return cid.Undef, invalid("expected exactly 1 root, got %d", len(roots))
	case len(in.rest) > 0:
		return cid.Undef, invalid("malformed DAG-CBOR header: %d bytes after its end", len(in.rest))
	}
	if err := checkCID(roots[0]); err != nil {
		return cid.Undef, invalid("root CID %s: %w", roots[0], err)
	}
	return roots[0], nil
}

// Major types of CBOR.
const (
	cborUint, cborNegative, cborBytes, cborText, cborArray, cborMap, cborTag, cborSimple = 0, 1, 2, 3, 4, 5, 6, 7

	cborTagCID   = 42
	cborDepthMax = 16 // of values that are skipped
)

// cbor reads a header value by value. After an error it returns zeros.
type cbor struct {
	rest []byte
	err  error
}

func (c *cbor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = invalid("malformed DAG-CBOR header: "+format, args...)
	}
	c.rest = nil
}

func (c *cbor) take(n uint64) []byte {
	if n > uint64(len(c.rest)) {
		c.fail("truncated value")
		return nil
	}
	out := c.rest[:n]
	c.rest = c.rest[n:]
	return out
}

// any reads the head of a value.
func (c *cbor) any() (major byte, n uint64) {
	first := c.take(1)
	if c.err != nil {
		return 0, 0
	}
	major, n = first[0]>>5, uint64(first[0]&0x1f)
	switch {
	case n < 24:
		return major, n
	case n > 27:
		c.fail("indefinite lengths are unsupported")
		return 0, 0
	}
	long := c.take(1 << (n - 24))
	n = 0
	for _, b := range long {
		n = n<<8 | uint64(b)
	}
	return major, n
}

// noList is what is said of roots that are none.
const noList = "roots is not a list"

// head reads the head of a value of the type; otherwise says what another is.
func (c *cbor) head(want byte, otherwise string) uint64 {
	major, n := c.any()
	if c.err == nil && major != want {
		c.fail("%s", otherwise)
	}
	if c.err != nil {
		return 0
	}
	return n
}

func (c *cbor) text() string {
	b := c.take(c.head(cborText, "a key is not a text"))
	if !utf8.Valid(b) {
		c.fail("a key is not UTF-8")
	}
	return string(b)
}

func (c *cbor) cids() (out []cid.Cid) {
	for range c.head(cborArray, noList) {
		major, tag := c.any()
		if c.err == nil && major != cborTag {
			c.err = invalid("malformed root CID: it has no tag")
		}
		raw := c.take(c.head(cborBytes, "a root is not bytes"))
		switch {
		case c.err != nil:
			return nil
		case tag != cborTagCID:
			c.err = invalid("malformed root CID: unexpected tag %d", tag)
			return nil
		case len(raw) == 0 || raw[0] != 0:
			c.err = invalid("malformed root CID: missing identity multibase prefix")
			return nil
		}
		root, err := cid.Cast(raw[1:])
		if err != nil {
			c.err = invalid("malformed root CID: %w", err)
			return nil
		}
		out = append(out, root)
	}
	return out
}

// skip passes over a value, whatever it is.
func (c *cbor) skip(depth int) {
	if depth > cborDepthMax {
		c.fail("nested deeper than %d", cborDepthMax)
		return
	}
	major, n := c.any()
	switch major {
	case cborUint, cborNegative, cborSimple:
	case cborBytes, cborText:
		c.take(n)
	case cborTag:
		c.skip(depth + 1)
	case cborArray, cborMap:
		if n > headerMax {
			c.fail("truncated value")
			return
		}
		for range n * (1 + uint64(major-cborArray)) {
			if c.err != nil {
				return
			}
			c.skip(depth + 1)
		}
	}
}

// Next returns the next block, whose bytes were not compared with its CID and are
// good until the next call. It returns io.EOF after the last; other errors are as
// those of OpenCAR.
func (c *CAR) Next() (cid.Cid, []byte, error) {
	if c.buf == nil {
		c.buf = make([]byte, blockMax)
	}
	return c.next(c.buf)
}

// next reads a block into buf, which has blockMax bytes. It returns io.EOF
// after the last.
func (c *CAR) next(buf []byte) (cid.Cid, []byte, error) {
	length, err := readVarint(c.in)
	if err != nil {
		return cid.Undef, nil, err
	}
	peeked, err := c.in.Peek(int(min(length, cidLenMax)))
	if err != nil {
		return cid.Undef, nil, truncated(err)
	}
	n, id, err := cid.CidFromBytes(peeked)
	if err != nil {
		return cid.Undef, nil, invalid("malformed CID of a block: %w", err)
	}
	if err := checkCID(id); err != nil {
		return cid.Undef, nil, invalid("block %s: %w", id, err)
	}
	if length-uint64(n) > blockMax {
		return cid.Undef, nil, invalid("block %s has %d bytes, want at most %d", id, length-uint64(n), blockMax)
	}
	if _, err := c.in.Discard(n); err != nil {
		return cid.Undef, nil, truncated(err)
	}
	block := buf[:length-uint64(n)]
	if _, err := io.ReadFull(c.in, block); err != nil {
		return cid.Undef, nil, truncated(err)
	}
	return id, block, nil
}

// cidLenMax is the longest CID that is taken: version and codec, the head of a
// multihash, and what an identity CID holds.
const cidLenMax = 4*varintLenMax + identityMax

func truncated(err error) error {
	if isEOF(err) {
		return invalid("truncated block")
	}
	return err
}
