package guestapi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ballastBytes is many times what the store writes to note what it has. When that
// cannot be written the store ends the process, so there is a file of this size that
// goes first when the disk is full.
const ballastBytes = 1 << 20

// ballast is that file.
type ballast string

func ballastIn(dir string) ballast { return ballast(filepath.Join(dir, "ballast")) }

// fill makes the file, unless it is there or there is no room for it.
func (b ballast) fill() error {
	if _, err := os.Stat(string(b)); err == nil {
		return nil
	}
	part := string(b) + ".new"
	err := errors.Join(os.MkdirAll(filepath.Dir(part), 0o700), os.WriteFile(part, make([]byte, ballastBytes), 0o600))
	if err == nil {
		err = os.Rename(part, string(b))
	}
	if err == nil {
		return nil
	}
	if gone := os.Remove(part); gone != nil && !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return nil
	}
	return fmt.Errorf("keep some disk for the cache of programs: %w", err)
}

// drop deletes the file: the disk is full.
func (b ballast) drop() { _ = os.Remove(string(b)) } // What is tried again afterwards says whether it helped.
