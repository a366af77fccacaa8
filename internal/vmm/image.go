package vmm

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qcow2"
)

// Format is the format of a disk image.
type Format string

// The disk formats.
const (
	Raw   Format = "raw"
	Qcow2 Format = "qcow2"
)

// Image is a machine image that is ready to boot: unpacked and checked. Use
// OpenImage.
type Image struct {
	Name    string `json:"name"`
	Kernel  string `json:"kernel,omitempty"` // Path; "" boots from the disk by firmware.
	Initrd  string `json:"initrd,omitempty"` // Path.
	Cmdline string `json:"cmdline,omitempty"`
	Rootfs  string `json:"rootfs"` // Absolute path of the disk that machines share, read only.
	Format  Format `json:"format"`
	// VirtualBytes is the size of the disk as a guest sees it.
	VirtualBytes int64 `json:"virtual_bytes"`
	// Agent is set when aleph-guest runs inside.
	Agent bool `json:"agent"`
}

// Bounds of an image.
const (
	manifestBytesMax = 1 << 20
	bootBytesMax     = 512 << 20 // Of a kernel or an initrd.
	cmdlineBytesMax  = 2047      // Of Linux on x86.
	imageNameMax     = 128
	membersMax       = 16
	sectorBytes      = 512
	rootfsBytesMax   = int64(diskMiBMax) << 20
)

// manifest is the first member of an aleph image.
type manifest struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Kernel  string `json:"kernel"`
	Initrd  string `json:"initrd"`
	Rootfs  string `json:"rootfs"`
	Format  Format `json:"format"`
	Cmdline string `json:"cmdline"`
	Agent   bool   `json:"agent"`
}

const manifestName = "manifest.json"

// OpenImage checks the image file at path and returns what it holds. An aleph
// image, a tar of manifest.json, kernel, initrd and root disk, is unpacked to
// a directory of cacheDir that is named after the file; a plain qcow2 or raw
// disk is used where it is. An image of a stranger that is damaged, or that
// would reach for other files of this host, gives errs.Invalid.
//
// The name of the file must stand for its content, as an item hash does:
// what was unpacked once is used again, without a look at its bytes. Cache.Open
// does look.
func OpenImage(ctx context.Context, path, cacheDir string) (Image, error) {
	return openImage(ctx, path, cacheDir, nil)
}

// openImage is OpenImage, with a Cache that verifies or nil.
func openImage(ctx context.Context, path, cacheDir string, c *Cache) (Image, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Image{}, fmt.Errorf("find image: %w", err)
	}
	if cacheDir, err = filepath.Abs(cacheDir); err != nil {
		return Image{}, fmt.Errorf("find image cache: %w", err)
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return Image{}, errs.New(errs.NotFound, "no image at %s", path)
	}
	if err != nil {
		return Image{}, fmt.Errorf("open image: %w", err)
	}
	defer f.Close()
	if !isTar(f) {
		return openDisk(ctx, f, path, c)
	}
	dir := filepath.Join(cacheDir, filepath.Base(path))
	img, err := loadUnpacked(ctx, dir, c)
	if !errors.Is(err, errs.NotFound) {
		return img, err
	}
	if err := unpackOnce(ctx, f, dir, c); err != nil {
		return Image{}, DiskError(fmt.Errorf("unpack image %s: %w", filepath.Base(path), err))
	}
	return loadUnpacked(ctx, dir, c)
}

// openDisk returns an image that is a disk and nothing else.
func openDisk(ctx context.Context, f *os.File, path string, c *Cache) (Image, error) {
	if c != nil {
		if err := c.checkFile(ctx, path); err != nil {
			return Image{}, err
		}
	}
	img := Image{Name: filepath.Base(path), Rootfs: path, Format: formatOf(f)}
	var err error
	img.VirtualBytes, err = checkDisk(f, img.Format)
	return img, err
}

// formatOf tells the format of a disk by its first bytes.
func formatOf(f *os.File) Format {
	if qcow2.Is(f) {
		return Qcow2
	}
	return Raw
}

// unpackPoll is how often a second caller looks whether the first is done.
const unpackPoll = 50 * time.Millisecond

// unpackDir in the cache is where an image is unpacked before it is moved to
// its place, one at a time.
const unpackDir = ".unpack"

// unpackOnce unpacks to dir unless somebody else does meanwhile. What a crash
// has left half unpacked is thrown away.
func unpackOnce(ctx context.Context, f *os.File, dir string, c *Cache) error {
	part := filepath.Join(filepath.Dir(dir), unpackDir)
	for {
		lock, err := LockDir(part)
		if err == nil {
			defer lock.Close()
			break
		}
		if !errors.Is(err, errs.Conflict) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(unpackPoll):
		}
	}
	_, err := loadUnpacked(ctx, dir, c)
	if !errors.Is(err, errs.NotFound) {
		return err
	}
	tmp := filepath.Join(part, "image")
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("remove what an earlier try left: %w", err)
	}
	err = unpack(ctx, f, tmp, dir, c)
	return errors.Join(err, os.RemoveAll(tmp))
}

