package state

import (
	"context"
	"fmt"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Block is a block of the chain whose effects are in the database.
type Block struct {
	Number uint64      `json:"number"`
	Hash   common.Hash `json:"hash"`
	Parent common.Hash `json:"parent"`
	Time   uint64      `json:"time"` // Chain time, unix seconds.
}

func blocks() table[Block] {
	return table[Block]{
		name: "blocks", noun: "block",
		key:  func(b *Block) string { return b.Hash.Hex() },
		cols: []column[Block]{{"number", func(b *Block) any { return int64(b.Number) }}},
	}
}

// PutBlock records that the effects of b are in the database. Call it inside
// AtBlock, so that Rollback takes it back too.
func (tx *Tx) PutBlock(ctx context.Context, b Block) error { return blocks().put(ctx, tx, &b) }

// Head returns the newest block whose effects are here, or errs.NotFound before
// the first.
func (r reader) Head(ctx context.Context) (*Block, error) {
	found, err := blocks().list(ctx, r, "TRUE ORDER BY number DESC LIMIT 1")
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errs.New(errs.NotFound, "no block yet")
	}
	return &found[0], nil
}

// Block returns the block with the number, or errs.NotFound.
func (r reader) Block(ctx context.Context, number uint64) (*Block, error) {
	found, err := blocks().list(ctx, r, "number = ?", int64(number))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errs.New(errs.NotFound, "no block %d", number)
	}
	return &found[0], nil
}

// ForgetBlocks drops block rows up to and including number; they are final and
// nobody asks for them.
func (tx *Tx) ForgetBlocks(ctx context.Context, number uint64) error {
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM blocks WHERE number <= ?", int64(number)); err != nil {
		return fmt.Errorf("forget blocks up to %d: %w", number, err)
	}
	return nil
}
