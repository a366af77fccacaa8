//go:build e2e

package lifecycle_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/config"
)

const (
	// restartAfter is when an ended daemon is started again, as a service is.
	restartAfter = 200 * time.Millisecond
	// stopMax is how long a daemon may take to end in order.
	stopMax = 2 * time.Minute
	tailMax = 12 << 10
)

// daemon is the compute node: a process that is started again whenever it ends.
type daemon struct {
	t      *testing.T
	bins   []string // The program, in two builds.
	config string
	url    string
	log    *os.File

	mu       sync.Mutex
	build    int       // Which of the builds runs next; guarded by mu
	cmd      *exec.Cmd // nil while none runs; guarded by mu
	expected bool      // Somebody ends it; guarded by mu
	ends     int       // By itself; guarded by mu
	excuses  int       // For an end by itself: its disk is full; guarded by mu

	over    chan struct{} // Closed when it is not started again.
	stopped chan struct{} // Closed when it never runs again.
}

// startDaemon runs a node of the settings until the test ends.
func startDaemon(t *testing.T, cfg config.Config, bins []string, dir string) *daemon {
	t.Helper()
	d := &daemon{t: t, bins: bins, config: filepath.Join(dir, "node.toml"), url: "http://" + cfg.API.Bind, over: make(chan struct{}), stopped: make(chan struct{})}
	if err := os.WriteFile(d.config, config.Write(cfg, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if d.log, err = os.Create(filepath.Join(dir, "node.log")); err != nil {
		t.Fatal(err)
	}
	go d.run()
	t.Cleanup(func() {
		close(d.over)
		d.end(syscall.SIGKILL)
		<-d.stopped
		d.log.Close()
	})
	return d
}

// run starts the process again and again.
func (d *daemon) run() {
	defer close(d.stopped)
	// To the kernel the thread that starts a process is its parent.
	runtime.LockOSThread()
	for {
		select {
		case <-d.over:
			return
		default:
		}
		d.mu.Lock()
		cmd := exec.Command(d.bins[d.build], "--config", d.config)
		cmd.Stdout, cmd.Stderr = d.log, d.log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err := cmd.Start()
		d.cmd, d.expected = cmd, false
		d.mu.Unlock()
		if err != nil {
			d.t.Errorf("start the node: %v", err)
			return
		}
		ended := cmd.Wait()
		d.mu.Lock()
		if !d.expected {
			d.ends++
			fmt.Fprintf(d.log, "TEST: the node ended by itself: %v\n", ended)
			if d.excuses == 0 {
				d.t.Errorf("the node ended by itself: %v", ended)
			}
		}
		d.cmd = nil
		d.mu.Unlock()
		select {
		case <-d.over:
			return
		case <-time.After(restartAfter):
		}
	}
}

// end sends the process a signal, and reports whether there was one.
func (d *daemon) end(sig syscall.Signal) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil || d.cmd.Process == nil {
		return false
	}
	d.expected = true
	return d.cmd.Process.Signal(sig) == nil
}

// excuse is told when a reason for the node to end by itself comes, 1, or goes, -1.
func (d *daemon) excuse(by int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.excuses += by
}

// upgrade lets the node end in order, and another build of it start. One that does
// not end is told to by force, and that is wrong.
func (d *daemon) upgrade() bool {
	d.mu.Lock()
	d.build = (d.build + 1) % len(d.bins)
	before := d.cmd
	d.mu.Unlock()
	if before == nil || !d.end(syscall.SIGTERM) {
		return false
	}
	for end := time.Now().Add(stopMax); time.Now().Before(end); <-time.After(poll) {
		d.mu.Lock()
		gone := d.cmd != before
		d.mu.Unlock()
		if gone {
			return true
		}
	}
	d.t.Errorf("the node did not end in %v", stopMax)
	d.end(syscall.SIGKILL)
	return true
}

// awaitReady returns when the node answers.
func (d *daemon) awaitReady(ctx context.Context) error {
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("it answers %s", resp.Status)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the node is not ready: %w", err)
		case <-time.After(poll):
		}
	}
}

// tail is the end of what the node said.
func (d *daemon) tail() string {
	info, err := d.log.Stat()
	if err != nil {
		return err.Error()
	}
	f, err := os.Open(d.log.Name())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	b := make([]byte, min(info.Size(), tailMax))
	_, _ = f.ReadAt(b, info.Size()-int64(len(b)))
	_, rest, _ := strings.Cut(string(b), "\n")
	return rest
}

// builds returns the node's program, as it was built, and with another version in it;
// and the program that stands in for QEMU.
func builds(t *testing.T) (node []string, stub string) {
	t.Helper()
	built, err := filepath.Abs(filepath.Join(cmp.Or(os.Getenv("ALEPH_BIN"), "../../../bin"), "aleph-node"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(built); err != nil {
		t.Fatalf("%v; 'make build' makes it, or set ALEPH_BIN", err)
	}
	// Where they stay, so that they are made once.
	dir, err := filepath.Abs("../../../build/lifecycle")
	if err != nil {
		t.Fatal(err)
	}
	other, stub := filepath.Join(dir, "aleph-node"), filepath.Join(dir, "qemu-system-stubvm")
	const version = "-s -w -X github.com/aleph-onchain/aleph-onchain/internal/build.Version=another"
	for _, args := range [][]string{{"-ldflags", version, "-o", other, "./cmd/aleph-node"}, {"-o", stub, "./test/stubvm"}} {
		cmd := exec.CommandContext(t.Context(), "go", append([]string{"build"}, args...)...)
		cmd.Dir = "../../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %v: %v\n%s", args, err, out)
		}
	}
	return []string{built, other}, stub
}
