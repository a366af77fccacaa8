package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

const (
	// socketEvery and stateEvery are how often a bare QEMU is looked at.
	socketEvery = time.Millisecond
	stateEvery  = time.Millisecond
	// staleBytes bounds what a guest says before it answers.
	staleBytes = 16 << 20
)

// restore has a bare QEMU restore a snapshot by the command line of a clone of it. It
// returns the milliseconds from its process to the first word of its guest, and those
// of its processor time.
func (c *command) restore(ctx context.Context, dir, snapshot string) (ms, cpuMS float64, err error) {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return 0, 0, fmt.Errorf("make directory: %w", err)
	}
	state, err := os.Open(filepath.Join(snapshot, "state"))
	if err != nil {
		return 0, 0, fmt.Errorf("open snapshot: %w", err)
	}
	defer state.Close()
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Dir = dir
	// As the node has it: a lock, and then the state, as descriptor 4.
	cmd.ExtraFiles = []*os.File{state, state}
	var said strings.Builder
	cmd.Stderr = &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, fmt.Errorf("start QEMU: %w", err)
	}
	err = awaitWord(ctx, dir)
	ms = milliseconds(time.Since(began))
	used, cpuErr := measure.CPUOf(cmd.Process.Pid)
	err = errors.Join(err, cpuErr, cmd.Process.Kill())
	_ = cmd.Wait() // It was killed.
	if err != nil {
		return 0, 0, fmt.Errorf("bare QEMU: %w: %s", err, said.String())
	}
	return ms, milliseconds(used), nil
}

// awaitWord has a QEMU take its state and waits for the first word of its guest.
func awaitWord(ctx context.Context, dir string) error {
	monitor, err := dialSoon(ctx, filepath.Join(dir, "qmp.sock"))
	if err != nil {
		return err
	}
	defer monitor.Close()
	q := &qmp{out: monitor, in: json.NewDecoder(monitor)}
	for _, step := range []struct {
		command   string
		arguments any
	}{
		{"qmp_capabilities", nil},
		{"migrate-set-capabilities", fields{"capabilities": []fields{{"capability": "x-ignore-shared", "state": true}}}},
		{"migrate-incoming", fields{"uri": "fd:4"}},
	} {
		if _, err := q.do(step.command, step.arguments); err != nil {
			return err
		}
	}
	err = until(ctx, "the state of a machine", stateEvery, func() (bool, error) {
		raw, err := q.do("query-status", nil)
		if err != nil {
			return false, err
		}
		var now struct{ Status string }
		err = json.Unmarshal(raw, &now)
		return now.Status != "inmigrate", err
	})
	if err != nil {
		return err
	}
	if _, err := q.do("cont", nil); err != nil {
		return err
	}
	port, err := dialSoon(ctx, filepath.Join(dir, "streams.sock"))
	if err != nil {
		return err
	}
	defer port.Close()
	if err := port.SetDeadline(time.Now().Add(awaitMax)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	var nonce guest.Nonce
	_, _ = rand.Read(nonce[:]) // Never fails.
	if _, err := port.Write(nonce.Hello()); err != nil {
		return fmt.Errorf("greet guest: %w", err)
	}
	return guest.AwaitAnswer(bufio.NewReader(port), nonce, staleBytes)
}

// dialSoon connects to a socket as soon as it is there.
func dialSoon(ctx context.Context, path string) (conn net.Conn, err error) {
	var d net.Dialer
	err = until(ctx, path, socketEvery, func() (bool, error) {
		c, err := d.DialContext(ctx, "unix", path)
		conn = c
		return err == nil, nil
	})
	return conn, err
}

// qmp asks a QEMU, one question at a time.
type qmp struct {
	out io.Writer
	in  *json.Decoder
}

func (q *qmp) do(execute string, arguments any) (json.RawMessage, error) {
	line := fields{"execute": execute, "id": execute}
	if arguments != nil {
		line["arguments"] = arguments
	}
	raw, err := json.Marshal(line)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", execute, err)
	}
	if _, err := q.out.Write(append(raw, '\n')); err != nil {
		return nil, fmt.Errorf("execute %s: %w", execute, err)
	}
	for {
		var m struct {
			ID     string          `json:"id"`
			Return json.RawMessage `json:"return"`
			Error  *struct{ Desc string }
		}
		if err := q.in.Decode(&m); err != nil {
			return nil, fmt.Errorf("read answer to %s: %w", execute, err)
		}
		switch {
		case m.Error != nil:
			return nil, fmt.Errorf("execute %s: %s", execute, m.Error.Desc)
		case m.ID == execute:
			return m.Return, nil
		}
	}
}
