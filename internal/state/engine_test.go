package state_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

func schema(t *testing.T, db *state.DB) string {
	t.Helper()
	out, err := db.Schema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestBothEnginesHaveOneSchema compares them at every version.
func TestBothEnginesHaveOneSchema(t *testing.T) {
	onServer(t)
	db := open(t, t.TempDir())
	other, err := state.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	newest, err := db.NewestVersion()
	if err != nil {
		t.Fatal(err)
	}
	for version := newest; version >= 0; version-- {
		if err := errors.Join(db.Migrate(t.Context(), version), other.Migrate(t.Context(), version)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(schema(t, other), schema(t, db)); diff != "" {
			t.Errorf("version %d (-embedded +server):\n%s", version, diff)
		}
	}
}

// TestMigrationsGoDownAndUp: each is taken back whole, whatever rows there are,
// and made again.
func TestMigrationsGoDownAndUp(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	ctx := t.Context()
	newest, err := db.NewestVersion()
	if err != nil {
		t.Fatal(err)
	}
	schemas := map[int64]string{newest: schema(t, db)}
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(tx.PutJob(ctx, state.Job{Spec: hash("a"), Block: 7}), tx.PutPayment(ctx, state.Payment{LogIndex: 3}),
			tx.PutAccount(ctx, state.Account{}), tx.PutPeer(ctx, state.Peer{ID: "a"}))
	})
	want := dump(t, db)
	for version := newest - 1; version >= 0; version-- {
		if err := db.Migrate(ctx, version); err != nil {
			t.Fatal(err)
		}
		schemas[version] = schema(t, db)
		if version == 1 { // Rows live as long as their tables.
			if err := db.Migrate(ctx, newest); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, dump(t, db)); diff != "" {
				t.Errorf("rows after down to %d and up (-before +after):\n%s", version, diff)
			}
			if err := db.Migrate(ctx, version); err != nil {
				t.Fatal(err)
			}
		}
	}
	if schemas[0] != "" {
		t.Errorf("at version 0 there is\n%s", schemas[0])
	}
	for version := int64(1); version <= newest; version++ {
		if err := db.Migrate(ctx, version); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(schemas[version], schema(t, db)); diff != "" {
			t.Errorf("version %d (-on the way down +on the way up):\n%s", version, diff)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	putPeers(t, open(t, dir), "b")
}

// TestTextsThatCannotBeKept: what one engine refuses, the other does too, so that
// rows can be carried over.
func TestTextsThatCannotBeKept(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	for _, bad := range []string{"a\x00b", "\x00", "a\xffb", strings.Repeat("x", 100) + "\x00"} {
		for what, err := range map[string]error{
			"a key":    db.Update(ctx, func(tx *state.Tx) error { return tx.PutPeer(ctx, state.Peer{ID: bad}) }),
			"a column": db.Update(ctx, func(tx *state.Tx) error { return tx.PutSkeleton(ctx, state.Skeleton{Owner: bad}) }),
			"a look":   func() error { _, err := db.Intent(ctx, bad); return err }(),
			"a list":   func() error { _, err := db.VMs(ctx, state.VMState(bad)); return err }(),
		} {
			if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "a byte that is zero or no UTF-8") {
				t.Errorf("%s with %.10q: %v, want invalid", what, bad, err)
			}
		}
	}
	// In documents they are escaped, and come back.
	update(t, db, func(tx *state.Tx) error { return tx.PutVM(ctx, state.VM{Spec: hash("b"), Detail: "a\x00b"}) })
	if vm, err := db.VM(ctx, hash("b")); err != nil || vm.Detail != "a\x00b" {
		t.Errorf("got %+v, %v", vm, err)
	}
}

// TestTextsAreInTheOrderOfTheirBytes: in no language's.
func TestTextsAreInTheOrderOfTheirBytes(t *testing.T) {
	db := open(t, t.TempDir())
	want := []string{"", " ", "/", "0", "A", "Z", "a", "a b", "a-b", "ab", "z", "~", "\x7f", "é", "日", "𝔸"}
	for i := range want {
		putPeers(t, db, want[len(want)-1-i])
	}

	wantPeers(t, db, want...)
}

// TestTransactionsThatWriteWaitForEachOther counts in many at once.
func TestTransactionsThatWriteWaitForEachOther(t *testing.T) {
	db := open(t, t.TempDir())
	const workers, rounds = 8, 20
	done := make(chan error)
	for range workers {
		go func() {
			var all error
			for range rounds {
				all = errors.Join(all, db.Update(t.Context(), func(tx *state.Tx) error {
					n := uint64(0)
					if p, err := tx.Params(t.Context()); err == nil {
						n = p.PrepaySeconds
					} else if !errors.Is(err, errs.NotFound) {
						return err
					}
					return tx.PutParams(t.Context(), state.Params{PrepaySeconds: n + 1})
				}))
			}
			done <- all
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if p, err := db.Params(t.Context()); err != nil || p.PrepaySeconds != workers*rounds {
		t.Errorf("counted to %+v, %v, want %d", p, err, workers*rounds)
	}
}

func TestATransactionReadsItsOwnChanges(t *testing.T) {
	db := open(t, t.TempDir())
	putPeers(t, db, "a")
	update(t, db, func(tx *state.Tx) error {
		err := tx.PutPeer(t.Context(), state.Peer{ID: "b"})
		got, errRead := tx.Changes(t.Context(), 0, 9)
		if fmt.Sprint(got) != "[{1 peers a} {2 peers b}]" {
			t.Errorf("inside, changes are %v", got)
		}
		return errors.Join(err, errRead, tx.PutPeer(t.Context(), state.Peer{ID: "c"}))
	})
	got, err := db.Changes(t.Context(), 1, 9)
	if err != nil || fmt.Sprint(got) != "[{2 peers b} {3 peers c}]" {
		t.Errorf("changes are %v, %v", got, err)
	}
}
