package state_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// What the process of a test is for, in its environment.
const (
	roleVar = "ALEPH_STATE_TEST_ROLE"
	dirVar  = "ALEPH_STATE_TEST_DIR"
	holder  = "holder"  // Has the database open until it is killed.
	mounter = "mounter" // May mount small disks.
)

func TestMain(m *testing.M) {
	if os.Getenv(roleVar) == holder {
		err := hold(context.Background(), os.Getenv(dirVar))
		fmt.Fprintln(os.Stderr, "hold database:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// hold commits one row, writes another in a transaction that never ends, says
// so and waits for the end of its process.
func hold(ctx context.Context, dir string) error {
	db, err := state.Open(ctx, dir)
	if err != nil {
		return err
	}
	if err := db.Update(ctx, func(tx *state.Tx) error { return tx.PutPeer(ctx, state.Peer{ID: "committed"}) }); err != nil {
		return err
	}
	return db.Update(ctx, func(tx *state.Tx) error {
		if err := tx.PutPeer(ctx, state.Peer{ID: "cut off"}); err != nil {
			return err
		}
		if _, err := fmt.Println("held"); err != nil {
			return err
		}
		_, err := os.Stdin.Read(make([]byte, 1))
		return errors.Join(errors.New("nobody killed it"), err)
	})
}

// startHolder starts a process that has the database in dir open.
func startHolder(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"="+holder, dirVar+"="+dir)
	cmd.Stderr = os.Stderr
	in, errIn := cmd.StdinPipe()
	out, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	word := make([]byte, len("held\n"))
	if _, err := out.Read(word); err != nil || string(word) != "held\n" {
		t.Fatalf("holder says %q, %v", word, err)
	}
	return cmd
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	cmd := startHolder(t, dir)

	_, err := state.Open(t.Context(), dir)
	if !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "another process uses the data directory "+dir) {
		t.Errorf("while another process has it: %v, want a conflict that names the directory", err)
	}

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // It was killed, and says so.
	db := open(t, dir)
	peers, err := db.Peers(t.Context(), 10)
	if err != nil || len(peers) != 1 || peers[0].ID != "committed" {
		t.Errorf("after kill -9 the peers are %v, %v, want the one that was committed", peers, err)
	}

	if _, err := state.Open(t.Context(), dir); !errors.Is(err, errs.Conflict) {
		t.Errorf("a second time in one process: %v, want a conflict", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := state.Open(t.Context(), dir)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
