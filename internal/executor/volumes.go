package executor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// volumesMax bounds the volumes of a machine by the places that a driver has for
// drives.
const volumesMax = 24

// checkVolumes reports volumes that no try makes work.
func checkVolumes(volumes []message.Volume) error {
	if len(volumes) > volumesMax {
		return errs.New(errs.Invalid, "the machine has %d volumes, at most %d are attached", len(volumes), volumesMax)
	}
	for i, v := range volumes {
		if v.Kind == message.Persistent && v.Persistence != nil && *v.Persistence != "host" {
			return errs.New(errs.Invalid, "volume %d persists in %q, only host is supported", i, *v.Persistence)
		}
	}
	return nil
}

// volumesMiB is what the volumes take of the disk. Immutable ones are shared.
func volumesMiB(volumes []message.Volume) int64 {
	var sum int64
	for _, v := range volumes {
		if v.Kind != message.Immutable {
			sum += v.SizeMiB
		}
	}
	return sum
}

// fileRef returns the STORE message of the file that a volume needs, "" for none.
func fileRef(v message.Volume) message.ItemHash {
	switch {
	case v.Kind == message.Immutable:
		return v.Ref
	case v.Kind == message.Persistent && v.Parent != nil:
		return v.Parent.Ref
	default:
		return ""
	}
}

// volumeFiles returns the hashes of the files that volumes need by the STORE
// messages that name them. What is known stays: disks lie over those files.
func (s *Supervisor) volumeFiles(ctx context.Context, volumes []message.Volume, known map[message.ItemHash]message.ItemHash) (map[message.ItemHash]message.ItemHash, error) {
	var files map[message.ItemHash]message.ItemHash
	for i, v := range volumes {
		ref := fileRef(v)
		if ref == "" {
			continue
		}
		hash := known[ref]
		if hash == "" {
			var err error
			if hash, err = s.imageHash(ctx, ref); err != nil {
				return nil, fmt.Errorf("volume %d: %w", i, err)
			}
		}
		if files == nil {
			files = map[message.ItemHash]message.ItemHash{}
		}
		files[ref] = hash
	}
	return files, nil
}

// fetchVolumes gets the files of volumes. progress is told of each as it comes.
func (s *Supervisor) fetchVolumes(
	ctx context.Context, volumes []message.Volume, files map[message.ItemHash]message.ItemHash,
	progress func(context.Context, message.ItemHash) func(done, total int64),
) ([]disk.Volume, error) {
	out := make([]disk.Volume, len(volumes))
	for i, v := range volumes {
		out[i] = disk.Volume{Volume: v}
		ref := fileRef(v)
		if ref == "" {
			continue
		}
		hash := files[ref]
		path, err := s.parts.Images.Fetch(ctx, hash, progress(ctx, hash))
		if err != nil {
			return nil, fmt.Errorf("fetch file %s of volume %d: %w", hash, i, err)
		}
		out[i].Path = path
	}
	return out, nil
}

// prepareDisks makes or grows the disks of a machine whose process is gone, and
// returns its drives besides the root. When the disk is full it makes room for
// the next try.
func (s *Supervisor) prepareDisks(ctx context.Context, vm state.VM, f *fetched) ([]vmm.Volume, error) {
	if vm.Arrived { // A crash may have come before.
		if err := disk.TakeOver(vm.Dir); err != nil {
			return nil, doubt{err}
		}
	}
	if err := s.pruneDisks(vm); err != nil {
		return nil, err
	}
	drives, err := disk.Prepare(ctx, vm.Dir, f.instance.Rootfs.SizeMiB, f.volumes)
	switch {
	case errors.Is(err, errs.Conflict):
		return nil, doubt{fmt.Errorf("prepare disks: %w", err)}
	case errors.Is(err, errs.Exhausted):
		s.makeRoom(ctx, bootBytes) // For the next try.
	}
	if err != nil {
		return nil, fmt.Errorf("prepare disks: %w", err)
	}
	return drives, nil
}

// pruneDisks deletes what restores have left, unless one is under way.
func (s *Supervisor) pruneDisks(vm state.VM) error {
	if vm.Halt != nil && vm.Halt.Restore != "" {
		return nil
	}
	done, err := s.claim(vm.Spec, "leftovers are deleted")
	if err != nil {
		return nil // Whoever is at its disks goes first; the next start looks again.
	}
	defer done()
	err = disk.Prune(vm.Dir, time.Now())
	if errors.Is(err, errs.Conflict) {
		err = doubt{err}
	}
	return err
}
