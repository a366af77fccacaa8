package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// openContent opens the IPFS content of a coordinator, whose bytes are in the
// node's blobs.
func (n *Node) openContent() (err error) {
	if n.content, err = ipfs.Open(n.cfg.Dir("ipfs"), contentBlobs{n.blobs}, n.cfg.IPFS, n.metrics, n.part("ipfs")); err != nil {
		return fmt.Errorf("open ipfs: %w", err)
	}
	n.opened("ipfs", n.content)
	return nil
}

// contentBlobs keeps the bytes of IPFS content.
type contentBlobs struct{ blobs *blob.Store }

// Create implements ipfs.Blobs.
func (b contentBlobs) Create() (ipfs.BlobWriter, error) {
	w, err := b.blobs.Create()
	if err != nil {
		return nil, err
	}
	return contentWriter{w}, nil
}

// Open implements ipfs.Blobs. The use is noted first: a blob that is being
// deleted for want of use is then kept, or not found.
func (b contentBlobs) Open(hash message.ItemHash) (ipfs.BlobReader, error) {
	if _, err := b.blobs.Use(hash, time.Now()); err != nil {
		return nil, err
	}
	r, err := b.blobs.Open(hash)
	if err != nil {
		return nil, err
	}
	return contentReader{r}, nil
}

type contentWriter struct{ *blob.Writer }

// Commit implements ipfs.BlobWriter.
func (w contentWriter) Commit() error {
	_, err := w.Writer.Commit("")
	return err
}

type contentReader struct{ *blob.Reader }

// Size implements ipfs.BlobReader.
func (r contentReader) Size() int64 { return r.Info.Size }

// contents has the bytes that messages name, for ingest.
type contents struct {
	keeper *storage.Keeper
	blobs  *blob.Store
	ipfs   *ipfs.Store // nil on a node that keeps none
}

// root finds content of IPFS by the hash of a message.
func (c contents) root(hash message.ItemHash) (ipfs.Root, error) {
	if c.ipfs == nil {
		return ipfs.Root{}, errs.New(errs.NotFound, "this node keeps no IPFS content")
	}
	id, err := ipfs.ParseCID(string(hash))
	if err != nil {
		return ipfs.Root{}, err
	}
	return c.ipfs.Root(id)
}

// Stat implements ingest.Files.
func (c contents) Stat(_ context.Context, hash message.ItemHash) (state.FileInfo, error) {
	if hash.Type() == message.IPFS {
		r, err := c.root(hash)
		return state.FileInfo{Hash: hash, Directory: r.Kind == ipfs.KindDirectory, SizeBytes: r.Size}, err
	}
	info, err := c.keeper.Stat(hash)
	return state.FileInfo{Hash: hash, SizeBytes: info.Size}, err
}

// Fetch implements ingest.Files.
func (c contents) Fetch(ctx context.Context, hash message.ItemHash) error {
	if hash.Type() == message.IPFS {
		_, err := c.root(hash) // Nobody can be asked yet.
		return err
	}
	_, err := c.keeper.Fetch(ctx, hash)
	return err
}

// Read implements ingest.Files.
func (c contents) Read(_ context.Context, hash message.ItemHash, limit int64) (_ []byte, err error) {
	var b io.ReadCloser
	if hash.Type() == message.IPFS {
		r, err := c.root(hash)
		if err != nil {
			return nil, err
		}
		b, err = c.ipfs.Open(r.CID)
		if err != nil {
			return nil, err
		}
	} else {
		if _, err := c.keeper.Stat(hash); err != nil { // Its message pins it later.
			return nil, err
		}
		if b, err = c.blobs.Open(hash); err != nil {
			return nil, err
		}
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	raw, err := io.ReadAll(io.LimitReader(b, limit+1))
	if err == nil && int64(len(raw)) > limit {
		return nil, errs.New(errs.Invalid, "content %s has more than %d bytes", hash, limit)
	}
	return raw, err
}
