package executor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// unpackedMax is how long an unpacked image stays that no machine uses. It
	// is unpacked again in less than a second.
	unpackedMax = time.Hour
	// bootBytes is what a machine's first files take, with room to spare.
	bootBytes = 64 << 20
)

// openImage unpacks and verifies the image, making room for it when the disk is
// full. One that has rotted is dropped, so that the next try fetches it anew.
func (s *Supervisor) openImage(ctx context.Context, hash message.ItemHash, path string) (vmm.Image, error) {
	image, err := s.images.Open(ctx, path)
	switch {
	case errors.Is(err, vmm.ErrRotten):
		s.outcomes.WithLabelValues("rotten").Inc()
		s.log.Error("image has rotted, it is fetched anew", "item_hash", hash, "err", err)
		err = errors.Join(err, s.parts.Images.Drop(hash))
	case errs.KindOf(err) == errs.Exhausted:
		fi, serr := os.Stat(path)
		if serr == nil && s.makeRoom(ctx, fi.Size()) {
			image, err = s.images.Open(ctx, path)
		}
	}
	if err != nil {
		return vmm.Image{}, fmt.Errorf("open image: %w", err)
	}
	return image, nil
}

// makeRoom frees so many bytes of the disk, if it can.
func (s *Supervisor) makeRoom(ctx context.Context, sizeBytes int64) bool {
	err := s.FreeDisk(ctx)
	if err == nil {
		err = s.parts.Images.MakeRoom(ctx, sizeBytes)
	}
	if err != nil {
		s.log.Warn("no room made on the disk", "bytes", sizeBytes, "err", err)
	}
	return err == nil
}

// Needed returns a test for the files that machines or promises name.
func (s *Supervisor) Needed(ctx context.Context) (blob.Keep, error) {
	needed, err := s.imagesNeeded(ctx)
	return func(hash message.ItemHash, _ time.Time) bool { return needed[hash] }, err
}

// imagesNeeded returns the images of machines, also of those that have ended
// while their row is there, and of promises. The image of a promise is known
// once it was asked for; if it goes before, it is fetched again. They are under the names
// that machines have for them, and under those by which they are kept.
func (s *Supervisor) imagesNeeded(ctx context.Context) (map[message.ItemHash]bool, error) {
	needed := map[message.ItemHash]bool{}
	s.mu.Lock()
	for _, hash := range s.warmed {
		needed[hash] = true
	}
	for _, job := range s.imports {
		for _, hash := range job.needs {
			needed[hash] = true
		}
	}
	s.mu.Unlock()
	vms, err := s.db.VMs(ctx)
	if err != nil {
		return nil, err
	}
	for _, vm := range vms {
		needed[vm.ImageHash] = true
		for _, file := range vm.Files {
			needed[file] = true
		}
	}
	for _, hash := range slices.Collect(maps.Keys(needed)) {
		needed[s.parts.Images.Blob(hash)] = true
	}
	return needed, nil
}

// FreeDisk removes every unpacked image that is not needed.
func (s *Supervisor) FreeDisk(ctx context.Context) error { return s.prune(ctx, time.Now()) }

// prune removes unpacked images that are not needed and that were not used
// since the time.
func (s *Supervisor) prune(ctx context.Context, before time.Time) error {
	removed, err := s.images.Prune(before, func() (func(string) bool, error) {
		needed, err := s.imagesNeeded(ctx)
		return func(name string) bool { return needed[message.ItemHash(name)] }, err
	})
	for _, name := range removed {
		s.log.Info("removed unused unpacked image", "item_hash", name)
	}
	return err
}
