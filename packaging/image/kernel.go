package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// moduleGroup is a group of drivers in the initrd, each after those that it
// needs.
type moduleGroup struct {
	name    string
	modules []string
}

// moduleGroups are what the initrd of machines loads: the drivers of the root
// disk first, the others while it is mounted. Those of a bus or a device that the
// machine has not are not loaded.
var moduleGroups = []moduleGroup{ //nolint:gochecknoglobals // The recipe.
	{"virtio", []string{"virtio_ring", "virtio"}},
	{"pci", []string{"virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci"}},
	{"mmio", []string{"virtio_mmio"}},
	{"disk", []string{"virtio_blk"}},
	{"vsock", []string{"vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"}},
	{"other", []string{"virtio_console", "failover", "net_failover", "virtio_net", "virtio-rng"}},
}

// kernelFiles is what the image takes of the kernel's package.
type kernelFiles struct {
	elf     []byte
	modules map[string][]byte // By name without .ko.
}

// readKernel takes kernel and drivers out of the package.
func (b *builder) readKernel(p debPackage, groups []moduleGroup) (kernelFiles, error) {
	k := kernelFiles{modules: map[string][]byte{}}
	wanted := map[string]bool{}
	for _, g := range groups {
		for _, m := range g.modules {
			wanted[m] = true
		}
	}
	var bz []byte
	err := b.eachFile(p, func(e entry) error {
		name := strings.TrimSuffix(path.Base(e.path), ".ko")
		switch {
		case strings.HasPrefix(e.path, "boot/vmlinuz-"):
			bz = e.data
		case strings.HasSuffix(e.path, ".ko") && wanted[name]:
			k.modules[name] = e.data
		}
		return nil
	})
	if err != nil {
		return k, err
	}
	for m := range wanted {
		if k.modules[m] == nil {
			return k, fmt.Errorf("package %s has no driver %s", p.name, m)
		}
	}
	if k.elf, err = unpackKernel(bz); err != nil {
		return k, fmt.Errorf("unpack the kernel of %s: %w", p.name, err)
	}
	return k, nil
}

// kernelMax bounds the unpacked kernel.
const kernelMax = 256 << 20

// unpackKernel returns the ELF kernel inside a bzImage. It can be started
// directly (PVH), which saves the guest from decompressing it.
func unpackKernel(bz []byte) ([]byte, error) {
	const headerEnd = 0x250
	if len(bz) < headerEnd || !bytes.Equal(bz[0x202:0x206], []byte("HdrS")) {
		return nil, errors.New("not a bzImage")
	}
	setup := (int64(bz[0x1f1]) + 1) * 512
	at := setup + int64(binary.LittleEndian.Uint32(bz[0x248:]))
	size := int64(binary.LittleEndian.Uint32(bz[0x24c:]))
	if size < 8 || at+size > int64(len(bz)) {
		return nil, errors.New("bzImage is cut short")
	}
	payload := bz[at : at+size]
	want := binary.LittleEndian.Uint32(payload[size-4:])
	if want > kernelMax {
		return nil, fmt.Errorf("kernel of %d bytes, at most %d", want, kernelMax)
	}
	raw, err := unpackLZ4(payload[:size-4], int(want))
	if err != nil {
		return nil, err
	}
	return trimKernel(raw)
}

// trimKernel cuts off what follows the last loaded segment (relocations for a
// boot at a random address, which a direct start does not use) and drops the
// table of sections with it.
func trimKernel(raw []byte) ([]byte, error) {
	f, err := elf.NewFile(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("read kernel: %w", err)
	}
	pvh, end := false, uint64(0)
	for _, p := range f.Progs {
		end = max(end, p.Off+p.Filesz)
		if p.Type == elf.PT_NOTE {
			notes, err := io.ReadAll(p.Open())
			if err != nil {
				return nil, fmt.Errorf("read kernel notes: %w", err)
			}
			pvh = pvh || bytes.Contains(notes, []byte("Xen\x00"))
		}
	}
	if !pvh {
		return nil, errors.New("kernel has no PVH entry")
	}
	if end > uint64(len(raw)) {
		return nil, errors.New("kernel is cut short")
	}
	out := bytes.Clone(raw[:end])
	binary.LittleEndian.PutUint64(out[40:], 0) // e_shoff
	binary.LittleEndian.PutUint16(out[60:], 0) // e_shnum
	binary.LittleEndian.PutUint16(out[62:], 0) // e_shstrndx
	return out, nil
}

// unpackLZ4 unpacks the legacy LZ4 frame format, the kernel's.
func unpackLZ4(in []byte, size int) ([]byte, error) {
	const magic = 0x184c2102
	if len(in) < 4 || binary.LittleEndian.Uint32(in) != magic {
		return nil, errors.New("kernel is not packed with LZ4")
	}
	in = in[4:]
	out := make([]byte, 0, size)
	for len(in) >= 4 && len(out) < size {
		n := int64(binary.LittleEndian.Uint32(in))
		if n > int64(len(in)-4) {
			return nil, errors.New("LZ4 block is cut short")
		}
		var err error
		if out, err = unpackBlock(out, in[4:4+n], size); err != nil {
			return nil, err
		}
		in = in[4+n:]
	}
	if len(out) != size {
		return nil, fmt.Errorf("unpacked %d bytes, want %d", len(out), size)
	}
	return out, nil
}

var errLZ4 = errors.New("LZ4 block is damaged")

// unpackBlock appends the bytes of one LZ4 block to out, which stays within
// size bytes. A block refers to its own bytes only.
func unpackBlock(out, in []byte, size int) ([]byte, error) {
	base := len(out)
	for len(in) > 0 {
		token := in[0]
		in = in[1:]
		literals, rest, ok := lz4Length(int(token>>4), in)
		if !ok || literals > len(rest) || len(out)+literals > size {
			return nil, errLZ4
		}
		out = append(out, rest[:literals]...)
		if in = rest[literals:]; len(in) == 0 {
			return out, nil // The last sequence has no match.
		}
		if len(in) < 2 {
			return nil, errLZ4
		}
		offset := int(binary.LittleEndian.Uint16(in))
		match, rest, ok := lz4Length(int(token&15), in[2:])
		in = rest
		const matchMin = 4
		match += matchMin
		if !ok || offset == 0 || offset > len(out)-base || len(out)+match > size {
			return nil, errLZ4
		}
		// Byte by byte: a match may reach into what it writes.
		for range match {
			out = append(out, out[len(out)-offset])
		}
	}
	return out, nil
}

// lz4Length reads the bytes that continue a length of 15.
func lz4Length(n int, in []byte) (length int, rest []byte, ok bool) {
	if n < 15 {
		return n, in, true
	}
	for i, b := range in {
		n += int(b)
		if n > kernelMax {
			return 0, nil, false
		}
		if b != 255 {
			return n, in[i+1:], true
		}
	}
	return 0, nil, false
}
