package state_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/state/statetest"
)

// What the process of a test is for, in its environment.
const (
	roleVar = "ALEPH_STATE_TEST_ROLE"
	dirVar  = "ALEPH_STATE_TEST_DIR"
	urlVar  = "ALEPH_STATE_TEST_URL"
	holder  = "holder"  // Has the database open until it is killed.
	mounter = "mounter" // May mount small disks.
)

// TestMain runs every test on both engines: first in a process of its own on a
// server that it starts, then in this one on embedded databases.
func TestMain(m *testing.M) {
	flag.Parse()
	ctx := context.Background()
	switch {
	case os.Getenv(roleVar) == holder:
		err := hold(ctx, state.Options{Dir: os.Getenv(dirVar), URL: os.Getenv(urlVar)})
		fmt.Fprintln(os.Stderr, "hold database:", err)
		os.Exit(1)
	case os.Getenv(roleVar) != "", state.OnServer(), set("test.list"), set("test.fuzz"):
		os.Exit(m.Run())
	}
	onServer, err := runOnServer(ctx)
	code := m.Run()
	if err == nil {
		err = onServer()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: on PostgreSQL:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func set(name string) bool {
	f := flag.Lookup(name)
	return f != nil && f.Value.String() != ""
}

// runOnServer runs this program again with a server, and returns what adds its
// coverage to that of this process, which is written at the end.
func runOnServer(ctx context.Context) (after func() error, err error) {
	none := func() error { return nil }
	server, err := statetest.Start(ctx, set("test.bench"))
	if errors.Is(err, errs.NotFound) {
		fmt.Fprintln(os.Stderr, "SKIP: nothing is tested on PostgreSQL:", err)
		return none, nil
	}
	if err != nil {
		return none, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	cover := ""
	var args []string
	for _, arg := range os.Args[1:] {
		switch name, value, _ := strings.Cut(strings.TrimLeft(arg, "-"), "="); name {
		case "test.testlogfile": // That of this process tells what the result depends on.
		case "test.coverprofile":
			cover = value
			args = append(args, arg+".server")
		default:
			args = append(args, arg)
		}
	}
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), state.ServerVar+"="+server.URL("postgres"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if err != nil || testing.Verbose() || set("test.bench") {
		fmt.Printf("on PostgreSQL:\n%s", out.Bytes())
	}
	if cover == "" {
		return none, err
	}
	return func() error { return add(cover, cover+".server") }, err
}

// add appends the lines of one profile of coverage to another.
func add(to, from string) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	_, lines, _ := bytes.Cut(raw, []byte("\n"))
	f, err := os.OpenFile(to, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(lines)
	return errors.Join(err, f.Close())
}

// hold commits one row, writes another in a transaction that never ends, says
// so and waits for the end of its process.
func hold(ctx context.Context, o state.Options) error {
	db, err := state.OpenAs(ctx, o)
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

// startHolder starts a process that has a database open.
func startHolder(t *testing.T, o state.Options) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"="+holder, dirVar+"="+o.Dir, urlVar+"="+o.URL)
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

// name is how errors call a database.
func name(t *testing.T, o state.Options) string {
	t.Helper()
	if o.URL == "" {
		return "the data directory " + o.Dir
	}
	u, err := url.Parse(o.URL)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	o := state.OptionsOf(t, dir)
	cmd := startHolder(t, o)

	_, err := state.OpenAs(t.Context(), o)
	if !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), name(t, o)) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("while another process has it: %v, want a conflict that names it", err)
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

	if _, err := state.OpenAs(t.Context(), o); !errors.Is(err, errs.Conflict) {
		t.Errorf("a second time in one process: %v, want a conflict", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := state.OpenAs(t.Context(), o)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
