package vmm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// soundFor is how long an image that was read and found whole is trusted
	// while its files look the same. Rot is rare, and reading a large disk takes
	// seconds; small images cost a tenth of a second each time.
	soundFor = 6 * time.Hour
	// sumsName is the file of an unpacked image with the sums of the others.
	sumsName = "sums.json"
	// trashPrefix marks directories of the cache that are being deleted.
	trashPrefix = ".trash-"
)

// ErrRotten is in the errors of an image file whose bytes do not hash to its
// name any more: it has to be fetched anew.
var ErrRotten = errors.New("has rotted on this disk")

// Cache unpacks images, and gives out none whose bytes have changed since they
// were verified. It is safe for concurrent use, by one process.
type Cache struct {
	dir string

	mu    sync.Mutex
	sound map[string]sound // by path of an image file or unpacked directory; guarded by mu
}

// sound says that files had their right bytes at a time.
type sound struct {
	at    time.Time
	marks []mark
}

// mark is how a file looks from outside.
type mark struct {
	Name  string
	Size  int64
	MTime time.Time
}

// NewCache returns a Cache that unpacks to dir.
func NewCache(dir string) *Cache { return &Cache{dir: dir, sound: map[string]sound{}} }

// Open is OpenImage, and reads the files in whole before they are booted: those
// that were not verified in this process, that look changed, or that were
// verified long ago. What was unpacked and has rotted is unpacked again. An
// image file that has itself rotted gives ErrRotten; that is known if its name
// is the sha256 of its bytes.
func (c *Cache) Open(ctx context.Context, path string) (Image, error) {
	return openImage(ctx, path, c.dir, c)
}

// checkUnpacked verifies the unpacked image in dir, and notes that it is used.
// One that is not as it was unpacked is removed and gives errs.NotFound.
func (c *Cache) checkUnpacked(ctx context.Context, dir string) error {
	if err := c.use(dir); err != nil {
		return err
	}
	raw, err := os.ReadFile(filepath.Join(dir, sumsName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read sums of image: %w", err)
	}
	var sums map[string]string
	if json.Unmarshal(raw, &sums) != nil || len(sums) == 0 {
		return c.discard(dir, "has no sums")
	}
	files := members(dir, sums)
	same, err := c.isSound(dir, files)
	if err != nil || same {
		return err
	}
	marks, err := look(files)
	if err != nil {
		return c.discard(dir, err.Error())
	}
	for _, name := range files {
		got, err := sumOf(ctx, name)
		if err != nil {
			return err
		}
		if got != sums[filepath.Base(name)] {
			return c.discard(dir, filepath.Base(name)+" has rotted")
		}
	}
	c.vouch(dir, marks)
	return nil
}

// checkFile verifies an image file whose name is the sha256 of its bytes.
func (c *Cache) checkFile(ctx context.Context, path string) error {
	if !isID(filepath.Base(path)) {
		return nil
	}
	same, err := c.isSound(path, []string{path})
	if err != nil || same {
		return err
	}
	marks, err := look([]string{path})
	if err != nil {
		return err
	}
	got, err := sumOf(ctx, path)
	if err != nil {
		return err
	}
	if got != filepath.Base(path) {
		return rotten(path, got)
	}
	c.vouch(path, marks)
	return nil
}

func rotten(path, got string) error {
	return errs.New(errs.Unavailable, "image %s %w: its bytes hash to %s", filepath.Base(path), ErrRotten, got)
}

// isSound reports whether the files were verified not long ago and look as they
// did.
func (c *Cache) isSound(key string, files []string) (bool, error) {
	c.mu.Lock()
	last, ok := c.sound[key]
	c.mu.Unlock()
	if !ok || time.Since(last.at) >= soundFor {
		return false, nil
	}
	for _, m := range last.marks {
		fi, err := os.Stat(m.Name)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("look at image: %w", err)
		}
		if fi.Size() != m.Size || !fi.ModTime().Equal(m.MTime) {
			return false, nil
		}
	}
	return len(last.marks) == len(files), nil
}

// vouch notes that the files with the marks had the right bytes.
func (c *Cache) vouch(key string, marks []mark) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sound[key] = sound{time.Now(), marks}
}

