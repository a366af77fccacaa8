package devnet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/devnet"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
)

var quiet = slog.New(slog.DiscardHandler)

// member returns a node that this binary plays.
func member(t *testing.T, role string, steadyAfter time.Duration) devnet.Member {
	t.Helper()
	t.Setenv(roleVar, role)
	return devnet.NewMember(t.TempDir(), os.Args[0], steadyAfter, quiet)
}

func supervise(t *testing.T, m devnet.Member) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- m.Supervise(t.Context()) }()
	return done
}

func logOf(t *testing.T, m devnet.Member) string {
	t.Helper()
	raw, err := os.ReadFile(m.Log())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(raw)
}

func TestNodeThatCannotRunIsGivenUp(t *testing.T) {
	for role, want := range map[string]string{
		broken: fmt.Sprintf("node x ended %d times: exit status 1: test node: the port is taken", devnet.FailuresMax),
		silent: fmt.Sprintf("node x ended %d times: exit status 3", devnet.FailuresMax),
	} {
		m := member(t, role, time.Minute)

		err := <-supervise(t, m)

		if !errors.Is(err, errs.Unavailable) || err.Error() != want {
			t.Errorf("%s: got %v, want %q", role, err, want)
		}
		if got := strings.Count(logOf(t, m), "the port is taken"); role == broken && got != devnet.FailuresMax {
			t.Errorf("it was started %d times, want %d", got, devnet.FailuresMax)
		}
		m.End() // Of what has ended already.
	}

	missing := devnet.NewMember(t.TempDir(), "/nowhere/aleph-node", time.Minute, quiet)
	if err := <-supervise(t, missing); err == nil || !strings.Contains(err.Error(), "start node: fork/exec /nowhere/aleph-node: no such file") {
		t.Errorf("without a binary: %v", err)
	}
	nowhere := devnet.NewMember("/nowhere", os.Args[0], time.Minute, quiet)
	if err := <-supervise(t, nowhere); err == nil || !strings.Contains(err.Error(), "open log: open /nowhere/node.log") {
		t.Errorf("without a directory: %v", err)
	}
}

func TestNodeThatRanWellMayFailAgain(t *testing.T) {
	m := member(t, broken, 0) // Any time is long enough.
	done := supervise(t, m)

	p2ptest.Wait(t, "it is started more often than a bad one", func() bool {
		return strings.Count(logOf(t, m), "the port is taken") > devnet.FailuresMax+2
	})

	m.End()
	if err := <-done; err != nil {
		t.Errorf("after its end: %v, want none", err)
	}
}

func TestNodeIsAskedToEnd(t *testing.T) {
	m := member(t, patient, time.Minute)
	done := supervise(t, m)
	p2ptest.Wait(t, "it runs", func() bool { return strings.Contains(logOf(t, m), "begun") })

	m.End()

	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := logOf(t, m); got != "begun\nasked to end\n" {
		t.Errorf("it said %q, want that it was asked to end, once", got)
	}
	m.End() // Twice does no harm.
}

func TestNodeThatDoesNotEndIsKilled(t *testing.T) {
	m := member(t, stubborn, time.Minute)
	done := supervise(t, m)
	p2ptest.Wait(t, "it runs", func() bool { return strings.Contains(logOf(t, m), "begun") })

	m.End()

	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNodeThatIsEndedBeforeItRunsNeverDoes(t *testing.T) {
	m := member(t, patient, time.Minute)
	ended := make(chan struct{})
	go func() { defer close(ended); m.End() }()

	// End waits for who watches.
	err := <-supervise(t, m)
	<-ended

	if err != nil {
		t.Error(err)
	}
	if got := logOf(t, m); strings.Count(got, "begun") > 1 {
		t.Errorf("it said %q", got)
	}
}

func TestEndOfTheNetworkEndsThePause(t *testing.T) {
	m := member(t, broken, 0)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Supervise(ctx) }()
	p2ptest.Wait(t, "it has failed", func() bool { return strings.Contains(logOf(t, m), "the port is taken") })

	cancel()

	if err := <-done; err != nil {
		t.Errorf("got %v, want none", err)
	}
}

// TestNodeEndsWithTheNetworkThatWasKilled: nobody else could end it.
func TestNodeEndsWithTheNetworkThatWasKilled(t *testing.T) {
	m := devnet.NewMember(t.TempDir(), "", 0, quiet)
	dir := strings.TrimSuffix(m.Log(), "/node.log")
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), roleVar+"="+keeper)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p2ptest.Wait(t, "the node runs", func() bool { return strings.Contains(logOf(t, m), "begun") })

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // It was killed, and says so.

	p2ptest.Wait(t, "the node was asked to end", func() bool { return strings.Contains(logOf(t, m), "asked to end") })
}

func TestLastWordIsOfTheLastRun(t *testing.T) {
	m := devnet.NewMember(t.TempDir(), "", 0, quiet)
	why := errors.New("exit status 1")
	if got := m.LastWord(why); got != "exit status 1" {
		t.Errorf("without a log: %q", got)
	}
	for text, want := range map[string]string{
		"":            "exit status 1",
		"\n\n":        "exit status 1",
		"one\ntwo\n":  "exit status 1: two",
		"one\ntwo":    "exit status 1: two",
		"one\n\n \n ": "exit status 1: one",
		strings.Repeat("x", 2*devnet.LogTailBytes) + "\nlast\n": "exit status 1: last",
		strings.Repeat("y", 2*devnet.LogTailBytes):              "exit status 1: " + strings.Repeat("y", devnet.LogTailBytes),
	} {
		if err := os.WriteFile(m.Log(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := m.LastWord(why); got != want {
			t.Errorf("of %.20q: got %.50q, want %.50q", text, got, want)
		}
	}

	// What an earlier run said is not why this one cannot begin.
	gone := devnet.NewMember(t.TempDir(), "/nowhere/aleph-node", time.Minute, quiet)
	if err := os.WriteFile(gone.Log(), []byte("all is well\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-supervise(t, gone); err == nil || strings.Contains(err.Error(), "all is well") {
		t.Errorf("got %v, want nothing of the earlier run", err)
	}
}

func TestPortsAreFreeAndApart(t *testing.T) {
	api, p2p, err := devnet.ChoosePorts(0, 3)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, port := range append(api, p2p...) {
		if port == 0 || seen[port] {
			t.Errorf("ports are %v and %v, want six", api, p2p)
		}
		seen[port] = true
	}
	if len(seen) != 6 {
		t.Errorf("%d ports, want 6", len(seen))
	}

	again, _, err := devnet.ChoosePorts(api[0], 1)
	if err != nil || again[0] != api[0] {
		t.Errorf("asked for %d, got %v, %v", api[0], again, err)
	}
}

func TestPortsThatAreTakenAreNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port

	_, _, err = devnet.ChoosePorts(port, 3)
	want := fmt.Sprintf("another process already listens on 127.0.0.1:%d; stop it, or choose another --api-port", port)
	if !errors.Is(err, errs.Conflict) || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
	if _, _, err := devnet.ChoosePorts(65535, 3); err == nil || !strings.Contains(err.Error(), "65536") {
		t.Errorf("beyond the last port: %v, want an error", err)
	}
}

func TestNodesDoNotSeeTheSettingsOfOthers(t *testing.T) {
	got := devnet.Environ([]string{"PATH=/bin", "ALEPH_NODE_ROLE=compute", "HOME=/root", "ALEPH_CHAIN_RPC_URL=x", "NOT_ALEPH_X=1"})
	if diff := cmp.Diff([]string{"PATH=/bin", "HOME=/root", "NOT_ALEPH_X=1"}, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}
