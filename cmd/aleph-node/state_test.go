package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/state/statetest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// TestStateCopy moves rows as an operator does: away from a node that runs, to a
// server where there is one, and back.
func TestStateCopy(t *testing.T) {
	ctx := t.Context()
	dir, back := t.TempDir(), t.TempDir()
	between := filepath.Join(t.TempDir(), "new")
	server, err := statetest.Start(ctx, false)
	switch {
	case err == nil:
		between = server.URL("postgres")
		t.Cleanup(func() {
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
	case errs.KindOf(err) != errs.NotFound:
		t.Fatal(err)
	}
	db, err := state.Open(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	put := func(id string) {
		t.Helper()
		if err := db.Update(ctx, func(tx *state.Tx) error { return tx.PutPeer(ctx, state.Peer{ID: id}) }); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 300 {
		put(fmt.Sprint(i))
	}
	run := func(code int, want string, args ...string) {
		t.Helper()
		var out, words bytes.Buffer
		got := (&app{out: &out, err: &words}).run(ctx, append([]string{"state", "copy"}, args...))
		if got != code || !strings.Contains(words.String(), want) || out.Len() > 0 {
			t.Errorf("%q gives %d, %q and\n%s\nwant %d and %q", args, got, out.String(), words.String(), code, want)
		}
	}

	run(exitUsage, "--from and --to are both needed", "--from", dir)
	run(exitError, "there is no state.db in", "--from", filepath.Join(dir, "none"), "--to", back)
	run(exitOK, "copied 300 rows of peers", "--from", dir, "--to", between)
	put("later")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	run(exitError, "is not empty", "--from", dir, "--to", between)
	run(exitOK, "now has all 600 rows", "--from", between, "--to", back) // Their changes too.

	db, err = state.Open(ctx, back)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if peers, err := db.Peers(ctx, 1000); err != nil || len(peers) != 300 {
		t.Errorf("%d peers, %v, want 300", len(peers), err)
	}
	run(exitOK, "The source has not changed since", "--from", dir, "--to", filepath.Join(t.TempDir(), "x")) // Nobody uses it.
}

func TestStateCheck(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	db, err := state.Open(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	run := func(code int, want string, args ...string) {
		t.Helper()
		var out, words bytes.Buffer
		got := (&app{out: &out, err: &words}).run(ctx, append([]string{"state", "check"}, args...))
		if got != code || !strings.Contains(out.String()+words.String(), want) {
			t.Errorf("%q gives %d, %q and\n%s\nwant %d and %q", args, got, out.String(), words.String(), code, want)
		}
	}

	run(exitUsage, "--from is needed")
	run(exitError, "there is no state.db in", "--from", filepath.Join(dir, "none"))
	run(exitOK, "has what its 0 messages make", "--from", dir) // While its node runs.
	count := func(tx *state.Tx) error {
		return tx.PutUses(ctx, "a machine that is not here", []message.ItemHash{"a file"})
	}
	if err := db.Update(ctx, count); err != nil {
		t.Fatal(err)
	}
	run(exitError, "files that no machine uses: 1, want 0\n", "--from", dir)
}
