package blob

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// ErrDisk is in errors of a disk that is full, as opposed to a quota.
var ErrDisk = errors.New("the disk is full, make room on it")

// Keep reports whether a blob that was last used at the time must stay.
type Keep func(hash message.ItemHash, usedAt time.Time) bool

// Use is Stat, and notes that the blob was used: what was not used for longest
// is deleted first when room is needed.
func (s *Store) Use(hash message.ItemHash, now time.Time) (Info, error) {
	path, err := s.Path(hash)
	if err != nil {
		return Info{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fi, err := os.Stat(path)
	if err != nil {
		return Info{}, notHere(hash, err)
	}
	s.touch(path, now)
	return Info{Hash: hash, Size: fi.Size()}, nil
}

// touch notes a use as the file's time of access, which needs no file more. The
// time of modification stays: it tells that nobody wrote to the blob.
func (s *Store) touch(path string, now time.Time) {
	if err := os.Chtimes(path, now, time.Time{}); err != nil {
		s.log.Warn("use of blob not noted", "path", path, "err", err) // It goes earlier than others, no more.
	}
}

// Fits reports nil if a blob of the size could be stored now, else
// errs.Exhausted, so that a transfer need not start in vain.
func (s *Store) Fits(size int64) error {
	if err := s.reserve(size); err != nil {
		return err
	}
	s.release(size)
	free, err := s.free(s.objects)
	if err != nil {
		return err
	}
	if size > free {
		return errs.New(errs.Exhausted, "%w: %d bytes are free, %d more needed", ErrDisk, free, size)
	}
	return nil
}

// freeBytes returns what the disk under dir has room for.
func freeBytes(dir string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("look at the disk under %s: %w", dir, err)
	}
	return int64(fs.Bavail) * fs.Bsize, nil
}

// MakeRoom makes a blob of the size fit, by deleting blobs that need not stay,
// those first that were not used for longest. If all of them were too little
// none is, and the error is errs.Exhausted.
//
// keep is asked for after the blobs are listed. So whoever first says that a
// blob must stay, and then calls Use, either keeps it or learns that it is gone.
func (s *Store) MakeRoom(size int64, keep func() (Keep, error)) error {
	full := s.Fits(size)
	if errs.KindOf(full) != errs.Exhausted {
		return full
	}
	// What waits to be gone on with can be begun anew.
	if err := s.dropStages(func(int, time.Duration) bool { return true }); err != nil {
		return err
	}
	if full = s.Fits(size); errs.KindOf(full) != errs.Exhausted {
		return full
	}
	all, err := s.byUse()
	if err != nil {
		return err
	}
	stays, err := keep()
	if err != nil {
		return fmt.Errorf("ask which blobs must stay: %w", err)
	}
	var loose, kept int64
	for i := range all {
		all[i].stays = stays(all[i].Hash, all[i].usedAt)
		if all[i].stays {
			kept += all[i].Size
		} else {
			loose += all[i].Size
		}
	}
	if kept > 0 {
		full = fmt.Errorf("%w; %d bytes are in use and stay", full, kept)
	}
	free, err := s.free(s.objects)
	if err != nil {
		return err
	}
	if s.Used()-loose+size > s.maxBytes || free+loose < size {
		return full
	}
	for _, b := range all {
		if b.stays {
			continue
		}
		if err := s.evict(b); err != nil {
			return err
		}
		if err := s.Fits(size); errs.KindOf(err) != errs.Exhausted {
			return err
		}
	}
	return full
}

// aged is a blob with the time of its last use.
type aged struct {
	Info
	usedAt time.Time
	stays  bool
}

// byUse returns every blob, those first that were not used for longest.
func (s *Store) byUse() ([]aged, error) {
	blobs, err := s.List()
	if err != nil {
		return nil, err
	}
	out := make([]aged, 0, len(blobs))
	for _, b := range blobs {
		path, err := s.Path(b.Hash)
		if err != nil {
			return nil, err
		}
		fi, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("stat blob %s: %w", b.Hash, err)
		}
		out = append(out, aged{Info: b, usedAt: usedAt(fi)})
	}
	slices.SortStableFunc(out, func(a, b aged) int { return a.usedAt.Compare(b.usedAt) })
	return out, nil
}

func usedAt(fi fs.FileInfo) time.Time {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fi.ModTime()
	}
	return time.Unix(st.Atim.Unix())
}

// evict deletes the blob unless it was used since it was listed.
func (s *Store) evict(b aged) error {
	path, err := s.Path(b.Hash)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !usedAt(fi).Equal(b.usedAt) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stat blob %s: %w", b.Hash, err)
	}
	s.log.Info("deleted unused blob", "item_hash", b.Hash, "bytes", fi.Size(), "used_at", b.usedAt.UTC())
	return s.deleteLocked(b.Hash, path, fi)
}
