package blob

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Writer takes the bytes of a blob that is not visible yet. Use Store.Create,
// then Commit or Abort. One goroutine at a time may use it.
type Writer struct {
	s    *Store
	f    *os.File
	sum  hash.Hash
	size int64
	done bool

	stage string // name of a staged blob, else ""
}

func newSum() hash.Hash { return sha256.New() }

// Create starts a blob.
func (s *Store) Create() (*Writer, error) {
	f, err := os.CreateTemp(s.tmp, "blob-")
	if err != nil {
		return nil, diskError("create blob", err)
	}
	return &Writer{s: s, f: f, sum: newSum()}, nil
}

// Write implements io.Writer. Bytes that the store has no room for give
// errs.Exhausted.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.s.reserve(int64(len(p))); err != nil {
		return 0, err
	}
	n, err := w.f.Write(p)
	w.s.release(int64(len(p) - n))
	w.size += int64(n)
	w.sum.Write(p[:n]) // a hash never fails
	if err != nil {
		return n, diskError("write blob", err)
	}
	return n, nil
}

// Size returns how many bytes were written.
func (w *Writer) Size() int64 { return w.size }

// Reset forgets everything written, to start over.
func (w *Writer) Reset() error {
	if _, err := w.f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("rewind blob: %w", err)
	}
	if err := w.f.Truncate(0); err != nil {
		return fmt.Errorf("empty blob: %w", err)
	}
	w.s.release(w.size)
	w.size = 0
	w.sum.Reset()
	return nil
}

// Sum returns the name of what was written so far.
func (w *Writer) Sum() message.ItemHash {
	return message.ItemHashOf([sha256.Size]byte(w.sum.Sum(nil)))
}

// Commit makes the blob visible under its hash, for good: it is on the disk
// when Commit returns. With a hash the bytes must have it, else the error is
// errs.Invalid. After an error the caller aborts.
func (w *Writer) Commit(want message.ItemHash) (Info, error) {
	info := Info{Hash: w.Sum(), Size: w.size}
	if want != "" && info.Hash != want {
		return Info{}, errs.New(errs.Invalid, "bytes hash to %s, want %s", info.Hash, want)
	}
	path, err := w.s.Path(info.Hash)
	if err != nil {
		return Info{}, err
	}
	if _, err := w.s.Use(info.Hash, time.Now()); err == nil {
		return info, w.Abort()
	}
	if err := w.f.Sync(); err != nil {
		return Info{}, diskError("sync blob "+string(info.Hash), err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Info{}, diskError("create folder of blob "+string(info.Hash), err)
	}
	if err := w.publish(path, info); err != nil {
		return Info{}, err
	}
	return info, nil
}

// publish moves the file to its place, unless another writer was faster.
func (w *Writer) publish(path string, info Info) error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if _, err := os.Stat(path); err == nil {
		w.end()
		w.s.used -= w.size
		return errors.Join(w.f.Close(), os.Remove(w.f.Name()))
	}
	if err := os.Rename(w.f.Name(), path); err != nil {
		return diskError("publish blob "+string(info.Hash), err)
	}
	w.end()
	if err := w.f.Close(); err != nil {
		return diskError("close blob "+string(info.Hash), err)
	}
	return errors.Join(syncDir(filepath.Dir(path)), syncDir(w.s.objects))
}

// end lets go of the name of a staged blob; the caller holds the store's mu.
func (w *Writer) end() {
	w.done = true
	delete(w.s.writing, w.stage)
}

// Abort drops what was written. It does nothing after a Commit.
func (w *Writer) Abort() error {
	if w.done {
		return nil
	}
	// The name last: who goes on with it must not find the file.
	defer func() {
		w.s.mu.Lock()
		defer w.s.mu.Unlock()
		w.end()
	}()
	w.done = true
	w.s.release(w.size)
	err := errors.Join(w.f.Close(), os.Remove(w.f.Name()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop unfinished blob: %w", err)
	}
	return nil
}

// reserve takes n bytes of the quota.
func (s *Store) reserve(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > s.maxBytes-s.used {
		return errs.New(errs.Exhausted, "blob store is full: %d of %d bytes used, %d more needed; raise [storage] max_size_gb or delete blobs", s.used, s.maxBytes, n)
	}
	s.used += n
	return nil
}

func (s *Store) release(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
}

// diskError says what a failed write means: a disk or quota that is full is
// Exhausted.
func diskError(what string, err error) error {
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) {
			return errs.Placed(errs.New(errs.Exhausted, "%s: %w: %w", what, ErrDisk, err), ErrDisk.Error())
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// syncDir makes a rename or removal in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return diskError("sync "+dir, err)
	}
	return nil
}
