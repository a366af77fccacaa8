// Package wire names what nodes say to each other and in which form: gossip
// topics, stream protocols, frames with their limits, and the signed ad of a
// node's capacity. The questions inside ask frames are in protocol/job.
package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Gossip topics.
const (
	TopicMessages = "aleph/v1/messages" // message envelopes, JSON
	TopicCapacity = "aleph/v1/capacity" // signed capacity ads, JSON
)

// Stream protocols.
const (
	StreamAsk  = "/aleph/v1/ask"  // one request frame, one reply frame, then raw bytes for logs
	StreamBlob = "/aleph/v1/blob" // one request frame, one header frame, then the blob's bytes
)

const (
	// MaxFrame bounds a JSON frame: it holds the greatest message.
	MaxFrame = 1 << 20
	// MaxGossip bounds a gossip payload, as the reference network does.
	MaxGossip = 1 << 18
	// MaxBlobSize bounds the size that a blob's header may announce, far
	// above any image: it keeps arithmetic on sizes away from overflow.
	MaxBlobSize = 1 << 44

	frameHeader = 4 // bytes of the big-endian length
)

// ErrFrame reports a frame that breaks the form, as opposed to a stream that
// broke.
var ErrFrame = errors.New("bad frame")

// WriteFrame writes v as one JSON frame: its length in four bytes, big-endian,
// then the JSON.
func WriteFrame(w io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	if len(raw) > MaxFrame {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrFrame, len(raw), MaxFrame)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, frameHeader+len(raw)), uint32(len(raw)))
	if _, err := w.Write(append(frame, raw...)); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// ReadFrame reads one frame and returns its JSON. A frame that ends early is
// io.ErrUnexpectedEOF; a stream that ends before a frame is io.EOF.
func ReadFrame(r io.Reader) ([]byte, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	size := binary.BigEndian.Uint32(header[:])
	if size == 0 || size > MaxFrame {
		return nil, fmt.Errorf("%w: %d bytes, want 1 to %d", ErrFrame, size, MaxFrame)
	}
	// The buffer grows with what arrives, not with what is announced.
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, r, int64(size)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read frame of %d bytes: %w", size, err)
	}
	if !json.Valid(buf.Bytes()) {
		return nil, fmt.Errorf("%w: not JSON", ErrFrame)
	}
	return buf.Bytes(), nil
}

// BlobRequest asks for a blob from an offset on.
type BlobRequest struct {
	Hash   message.ItemHash `json:"hash"`
	Offset int64            `json:"offset"` // bytes
}

// BlobHeader precedes the bytes of a blob: Size-Offset of them follow.
type BlobHeader struct {
	Size  int64  `json:"size"` // bytes of the whole blob
	Error string `json:"error,omitempty"`
}

// ParseBlobRequest decodes and checks a request for a blob.
func ParseBlobRequest(raw []byte) (*BlobRequest, error) {
	b := new(BlobRequest)
	if err := json.Unmarshal(raw, b); err != nil {
		return nil, fmt.Errorf("decode blob request: %w", err)
	}
	if _, ok := b.Hash.Digest(); !ok {
		return nil, fmt.Errorf("blob request: hash %.80q is not 64 lower-case hex digits", string(b.Hash))
	}
	if b.Offset < 0 || b.Offset > MaxBlobSize {
		return nil, fmt.Errorf("blob request: offset is %d, want 0 to %d", b.Offset, int64(MaxBlobSize))
	}
	return b, nil
}

// ParseBlobHeader decodes and checks the header of a blob.
func ParseBlobHeader(raw []byte) (*BlobHeader, error) {
	h := new(BlobHeader)
	if err := json.Unmarshal(raw, h); err != nil {
		return nil, fmt.Errorf("decode blob header: %w", err)
	}
	if h.Size < 0 || h.Size > MaxBlobSize {
		return nil, fmt.Errorf("blob header: size is %d, want 0 to %d", h.Size, int64(MaxBlobSize))
	}
	return h, nil
}
