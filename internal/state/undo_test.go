package state_test

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// effect is a random write of a block.
func effect(rt *rapid.T, number uint64) func(t *testing.T, tx *state.Tx) error {
	// Few keys, so that blocks meet at the same rows.
	key := rapid.IntRange(1, 3).Draw(rt, "key")
	value := rapid.Uint64Max(3).Draw(rt, "value")
	spec, payer := hash(fmt.Sprint(key)), common.BigToAddress(big.NewInt(int64(key)))
	amount := new(big.Int).SetUint64(value)
	switch rapid.SampledFrom([]string{"node", "job", "account", "payment", "params"}).Draw(rt, "table") {
	case "node":
		return func(t *testing.T, tx *state.Tx) error {
			t.Helper()
			return tx.PutNode(t.Context(), state.Node{ID: uint32(key), Region: uint16(value), Kind: state.KindCompute, SelfStake: amount})
		}
	case "job":
		return func(t *testing.T, tx *state.Tx) error {
			t.Helper()
			return tx.PutJob(t.Context(), state.Job{Spec: spec, NodeID: uint32(value), AssignedAt: value, RateQ32: amount, Block: number})
		}
	case "account":
		return func(t *testing.T, tx *state.Tx) error {
			t.Helper()
			return tx.PutAccount(t.Context(), state.Account{Payer: payer, RateQ32: amount})
		}
	case "payment":
		return func(t *testing.T, tx *state.Tx) error {
			t.Helper()
			return tx.PutPayment(t.Context(), state.Payment{Payer: payer, Payee: value, Amount: amount, Block: number})
		}
	}
	return func(t *testing.T, tx *state.Tx) error {
		t.Helper()
		return tx.PutParams(t.Context(), state.Params{PrepaySeconds: value})
	}
}

