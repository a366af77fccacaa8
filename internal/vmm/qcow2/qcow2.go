// Package qcow2 reads the header of qcow2 disk images, to refuse what a
// stranger's image must not do, and writes thin overlays over a base image.
package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	magic         = 0x514649fb // "QFI\xfb"
	headerV2Bytes = 72
	headerV3Bytes = 104
	backingMax    = 1023 // Of the format.

	clusterBitsMin = 9
	clusterBitsMax = 21
	// l1BytesMax is what QEMU itself takes.
	l1BytesMax       = 32 << 20
	refTableBytesMax = 8 << 20
	extensionsMax    = 64

	extEnd           = 0
	extBackingFormat = 0xe2792aca

	// Incompatible features.
	featureDirty       = 1 << 0
	featureCorrupt     = 1 << 1
	featureDataFile    = 1 << 2
	featureCompression = 1 << 3
	featureExtendedL2  = 1 << 4
)

// Header is what the header of an image says.
type Header struct {
	Version       uint32
	ClusterBits   uint32
	VirtualBytes  int64
	Backing       string // Path of the backing file, "" for none.
	BackingFormat string
	Encrypted     bool
	DataFile      bool // The data is in another file.
	Snapshots     uint32
}

// Is reports whether the file starts as a qcow2 image does.
func Is(r io.ReaderAt) bool {
	var b [4]byte
	_, err := r.ReadAt(b[:], 0)
	return err == nil && binary.BigEndian.Uint32(b[:]) == magic
}

// Read reads and checks the header of an image in a file of fileBytes. What
// is damaged, or of a kind that QEMU would not open, gives errs.Invalid.
func Read(r io.ReaderAt, fileBytes int64) (Header, error) {
	var h Header
	b := make([]byte, headerV3Bytes)
	if n, err := r.ReadAt(b, 0); n < headerV2Bytes {
		return h, errs.New(errs.Invalid, "read qcow2 header: %w", err)
	}
	be := binary.BigEndian
	if be.Uint32(b) != magic {
		return h, errs.New(errs.Invalid, "not a qcow2 image")
	}
	h.Version = be.Uint32(b[4:])
	headerBytes := int64(headerV2Bytes)
	var features uint64
	switch h.Version {
	case 2:
	case 3:
		headerBytes = int64(be.Uint32(b[100:]))
		features = be.Uint64(b[72:])
		if headerBytes < headerV3Bytes || headerBytes%8 != 0 {
			return h, errs.New(errs.Invalid, "qcow2 header has %d bytes", headerBytes)
		}
	default:
		return h, errs.New(errs.Invalid, "qcow2 version %d, want 2 or 3", h.Version)
	}
	h.ClusterBits = be.Uint32(b[20:])
	if h.ClusterBits < clusterBitsMin || h.ClusterBits > clusterBitsMax {
		return h, errs.New(errs.Invalid, "qcow2 clusters of 2^%d bytes", h.ClusterBits)
	}
	h.VirtualBytes = int64(be.Uint64(b[24:]))
	h.Encrypted = be.Uint32(b[32:]) != 0
	h.Snapshots = be.Uint32(b[60:])
	if known := uint64(featureDirty | featureCorrupt | featureDataFile | featureCompression | featureExtendedL2); features&^known != 0 {
		return h, errs.New(errs.Invalid, "qcow2 features %#x are unknown", features&^known)
	}
	if features&featureCorrupt != 0 {
		return h, errs.New(errs.Invalid, "qcow2 image is marked corrupt")
	}
	h.DataFile = features&featureDataFile != 0
	if err := h.checkTables(b, fileBytes, features&featureExtendedL2 != 0); err != nil {
		return h, err
	}
	return h, h.readNames(r, b, headerBytes)
}

// checkTables checks sizes and places of the two tables.
func (h Header) checkTables(b []byte, fileBytes int64, extended bool) error {
	be := binary.BigEndian
	cluster := int64(1) << h.ClusterBits
	entryBytes := int64(8)
	if extended {
		entryBytes = 16
	}
	if h.VirtualBytes <= 0 {
		return errs.New(errs.Invalid, "qcow2 disk of %d bytes", h.VirtualBytes)
	}
	perL1 := cluster / entryBytes * cluster
	l1Need := (h.VirtualBytes-1)/perL1 + 1
	l1Size, l1At := int64(be.Uint32(b[36:])), int64(be.Uint64(b[40:]))
	if l1Size < l1Need || l1Size*8 > l1BytesMax {
		return errs.New(errs.Invalid, "qcow2 table has %d entries, want at least %d", l1Size, l1Need)
	}
	refAt, refBytes := int64(be.Uint64(b[48:])), int64(be.Uint32(b[56:]))*cluster
	if refBytes <= 0 || refBytes > refTableBytesMax {
		return errs.New(errs.Invalid, "qcow2 reference table of %d bytes", refBytes)
	}
	for _, t := range [][2]int64{{l1At, l1Size * 8}, {refAt, refBytes}} {
		if t[0] < cluster || t[0]%cluster != 0 || t[0] > fileBytes || t[1] > fileBytes-t[0] {
			return errs.New(errs.Invalid, "qcow2 table at %d with %d bytes is not in the file", t[0], t[1])
		}
	}
	return nil
}

