package cloudinit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"unicode/utf16"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// ISO 9660, as far as a seed needs it.
const (
	sectorBytes       = 2048
	descriptorsStart  = 16 // Sector of the first volume descriptor.
	descriptorsMax    = 32
	supplementary     = 2   // A volume descriptor with Joliet names.
	terminator        = 255 // The last volume descriptor.
	directoryBytesMax = 64 << 10
	recordHeaderBytes = 33
	flagDirectory     = 2
	jolietVersion     = ";1" // What some writers put behind a name.
)

// ReadISO returns the files in the root directory of a seed volume by their
// Joliet names. It reads the volume itself, so that a guest needs no file
// system driver for it. Anything else than a seed volume gives errs.Invalid.
func ReadISO(r io.ReaderAt) (map[string][]byte, error) {
	d, err := jolietDescriptor(r)
	if err != nil {
		return nil, err
	}
	// The record of the root directory is part of the descriptor.
	root := d[156 : 156+34]
	dir, err := extent(r, root, directoryBytesMax)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for len(dir) > 0 {
		size := int(dir[0])
		if size == 0 {
			// Records do not cross sectors: the rest of this one is empty.
			dir = dir[min(len(dir), 1+(len(dir)-1)%sectorBytes):]
			continue
		}
		if size < recordHeaderBytes+1 || size > len(dir) {
			return nil, errs.New(errs.Invalid, "seed volume has a directory record of %d bytes", size)
		}
		rec := dir[:size]
		dir = dir[size:]
		nameBytes := int(rec[32])
		if recordHeaderBytes+nameBytes > size {
			return nil, errs.New(errs.Invalid, "seed volume has a file name of %d bytes in a record of %d", nameBytes, size)
		}
		if rec[25]&flagDirectory != 0 {
			continue
		}
		name := jolietName(rec[recordHeaderBytes : recordHeaderBytes+nameBytes])
		if name != UserDataFile && name != MetaDataFile && name != NetworkFile {
			continue
		}
		content, err := extent(r, rec, fileBytes)
		if err != nil {
			return nil, err
		}
		files[name] = content
	}
	return files, nil
}

// jolietDescriptor finds the volume descriptor of the Joliet tree.
func jolietDescriptor(r io.ReaderAt) ([]byte, error) {
	d := make([]byte, sectorBytes)
	for i := range int64(descriptorsMax) {
		if _, err := r.ReadAt(d, (descriptorsStart+i)*sectorBytes); err != nil {
			return nil, errs.New(errs.Invalid, "read descriptor %d of seed volume: %w", i, err)
		}
		if !bytes.Equal(d[1:6], []byte("CD001")) {
			break
		}
		switch d[0] {
		case supplementary:
			// An escape sequence of UCS-2, any level.
			if d[88] == '%' && d[89] == '/' {
				return d, nil
			}
		case terminator:
			return nil, errs.New(errs.Invalid, "seed volume has no Joliet names")
		}
	}
	return nil, errs.New(errs.Invalid, "seed volume is not ISO 9660")
}

// extent reads the bytes that a directory record stands for.
func extent(r io.ReaderAt, record []byte, limit uint32) ([]byte, error) {
	at := binary.LittleEndian.Uint32(record[2:])
	size := binary.LittleEndian.Uint32(record[10:])
	if size > limit {
		return nil, errs.New(errs.Invalid, "seed volume has a file of %d bytes, at most %d", size, limit)
	}
	// Read what is there before allocating what is promised.
	b, err := io.ReadAll(io.NewSectionReader(r, int64(at)*sectorBytes, int64(size)))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errs.New(errs.Invalid, "read %d bytes of seed volume: %w", size, err)
	}
	if uint32(len(b)) != size {
		return nil, errs.New(errs.Invalid, "seed volume ends within a file")
	}
	return b, nil
}

func jolietName(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.BigEndian.Uint16(b[2*i:])
	}
	return strings.TrimSuffix(string(utf16.Decode(units)), jolietVersion)
}
