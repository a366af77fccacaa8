package process

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// ReplaceFile writes a file that is there whole, old or new, at any time.
func ReplaceFile(name string, raw []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return fmt.Errorf("make %s: %w", filepath.Base(name), err)
	}
	defer func() {
		f.Close()
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(raw); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(name), err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", filepath.Base(name), err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return fmt.Errorf("put %s in place: %w", filepath.Base(name), err)
	}
	return nil
}

// Sums are the sha256 of large files that are read at each start, remembered for
// as long as the files look as they did. The zero value is ready to use.
type Sums struct {
	mu    sync.Mutex
	known map[string]fileSum // guarded by mu
}

type fileSum struct {
	size  int64
	mtime time.Time
	sum   string
}

const (
	// sumsMax bounds what Sums remembers: a kernel, an initrd and a program for
	// each image in use.
	sumsMax = 1024
	// sumBytesMax bounds a file that is summed: programs, kernels, and the state of
	// a machine's devices.
	sumBytesMax = 256 << 20
)

// Of returns the sha256 of a file in hex.
func (s *Sums) Of(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", filepath.Base(name), err)
	}
	s.mu.Lock()
	last, ok := s.known[name]
	s.mu.Unlock()
	if ok && last.size == info.Size() && last.mtime.Equal(info.ModTime()) {
		return last.sum, nil
	}
	sum, err := SumFile(name)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil || len(s.known) >= sumsMax {
		s.known = map[string]fileSum{}
	}
	s.known[name] = fileSum{info.Size(), info.ModTime(), sum}
	return sum, nil
}

// SumFile returns the sha256 of a file in hex.
func SumFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", filepath.Base(name), err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, sumBytesMax+1))
	if err == nil && n > sumBytesMax {
		err = fmt.Errorf("it has more than %d bytes", sumBytesMax)
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", filepath.Base(name), err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
