package ipfs

import (
	"io"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Blobs is where the bytes of files are: internal/blob behind a few lines. It
// bounds what they may take, and bytes that do not fit give errs.Exhausted.
type Blobs interface {
	// Create starts a blob.
	Create() (BlobWriter, error)
	// Open opens a blob for reading, or returns errs.NotFound. It notes the use,
	// so that a blob that is to be deleted for want of use is not.
	Open(hash message.ItemHash) (BlobReader, error)
	// Stage starts a blob that may outlive the process, or goes on with the one
	// that was left under the name. check reads what is there and says how many of
	// its first bytes are good. Somebody who writes to it gives errs.Conflict.
	Stage(name string, check func(r io.Reader) (good int64, err error)) (StagedBlob, error)
}

// StagedBlob is a BlobWriter whose bytes can be read back, and left for later.
type StagedBlob interface {
	BlobWriter
	io.ReaderAt
	// Suspend leaves the bytes for a later Stage. It does nothing after a Commit or
	// an Abort.
	Suspend() error
}

// BlobWriter takes the bytes of a blob that is not visible yet.
type BlobWriter interface {
	io.Writer
	// Sum returns the name of what was written so far.
	Sum() message.ItemHash
	// Commit makes the blob visible, and is done when it is on the disk for good.
	Commit() error
	// Abort drops what was written. It does nothing after a Commit.
	Abort() error
}

// BlobReader reads a blob.
type BlobReader interface {
	io.ReaderAt
	io.Closer
	// Size returns the blob's length in bytes.
	Size() int64
}