// isTar reports whether the file is a POSIX tar.
func isTar(r io.ReaderAt) bool {
	var b [5]byte
	_, err := r.ReadAt(b[:], 257)
	return err == nil && string(b[:]) == "ustar"
}

// checkDisk checks a root disk and returns its size as a guest sees it.
func checkDisk(f *os.File, format Format) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("look at disk: %w", err)
	}
	if !info.Mode().IsRegular() {
		return 0, errs.New(errs.Invalid, "disk %s is not a file", filepath.Base(f.Name()))
	}
	size := info.Size()
	if format == Qcow2 {
		h, err := qcow2.Read(f, info.Size())
		switch {
		case err != nil:
			return 0, err
		case h.Backing != "":
			return 0, errs.New(errs.Invalid, "qcow2 disk has the backing file %q: an image must stand alone", h.Backing)
		case h.DataFile:
			return 0, errs.New(errs.Invalid, "qcow2 disk has its data in another file: an image must stand alone")
		case h.Encrypted:
			return 0, errs.New(errs.Invalid, "qcow2 disk is encrypted: the node has no key for it")
		case h.Snapshots != 0:
			return 0, errs.New(errs.Invalid, "qcow2 disk has %d snapshots, want none", h.Snapshots)
		}
		size = h.VirtualBytes
	}
	if size < sectorBytes || size%sectorBytes != 0 || size > rootfsBytesMax {
		return 0, errs.New(errs.Invalid, "disk of %d bytes, want whole sectors of %d, up to %d", size, sectorBytes, rootfsBytesMax)
	}
	return size, nil
}

// loadUnpacked returns the image that was unpacked to dir, or errs.NotFound.
func loadUnpacked(ctx context.Context, dir string, c *Cache) (Image, error) {
	if c != nil {
		if err := c.checkUnpacked(ctx, dir); err != nil {
			return Image{}, err
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, os.ErrNotExist) {
		return Image{}, errs.New(errs.NotFound, "no unpacked image in %s", dir)
	}
	if err != nil {
		return Image{}, fmt.Errorf("read image manifest: %w", err)
	}
	m, err := parseManifest(raw)
	if err != nil {
		return Image{}, err
	}
	img := Image{
		Name: m.Name, Kernel: filepath.Join(dir, m.Kernel), Initrd: filepath.Join(dir, m.Initrd), Cmdline: m.Cmdline,
		Rootfs: filepath.Join(dir, m.Rootfs), Format: m.Format, Agent: m.Agent,
	}
	f, err := os.Open(img.Rootfs)
	if err != nil {
		return Image{}, fmt.Errorf("open root disk: %w", err)
	}
	defer f.Close()
	img.VirtualBytes, err = checkDisk(f, img.Format)
	return img, err
}

// parseManifest reads and checks a manifest.
func parseManifest(raw []byte) (manifest, error) {
	var m manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, errs.New(errs.Invalid, "image manifest: %w", err)
	}
	switch {
	case m.Version != 1:
		return m, errs.New(errs.Invalid, "image manifest has version %d, want 1", m.Version)
	case len(m.Name) > imageNameMax:
		return m, errs.New(errs.Invalid, "image name has %d bytes, at most %d", len(m.Name), imageNameMax)
	case m.Format != Raw && m.Format != Qcow2:
		return m, errs.New(errs.Invalid, "image has disk format %q, want raw or qcow2", m.Format)
	case len(m.Cmdline) > cmdlineBytesMax || strings.ContainsAny(m.Cmdline, "\x00\n"):
		return m, errs.New(errs.Invalid, "kernel command line is not one line of at most %d bytes", cmdlineBytesMax)
	}
	seen := map[string]bool{manifestName: true, sumsName: true}
	for _, name := range []string{m.Kernel, m.Initrd, m.Rootfs} {
		if !isMemberName(name) || seen[name] {
			return m, errs.New(errs.Invalid, "image manifest names the member %q, want three different plain names", name)
		}
		seen[name] = true
	}
	return m, nil
}

