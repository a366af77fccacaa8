package corenode

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// FileServer is one core channel node, for files. Its bytes are not checked: whoever
// reads them does.
type FileServer struct {
	c *Client
	s *server
}

// FileServers returns the servers in the order in which they are asked.
func (c *Client) FileServers() []FileServer {
	out := make([]FileServer, len(c.servers))
	for i, s := range c.servers {
		out[i] = FileServer{c, s}
	}
	return out
}

// Name returns the host of the server.
func (f FileServer) Name() string { return f.s.base.Host }

// OpenFile opens a file at an offset and returns its size, negative if the server does
// not tell. Reading fails with errs.Unavailable when the server says nothing for as long
// as it may take to answer. errs.NotFound means that it does not have the file.
func (f FileServer) OpenFile(ctx context.Context, hash message.ItemHash, offset int64) (_ io.ReadCloser, size int64, err error) {
	if err := checkName("item hash", string(hash)); err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	body := &fileBody{cancel: cancel, most: f.c.cfg.Timeout}
	body.timer = time.AfterFunc(body.most, func() { cancel(errs.New(errs.Unavailable, "%s said nothing for %v", f.Name(), body.most)) })
	defer func() {
		if err != nil {
			_ = body.Close() // There is nothing in it.
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.s.base.JoinPath("api/v0/storage/raw", string(hash)).String(), nil)
	if err != nil {
		return nil, 0, fmt.Errorf("ask %s for a file: %w", f.Name(), plain(err))
	}
	// Compressed bytes could not be resumed.
	req.Header.Set("Accept-Encoding", "identity")
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	res, err := f.c.http.Do(req) //nolint:bodyclose // It is closed with what is returned.
	if err != nil {
		f.c.requests.WithLabelValues("away").Inc()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, 0, errs.New(errs.Unavailable, "ask %s for a file: %w", f.Name(), plain(err))
	}
	body.timer.Stop()
	body.ReadCloser = res.Body
	size = res.ContentLength
	switch res.StatusCode {
	case http.StatusOK:
		// It begins at the beginning, whatever was asked for.
		if _, err := io.CopyN(io.Discard, body, offset); err != nil {
			return nil, 0, errs.New(errs.Unavailable, "read the file of %s again: %w", f.Name(), err)
		}
	case http.StatusPartialContent:
		if size, err = sizeOf(res.Header.Get("Content-Range"), offset); err != nil {
			return nil, 0, errs.New(errs.Unavailable, "%s: %w", f.Name(), err)
		}
	default:
		err := refusal(res, f.Name())
		if isAbsent(err) {
			f.c.requests.WithLabelValues("absent").Inc()
			return nil, 0, errs.New(errs.NotFound, "%w", err)
		}
		f.c.requests.WithLabelValues("failed").Inc()
		return nil, 0, errs.New(errs.Unavailable, "%w", err)
	}
	f.c.requests.WithLabelValues("answered").Inc()
	return body, size, nil
}

// sizeOf reads the size of a file from the range of it that comes, which must begin at
// the offset.
func sizeOf(contentRange string, offset int64) (int64, error) {
	from, total, ok := strings.Cut(strings.TrimPrefix(contentRange, "bytes "), "/")
	first, _, dash := strings.Cut(from, "-")
	at, err := strconv.ParseInt(first, 10, 64)
	if !ok || !dash || err != nil || at != offset {
		return 0, fmt.Errorf("it sends the range %.60q, not that from byte %d", contentRange, offset)
	}
	if total == "*" {
		return -1, nil
	}
	size, err := strconv.ParseInt(total, 10, 64)
	if err != nil || size < offset {
		return 0, fmt.Errorf("it sends the range %.60q, which has no size", contentRange)
	}
	return size, nil
}

// fileBody is a file that comes. It breaks off when nothing comes for a while.
type fileBody struct {
	io.ReadCloser // nil before there is an answer.

	most   time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

// Read implements io.Reader. The timer runs while something is waited for, not while
// the reader is busy.
func (b *fileBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.most)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	return n, err //nolint:wrapcheck // io.EOF must stay what it is.
}

// Close implements io.Closer.
func (b *fileBody) Close() error {
	b.timer.Stop()
	defer b.cancel(nil)
	if b.ReadCloser == nil {
		return nil
	}
	return b.ReadCloser.Close() //nolint:wrapcheck // Nothing to add.
}
