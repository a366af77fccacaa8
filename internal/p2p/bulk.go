package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	// resumesMax bounds how often a transfer is taken up again without a byte
	// having come in between.
	resumesMax = 5
	// resumeWait is the pause before it is; it doubles with each vain attempt.
	resumeWait = 500 * time.Millisecond
)

// BulkHandler opens the bytes of a kind that a peer asked for by name, from the
// first on, and says how many there are. The same name gives the same bytes for as
// long as somebody may resume. An error with a kind of internal/errs reaches the
// peer as one of the same kind.
type BulkHandler func(ctx context.Context, from PeerID, name string) (io.ReadSeekCloser, int64, error)

// HandleBulk registers what serves a kind of bytes to peers, at the pace at which
// each takes them. A later one replaces it.
func (h *Host) HandleBulk(kind string, fn BulkHandler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bulks[kind] = fn
}

// BlobHandler opens a blob that a peer asked for, from its first byte, and says
// how many bytes it has.
type BlobHandler func(ctx context.Context, from PeerID, hash message.ItemHash) (io.ReadSeekCloser, int64, error)

// HandleBlob registers what serves blobs to peers. A later one replaces it.
func (h *Host) HandleBlob(fn BlobHandler) {
	h.HandleBulk(wire.BulkBlob, func(ctx context.Context, from PeerID, name string) (io.ReadSeekCloser, int64, error) {
		hash, err := wire.ParseBlobName(name)
		if err != nil {
			return nil, 0, errs.New(errs.Invalid, "%w", err)
		}
		return fn(ctx, from, hash)
	})
}

// serveBulk sends what one request names.
func (h *Host) serveBulk(ctx context.Context, s network.Stream) {
	from := PeerID(s.Conn().RemotePeer().String())
	kind, sent, err := h.sendBulk(ctx, s, from)
	h.metrics.bulkBytes.WithLabelValues(kind, "sent").Add(float64(sent))
	if err != nil {
		h.log.Debug("bulk not sent", "kind", kind, "peer", from, "bytes", sent, "err", err)
		_ = s.Reset()
	}
}

// sendBulk returns the kind "" for one that nobody handles, so that peers cannot
// invent metrics.
func (h *Host) sendBulk(ctx context.Context, s network.Stream, from PeerID) (kind string, sent int64, err error) {
	if err := s.SetReadDeadline(time.Now().Add(requestMax)); err != nil {
		return "", 0, fmt.Errorf("set deadline: %w", err)
	}
	raw, err := wire.ReadFrame(s)
	if err != nil {
		return "", 0, err
	}
	out := &patientStream{Stream: s}
	var body io.ReadCloser
	var size int64
	err = h.sending.take(from)
	if err == nil {
		defer h.sending.give(from)
		kind, body, size, err = h.openBulk(ctx, from, raw)
	}
	if err != nil {
		h.logInternal(kind, from, err)
		f := failureOf(err)
		if werr := wire.WriteFrame(out, wire.BulkHeader{Error: f.Error, ErrorKind: string(f.ErrorKind)}); werr != nil {
			return kind, 0, werr
		}
		return kind, 0, s.Close()
	}
	defer body.Close()
	if err := wire.WriteFrame(out, wire.BulkHeader{Size: size}); err != nil {
		return kind, 0, err
	}
	n, err := io.Copy(struct{ io.Writer }{out}, body)
	if err != nil {
		return kind, n, fmt.Errorf("send bulk: %w", err)
	}
	return kind, n, s.Close()
}

// openBulk opens what the request names, at its offset.
func (h *Host) openBulk(ctx context.Context, from PeerID, raw []byte) (string, io.ReadCloser, int64, error) {
	req, err := wire.ParseBulkRequest(raw)
	if err != nil {
		return "", nil, 0, errs.New(errs.Invalid, "%w", err)
	}
	h.mu.Lock()
	fn, ok := h.bulks[req.Kind]
	h.mu.Unlock()
	if !ok {
		return "", nil, 0, errs.New(errs.NotFound, "this node serves nothing of kind %.40q", req.Kind)
	}
	body, size, err := fn(ctx, from, req.Name)
	if err != nil {
		return req.Kind, nil, 0, err
	}
	if req.Offset > size {
		return req.Kind, nil, 0, errors.Join(errs.New(errs.Invalid, "offset %d is behind the end of %d bytes", req.Offset, size), body.Close())
	}
	if _, err := body.Seek(req.Offset, io.SeekStart); err != nil {
		return req.Kind, nil, 0, errors.Join(fmt.Errorf("seek to %d: %w", req.Offset, err), body.Close())
	}
	return req.Kind, body, size, nil
}

