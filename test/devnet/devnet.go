// Package devnet runs the built binaries for the demo, the end-to-end tests and
// the benchmarks: a local network as 'aleph-node devnet' makes it, and the
// command line of a user of it.
package devnet

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/devnet"
)

const (
	// readyMax and stopMax bound the start and the end of a network, on a busy
	// machine too.
	readyMax = 3 * time.Minute
	stopMax  = 2 * time.Minute
	// killPoll is how often a killed process is looked for.
	killPoll = 10 * time.Millisecond
)

// Options say how to run a network.
type Options struct {
	Bin     string    // Directory of aleph-node and aleph.
	Image   string    // Guest image.
	DataDir string    // "" = an ephemeral network.
	RPCPort int       // 0 = any free one.
	APIPort int       // 0 = any free ones.
	Log     io.Writer // What the network says on standard error; nil = nothing.
	Args    []string  // More arguments.
}

// Node is a node of a network.
type Node = devnet.Node

// Flags adds the flags that say what to run. Without them it is what ALEPH_BIN
// and ALEPH_IMAGE name, and else what make builds.
func Flags(f *flag.FlagSet, env func(string) string, bin, image *string) {
	f.StringVar(bin, "bin", cmp.Or(env("ALEPH_BIN"), "bin"), "directory of aleph-node and aleph")
	f.StringVar(image, "image", cmp.Or(env("ALEPH_IMAGE"), "build/images/debian.aleph"), "guest image")
}

// Network is a network that runs in processes of its own.
type Network struct {
	*devnet.Description
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // how it ended; read after done
}

// Start starts a network and returns when it is ready.
func Start(ctx context.Context, o Options) (*Network, error) {
	args := []string{"devnet", "--rpc-port", strconv.Itoa(o.RPCPort), "--api-port", strconv.Itoa(o.APIPort), "--image", o.Image}
	if o.DataDir == "" {
		args = append(args, "--ephemeral")
	} else {
		args = append(args, "--data-dir", o.DataDir)
	}
	n := &Network{cmd: exec.Command(filepath.Join(o.Bin, "aleph-node"), append(args, o.Args...)...), done: make(chan struct{})} //nolint:noctx // Stop ends it in order
	var said bytes.Buffer
	n.cmd.Stderr = &said
	if o.Log != nil {
		n.cmd.Stderr = io.MultiWriter(&said, o.Log)
	}
	// It ends in order with Stop, not with the terminal's Ctrl-C; and by itself
	// when this process dies.
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	started, ready := make(chan error, 1), make(chan string, 1)
	go func() {
		// To the kernel the thread that starts a process is its parent, and must
		// not end before it.
		runtime.LockOSThread()
		err := n.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		ready <- awaitReady(out)
		_, _ = io.Copy(io.Discard, out) // It must not wait for a reader.
		n.err = n.cmd.Wait()
		close(n.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start network: %w", err)
	}
	timer := time.NewTimer(readyMax)
	defer timer.Stop()
	var dir string
	select {
	case dir = <-ready:
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), n.Stop(context.WithoutCancel(ctx)))
	case <-timer.C:
		return nil, errors.Join(fmt.Errorf("the network is not ready after %v", readyMax), n.Stop(context.WithoutCancel(ctx)))
	}
	if dir == "" {
		<-n.done
		return nil, fmt.Errorf("network: %w: %s", n.err, strings.TrimSpace(said.String()))
	}
	n.Description, err = devnet.Read(dir)
	if err != nil {
		return nil, errors.Join(err, n.Stop(context.WithoutCancel(ctx)))
	}
	return n, nil
}

// awaitReady returns the data directory that the ready line names, "" when the
// process ends before.
func awaitReady(out io.Reader) string {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), "; state is in "); ok && strings.HasPrefix(lines.Text(), "ready in ") {
			dir, _, _ := strings.Cut(rest, ";")
			return dir
		}
	}
	return ""
}

// Stop ends the network as Ctrl-C does and returns when it is gone.
func (n *Network) Stop(ctx context.Context) error {
	return n.Signal(ctx, syscall.SIGINT)
}

// Signal sends a signal to the network's own process and returns when it has
// ended.
func (n *Network) Signal(ctx context.Context, sig syscall.Signal) error {
	if err := n.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal network: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopMax)
	defer cancel()
	select {
	case <-n.done:
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("the network has not ended after %v", stopMax), n.cmd.Process.Kill())
	}
	if sig == syscall.SIGKILL {
		return nil
	}
	if n.err != nil {
		return fmt.Errorf("network: %w", n.err)
	}
	return nil
}

// PID returns the process of a node, or an error when it does not run.
func (n *Network) PID(node string) (int, error) {
	config := filepath.Join(n.DataDir, node, "config.toml")
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	for _, path := range dirs {
		raw, err := os.ReadFile(path)
		if err != nil || !strings.HasSuffix(strings.TrimRight(string(raw), "\x00"), config) {
			continue
		}
		return strconv.Atoi(filepath.Base(filepath.Dir(path)))
	}
	return 0, fmt.Errorf("node %s does not run", node)
}

// Kill ends the process of a node with SIGKILL and returns when it is gone. The
// network starts it again.
func (n *Network) Kill(ctx context.Context, node string) error {
	pid, err := n.PID(node)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", node, err)
	}
	tick := time.NewTicker(killPoll)
	defer tick.Stop()
	for syscall.Kill(pid, 0) == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Node returns a node by its name.
func (n *Network) Node(name string) (Node, error) {
	for _, node := range n.Nodes {
		if node.Name == name {
			return node, nil
		}
	}
	return Node{}, fmt.Errorf("there is no node %s", name)
}

// NodeByID returns a node by its number on chain.
func (n *Network) NodeByID(id uint32) (Node, error) {
	for _, node := range n.Nodes {
		if node.NodeID == id {
			return node, nil
		}
	}
	return Node{}, fmt.Errorf("there is no node %d", id)
}
