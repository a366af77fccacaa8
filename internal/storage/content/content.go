// Package content lets the bytes of IPFS content lie in blobs.
package content

import (
	"io"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Blobs are the blobs of a store as IPFS content wants them.
func Blobs(s *blob.Store) ipfs.Blobs { return blobs{s} }

type blobs struct{ store *blob.Store }

// Create implements ipfs.Blobs.
func (b blobs) Create() (ipfs.BlobWriter, error) {
	w, err := b.store.Create()
	if err != nil {
		return nil, err
	}
	return writer{w}, nil
}

// Stage implements ipfs.Blobs.
func (b blobs) Stage(name string, check func(io.Reader) (int64, error)) (ipfs.StagedBlob, error) {
	w, err := b.store.Stage(name, check)
	if err != nil {
		return nil, err
	}
	return writer{w}, nil
}

// Open implements ipfs.Blobs. The use is noted first: a blob that is being
// deleted for want of use is then kept, or not found.
func (b blobs) Open(hash message.ItemHash) (ipfs.BlobReader, error) {
	if _, err := b.store.Use(hash, time.Now()); err != nil {
		return nil, err
	}
	r, err := b.store.Open(hash)
	if err != nil {
		return nil, err
	}
	return reader{r}, nil
}

type writer struct{ *blob.Writer }

// Commit implements ipfs.BlobWriter.
func (w writer) Commit() error {
	_, err := w.Writer.Commit("")
	return err
}

type reader struct{ *blob.Reader }

// Size implements ipfs.BlobReader.
func (r reader) Size() int64 { return r.Info.Size }