// readNames reads the header extensions and the name of the backing file.
func (h *Header) readNames(r io.ReaderAt, b []byte, at int64) error {
	be := binary.BigEndian
	end := int64(1) << h.ClusterBits
	backingAt, backingBytes := int64(be.Uint64(b[8:])), int64(be.Uint32(b[16:]))
	if backingAt != 0 {
		if backingBytes < 1 || backingBytes > backingMax || backingAt < 0 || backingAt > end-backingBytes {
			return errs.New(errs.Invalid, "qcow2 backing file name at %d with %d bytes", backingAt, backingBytes)
		}
		name := make([]byte, backingBytes)
		if _, err := r.ReadAt(name, backingAt); err != nil {
			return errs.New(errs.Invalid, "read qcow2 backing file name: %w", err)
		}
		h.Backing = string(name)
		end = backingAt
	}
	for range extensionsMax {
		var ext [8]byte
		if at+8 > end {
			return nil
		}
		if _, err := r.ReadAt(ext[:], at); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return errs.New(errs.Invalid, "read qcow2 header extension: %w", err)
		}
		kind, size := be.Uint32(ext[:]), int64(be.Uint32(ext[4:]))
		if kind == extEnd {
			return nil
		}
		if size > end-at-8 {
			return errs.New(errs.Invalid, "qcow2 header extension of %d bytes", size)
		}
		if kind == extBackingFormat {
			const formatMax = 16
			if size > formatMax {
				return errs.New(errs.Invalid, "qcow2 backing format of %d bytes", size)
			}
			name := make([]byte, size)
			if _, err := r.ReadAt(name, at+8); err != nil {
				return errs.New(errs.Invalid, "read qcow2 backing format: %w", err)
			}
			h.BackingFormat = string(name)
		}
		at += 8 + (size+7)/8*8
	}
	return errs.New(errs.Invalid, "qcow2 header has more than %d extensions", extensionsMax)
}

// The layout of an overlay: the header, the table of reference blocks, one
// block, and the table of tables, each in a cluster of its own.
const (
	overlayClusterBits = 16
	overlayCluster     = 1 << overlayClusterBits
	overlayClusters    = 4
	// OverlayMax bounds the size of an overlay's disk: what one cluster of
	// the first table reaches.
	OverlayMax = int64(overlayCluster/8) * (overlayCluster / 8) * overlayCluster
)

// WriteOverlay writes an empty overlay of virtualBytes over the base image,
// whose format is "raw" or "qcow2". The file appears whole or not at all; one
// that is there already gives errs.Conflict.
func WriteOverlay(name, base, format string, virtualBytes int64) (err error) {
	raw, err := overlay(base, format, virtualBytes)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".overlay-*")
	if err != nil {
		return fmt.Errorf("make overlay: %w", err)
	}
	defer func() {
		tmp.Close()
		err = errors.Join(err, os.Remove(tmp.Name()))
	}()
	if _, err := tmp.Write(raw); err != nil {
		return fmt.Errorf("write overlay: %w", err)
	}
	if err := tmp.Sync(); err != nil {
		return fmt.Errorf("sync overlay: %w", err)
	}
	// A link, not a rename: it never replaces a disk that is there.
	if err := os.Link(tmp.Name(), name); err != nil {
		if errors.Is(err, os.ErrExist) {
			return errs.New(errs.Conflict, "disk %s is there already", name)
		}
		return fmt.Errorf("put overlay in place: %w", err)
	}
	return nil
}

// overlay returns the bytes of an empty overlay.
func overlay(base, format string, virtualBytes int64) ([]byte, error) {
	if !filepath.IsAbs(base) || len(base) > backingMax {
		return nil, errs.New(errs.Invalid, "base image %q is not an absolute path of at most %d bytes", base, backingMax)
	}
	if format != "raw" && format != "qcow2" {
		return nil, errs.New(errs.Invalid, "base image has format %q, want raw or qcow2", format)
	}
	if virtualBytes < 512 || virtualBytes > OverlayMax || virtualBytes%512 != 0 {
		return nil, errs.New(errs.Invalid, "overlay of %d bytes, want whole sectors up to %d", virtualBytes, OverlayMax)
	}
	const perL1 = overlayCluster / 8 * overlayCluster
	b := make([]byte, overlayClusters*overlayCluster)
	be := binary.BigEndian
	be.PutUint32(b[0:], magic)
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], overlayClusterBits)
	be.PutUint64(b[24:], uint64(virtualBytes))
	be.PutUint32(b[36:], uint32((virtualBytes-1)/perL1+1))
	be.PutUint64(b[40:], 3*overlayCluster) // The table of tables.
	be.PutUint64(b[48:], 1*overlayCluster) // The table of reference blocks.
	be.PutUint32(b[56:], 1)
	be.PutUint32(b[96:], 4) // References of 2^4 bits.
	be.PutUint32(b[100:], headerV3Bytes)
	at := headerV3Bytes
	be.PutUint32(b[at:], extBackingFormat)
	be.PutUint32(b[at+4:], uint32(len(format)))
	copy(b[at+8:], format)
	at += 8 + 8 + 8 // Its data is padded to 8 bytes; the end extension is zeros.
	copy(b[at:], base)
	be.PutUint64(b[8:], uint64(at))
	be.PutUint32(b[16:], uint32(len(base)))
	be.PutUint64(b[overlayCluster:], 2*overlayCluster) // The one block.
	for i := range overlayClusters {
		be.PutUint16(b[2*overlayCluster+2*i:], 1)
	}
	return b, nil
}
