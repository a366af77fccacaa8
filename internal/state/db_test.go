package state_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// open opens the database in dir. It is closed after the test, if the test has
// not done so.
func open(t *testing.T, dir string) *state.DB {
	t.Helper()
	db, err := state.OpenFor(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// aboutFiles skips a test that is about the files of the embedded engine where
// tests use the other one.
func aboutFiles(t *testing.T) {
	t.Helper()
	if state.OnServer() {
		t.Skip("about files, which a server keeps for itself")
	}
}

func update(t *testing.T, db *state.DB, fn func(tx *state.Tx) error) {
	t.Helper()
	if err := db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// putPeers writes a peer for each id, in one transaction.
func putPeers(t *testing.T, db *state.DB, ids ...string) {
	t.Helper()
	update(t, db, func(tx *state.Tx) error {
		for _, id := range ids {
			if err := tx.PutPeer(t.Context(), state.Peer{ID: id}); err != nil {
				return err
			}
		}
		return nil
	})
}

// peerIDs returns the ids of all peers.
func peerIDs(t *testing.T, db interface {
	Peers(ctx context.Context, limit int) ([]state.Peer, error)
},
) (ids []string) {
	t.Helper()
	peers, err := db.Peers(t.Context(), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		ids = append(ids, p.ID)
	}
	return ids
}

func wantPeers(t *testing.T, db *state.DB, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, peerIDs(t, db)); diff != "" {
		t.Errorf("peers (-want +got):\n%s", diff)
	}
}

// rang reports whether there was a value, and takes it.
func rang(wake <-chan struct{}) bool {
	select {
	case <-wake:
		return true
	default:
		return false
	}
}

func TestTransactionsHappenWholeOrNotAtAll(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	putPeers(t, db, "a")
	wake, broken := db.Wake("peers"), errors.New("broken")

	err := db.Update(ctx, func(tx *state.Tx) error {
		if err := tx.PutPeer(ctx, state.Peer{ID: "b"}); err != nil {
			return err
		}
		if diff := cmp.Diff([]string{"a", "b"}, peerIDs(t, tx)); diff != "" {
			t.Errorf("inside, its own writes (-want +got):\n%s", diff)
		}
		return broken
	})

	if err != broken { //nolint:errorlint // It comes back unchanged.
		t.Errorf("got %v, want the very error", err)
	}
	wantPeers(t, db, "a")
	if rang(wake) {
		t.Error("somebody was woken for nothing")
	}
}

func TestPanicInATransactionLeavesNothing(t *testing.T) {
	db := open(t, t.TempDir())
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = db.Update(t.Context(), func(tx *state.Tx) error {
			if err := tx.PutPeer(t.Context(), state.Peer{ID: "a"}); err != nil {
				return err
			}
			panic("in a handler")
		})
	}()

	putPeers(t, db, "b")

	wantPeers(t, db, "b")
}

func TestEndOfContextEndsTheTransaction(t *testing.T) {
	db := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())

	err := db.Update(ctx, func(tx *state.Tx) error {
		defer cancel()
		return tx.PutPeer(ctx, state.Peer{ID: "a"})
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	if err := db.Update(ctx, func(*state.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v, want canceled", err)
	}
	if err := db.View(ctx, func(*state.View) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("snapshot after the end: %v, want canceled", err)
	}
	wantPeers(t, db)
	putPeers(t, db, "b")
}

func TestWakeTellsOfCommitsThatTouchedATopic(t *testing.T) {
	db := open(t, t.TempDir())
	both, peers, jobs := db.Wake("peers", "jobs"), db.Wake("peers"), db.Wake("jobs")

	putPeers(t, db, "a")
	putPeers(t, db, "b", "c")
	if !rang(peers) || !rang(both) {
		t.Error("nobody was woken by peers")
	}
	if rang(peers) || rang(both) {
		t.Error("two commits did not collapse into one value")
	}
	if rang(jobs) {
		t.Error("peers woke who waits for jobs")
	}

	putPeers(t, db, "a", "b") // As they are.
	if rang(peers) {
		t.Error("rows that did not change woke somebody")
	}
	update(t, db, func(tx *state.Tx) error {
		return tx.PutJob(t.Context(), state.Job{Spec: "job", RateQ32: big.NewInt(1)})
	})
	if !rang(jobs) || !rang(both) || rang(peers) {
		t.Error("a job woke the wrong ones")
	}
}

func TestSnapshotsDoNotMove(t *testing.T) {
	db := open(t, t.TempDir())
	putPeers(t, db, "a")

	err := db.View(t.Context(), func(v *state.View) error {
		before := peerIDs(t, v)
		putPeers(t, db, "b")
		if diff := cmp.Diff(before, peerIDs(t, v)); diff != "" {
			t.Errorf("the snapshot moved (-before +after):\n%s", diff)
		}
		wantPeers(t, db, "a", "b")
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	broken := errors.New("broken")
	if err := db.View(t.Context(), func(*state.View) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want its error", err)
	}
}

func TestReadersDoNotWaitForTheWriter(t *testing.T) {
	db := open(t, t.TempDir())
	putPeers(t, db, "a")
	update(t, db, func(tx *state.Tx) error {
		if err := tx.PutPeer(t.Context(), state.Peer{ID: "b"}); err != nil {
			return err
		}
		wantPeers(t, db, "a") // Not committed yet.
		return nil
	})
	wantPeers(t, db, "a", "b")
}

func TestChangeLogNamesEveryWriteInOrder(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	putPeers(t, db, "a", "b")
	putPeers(t, db, "a") // As it is.
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(tx.PutVM(ctx, state.VM{Spec: "vm"}), tx.RemoveVM(ctx, "vm"), tx.RemoveVM(ctx, "vm"))
	})

	want := []state.Change{
		{Seq: 1, Topic: "peers", Key: "a"},
		{Seq: 2, Topic: "peers", Key: "b"},
		{Seq: 3, Topic: "vms", Key: "vm"},
		{Seq: 4, Topic: "vms", Key: "vm"},
	}
	for _, tt := range []struct {
		seq   int64
		limit int
		want  []state.Change
	}{{0, 10, want}, {0, 2, want[:2]}, {2, 10, want[2:]}, {3, 1, want[3:]}, {4, 10, nil}, {99, 10, nil}} {
		got, err := db.Changes(ctx, tt.seq, tt.limit)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%d after %d (-want +got):\n%s", tt.limit, tt.seq, diff)
		}
	}
}

func TestChangeLogIsTrimmed(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	const last = state.ChangesMax + 2999 // The next one trims.
	for _, seq := range []int64{1, 2999, 3000, 3001, last} {
		if err := db.Exec(ctx, "INSERT INTO changes (seq, topic, pk) VALUES (?, 'peers', 'x')", seq); err != nil {
			t.Fatal(err)
		}
	}

	putPeers(t, db, "a")

	got, err := db.Changes(ctx, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	var seqs []int64
	for _, c := range got {
		seqs = append(seqs, c.Seq)
	}
	if diff := cmp.Diff([]int64{3001, last, last + 1}, seqs); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
}

func TestReopeningKeepsEverything(t *testing.T) {
	aboutFiles(t)
	// A path may have what means something in a URL.
	dir := filepath.Join(t.TempDir(), "100% a?b#c&d=e é", "sub")
	db := open(t, dir)
	putPeers(t, db, "a")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	db = open(t, dir)

	wantPeers(t, db, "a")
	if changes, err := db.Changes(t.Context(), 0, 10); err != nil || len(changes) != 1 {
		t.Errorf("change log is %v, %v, want one entry", changes, err)
	}
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(entries) != 1 {
		t.Errorf("files beside the directory: %v, %v", entries, err)
	}
	for _, name := range []string{"state.db", "lock"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestRelativeDirectory(t *testing.T) {
	aboutFiles(t)
	t.Chdir(t.TempDir())
	db := open(t, filepath.Join("node data", "x"))
	putPeers(t, db, "a")
	if _, err := os.Stat(filepath.Join("node data", "x", "state.db")); err != nil {
		t.Error(err)
	}
}

func TestDatabaseOfANewerProgramIsRefused(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	if err := db.Exec(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, TRUE)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	_, err := state.OpenFor(t, dir)

	if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "version 999") {
		t.Errorf("got %v, want invalid and the version", err)
	}
	if _, err := state.OpenFor(t, dir); errors.Is(err, errs.Conflict) {
		t.Error("the failed open kept the lock")
	}
}

// goBack makes the database one of an older program, of the version of the
// schema, and closes it.
func goBack(t *testing.T, db *state.DB, version int) {
	t.Helper()
	if err := errors.Join(db.Migrate(t.Context(), int64(version)), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestRowsOfAnOlderProgramAreFound(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	update(t, db, func(tx *state.Tx) error {
		ctx := t.Context()
		return errors.Join(
			tx.PutJob(ctx, state.Job{Spec: hash("a"), NodeID: 3, Block: 7}),
			tx.PutAccount(ctx, state.Account{Token: 1, Refund: new(big.Int).Lsh(big.NewInt(1), 127)}),
			tx.PutAccount(ctx, state.Account{Token: 2, Refund: new(big.Int)}),
			tx.PutAccount(ctx, state.Account{Token: 3}),
		)
	})
	goBack(t, db, 2)

	db = open(t, dir)

	jobs, err := db.JobsOfNodeAfter(t.Context(), 3, 6, "", 9)
	list(t, "jobs", func(j state.Job) string { return string(j.Spec[:1]) }, "a", jobs, err)
	accounts, err := db.AccountsOwed(t.Context(), big.NewInt(1))
	list(t, "accounts that are owed", func(a state.Account) string { return fmt.Sprint(a.Token) }, "1", accounts, err)
}

func TestDirectoriesThatCannotBeOpened(t *testing.T) {
	aboutFiles(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file: %v, want an error that names it", err)
	}

	if err := os.WriteFile(filepath.Join(dir, "state.db"), []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "not a database") {
		t.Errorf("junk: %v, want an error that says so", err)
	}

	locked := t.TempDir()
	if err := os.Mkdir(filepath.Join(locked, "lock"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(t.Context(), locked); err == nil || !strings.Contains(err.Error(), "open lock") {
		t.Errorf("a directory in place of the lock: %v", err)
	}
}

func TestBrokenRowsAreNamed(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	for _, query := range []string{
		"INSERT INTO vms (pk, state, doc) VALUES ('bad', 'running', '{')",
		"INSERT INTO meta (pk, doc) VALUES ('params', '{\"name\":\"params\",\"value\":\"x\"}')",
		"INSERT INTO meta (pk, doc) VALUES ('identity', '[')",
		"INSERT INTO blocks (pk, number, doc) VALUES ('x', 1, '1')",
	} {
		if err := db.Exec(ctx, query); err != nil {
			t.Fatal(err)
		}
	}
	_, errVM := db.VM(ctx, "bad")
	_, errVMs := db.VMs(ctx)
	_, errParams := db.Params(ctx)
	_, errIdentity := db.Identity(ctx)
	_, errHead := db.Head(ctx)
	_, errBlock := db.Block(ctx, 1)
	for want, err := range map[string]error{
		"decode VM bad": errVM, "decode VM": errVMs, "decode params": errParams, "decode fact identity": errIdentity,
		"decode block": errors.Join(errHead, errBlock),
	} {
		if err == nil || !strings.Contains(err.Error(), want) || errs.KindOf(err) != errs.Internal {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestClosedDatabaseAnswersWithErrors(t *testing.T) {
	db := open(t, t.TempDir())
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	_, errOne := db.VM(ctx, "x")
	_, errList := db.VMs(ctx)
	_, errChanges := db.Changes(ctx, 0, 1)
	_, _, errCount := db.CountPending(ctx)
	_, errHead := db.Head(ctx)
	_, errBlock := db.Block(ctx, 1)
	errUpdate := db.Update(ctx, func(*state.Tx) error { return nil })
	errView := db.View(ctx, func(*state.View) error { return nil })
	for i, err := range []error{errOne, errList, errChanges, errCount, errHead, errBlock, errUpdate, errView} {
		if err == nil || errs.KindOf(err) != errs.Internal {
			t.Errorf("%d: got %v, want an error", i, err)
		}
	}
}

// TestLostTablesAreNamed: each write says what it was about when the engine
// refuses it.
func TestLostTablesAreNamed(t *testing.T) {
	ctx := t.Context()
	for _, tt := range []struct {
		table, want string
		do          func(tx *state.Tx) error
	}{
		{"vms", "read VM a", func(tx *state.Tx) error { return tx.PutVM(ctx, state.VM{Spec: "a"}) }},
		{"vms", "read VM a", func(tx *state.Tx) error { return tx.RemoveVM(ctx, "a") }},
		{"changes", "log change of vms a", func(tx *state.Tx) error { return tx.PutVM(ctx, state.VM{Spec: "a"}) }},
		{"undo", "write undo log", func(tx *state.Tx) error {
			return tx.AtBlock(1, func() error { return tx.PutNode(ctx, state.Node{ID: 1}) })
		}},
		{"undo", "read undo log", func(tx *state.Tx) error { return tx.Rollback(ctx, 1) }},
		{"undo", "settle block 1", func(tx *state.Tx) error { return tx.Settle(ctx, 1) }},
		{"blocks", "forget blocks up to 1", func(tx *state.Tx) error { return tx.ForgetBlocks(ctx, 1) }},
		{"intents", "read intent a", func(tx *state.Tx) error { _, err := tx.Enqueue(ctx, state.Intent{Key: "a"}); return err }},
	} {
		db := open(t, t.TempDir())
		if err := db.Exec(ctx, "DROP TABLE "+tt.table); err != nil {
			t.Fatal(err)
		}
		if err := db.Update(ctx, tt.do); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("without %s: got %v, want %q", tt.table, err, tt.want)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	db, err := state.OpenFor(b, b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	for i := 0; b.Loop(); i++ {
		err := db.Update(b.Context(), func(tx *state.Tx) error {
			return tx.PutPeer(b.Context(), state.Peer{ID: fmt.Sprint(i)})
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
