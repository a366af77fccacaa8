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

// Gossip topics of the message network that was there before.
const (
	TopicAlephMessages = "ALEPH-TEST" // message envelopes, JSON that receivers Unquote; the name is that of its main network
	TopicAlephAlive    = "ALIVE"      // Alive
)

// Stream protocols.
const (
	StreamAsk  = "/aleph/v1/ask"  // one request frame, one reply frame, then raw bytes for logs
	StreamBulk = "/aleph/v1/bulk" // one request frame, one header frame, then the bytes
)

// BulkBlob is the kind of bulk whose names are item hashes and whose bytes hash to
// them.
const BulkBlob = "blob"

const (
	// MaxFrame bounds a JSON frame: it holds the greatest message.
	MaxFrame = 1 << 20
	// MaxGossip bounds a gossip payload, as the reference network does.
	MaxGossip = 1 << 18
	// MaxBulkSize bounds the size that a bulk's header may announce, far above any
	// image: it keeps arithmetic on sizes away from overflow.
	MaxBulkSize = 1 << 44
	// MaxBulkKind bounds the word of a kind of bulk, in bytes.
	MaxBulkKind = 40
	// MaxBulkName bounds the name of a bulk, in bytes.
	MaxBulkName = 1024

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

// BulkRequest asks for bytes from an offset on.
type BulkRequest struct {
	Kind   string `json:"kind"`   // which handler has them
	Name   string `json:"name"`   // which bytes, in that handler's words
	Offset int64  `json:"offset"` // bytes that the asker has
}

// BulkHeader precedes the bytes: Size-Offset of them follow.
type BulkHeader struct {
	Size      int64  `json:"size"` // bytes of the whole
	Error     string `json:"error,omitempty"`
	ErrorKind string `json:"error_kind,omitempty"` // as of an answer to a question
}

// ParseBulkRequest decodes and checks a request for bytes.
func ParseBulkRequest(raw []byte) (*BulkRequest, error) {
	b := new(BulkRequest)
	if err := json.Unmarshal(raw, b); err != nil {
		return nil, fmt.Errorf("decode bulk request: %w", err)
	}
	if b.Kind == "" || len(b.Kind) > MaxBulkKind {
		return nil, fmt.Errorf("bulk request: kind has %d bytes, want 1 to %d", len(b.Kind), MaxBulkKind)
	}
	if b.Name == "" || len(b.Name) > MaxBulkName {
		return nil, fmt.Errorf("bulk request: name has %d bytes, want 1 to %d", len(b.Name), MaxBulkName)
	}
	if b.Offset < 0 || b.Offset > MaxBulkSize {
		return nil, fmt.Errorf("bulk request: offset is %d, want 0 to %d", b.Offset, int64(MaxBulkSize))
	}
	return b, nil
}

// ParseBlobName checks the name of a bulk of kind BulkBlob.
func ParseBlobName(name string) (message.ItemHash, error) {
	hash := message.ItemHash(name)
	if _, ok := hash.Digest(); !ok {
		return "", fmt.Errorf("blob: hash %.80q is not 64 lower-case hex digits", name)
	}
	return hash, nil
}

// ParseBulkHeader decodes and checks the header of bytes that were asked for.
func ParseBulkHeader(raw []byte) (*BulkHeader, error) {
	h := new(BulkHeader)
	if err := json.Unmarshal(raw, h); err != nil {
		return nil, fmt.Errorf("decode bulk header: %w", err)
	}
	if h.Size < 0 || h.Size > MaxBulkSize {
		return nil, fmt.Errorf("bulk header: size is %d, want 0 to %d", h.Size, int64(MaxBulkSize))
	}
	return h, nil
}