// OpenBulk asks a peer for bytes from an offset on. It returns the rest of them, as
// the peer sends them and unverified, and the size of the whole. The body fails if
// the peer is silent for too long; the caller closes it. A peer that cannot be
// reached gives errs.Unavailable; a failure that the peer reports keeps its kind.
func (h *Host) OpenBulk(ctx context.Context, id PeerID, kind, name string, offset int64) (io.ReadCloser, int64, error) {
	s, err := h.open(ctx, id, wire.StreamBulk)
	if err != nil {
		return nil, 0, err
	}
	in := &patientStream{Stream: s}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	header, err := requestBulk(in, wire.BulkRequest{Kind: kind, Name: name, Offset: offset})
	if err != nil {
		stop()
		_ = s.Reset()
		return nil, 0, errs.New(errs.Unavailable, "%s %s from peer %s: %w", kind, name, id, err)
	}
	if err := (failure{Error: header.Error, ErrorKind: errs.Kind(header.ErrorKind)}).err(id); err != nil {
		stop()
		_ = s.Reset()
		return nil, 0, err
	}
	return &bulkBody{in: in, stop: stop, received: h.metrics.bulkBytes.WithLabelValues(h.bulkLabel(kind), "received")}, header.Size, nil
}

// OpenBlob is OpenBulk for a blob, where every failure is one to try another peer
// for: errs.Unavailable.
func (h *Host) OpenBlob(ctx context.Context, id PeerID, hash message.ItemHash, offset int64) (io.ReadCloser, int64, error) {
	if _, err := wire.ParseBlobName(string(hash)); err != nil {
		return nil, 0, errs.New(errs.Unavailable, "blob from peer %s: %w", id, err)
	}
	body, size, err := h.OpenBulk(ctx, id, wire.BulkBlob, string(hash), offset)
	if err != nil && errs.KindOf(err) != errs.Unavailable {
		err = errs.New(errs.Unavailable, "blob %s: %w", hash, err)
	}
	return body, size, err
}

// bulkLabel is the kind as a metric's label: callers are our own parts, but a test
// or a tool may ask for anything.
func (h *Host) bulkLabel(kind string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.bulks[kind]; !ok {
		return "other"
	}
	return kind
}

func requestBulk(s *patientStream, req wire.BulkRequest) (*wire.BulkHeader, error) {
	if err := wire.WriteFrame(s, req); err != nil {
		return nil, err
	}
	if err := s.CloseWrite(); err != nil {
		return nil, fmt.Errorf("end request: %w", err)
	}
	raw, err := wire.ReadFrame(s)
	if err != nil {
		return nil, err
	}
	return wire.ParseBulkHeader(raw)
}

// bulkBody is the rest of the bytes on their way.
type bulkBody struct {
	in       *patientStream
	stop     func() bool
	received interface{ Add(float64) }
}

// Read implements io.Reader.
func (b *bulkBody) Read(p []byte) (int, error) {
	n, err := b.in.Read(p)
	b.received.Add(float64(n))
	return n, err
}

// Close ends the transfer, wherever it is.
func (b *bulkBody) Close() error {
	b.stop()
	return b.in.Reset()
}

// CopyBulk writes what a peer has under the name to w, from the offset on, and takes
// the transfer up again where it broke. It returns the bytes that were written and
// the size of the whole; written is less than size-offset only with an error. What
// comes is unverified.
func (h *Host) CopyBulk(ctx context.Context, id PeerID, kind, name string, offset int64, w io.Writer) (written, size int64, err error) {
	wait, vain := resumeWait, 0
	size = -1
	for {
		n, whole, err := h.copyOnce(ctx, id, kind, name, offset+written, w, size)
		written += n
		if err == nil {
			return written, whole, nil
		}
		if whole >= 0 {
			size = whole
		}
		var failed writeError
		if errors.As(err, &failed) || errs.KindOf(err) != errs.Unavailable {
			return written, size, err
		}
		if n > 0 {
			wait, vain = resumeWait, 0
		}
		if vain++; vain > resumesMax {
			return written, size, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return written, size, err
		}
		wait *= 2
	}
}

// writeError is a failure on this side of a transfer.
type writeError struct{ err error }

// Error implements error.
func (e writeError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e writeError) Unwrap() error { return e.err }

// copyOnce is one stream of CopyBulk. size is that of the whole if it is known,
// negative if not: a peer may not change its mind.
func (h *Host) copyOnce(ctx context.Context, id PeerID, kind, name string, offset int64, w io.Writer, size int64) (int64, int64, error) {
	body, whole, err := h.OpenBulk(ctx, id, kind, name, offset)
	if err != nil {
		return 0, -1, err
	}
	defer func() { _ = body.Close() }() // only read from: nothing is lost
	if (size >= 0 && whole != size) || whole < offset {
		return 0, -1, errs.New(errs.Conflict, "%s %s of peer %s has %d bytes now, and had %d", kind, name, id, whole, max(size, offset))
	}
	n, err := io.Copy(checkedWriter{w}, io.LimitReader(body, whole-offset))
	var failed writeError
	switch {
	case errors.As(err, &failed):
		return n, whole, err
	case err != nil:
		return n, whole, errs.New(errs.Unavailable, "%s %s of peer %s at byte %d: %w", kind, name, id, offset+n, err)
	case n != whole-offset:
		return n, whole, errs.New(errs.Unavailable, "%s %s of peer %s broke off at byte %d of %d", kind, name, id, offset+n, whole)
	}
	return n, whole, nil
}

// checkedWriter tells a writer's failures from a reader's.
type checkedWriter struct{ w io.Writer }

// Write implements io.Writer.
func (c checkedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err != nil {
		err = writeError{err}
	}
	return n, err
}
