package aleph

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// hashHeader carries the expected hash of an upload.
const hashHeader = "X-Aleph-Sha256"

// Upload stores the bytes of src on the node, unless it has them already. It
// reads src twice: to name it and to send it. Progress, if not nil, is told
// the bytes sent so far and the total.
func (c *Client) Upload(ctx context.Context, src io.ReadSeeker, progress func(sent, total int64)) (*Blob, error) {
	digest := sha256.New()
	size, err := io.Copy(digest, src)
	if err != nil {
		return nil, fmt.Errorf("read upload: %w", err)
	}
	hash := message.ItemHashOf([sha256.Size]byte(digest.Sum(nil)))
	if c.has(ctx, hash, size) {
		return &Blob{Hash: hash, Size: size}, nil
	}
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("rewind upload: %w", err)
	}
	req, err := c.request(ctx, http.MethodPost, "/api/v1/blobs", nil, &counter{src: src, total: size, tell: progress})
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set(hashHeader, string(hash))
	resp, err := c.do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var b Blob
	if err := json.NewDecoder(io.LimitReader(resp.Body, answerMax)).Decode(&b); err != nil {
		return nil, fmt.Errorf("answer to an upload is not understood: %w", err)
	}
	if b.Hash != hash || b.Size != size {
		return nil, fmt.Errorf("node stored %s of %d bytes, sent %s of %d", b.Hash, b.Size, hash, size)
	}
	return &b, nil
}

// has reports whether the node holds the blob. Any failure means no: the
// upload that follows names it.
func (c *Client) has(ctx context.Context, hash message.ItemHash, size int64) bool {
	req, err := c.request(ctx, http.MethodHead, blobPath(hash), nil, nil)
	if err != nil {
		return false
	}
	resp, err := c.do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.ContentLength == size
}

// Download copies a blob to w and checks its hash. On an error, what was
// written must not be used.
func (c *Client) Download(ctx context.Context, hash message.ItemHash, w io.Writer) (int64, error) {
	req, err := c.request(ctx, http.MethodGet, blobPath(hash), nil, nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	digest := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, digest), resp.Body)
	if err != nil {
		return n, fmt.Errorf("download %s: %w", hash, err)
	}
	if got := message.ItemHashOf([sha256.Size]byte(digest.Sum(nil))); got != hash {
		return n, fmt.Errorf("download %s: the bytes hash to %s", hash, got)
	}
	return n, nil
}

func blobPath(hash message.ItemHash) string { return "/api/v1/blobs/" + url.PathEscape(string(hash)) }

// counter tells how far a reader was read.
type counter struct {
	src   io.Reader
	sent  int64
	total int64
	tell  func(sent, total int64)
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.src.Read(p)
	c.sent += int64(n)
	if c.tell != nil {
		c.tell(c.sent, c.total)
	}
	return n, err
}
