package state_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// directions are the ways of a copy that the process can test.
func directions(t *testing.T) map[string][2]func(t *testing.T) state.Options {
	t.Helper()
	file := func(t *testing.T) state.Options { t.Helper(); return state.Options{Dir: t.TempDir()} }
	out := map[string][2]func(t *testing.T) state.Options{"embedded to embedded": {file, file}}
	if state.OnServer() {
		server := func(t *testing.T) state.Options { t.Helper(); return state.OptionsOf(t, t.TempDir()) }
		out = map[string][2]func(t *testing.T) state.Options{
			"embedded to server": {file, server}, "server to embedded": {server, file}, "server to server": {server, server},
		}
	}
	return out
}

// sample writes rows of each kind that a copy treats in its own way.
func sample(t *testing.T, db *state.DB) {
	t.Helper()
	ctx := t.Context()
	for n := range uint64(30) {
		update(t, db, func(tx *state.Tx) error {
			return tx.AtBlock(n, func() error {
				return errors.Join(tx.PutBlock(ctx, state.Block{Number: n, Hash: blockHash(n)}), tx.PutNode(ctx, state.Node{ID: uint32(n % 7), Block: n}))
			})
		})
	}
	intent, vm := filled[state.Intent](t), filled[state.VM](t)
	update(t, db, func(tx *state.Tx) error {
		for i := range 500 {
			if err := tx.PutPeer(ctx, state.Peer{ID: fmt.Sprintf("peer %d é", i), Addrs: []string{text}}); err != nil {
				return err
			}
		}
		return errors.Join(tx.PutIntent(ctx, intent), tx.PutVM(ctx, vm), tx.PutIdentity(ctx, state.Identity{NodeID: 1, ChainID: big.NewInt(1)}), tx.FillCatalogue(ctx, 2*state.BlockSize+100))
	})
}

func TestACopyHasEveryRow(t *testing.T) {
	for name, way := range directions(t) {
		t.Run(name, func(t *testing.T) {
			from, to := way[0](t), way[1](t)
			src := openAs(t, from)
			sample(t, src)
			var said []string

			done, err := state.Copy(t.Context(), from, to, func(line string) { said = append(said, line) })
			if err != nil {
				t.Fatal(err)
			}

			if done.Behind || done.Passes != 2 || done.Rows < 600 || done.Change == 0 {
				t.Errorf("done is %+v", done)
			}
			if all := strings.Join(said, "\n"); !strings.Contains(all, "copied 500 rows of peers") {
				t.Errorf("it said\n%s", all)
			}
			dst := openAs(t, to)
			want, err := src.DumpAll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, err := dst.DumpAll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("rows (-source +copy):\n%.2000s", diff)
			}
			// It is a database to go on with.
			update(t, dst, func(tx *state.Tx) error { return tx.Rollback(t.Context(), 10) })
			putPeers(t, dst, "next")
			changes, err := dst.Changes(t.Context(), done.Change, 1000)
			if err != nil || len(changes) < 2 || changes[0].Seq != done.Change+1 {
				t.Errorf("changes after the copy are %v, %v", changes, err)
			}
		})
	}
}

