//go:build e2e

package messages_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// readyMax bounds the start of a process on a busy machine.
const readyMax = time.Minute

// process is a node that is killed and started again, at the same address.
type process struct {
	args []string
	env  []string
	url  string
	cmd  *exec.Cmd
	said bytes.Buffer
}

// freeAddr is an address to listen on that is free now.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// newDev returns a core channel node that is not running yet.
func newDev(t *testing.T, dir, stateURL string) *process {
	t.Helper()
	addr := freeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"dev", "--port", port, "--data-dir", dir, "--log-level", "warn"}
	if stateURL != "" {
		args = append(args, "--state", stateURL)
	}
	return &process{args: args, url: "http://" + addr}
}

// newAPI returns a process beside an owner that is not running yet.
func newAPI(t *testing.T, owner *process, stateURL string) *process {
	t.Helper()
	addr := freeAddr(t)
	return &process{args: []string{"--role", "api"}, url: "http://" + addr, env: []string{
		"ALEPH_STATE_URL=" + stateURL, "ALEPH_API_BIND=" + addr, "ALEPH_NODE_OWNER_URL=" + owner.url, "ALEPH_LOG_LEVEL=warn",
	}}
}

// start starts the process, and does not wait for it.
func (p *process) start(t *testing.T) {
	t.Helper()
	p.said.Reset()
	p.cmd = exec.Command(filepath.Join(cmp.Or(os.Getenv("ALEPH_BIN"), "../../../bin"), "aleph-node"), p.args...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stderr = &p.said
	// The test may end in a panic, and nothing is to stay.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// kill ends the process at once.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Errorf("%v had ended by itself: %v\n%s", p.args, err, p.said.Bytes())
	}
	_ = p.cmd.Wait() // It was killed, and says so.
	p.cmd = nil
}

// waitReady waits until the process answers.
func (p *process) waitReady(t *testing.T) {
	t.Helper()
	eventually(t, p.url+" answers", func(ctx context.Context) error {
		code, body, err := request(ctx, http.MethodGet, p.url+"/api/v0/version", "", nil)
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%d %s", code, body)
		}
		if err != nil {
			return fmt.Errorf("%w\n%s", err, p.said.Bytes())
		}
		return nil
	})
}

// eventually waits until fn gives no error.
func eventually(t *testing.T, what string, fn func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readyMax)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := fn(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%v long not: %s: %v", readyMax, what, err)
		}
	}
}
