package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/internal/build"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/internal/telemetry"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// app is what the commands share.
type app struct {
	out     io.Writer // what was asked for
	err     io.Writer // the log and words for people
	environ []string

	configPath string
	role       string
}

// usageError is a command line that cannot be understood.
type usageError struct{ err error }

// Error implements error.
func (e usageError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e usageError) Unwrap() error { return e.err }

// run executes a command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetOut(a.err) // help and usage are words
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(a.err, "aleph-node: %v\n", err)
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(a.err, "Run '%s --help' for what it takes.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitError
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "aleph-node",
		Short: "Run a node of the decentralized cloud",
		Long: "Run a node of the decentralized cloud: a coordinator, which takes messages and offers and gives jobs\n" +
			"to nodes, or a compute node, which runs the virtual machines of jobs. A process of the role api serves the\n" +
			"PostgreSQL database of a coordinator beside it.\n\n" +
			"Settings come from the file, then from ALEPH_<SECTION>_<KEY> of the environment, then from flags.\n" +
			"'aleph-node config show' prints all of them.",
		Example:      "aleph-node --config config.toml --role compute",
		SilenceUsage: true, SilenceErrors: true, SuggestionsMinimumDistance: 2,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return a.serve(cmd.Context())
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := root.PersistentFlags()
	f.StringVar(&a.configPath, "config", "", "configuration file")
	f.StringVar(&a.role, "role", "", "coordinator, compute or api")
	root.AddCommand(a.devnetCommand(), a.devCommand(), a.contractsCommand(), a.configCommand(), a.doctorCommand(), a.drainCommand(), a.identityCommand(), a.peersCommand(), a.stateCommand(), a.versionCommand())
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true})
	return root
}

func unknownCommand(cmd *cobra.Command, name string) error {
	text := fmt.Sprintf("unknown command %q", name)
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		text += fmt.Sprintf("; did you mean %q?", near[0])
	}
	return usageError{errors.New(text)}
}

// load returns the settings, checked.
func (a *app) load() (config.Config, error) {
	cfg, err := config.Load(a.configPath, a.environ)
	if err != nil {
		return cfg, err
	}
	if a.role != "" {
		cfg.Node.Role = a.role
	}
	return cfg, cfg.Validate()
}

// serve runs the node until ctx ends.
func (a *app) serve(ctx context.Context) (err error) {
	cfg, err := a.load()
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	log := telemetry.NewLogger(cfg.Log, a.err)
	n, err := node.New(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	log.Info("started", "role", cfg.Node.Role, "node", n.ID(), "addr", n.URL(), "version", build.Version)
	err = n.Run(ctx)
	log.Info("stopped")
	return err
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which version this is", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.out, "aleph-node", build.Version, build.Commit())
			return err
		},
	}
}

func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}
