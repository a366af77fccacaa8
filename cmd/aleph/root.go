package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// app is what every command shares: where it reads and writes, and the global
// flags.
type app struct {
	in  io.Reader
	out io.Writer // machine data
	err io.Writer // words for people
	env func(string) string

	scryptN, scryptP int // cost of a key file's password

	nodeURL      string
	rpcURL       string
	account      string
	home         string
	passwordFile string
	json         bool
}

// usageError is a command line that cannot be understood.
type usageError struct{ err error }

// Error implements error.
func (e usageError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// run executes a command line and returns the exit code.
func run(ctx context.Context, a *app, args []string) int {
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.err) // help and usage are words
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(a.err, "aleph: %v\n", err)
	if next := hint(err); next != "" {
		a.say("%s", next)
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(a.err, "Run '%s --help' for what it takes.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitError
}

// hint says what to do next about a failure that does not say it itself.
func hint(err error) string {
	var away *aleph.UnreachableError
	var poor *aleph.FundsError
	var refused *aleph.RefusedError
	switch {
	case errors.Is(err, context.Canceled):
		return ""
	case errors.As(err, &poor):
		return fmt.Sprintf("Send ether to %s; on a local network 'aleph account fund --eth 1 --tokens 0' does.", poor.Account.Hex())
	case errors.As(err, &refused):
		return refusedHint(refused)
	case errors.As(err, &away):
		return "Is a node running there? 'aleph-node devnet' starts a local network; --node and --rpc choose others."
	case errors.Is(err, aleph.Exhausted):
		return "'aleph allowance set AMOUNT' raises what the network may take; 'aleph account show' shows what is there."
	}
	return ""
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "aleph",
		Short: "Run virtual machines on a decentralized cloud",
		Long: "Run virtual machines on a decentralized cloud.\n\n" +
			"Machine data goes to standard output, words for people to standard error. The exit code is 0 for\n" +
			"success, 1 for a failure, 2 for a wrong command line.",
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.ArbitraryArgs, RunE: group, SuggestionsMinimumDistance: 2,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := root.PersistentFlags()
	f.StringVar(&a.nodeURL, "node", a.envOr("ALEPH_NODE", "http://127.0.0.1:4024"), "URL of the node to talk to (ALEPH_NODE)")
	f.StringVar(&a.rpcURL, "rpc", a.envOr("ALEPH_RPC", "http://127.0.0.1:8545"), "URL of the chain's JSON-RPC (ALEPH_RPC)")
	f.StringVar(&a.account, "account", a.envOr("ALEPH_ACCOUNT", ""), "account to act as; may be left out if there is only one (ALEPH_ACCOUNT)")
	f.StringVar(&a.home, "home", a.envOr("ALEPH_HOME", ""), "directory of accounts, ~/.aleph unless set (ALEPH_HOME)")
	f.StringVar(&a.passwordFile, "password-file", a.envOr("ALEPH_PASSWORD_FILE", ""), "file with the account's password; asked for if unset (ALEPH_PASSWORD_FILE)")
	f.BoolVar(&a.json, "json", false, "write the result to standard output as one JSON document")
	root.AddCommand(
		accountCommand(a), allowanceCommand(a), imageCommand(a), instanceCommand(a), nodeCommand(a), paymentCommand(a), versionCommand(a),
		completionCommand(a),
	)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true})
	return root
}

// group is the action of a command that only holds others.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += fmt.Sprintf("; did you mean %q?", near[0])
	}
	return usageError{errors.New(text)}
}

// newGroup returns a command that only holds others.
func newGroup(use, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, RunE: group, SuggestionsMinimumDistance: 2}
	cmd.AddCommand(children...)
	return cmd
}

// args makes a wrong number of arguments a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

func (a *app) envOr(key, fallback string) string {
	if v := a.env(key); v != "" {
		return v
	}
	return fallback
}

// homeDir returns the directory of accounts.
func (a *app) homeDir() (string, error) {
	if a.home != "" {
		return a.home, nil
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find home directory: %w; give --home DIR", err)
	}
	return filepath.Join(dir, ".aleph"), nil
}

// client returns a client of the chosen node.
func (a *app) client() (*aleph.Client, error) {
	c, err := aleph.New(a.nodeURL)
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// say writes words for people.
func (a *app) say(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }

// print writes the result of a command: as JSON, or by the function for people
// who did not ask for JSON.
func (a *app) print(v any, text func(w io.Writer)) error {
	if !a.json {
		text(a.out)
		return nil
	}
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}
