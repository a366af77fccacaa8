package node

import (
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
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
