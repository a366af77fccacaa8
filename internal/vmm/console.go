package vmm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// ConsoleMax bounds each of the two files of a console: enough for the boot
// of a chatty distribution, twice, and little beside any disk.
const ConsoleMax = 1 << 20

// consolePoll is how often a follower looks for new bytes. Files written by
// another process have no better signal that works on every file system.
const consolePoll = 100 * time.Millisecond

// TrimConsole turns the ring when console.log has passed ConsoleMax: it is
// copied to console.log.1 and emptied. The writer appends, so it goes on at
// the new end; bytes that it writes between the copy and the cut are lost.
func TrimConsole(dir string) error {
	name := filepath.Join(dir, ConsoleFile)
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() <= ConsoleMax {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at console: %w", err)
	}
	return turnConsole(name, filepath.Join(dir, ConsoleOldFile))
}

// turnConsole copies the last ConsoleMax bytes of name to old, at the offsets
// that they had so that followers find their place, and empties name.
func turnConsole(name, old string) (err error) {
	from, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open console: %w", err)
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return fmt.Errorf("look at console: %w", err)
	}
	tmp := old + ".tmp"
	to, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make old console: %w", err)
	}
	defer func() {
		err = errors.Join(err, to.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(tmp))
		}
	}()
	// What is before the last ConsoleMax bytes becomes a hole.
	start := max(0, info.Size()-ConsoleMax)
	n, err := io.Copy(io.NewOffsetWriter(to, start), io.NewSectionReader(from, start, 1<<62))
	if err != nil {
		return fmt.Errorf("copy %d bytes of console: %w", n, err)
	}
	if err := os.Rename(tmp, old); err != nil {
		return fmt.Errorf("keep old console: %w", err)
	}
	if err := from.Truncate(0); err != nil {
		return fmt.Errorf("empty console: %w", err)
	}
	return nil
}

// Console returns what the machine in dir has written to its serial console:
// the last tail bytes that are kept, all when tail is not positive, and with
// follow what comes after, until ctx ends or the machine has. A reader that
// is slower than the guest loses what the ring has dropped meanwhile.
func Console(ctx context.Context, dir string, tail int64, follow bool) (io.ReadCloser, error) {
	c := &console{ctx: ctx, dir: dir, follow: follow}
	if err := c.open(tail); err != nil {
		return nil, err
	}
	return c, nil
}

// console reads the two files of a ring as one stream.
type console struct {
	ctx    context.Context //nolint:containedctx // A reader's Read has no ctx; the stream belongs to one call.
	dir    string
	follow bool

	old io.Reader // What is left of console.log.1, nil when read.
	pos int64     // Offset in console.log of the next byte.
	end bool      // The machine has ended; one look for its last bytes is left.

	oldFile *os.File
}

func (c *console) open(tail int64) error {
	size, err := sizeOf(filepath.Join(c.dir, ConsoleFile))
	if err != nil {
		return err
	}
	if tail > 0 && tail <= size {
		c.pos = size - tail
		return nil
	}
	return c.openOld(func(oldSize int64) int64 {
		start := max(0, oldSize-ConsoleMax)
		if tail > 0 {
			start = max(start, oldSize-(tail-size))
		}
		return start
	})
}

// openOld makes console.log.1 the next thing to read, from the offset that
// from chooses by its size.
func (c *console) openOld(from func(size int64) int64) error {
	f, err := os.Open(filepath.Join(c.dir, ConsoleOldFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open old console: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("look at old console: %w", err)
	}
	start := from(info.Size())
	c.closeOld()
	c.oldFile, c.old = f, io.NewSectionReader(f, start, max(0, info.Size()-start))
	return nil
}

func (c *console) closeOld() {
	if c.oldFile != nil {
		c.oldFile.Close()
	}
	c.oldFile, c.old = nil, nil
}

// Read implements io.Reader.
func (c *console) Read(p []byte) (int, error) {
	for {
		n, err := c.next(p)
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		if !c.follow || c.end {
			return 0, io.EOF
		}
		running, err := Running(c.dir)
		if err != nil {
			return 0, err
		}
		if !running {
			c.end = true
			continue
		}
		select {
		case <-c.ctx.Done():
			return 0, context.Cause(c.ctx)
		case <-time.After(consolePoll):
		}
	}
}

// next reads what is there now; no bytes and no error is the end for now.
func (c *console) next(p []byte) (int, error) {
	if c.old != nil {
		n, err := c.old.Read(p)
		if n > 0 {
			return n, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read old console: %w", err)
		}
		c.closeOld()
	}
	f, err := os.Open(filepath.Join(c.dir, ConsoleFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open console: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("look at console: %w", err)
	}
	if info.Size() < c.pos {
		// The ring has turned: the rest of what we were reading is in the old
		// file, at the same offset.
		pos := c.pos
		c.pos = 0
		if err := c.openOld(func(size int64) int64 { return max(min(pos, size), size-ConsoleMax) }); err != nil {
			return 0, err
		}
		if c.old != nil {
			return c.next(p)
		}
	}
	n, err := f.ReadAt(p, c.pos)
	c.pos += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, fmt.Errorf("read console: %w", err)
	}
	return n, nil
}

// Close implements io.Closer.
func (c *console) Close() error {
	c.closeOld()
	return nil
}

// sizeOf returns the size of a file, 0 when it is not there.
func sizeOf(name string) (int64, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look at console: %w", err)
	}
	return info.Size(), nil
}