// vouchUnpacked is vouch for an image that was just unpacked. Without a Cache it
// does nothing.
func (c *Cache) vouchUnpacked(dir string, sums map[string]string) error {
	if c == nil {
		return nil
	}
	marks, err := look(members(dir, sums))
	if err != nil {
		return err
	}
	c.vouch(dir, marks)
	return nil
}

// members returns the paths of the files that have sums.
func members(dir string, sums map[string]string) []string {
	out := make([]string, 0, len(sums))
	for name := range sums {
		out = append(out, filepath.Join(dir, filepath.Base(name)))
	}
	return out
}

// look marks the files as they are.
func look(files []string) ([]mark, error) {
	out := make([]mark, len(files))
	for i, name := range files {
		fi, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("look at image: %w", err)
		}
		out[i] = mark{name, fi.Size(), fi.ModTime()}
	}
	return out, nil
}

// sumOf returns the sha256 of a file in hex.
func sumOf(ctx context.Context, name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("verify image: %w", err)
	}
	defer f.Close()
	sum, buf := sha256.New(), make([]byte, copyBytes)
	for {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		n, err := f.Read(buf)
		sum.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(sum.Sum(nil)), nil
		}
		if err != nil {
			return "", fmt.Errorf("verify image: %w", err)
		}
	}
}

// use notes that an unpacked image is used, or gives errs.NotFound.
func (c *Cache) use(dir string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	err := os.Chtimes(dir, now, now)
	if errors.Is(err, fs.ErrNotExist) {
		return errs.New(errs.NotFound, "no unpacked image in %s", dir)
	}
	if err != nil {
		return fmt.Errorf("note the use of an image: %w", err)
	}
	return nil
}

// discard removes an unpacked image. Machines that run keep the files that
// they have open.
func (c *Cache) discard(dir, reason string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.trash(dir); err != nil {
		return err
	}
	return errs.New(errs.NotFound, "unpacked image %s was removed: it %s", filepath.Base(dir), reason)
}

// trash removes an unpacked image so that it is gone at once; the caller holds
// mu.
func (c *Cache) trash(dir string) error {
	delete(c.sound, dir)
	gone := filepath.Join(filepath.Dir(dir), trashPrefix+filepath.Base(dir))
	err := os.RemoveAll(gone)
	if err == nil {
		err = os.Rename(dir, gone)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.RemoveAll(gone)
	}
	if err != nil {
		return fmt.Errorf("remove unpacked image: %w", err)
	}
	return nil
}

// Prune removes unpacked images that keep does not name and that were not used
// since the time; they are unpacked again when needed. It returns the names.
//
// keep is asked for after the images are listed. So whoever first says that an
// image must stay, and then calls Open, has it.
func (c *Cache) Prune(before time.Time, keep func() (func(name string) bool, error)) (removed []string, err error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, fmt.Errorf("list unpacked images: %w", err)
	}
	used := map[string]time.Time{}
	for _, e := range entries {
		name := e.Name()
		switch fi, err := e.Info(); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("look at unpacked image: %w", err)
		case strings.HasPrefix(name, trashPrefix): // A crash has left it.
			if err := os.RemoveAll(filepath.Join(c.dir, name)); err != nil {
				return nil, fmt.Errorf("remove unpacked image: %w", err)
			}
		case isID(name) && e.IsDir() && fi.ModTime().Before(before):
			used[name] = fi.ModTime()
		}
	}
	if len(used) == 0 {
		return nil, nil
	}
	stays, err := keep()
	if err != nil {
		return nil, fmt.Errorf("ask which images must stay: %w", err)
	}
	for name, at := range used {
		if stays(name) {
			continue
		}
		gone, err := c.pruneOne(filepath.Join(c.dir, name), at)
		if err != nil {
			return removed, err
		}
		if gone {
			removed = append(removed, name)
		}
	}
	return removed, nil
}

// pruneOne removes an unpacked image unless it was used since.
func (c *Cache) pruneOne(dir string, usedAt time.Time) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fi, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !fi.ModTime().Equal(usedAt) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at unpacked image: %w", err)
	}
	return true, c.trash(dir)
}