// TestACopyFollowsAWriter copies while the source is written to in every way:
// rows that change, go, and are taken back.
func TestACopyFollowsAWriter(t *testing.T) {
	for name, way := range directions(t) {
		t.Run(name, func(t *testing.T) {
			from, to := way[0](t), way[1](t)
			src := openAs(t, from)
			sample(t, src)
			ctx := t.Context()
			round := 0
			write := func() {
				n := uint64(100 + round)
				round++
				update(t, src, func(tx *state.Tx) error {
					err := tx.AtBlock(n, func() error {
						return errors.Join(tx.PutBlock(ctx, state.Block{Number: n, Hash: blockHash(n)}), tx.PutNode(ctx, state.Node{ID: uint32(n % 7), Block: n}))
					})
					_, errIntent := tx.Enqueue(ctx, state.Intent{Key: fmt.Sprint(round), Args: json.RawMessage("[]")})
					return errors.Join(err, errIntent, tx.PutPeer(ctx, state.Peer{ID: fmt.Sprintf("peer %d é", round%600)}),
						tx.PutVM(ctx, state.VM{Spec: hash("a"), Starts: round}), tx.RemoveVM(ctx, hash("f")),
						tx.ForgetBlocks(ctx, n-5), tx.Settle(ctx, n-3), tx.FillCatalogue(ctx, 3))
				})
				if round%3 == 0 {
					update(t, src, func(tx *state.Tx) error { return tx.Rollback(ctx, n-1) })
				}
			}
			for _, rounds := range []int{2, 1000} { // One that comes to rest, and one that does not.
				target, left := to, rounds
				if rounds > 2 {
					target = way[1](t)
				}
				var mu sync.Mutex
				said := 0
				// What is said comes in the middle of a pass: the source changes then.
				done, err := state.Copy(ctx, from, target, func(string) {
					mu.Lock()
					defer mu.Unlock()
					if said++; left > 0 {
						left--
						write()
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				if done.Behind != (rounds > 2) || done.Passes < 3 || done.Passes > 8 {
					t.Errorf("%d rounds: done is %+v", rounds, done)
				}
				if rounds > 2 {
					continue
				}
				want, errWant := src.DumpAll(ctx)
				got, errGot := openAs(t, target).DumpAll(ctx)
				if err := errors.Join(errWant, errGot); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("rows (-source +copy):\n%.2000s", diff)
				}
			}
		})
	}
}

func TestACopyFollowsALogThatWasTrimmed(t *testing.T) {
	from, to := state.OptionsOf(t, t.TempDir()), state.Options{Dir: t.TempDir()}
	src := openAs(t, from)
	sample(t, src)
	trimmed := false
	done, err := state.Copy(t.Context(), from, to, func(string) {
		if !trimmed {
			trimmed = true
			putPeers(t, src, "new")
			if err := errors.Join(src.Exec(t.Context(), "DELETE FROM changes WHERE topic = 'peers'"), src.Exec(t.Context(), "INSERT INTO changes (seq, topic, pk) VALUES (9999, 'vms', 'x')")); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil || done.Change != 9999 {
		t.Fatalf("done is %+v, %v", done, err)
	}
	if ids := peerIDs(t, openAs(t, to)); !strings.Contains(strings.Join(ids, ","), "new") {
		t.Error("a row that no log names is lost")
	}
}

// TestACopyThatDiffersIsNotKept: a row that changes behind the log is not
// followed, but seen in the end.
func TestACopyThatDiffersIsNotKept(t *testing.T) {
	from, to := state.OptionsOf(t, t.TempDir()), state.OptionsOf(t, t.TempDir())
	src := openAs(t, from)
	sample(t, src)
	_, err := state.Copy(t.Context(), from, to, func(line string) {
		if strings.HasSuffix(line, "rows of peers") {
			if err := src.Exec(t.Context(), "UPDATE peers SET seen_at = 7 WHERE pk = 'peer 3 é'"); err != nil {
				t.Error(err)
			}
		}
	})
	if errs.KindOf(err) != errs.Internal || !strings.Contains(err.Error(), "the copy of peers has 500 rows with the hash") {
		t.Errorf("got %v, want that the hashes differ", err)
	}
	wantPeers(t, openAs(t, to))
}

func TestCopiesThatAreRefused(t *testing.T) {
	ctx := t.Context()
	full, empty := state.OptionsOf(t, t.TempDir()), state.OptionsOf(t, t.TempDir())
	db := openAs(t, full)
	putPeers(t, db, "a")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		from, to state.Options
		kind     errs.Kind
		want     string
	}{
		{"into rows", full, full, errs.Conflict, "is not empty, it has rows in changes"},
		{"from nothing", state.Options{Dir: filepath.Join(t.TempDir(), "none")}, empty, errs.NotFound, "there is no state.db in"},
	} {
		_, err := state.Copy(ctx, tt.from, tt.to, func(string) {})
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s and %q", tt.name, err, tt.kind, tt.want)
		}
	}
	openAs(t, empty)
	if _, err := state.Copy(ctx, full, empty, func(string) {}); !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("to a database that is in use: %v, want a conflict", err)
	}
}

// TestACopyTakesWhatItTakes: a table that takes longer to read than statements of a
// node may is copied and checked all the same.
func TestACopyTakesWhatItTakes(t *testing.T) {
	if !state.OnServer() {
		t.Skip("the embedded engine ends no statements")
	}
	from, to := state.OptionsOf(t, t.TempDir()), state.Options{Dir: t.TempDir()}
	src := openAs(t, from)
	const large = 200_000 // So that the server cannot send all rows at once.
	update(t, src, func(tx *state.Tx) error {
		for i := range 100 {
			if err := tx.PutPeer(t.Context(), state.Peer{ID: fmt.Sprint(i), Addrs: []string{strings.Repeat("x", large)}}); err != nil {
				return err
			}
		}
		return nil
	})
	from.URL += "&statement_timeout=20"

	if _, err := state.Copy(t.Context(), from, to, func(string) {}); err != nil {
		t.Error(err)
	}
	if _, err := state.CheckAt(t.Context(), from); err != nil {
		t.Error(err)
	}
}

// TestACopyIsWholeOrNothing: one that is broken off leaves the target empty.
func TestACopyIsWholeOrNothing(t *testing.T) {
	for name, way := range directions(t) {
		t.Run(name, func(t *testing.T) {
			from, to := way[0](t), way[1](t)
			sample(t, openAs(t, from))
			ctx, cancel := context.WithCancel(t.Context())
			said := 0
			_, err := state.Copy(ctx, from, to, func(string) {
				if said++; said == 20 {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want canceled", err)
			}
			if done, err := state.Copy(t.Context(), from, to, func(string) {}); err != nil || done.Rows < 600 {
				t.Errorf("again: %+v, %v", done, err)
			}
		})
	}
}

func TestAPlaceIsADirectoryOrAURL(t *testing.T) {
	for place, want := range map[string]state.Options{
		"/a/b": {Dir: "/a/b"}, "postgres": {Dir: "postgres"}, "postgres://h/d": {URL: "postgres://h/d"}, "postgresql://h/d": {URL: "postgresql://h/d"},
	} {
		if got := state.At(place); got != want {
			t.Errorf("%s is %+v, want %+v", place, got, want)
		}
	}
}
