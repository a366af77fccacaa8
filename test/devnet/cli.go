package devnet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// password opens the accounts of tests and demos.
const password = "correct horse battery"

// CLI is the command line of one user of a network.
type CLI struct {
	Binary   string
	Home     string // Directory of accounts, keys and the password file.
	Account  string // "" = the only one.
	Node     string // URL of the coordinator.
	RPC      string
	Progress io.Writer // What commands say on standard error; nil = nothing.
}

// NewCLI returns the command line of a new user with a directory of its own.
func NewCLI(bin, home string, n *Network) (*CLI, error) {
	c := &CLI{Binary: filepath.Join(bin, "aleph"), Home: home, Node: n.Nodes[0].URL, RPC: n.RPCURL}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("make home: %w", err)
	}
	if err := os.WriteFile(c.passwordFile(), []byte(password+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write password: %w", err)
	}
	return c, nil
}

func (c *CLI) passwordFile() string { return filepath.Join(c.Home, "password") }

// Failure is a command that did not exit with 0.
type Failure struct {
	Args   []string
	Code   int
	Stderr string
}

// Error implements error.
func (f *Failure) Error() string {
	return fmt.Sprintf("aleph %s: exit code %d: %s", strings.Join(f.Args, " "), f.Code, strings.TrimSpace(f.Stderr))
}

// Run runs a command and returns what it wrote to standard output. One that
// does not exit with 0 gives a *Failure.
func (c *CLI) Run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.Binary, args...)
	cmd.Env = c.Environ()
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if c.Progress != nil {
		cmd.Stderr = io.MultiWriter(&said, c.Progress)
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out.Bytes(), &Failure{Args: args, Code: exit.ExitCode(), Stderr: said.String()}
	}
	if err != nil {
		return nil, fmt.Errorf("run aleph: %w", err)
	}
	return out.Bytes(), nil
}

// Environ is what a command of the user needs in its environment.
func (c *CLI) Environ() []string {
	return append(os.Environ(), "ALEPH_NODE="+c.Node, "ALEPH_RPC="+c.RPC, "ALEPH_HOME="+c.Home,
		"ALEPH_PASSWORD_FILE="+c.passwordFile(), "ALEPH_ACCOUNT="+c.Account)
}

// JSON runs a command with --json and decodes its one document into v.
func (c *CLI) JSON(ctx context.Context, v any, args ...string) error {
	out, err := c.Run(ctx, append(args, "--json")...)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("aleph %s: decode %.200s: %w", strings.Join(args, " "), out, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("aleph %s: more than one document on standard output", strings.Join(args, " "))
	}
	return nil
}
