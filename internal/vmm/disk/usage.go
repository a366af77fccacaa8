package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
)

// Usage is what the disks of a machine take. Files that machines share are
// not counted.
type Usage struct {
	ApparentBytes  int64 // Sizes of the writable disks as the guest sees them.
	AllocatedBytes int64 // What all files of the directory take on this disk.
	// ReservedBytes is what the writable disks may still take: an owner who
	// was promised a size can fill it at any time.
	ReservedBytes int64
}

// statBlock is the unit of st_blocks, whatever the file system's is.
const statBlock = 512

// UsageOf measures the directory of a machine, which may run. One that is not
// there takes nothing.
func UsageOf(dir string) (Usage, error) {
	var u Usage
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // It went away meanwhile.
		}
		if err != nil {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("no blocks known of %s", e.Name())
		}
		allocated := st.Blocks * statBlock
		u.AllocatedBytes += allocated
		format, ok := writable(dir, path)
		if !ok || !info.Mode().IsRegular() {
			return nil
		}
		size, err := sizeOf(path, format)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		u.ApparentBytes += size
		u.ReservedBytes += max(0, size-allocated)
		return nil
	})
	if err != nil {
		return Usage{}, fmt.Errorf("measure disks: %w", err)
	}
	return u, nil
}

// writable tells whether the file is a disk that the machine writes.
func writable(dir, path string) (vmm.Format, bool) {
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return "", false
	}
	folder, base := filepath.Split(name)
	folder = strings.TrimSuffix(folder, string(os.PathSeparator))
	switch {
	case name == vmm.DiskFile:
		return vmm.Qcow2, true
	case strings.HasPrefix(base, "."):
		return "", false
	case folder == volumesFolder && strings.HasSuffix(base, overlaySuffix):
		return vmm.Qcow2, true
	case folder == volumesFolder || folder == ephemeralFolder:
		return vmm.Raw, strings.HasSuffix(base, rawSuffix)
	}
	return "", false
}
