package ipfs

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// ballastSize is kept free for the index: its engine ends the process when
	// it cannot write its log, and deleting content takes writes too. It holds
	// the log and a compaction of what a few adds leave behind.
	ballastSize = 64 << 20
	// spareSize is how much more must be free before an add begins.
	spareSize = 64 << 20

	cacheSize    = 16 << 20 // blocks of the index in memory
	memTableSize = 4 << 20  // what was written last, in memory
	openFilesMax = 256      // files of the index that are open at a time
)

// ballast is a file that takes up room until the disk is full. Then it goes,
// the write that failed is tried again, and nothing is added until there is
// room for it again.
type ballast struct {
	fs   vfs.FS
	dir  string
	size int64
	log  *slog.Logger

	mu sync.Mutex // for who looks after the ballast
}

func (b *ballast) path() string { return filepath.Join(b.dir, "ballast") }

// guard returns the file system with the ballast under it.
func (b *ballast) guard() vfs.FS {
	return vfs.OnDiskFull(b.fs, func() {
		b.log.Error("disk is full, nothing is added to ipfs until there is room", "part", "ipfs")
		if err := b.fs.Remove(b.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			b.log.Error("ballast not removed", "part", "ipfs", "err", err)
		}
	})
}

// check makes sure that the ballast is there, or returns errs.Exhausted.
func (b *ballast) check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	usage, err := b.fs.GetDiskUsage(b.dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the disk under %s: %w", b.dir, err)
	}
	info, err := b.fs.Stat(b.path())
	there := err == nil && info.Size() == b.size
	need := uint64(spareSize)
	if !there {
		need += uint64(b.size)
	}
	if usage.AvailBytes < need {
		err := errs.New(errs.Exhausted, "the disk under %s has %d bytes free, %d are needed to index content: make room on it", b.dir, usage.AvailBytes, need)
		return errs.Placed(err, "the disk has too few bytes free to index content: make room on it")
	}
	if there {
		return nil
	}
	return b.fill()
}

// fill writes the ballast, byte by byte, so that it takes up the room it says.
func (b *ballast) fill() error {
	f, err := b.fs.Create(b.path(), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create ballast: %w", err)
	}
	zeros := make([]byte, 1<<20)
	for left := b.size; left > 0 && err == nil; left -= int64(len(zeros)) {
		_, err = f.Write(zeros[:min(left, int64(len(zeros)))])
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write ballast: %w", err), b.fs.Remove(b.path()))
	}
	return nil
}

// engineLog takes what the index's engine says.
type engineLog struct{ log *slog.Logger }

// Infof implements pebble.Logger.
func (l engineLog) Infof(format string, args ...any) {
	l.log.Debug("index", "part", "ipfs", "text", fmt.Sprintf(format, args...))
}

// Errorf implements pebble.Logger.
func (l engineLog) Errorf(format string, args ...any) {
	l.log.Error("index failed", "part", "ipfs", "text", fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger. It must not return: the engine has lost
// track of what is on the disk, and opening it anew finds out.
func (l engineLog) Fatalf(format string, args ...any) {
	l.Errorf(format, args...)
	panic(fmt.Sprintf("index of ipfs: "+format, args...))
}

// openIndex opens the index's engine in dir.
func openIndex(dir string, under vfs.FS, log *slog.Logger) (*pebble.DB, *ballast, error) {
	if err := makeFolder(under, dir); err != nil {
		return nil, nil, err
	}
	b := &ballast{fs: under, dir: dir, size: ballastSize, log: log}
	out := engineLog{log}
	events := pebble.EventListener{
		BackgroundError: func(err error) { out.Errorf("%v", err) },
		// A reader of the damaged part gets an error; the rest goes on.
		DataCorruption: func(info pebble.DataCorruptionInfo) { out.Errorf("%s", info) },
	}
	db, err := pebble.Open(dir, &pebble.Options{
		FS: b.guard(), Logger: out, EventListener: &events, FormatMajorVersion: pebble.FormatNewest,
		CacheSize: cacheSize, MemTableSize: memTableSize, MaxOpenFiles: openFilesMax,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("open the index of ipfs in %s: %w", dir, errors.Join(err, hint(err)))
	}
	return db, b, nil
}

// makeFolder creates dir, and the folder that it is in, for good: synced files
// in a folder that the disk does not know are lost.
func makeFolder(disk vfs.FS, dir string) error {
	if err := disk.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	in := filepath.Dir(dir)
	for _, folder := range []string{in, filepath.Dir(in)} {
		f, err := disk.OpenDir(folder)
		if err != nil {
			return fmt.Errorf("open %s: %w", folder, err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("sync %s: %w", folder, err)
		}
	}
	return nil
}

// hint says what to do about an index that does not open.
func hint(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return errs.New(errs.Denied, "let the node's user write there")
	}
	return nil
}