func dump(t *testing.T, db *state.DB) string {
	t.Helper()
	names := state.Mirrored()
	slices.Sort(names)
	out, err := db.Dump(t.Context(), names...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRollbackEqualsReplay writes random effects at rising blocks, takes some
// blocks back at random, and wants the rows to be what only the blocks that are
// left would have made. Rows that are no effects of blocks stay.
func TestRollbackEqualsReplay(t *testing.T) {
	db, replay := open(t, t.TempDir()), open(t, t.TempDir())
	rapid.Check(t, func(rt *rapid.T) {
		type block struct {
			number  uint64
			effects []func(*testing.T, *state.Tx) error
		}
		apply := func(db *state.DB, b block) {
			update(t, db, func(tx *state.Tx) error {
				return tx.AtBlock(b.number, func() error {
					all := tx.PutBlock(t.Context(), state.Block{Number: b.number, Hash: common.BigToHash(new(big.Int).SetUint64(b.number))})
					for _, do := range b.effects {
						all = errors.Join(all, do(t, tx))
					}
					return all
				})
			})
		}
		rollback := func(db *state.DB, to uint64) {
			update(t, db, func(tx *state.Tx) error { return tx.Rollback(t.Context(), to) })
		}
		var chain []block
		next, own := uint64(1), 0
		for range rapid.IntRange(1, 4).Draw(rt, "rounds") {
			for range rapid.IntRange(1, 5).Draw(rt, "blocks") {
				b := block{number: next}
				next += rapid.Uint64Range(1, 2).Draw(rt, "gap")
				for range rapid.IntRange(0, 4).Draw(rt, "effects") {
					b.effects = append(b.effects, effect(rt, b.number))
				}
				apply(db, b)
				chain = append(chain, b)
				own++
				putPeers(t, db, fmt.Sprintf("peer %d", own%10))
			}
			peers := peerIDs(t, db)
			to := rapid.Uint64Max(next).Draw(rt, "to")

			rollback(db, to)

			chain = slices.DeleteFunc(chain, func(b block) bool { return b.number > to })
			next = min(next, to+1)
			rollback(replay, 0)
			for _, b := range chain {
				apply(replay, b)
			}
			if diff := cmp.Diff(dump(t, replay), dump(t, db)); diff != "" {
				rt.Fatalf("after the rollback to %d (-replay +rollback):\n%s", to, diff)
			}
			if diff := cmp.Diff(peers, peerIDs(t, db)); diff != "" {
				rt.Fatalf("rows that are no effects (-before +after):\n%s", diff)
			}
		}
		rollback(db, 0)
		if left := dump(t, db); left != "" {
			rt.Fatalf("after the rollback of everything:\n%s", left)
		}
	})
}

func TestRollbackTellsWhoWaits(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	update(t, db, func(tx *state.Tx) error {
		return tx.AtBlock(5, func() error { return tx.PutNode(ctx, state.Node{ID: 1}) })
	})
	wake := db.Wake("nodes")
	rollback := func() {
		t.Helper()
		update(t, db, func(tx *state.Tx) error { return tx.Rollback(ctx, 4) })
	}

	rollback()

	if !rang(wake) {
		t.Error("nobody was woken")
	}
	if _, err := db.Node(ctx, 1); !errors.Is(err, errs.NotFound) {
		t.Errorf("node 1: %v, want not found", err)
	}
	rollback() // Nothing is left to take back.
	if rang(wake) {
		t.Error("an empty rollback woke somebody")
	}
}

func TestSettledBlocksStay(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	for number := uint64(1); number <= 4; number++ {
		update(t, db, func(tx *state.Tx) error {
			return tx.AtBlock(number, func() error { return tx.PutNode(ctx, state.Node{ID: 1, Block: number}) })
		})
	}

	update(t, db, func(tx *state.Tx) error { return tx.Settle(ctx, 2) })
	update(t, db, func(tx *state.Tx) error { return tx.Rollback(ctx, 0) })

	n, err := db.Node(ctx, 1)
	if err != nil || n.Block != 2 {
		t.Errorf("node is %+v, %v, want as of block 2", n, err)
	}
}

func TestWritesOutsideOfBlocksAreNotTakenBack(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(
			tx.AtBlock(7, func() error { return tx.PutNode(ctx, state.Node{ID: 1}) }),
			tx.PutIdentity(ctx, state.Identity{NodeID: 1, ChainID: big.NewInt(1)}),
		)
	})

	update(t, db, func(tx *state.Tx) error { return tx.Rollback(ctx, 0) })

	if _, err := db.Identity(ctx); err != nil {
		t.Error(err)
	}
}

func TestMistakesWithBlocksAreRefused(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	for _, tt := range []struct {
		want string
		do   func(tx *state.Tx) error
	}{
		{"BUG: AtBlock inside AtBlock", func(tx *state.Tx) error {
			return tx.AtBlock(1, func() error { return tx.AtBlock(2, func() error { return nil }) })
		}},
		{"BUG: rows of peers are no effects of a block", func(tx *state.Tx) error {
			return tx.AtBlock(1, func() error { return tx.PutPeer(ctx, state.Peer{ID: "a"}) })
		}},
	} {
		err := db.Update(ctx, tt.do)
		if errs.KindOf(err) != errs.Internal || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
	for _, tt := range []struct{ want, row string }{
		{`undo log names table "ghosts"`, "(1, 1, 'ghosts', 'x', NULL)"},
		{"undo nodes 1: decode node 1", "(1, 1, 'nodes', '1', '{')"},
	} {
		if err := errors.Join(db.Exec(ctx, "DELETE FROM undo"), db.Exec(ctx, "INSERT INTO undo (seq, block, tbl, pk, doc) VALUES "+tt.row)); err != nil {
			t.Fatal(err)
		}
		err := db.Update(ctx, func(tx *state.Tx) error { return tx.Rollback(ctx, 0) })
		if errs.KindOf(err) != errs.Internal || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}
