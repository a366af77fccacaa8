// Package iso writes a NoCloud seed as the ISO 9660 volume that guests look
// for. It is apart from cloudinit because only the host needs it.
package iso

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
)

const (
	blockBytes = 2048
	// overheadBytes is room for the volume's own tables.
	overheadBytes = 1 << 20
)

// Write writes the seed to a file of that name, replacing what is there in
// one step.
func Write(name string, seed cloudinit.Seed) (err error) {
	files, err := seed.Files()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(name), ".seed-*")
	if err != nil {
		return fmt.Errorf("make seed directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tmp := filepath.Join(dir, "seed.iso")
	if err := write(tmp, dir, files); err != nil {
		return fmt.Errorf("write seed: %w", err)
	}
	if err := os.Rename(tmp, name); err != nil {
		return fmt.Errorf("put seed in place: %w", err)
	}
	return nil
}

func write(name, dir string, files map[string][]byte) (err error) {
	size := int64(overheadBytes)
	for _, content := range files {
		size += (int64(len(content)) + blockBytes - 1) / blockBytes * blockBytes
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(size); err != nil {
		return err
	}
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	fs, err := iso9660.Create(file.New(f, false), size, 0, blockBytes, work)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		w, err := fs.OpenFile("/"+n, os.O_CREATE|os.O_RDWR)
		if err != nil {
			return err
		}
		if _, err := w.Write(files[n]); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	if err := fs.Finalize(iso9660.FinalizeOptions{RockRidge: true, Joliet: true, VolumeIdentifier: cloudinit.Label}); err != nil {
		return err
	}
	return f.Sync()
}