// isMemberName allows names that are nothing but a file of their directory.
func isMemberName(name string) bool {
	const nameMax = 64
	if name == "" || len(name) > nameMax || name[0] == '.' {
		return false
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// unpack writes the members of the tar to the directory tmp and renames it to
// dir, which so appears whole or not at all. A file whose name is the sha256 of
// its bytes must hash to it.
func unpack(ctx context.Context, f *os.File, tmp, dir string, c *Cache) error {
	if err := os.Mkdir(tmp, dirMode); err != nil {
		return fmt.Errorf("make image directory: %w", err)
	}
	whole := sha256.New()
	all := io.TeeReader(f, whole)
	sums, err := unpackMembers(ctx, all, tmp)
	if err != nil && errs.KindOf(err) != errs.Invalid {
		return err
	}
	// What is not valid is judged after the whole: it may be rot of this disk.
	if _, cerr := io.Copy(io.Discard, all); cerr != nil {
		return errors.Join(err, fmt.Errorf("read image: %w", cerr))
	}
	if got := hex.EncodeToString(whole.Sum(nil)); isID(filepath.Base(f.Name())) && got != filepath.Base(f.Name()) {
		return rotten(f.Name(), got)
	}
	if err != nil {
		return err
	}
	raw, err := json.Marshal(sums)
	if err != nil {
		return fmt.Errorf("encode sums of image: %w", err)
	}
	if _, err := writeSparse(ctx, filepath.Join(tmp, sumsName), bytes.NewReader(raw)); err != nil {
		return fmt.Errorf("write sums of image: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("put image in place: %w", err)
	}
	return c.vouchUnpacked(dir, sums)
}

// unpackMembers writes the members of the tar to dir and returns their sums.
func unpackMembers(ctx context.Context, r io.Reader, dir string) (map[string]string, error) {
	t := tar.NewReader(r)
	raw, err := readManifest(t)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(raw)
	if err != nil {
		return nil, err
	}
	limits := map[string]int64{m.Kernel: bootBytesMax, m.Initrd: bootBytesMax, m.Rootfs: rootfsBytesMax}
	sums := map[string]string{}
	for range membersMax {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errs.New(errs.Invalid, "read image: %w", err)
		}
		limit, wanted := limits[h.Name]
		if !wanted || h.Typeflag != tar.TypeReg || h.Size > limit {
			return nil, errs.New(errs.Invalid, "image has a member %.80q of type %q with %d bytes, which its manifest does not allow", h.Name, h.Typeflag, h.Size)
		}
		delete(limits, h.Name)
		if sums[h.Name], err = writeSparse(ctx, filepath.Join(dir, h.Name), t); err != nil { //nolint:gosec // The name is one that the checked manifest has.
			return nil, fmt.Errorf("unpack %s: %w", h.Name, err)
		}
	}
	for name := range limits {
		return nil, errs.New(errs.Invalid, "image has no member %s", name)
	}
	if err := checkKernel(filepath.Join(dir, m.Kernel)); err != nil {
		return nil, err
	}
	if sums[manifestName], err = writeSparse(ctx, filepath.Join(dir, manifestName), bytes.NewReader(raw)); err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	return sums, nil
}

// readManifest reads the first member.
func readManifest(t *tar.Reader) ([]byte, error) {
	h, err := t.Next()
	if err != nil {
		return nil, errs.New(errs.Invalid, "read image: %w", err)
	}
	if h.Name != manifestName || h.Typeflag != tar.TypeReg || h.Size > manifestBytesMax {
		return nil, errs.New(errs.Invalid, "image starts with %.80q, want %s", h.Name, manifestName)
	}
	raw, err := io.ReadAll(t)
	if err != nil {
		return nil, errs.New(errs.Invalid, "read image manifest: %w", err)
	}
	return raw, nil
}

// copyBytes is the unit of copying, and of holes.
const copyBytes = 256 << 10

// writeSparse copies r to a new file that is on disk when it returns, and
// returns the sha256 in hex. Blocks of zeros become holes.
func writeSparse(ctx context.Context, name string, r io.Reader) (sum string, err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf, zeros, hash := make([]byte, copyBytes), make([]byte, copyBytes), sha256.New()
	var at int64
	for {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		n, err := io.ReadFull(r, buf)
		hash.Write(buf[:n]) // A hash never fails.
		if n > 0 && !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := f.WriteAt(buf[:n], at); err != nil {
				return "", err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return "", errs.New(errs.Invalid, "read image: %w", err)
		}
	}
	if err := f.Truncate(at); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), f.Sync()
}

// checkKernel reports a kernel that is not an x86-64 ELF: QEMU would take
// whatever it is for a boot sector and the guest would just hang.
func checkKernel(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("open kernel: %w", err)
	}
	defer f.Close()
	b := make([]byte, 20)
	if _, err := io.ReadFull(f, b); err != nil {
		return errs.New(errs.Invalid, "read kernel: %w", err)
	}
	const class64, little, x86 = 2, 1, 62
	if string(b[:4]) != "\x7fELF" || b[4] != class64 || b[5] != little || binary.LittleEndian.Uint16(b[18:]) != x86 {
		return errs.New(errs.Invalid, "kernel is not an ELF file for x86-64")
	}
	return nil
}

func (i Image) validate() error {
	switch {
	case i.Rootfs == "" || !filepath.IsAbs(i.Rootfs):
		return errs.New(errs.Invalid, "image %q has root disk %q, want an absolute path", i.Name, i.Rootfs)
	case i.Format != Raw && i.Format != Qcow2:
		return errs.New(errs.Invalid, "image %q has disk format %q, want raw or qcow2", i.Name, i.Format)
	case i.Kernel == "" && (i.Initrd != "" || i.Cmdline != ""):
		return errs.New(errs.Invalid, "image %q has an initrd or a command line without a kernel", i.Name)
	}
	return nil
}
