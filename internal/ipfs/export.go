package ipfs

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"
)

// Export writes the DAG under a CID as a CARv1: parents before children, each
// block once. All is read and hashed on the way, so a writer that got an error
// has an archive without its end.
func (s *Store) Export(ctx context.Context, c cid.Cid, w io.Writer) error {
	out := bufio.NewWriterSize(w, carBuffer)
	header := encodeHeader(c)
	if _, err := out.Write(append(binary.AppendUvarint(nil, uint64(len(header))), header...)); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	err := s.walk(ctx, c, func(id cid.Cid, block []byte) error {
		if _, ok := inlined(id); ok {
			return nil // Who has the CID has the block.
		}
		head := binary.AppendUvarint(nil, uint64(id.ByteLen()+len(block)))
		if _, err := out.Write(append(head, id.Bytes()...)); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
		if _, err := out.Write(block); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

// encodeHeader encodes {"roots": [c], "version": 1} in DAG-CBOR.
func encodeHeader(c cid.Cid) []byte {
	raw := c.Bytes()
	out := append([]byte{cborMap<<5 | 2, cborText<<5 | 5}, "roots"...)
	out = append(out, cborArray<<5|1, cborTag<<5|24, cborTagCID)
	if n := len(raw) + 1; n < 24 {
		out = append(out, byte(cborBytes<<5|n))
	} else {
		out = append(out, cborBytes<<5|24, byte(n)) // No CID that is taken has more than 255 bytes.
	}
	out = append(append(out, 0), raw...)
	out = append(append(out, cborText<<5|7), "version"...)
	return append(out, cborUint<<5|1)
}

// Verify reads all blocks under a CID and compares them with their names. The
// first that is missing or rotted is the error.
func (s *Store) Verify(ctx context.Context, c cid.Cid) error {
	return s.walk(ctx, c, func(cid.Cid, []byte) error { return nil })
}

// walk calls fn with each block of a DAG once, parents first.
func (s *Store) walk(ctx context.Context, root cid.Cid, fn func(c cid.Cid, block []byte) error) error {
	d := s.dag()
	defer d.close()
	seen := map[string]struct{}{graphKey(root): {}}
	todo := []cid.Cid{root}
	var buf []byte
	for len(todo) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		block, err := d.block(c, buf[:0])
		if err != nil {
			return err
		}
		buf = block
		n, err := nodeOf(c, block)
		if err != nil {
			return err
		}
		if err := fn(c, block); err != nil {
			return err
		}
		for i := len(n.links) - 1; i >= 0; i-- {
			key := graphKey(n.links[i].cid)
			if _, ok := seen[key]; ok {
				continue
			}
			if len(seen) == walkMax {
				return errTooLarge(root)
			}
			seen[key] = struct{}{}
			todo = append(todo, n.links[i].cid)
		}
	}
	return nil
}
