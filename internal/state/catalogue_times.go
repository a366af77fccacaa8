package state

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// times are those of a block: the encoded row of a full one, or read one by one.
type times struct {
	raw  []byte
	list []int64
}

func (t times) at(i int) int64 {
	if t.raw != nil {
		return int64(binary.BigEndian.Uint64(t.raw[8*i:]))
	}
	return t.list[i]
}

// tails are the times of blocks that are not full yet, as far as they have been
// read from commits. A document's time never changes, so what was read stays true.
type tails struct {
	mu sync.Mutex
	of map[string]tail // By catalogue.
}

type tail struct {
	block int64
	times []int64 // Only ever appended to.
}

// times reads the times of a block.
func (s *search) times(ctx context.Context, b block) (times, error) {
	if b.n < blockSize {
		list, err := s.openTail(ctx, b)
		return times{list: list}, err
	}
	var raw []byte
	err := s.r.q.QueryRowContext(ctx, "SELECT times FROM "+s.name+"_blocks WHERE block = ?", b.number).Scan(&raw)
	if err != nil {
		return times{}, fmt.Errorf("read the times of block %d of %ss: %w", b.number, s.name, err)
	}
	if len(raw) != 8*blockSize {
		return times{}, errs.New(errs.Internal, "the times of block %d of %ss are %d bytes, want %d", b.number, s.name, len(raw), 8*blockSize)
	}
	return times{raw: raw}, nil
}

// openTail returns the times of a block that is not full, of which only those are
// read that were not read before. A transaction reads all: what it wrote may be
// rolled back.
func (s *search) openTail(ctx context.Context, b block) ([]int64, error) {
	if s.r.tails == nil {
		return s.openTimes(ctx, s.r, b, 0)
	}
	s.r.tails.mu.Lock()
	defer s.r.tails.mu.Unlock()
	known := s.r.tails.of[s.name]
	if known.block != b.number {
		known = tail{block: b.number}
	}
	if len(known.times) < b.n {
		more, err := s.openTimes(ctx, s.r, b, len(known.times))
		if err != nil {
			return nil, err
		}
		known.times = append(known.times, more...)
		if s.r.tails.of == nil {
			s.r.tails.of = map[string]tail{}
		}
		s.r.tails.of[s.name] = known
	}
	return known.times[:b.n], nil
}
