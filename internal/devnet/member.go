package devnet

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	// failuresMax in a row mean that a node never will run.
	failuresMax = 6

	logFile    = "node.log"
	configFile = "config.toml"
	// logTailBytes of a node's log are read for its last line.
	logTailBytes = 4096
)

// pace is how patient the network is with a node.
type pace struct {
	restartMin  time.Duration // Pause before a node that ended is started again, doubling ...
	restartMax  time.Duration // ... to this.
	steadyAfter time.Duration // One that ran for so long begins anew.
	endMax      time.Duration // What a node may take to end: its machines shut down first.
}

func usualPace() pace {
	return pace{restartMin: 250 * time.Millisecond, restartMax: 5 * time.Second, steadyAfter: 20 * time.Second, endMax: 60 * time.Second}
}

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
	pace   pace
	log    *slog.Logger

	started bool  // supervise was called.
	logFrom int64 // Where the log of the last run begins; only supervise uses it.

	mu    sync.Mutex
	proc  *os.Process // nil = it does not run; guarded by mu
	over  bool        // The network ends; guarded by mu
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
			api: ports.api[i], p2p: ports.p2p[i], pace: usualPace(), log: n.log.With("node", name(i)), ended: make(chan struct{}), wake: make(chan struct{}),
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
	pause, failures := m.pace.restartMin, 0
	for {
		began := time.Now()
		err := m.run()
		if m.isOver() {
			return nil
		}
		if time.Since(began) > m.pace.steadyAfter {
			pause, failures = m.pace.restartMin, 0
		}
		if failures++; failures >= failuresMax {
			return errs.New(errs.Unavailable, "node %s ended %d times: %s", m.name, failures, m.lastWord(err))
		}
		m.log.Warn("node ended, starting it again", "err", err, "retry_in", pause)
		select {
		case <-time.After(pause):
		case <-m.wake:
			return nil
		case <-ctx.Done():
			return nil
		}
		pause = min(2*pause, m.pace.restartMax)
	}
}

// run runs the process once.
func (m *member) run() error {
	out, err := os.OpenFile(filepath.Join(m.dir, logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer out.Close()
	if m.logFrom, err = out.Seek(0, io.SeekEnd); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
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
	m.proc = nil
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
	m.proc = cmd.Process
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
	timer := time.NewTimer(m.pace.endMax)
	defer timer.Stop()
	select {
	case <-m.ended:
	case <-timer.C:
		m.log.Error("node did not end, killing it", "took", m.pace.endMax)
		m.mu.Lock()
		m.kill(syscall.SIGKILL)
		m.mu.Unlock()
		<-m.ended
	}
}

// kill sends a signal; mu is held.
func (m *member) kill(sig syscall.Signal) {
	if m.proc == nil {
		return
	}
	if err := m.proc.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.log.Error("signal not sent", "signal", sig.String(), "err", err)
	}
}

// lastWord says how the last run ended, and what the node said last in it.
func (m *member) lastWord(err error) string {
	line, lineErr := m.lastLine()
	if lineErr != nil || line == "" {
		return fmt.Sprint(err)
	}
	return fmt.Sprintf("%v: %s", err, line)
}

// lastLine returns the last line of the last run's log.
func (m *member) lastLine() (string, error) {
	f, err := os.Open(filepath.Join(m.dir, logFile))
	if err != nil {
		return "", fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", fmt.Errorf("read log: %w", err)
	}
	from := max(m.logFrom, end-logTailBytes)
	raw, err := io.ReadAll(io.NewSectionReader(f, from, end-from))
	if err != nil {
		return "", fmt.Errorf("read log: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return lines[len(lines)-1], nil
}

// url is where the node's HTTP interface is.
func (m *member) url() string { return fmt.Sprintf("http://%s:%d", loopback, m.api) }
