package devnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

const (
	// A node that ends is started again after restartMin, doubling to
	// restartMax; one that ran for steadyAfter begins anew.
	restartMin  = 250 * time.Millisecond
	restartMax  = 5 * time.Second
	steadyAfter = 20 * time.Second
	// failuresMax in a row mean that it never will run.
	failuresMax = 6
	// endMax is what a node may take to end: its machines shut down first.
	endMax = 60 * time.Second

	logFile    = "node.log"
	configFile = "config.toml"
	// logTailBytes of a node's log are read for its last line.
	logTailBytes = 4096
)

// member is a node of the network.
type member struct {
	index  int
	name   string
	dir    string
	kind   job.NodeKind
	keys   *keystore.Keys
	id     uint32 // In the registry on chain.
	api    int    // Port of the HTTP interface.
	p2p    int    // Port of the peer-to-peer network.
	binary string
	log    *slog.Logger

	started bool // supervise was called.

	mu    sync.Mutex
	pid   int  // 0 = it does not run; guarded by mu
	over  bool // The network ends; guarded by mu
	ended chan struct{}
	wake  chan struct{} // closed when the network ends
}

// plan names the members, reads their keys and chooses their ports.
func (n *Network) plan() error {
	ports, err := choosePorts(n.opts.APIPort, 1+computeNodes)
	if err != nil {
		return err
	}
	for i := range 1 + computeNodes {
		m := &member{
			index: i, name: name(i), dir: filepath.Join(n.opts.DataDir, name(i)), kind: kindOf(i), binary: n.opts.Binary,
			api: ports.api[i], p2p: ports.p2p[i], log: n.log.With("node", name(i)), ended: make(chan struct{}), wake: make(chan struct{}),
		}
		if m.keys, err = keystore.Open(m.dir, "", ""); err != nil {
			return err
		}
		n.members = append(n.members, m)
	}
	return nil
}

// supervise runs the node's process again and again until end is called. It
// returns an error when the node cannot run.
//
// The kernel ends the process if this one dies, whatever the reason. It does so
// when the thread that started it ends, so this goroutine keeps its thread.
func (m *member) supervise(ctx context.Context) error {
	runtime.LockOSThread()
	defer close(m.ended)
	pause, failures := restartMin, 0
	for {
		began := time.Now()
		err := m.run()
		if m.isOver() {
			return nil
		}
		if time.Since(began) > steadyAfter {
			pause, failures = restartMin, 0
		}
		if failures++; failures >= failuresMax {
			return errs.New(errs.Unavailable, "node %s ended %d times: %s", m.name, failures, m.lastLine(err))
		}
		m.log.Warn("node ended, starting it again", "err", err, "retry_in", pause)
		select {
		case <-time.After(pause):
		case <-m.wake:
			return nil
		case <-ctx.Done():
			return nil
		}
		pause = min(2*pause, restartMax)
	}
}

// run runs the process once.
func (m *member) run() error {
	out, err := os.OpenFile(filepath.Join(m.dir, logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(m.binary, "--config", filepath.Join(m.dir, configFile)) //nolint:noctx // end sends a signal first
	cmd.Stdout, cmd.Stderr, cmd.Env = out, out, environ(os.Environ())
	// Ctrl-C in a terminal is for the network, which ends its nodes in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := m.begin(cmd); err != nil {
		return err
	}
	err = cmd.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pid = 0
	if err == nil && !m.over {
		err = errors.New("it ended by itself")
	}
	return err
}

func (m *member) begin(cmd *exec.Cmd) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return errors.New("the network ends")
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start node: %w", err)
	}
	m.pid = cmd.Process.Pid
	return nil
}

// environ leaves out the settings of the caller's own nodes.
func environ(all []string) []string {
	out := make([]string, 0, len(all))
	for _, pair := range all {
		if !strings.HasPrefix(pair, "ALEPH_") {
			out = append(out, pair)
		}
	}
	return out
}

func (m *member) isOver() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.over
}

// end ends the node and returns when its process is gone.
func (m *member) end() {
	m.mu.Lock()
	first := !m.over
	m.over = true
	m.kill(syscall.SIGTERM)
	m.mu.Unlock()
	if !first {
		return
	}
	close(m.wake)
	timer := time.NewTimer(endMax)
	defer timer.Stop()
	select {
	case <-m.ended:
	case <-timer.C:
		m.log.Error("node did not end, killing it", "took", endMax)
		m.mu.Lock()
		m.kill(syscall.SIGKILL)
		m.mu.Unlock()
		<-m.ended
	}
}

// kill sends a signal; mu is held.
func (m *member) kill(sig syscall.Signal) {
	if m.pid == 0 {
		return
	}
	if err := syscall.Kill(m.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		m.log.Error("signal not sent", "signal", sig.String(), "err", err)
	}
}

// lastLine returns what the node said last, or err when it said nothing.
func (m *member) lastLine(err error) string {
	f, ferr := os.Open(filepath.Join(m.dir, logFile))
	if ferr != nil {
		return fmt.Sprint(err)
	}
	defer f.Close()
	info, ferr := f.Stat()
	if ferr != nil {
		return fmt.Sprint(err)
	}
	raw := make([]byte, min(info.Size(), logTailBytes))
	if _, ferr := f.ReadAt(raw, info.Size()-int64(len(raw))); ferr != nil {
		return fmt.Sprint(err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return fmt.Sprint(err)
}

// url is where the node's HTTP interface is.
func (m *member) url() string { return fmt.Sprintf("http://%s:%d", loopback, m.api) }
