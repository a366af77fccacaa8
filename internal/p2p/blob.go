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

// BlobHandler opens a blob that a peer asked for, from its first byte, and says
// how many bytes it has.
type BlobHandler func(ctx context.Context, from PeerID, hash message.ItemHash) (io.ReadSeekCloser, int64, error)

// HandleBlob registers what serves blobs to peers. A later one replaces it.
func (h *Host) HandleBlob(fn BlobHandler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.blobs = fn
}

// serveBlob sends one blob.
func (h *Host) serveBlob(ctx context.Context, s network.Stream) {
	from := PeerID(s.Conn().RemotePeer().String())
	sent, err := h.sendBlob(ctx, s, from)
	h.metrics.blobBytes.WithLabelValues("sent").Add(float64(sent))
	if err != nil {
		h.log.Debug("blob not sent", "peer", from, "bytes", sent, "err", err)
		_ = s.Reset()
	}
}

func (h *Host) sendBlob(ctx context.Context, s network.Stream, from PeerID) (int64, error) {
	if err := s.SetReadDeadline(time.Now().Add(requestMax)); err != nil {
		return 0, fmt.Errorf("set deadline: %w", err)
	}
	raw, err := wire.ReadFrame(s)
	if err != nil {
		return 0, err
	}
	h.mu.Lock()
	fn := h.blobs
	h.mu.Unlock()
	out := &patientStream{Stream: s}
	body, size, err := openBlob(ctx, fn, from, raw)
	if err != nil {
		if werr := wire.WriteFrame(out, wire.BlobHeader{Error: failureOf(err).Error}); werr != nil {
			return 0, werr
		}
		return 0, s.Close()
	}
	defer body.Close()
	if err := wire.WriteFrame(out, wire.BlobHeader{Size: size}); err != nil {
		return 0, err
	}
	n, err := io.Copy(struct{ io.Writer }{out}, body)
	if err != nil {
		return n, fmt.Errorf("send blob: %w", err)
	}
	return n, s.Close()
}

// openBlob opens what the request names, at its offset.
func openBlob(ctx context.Context, fn BlobHandler, from PeerID, raw []byte) (io.ReadCloser, int64, error) {
	req, err := wire.ParseBlobRequest(raw)
	if err != nil {
		return nil, 0, errs.New(errs.Invalid, "%w", err)
	}
	if fn == nil {
		return nil, 0, errs.New(errs.NotFound, "this node serves no blobs")
	}
	body, size, err := fn(ctx, from, req.Hash)
	if err != nil {
		return nil, 0, err
	}
	if req.Offset > size {
		return nil, 0, errors.Join(errs.New(errs.Invalid, "offset %d is behind the end of %d bytes", req.Offset, size), body.Close())
	}
	if _, err := body.Seek(req.Offset, io.SeekStart); err != nil {
		return nil, 0, errors.Join(fmt.Errorf("seek to %d: %w", req.Offset, err), body.Close())
	}
	return body, size, nil
}

// OpenBlob asks a peer for a blob from an offset on. It returns the rest of the
// blob's bytes, as the peer sends them and unverified, and the size of the
// whole. The body fails if the peer is silent for too long; the caller closes
// it.
func (h *Host) OpenBlob(ctx context.Context, id PeerID, hash message.ItemHash, offset int64) (io.ReadCloser, int64, error) {
	s, err := h.open(ctx, id, wire.StreamBlob)
	if err != nil {
		return nil, 0, err
	}
	in := &patientStream{Stream: s}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	header, err := requestBlob(in, hash, offset)
	if err != nil {
		stop()
		_ = s.Reset()
		return nil, 0, errs.New(errs.Unavailable, "blob %s from peer %s: %w", hash, id, err)
	}
	return &blobBody{in: in, stop: stop, h: h}, header.Size, nil
}

func requestBlob(s *patientStream, hash message.ItemHash, offset int64) (*wire.BlobHeader, error) {
	if err := wire.WriteFrame(s, wire.BlobRequest{Hash: hash, Offset: offset}); err != nil {
		return nil, err
	}
	if err := s.CloseWrite(); err != nil {
		return nil, fmt.Errorf("end request: %w", err)
	}
	raw, err := wire.ReadFrame(s)
	if err != nil {
		return nil, err
	}
	header, err := wire.ParseBlobHeader(raw)
	if err != nil {
		return nil, err
	}
	if header.Error != "" {
		return nil, fmt.Errorf("refused: %.512s", header.Error)
	}
	return header, nil
}

// blobBody is the rest of a blob on its way.
type blobBody struct {
	in   *patientStream
	stop func() bool
	h    *Host
}

// Read implements io.Reader.
func (b *blobBody) Read(p []byte) (int, error) {
	n, err := b.in.Read(p)
	b.h.metrics.blobBytes.WithLabelValues("received").Add(float64(n))
	return n, err
}

// Close ends the transfer, wherever it is.
func (b *blobBody) Close() error {
	b.stop()
	return b.in.Reset()
}
