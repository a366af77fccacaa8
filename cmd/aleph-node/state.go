package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

func (a *app) stateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "state", Short: "Move the node's rows to another database, or check them", SuggestionsMinimumDistance: 2,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(a.stateCopyCommand(), a.stateCheckCommand())
	return cmd
}

func (a *app) stateCopyCommand() *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use: "copy", Short: "Copy every row from one database to an empty one", Args: noArgs,
		Long: "Copy every row from one database to an empty one, and compare counts and hashes of both. A place is the\n" +
			"data directory of a node, for the embedded database in it, or the URL of a PostgreSQL database.\n\n" +
			"A node may use the source meanwhile: what it changes is copied too, until nothing has changed or eight\n" +
			"passes are over. The target gets all of it in the end, or nothing. What a node writes to the source after\n" +
			"that is not in the copy, so to move for good, stop the node first. A password in a URL can be seen by other\n" +
			"users of this machine: name a file with ?passfile=FILE.",
		Example: "aleph-node state copy --from /var/lib/aleph --to 'postgres://aleph@db.example/aleph?passfile=/etc/aleph/pgpass'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" || to == "" {
				return usageError{errors.New("--from and --to are both needed: a data directory or a postgres:// URL")}
			}
			return a.copyState(cmd.Context(), from, to)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "data directory or postgres:// URL of the source")
	cmd.Flags().StringVar(&to, "to", "", "data directory or postgres:// URL of the target, which must have no rows")
	return cmd
}

func (a *app) copyState(ctx context.Context, from, to string) error {
	done, err := state.Copy(ctx, state.At(from), state.At(to), func(line string) { fmt.Fprintln(a.err, line) })
	if err != nil {
		return fmt.Errorf("copy state: %w", err)
	}
	fmt.Fprintf(a.err, "%s now has all %d rows of %s, as of its change %d.\n", state.MaskURL(to), done.Rows, state.MaskURL(from), done.Change)
	if done.Behind {
		fmt.Fprintln(a.err, "The source has changed since. To move for good, stop its node and copy again, to another empty database.")
		return nil
	}
	fmt.Fprintln(a.err, "The source has not changed since. If no node uses it, set [node] data_dir or [state] url to the copy and start there.")
	return nil
}

func (a *app) stateCheckCommand() *cobra.Command {
	var place string
	cmd := &cobra.Command{
		Use: "check", Short: "Compare what is made of messages with the messages", Args: noArgs,
		Long: "Compute anew what the messages in a database make, and compare it with what is there: lists and their\n" +
			"counts, posts, aggregates, senders, confirmations, pins, grants, balances and the ledger of credits. The place is the\n" +
			"data directory of a node, for the embedded database in it, or the URL of a PostgreSQL database; its node may\n" +
			"run. Nothing is changed.\n" +
			"Differences are printed one a line, and the exit code is 1 if there are any.",
		Example: "aleph-node state check --from /var/lib/aleph",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if place == "" {
				return usageError{errors.New("--from is needed: a data directory or a postgres:// URL")}
			}
			return a.checkState(cmd.Context(), place)
		},
	}
	cmd.Flags().StringVar(&place, "from", "", "data directory or postgres:// URL of the database")
	return cmd
}

func (a *app) checkState(ctx context.Context, place string) error {
	found, err := state.CheckAt(ctx, state.At(place))
	if err != nil {
		return fmt.Errorf("check state: %w", err)
	}
	for _, line := range found.Differences {
		if _, err := fmt.Fprintln(a.out, line); err != nil {
			return err
		}
	}
	if n := len(found.Differences); n > 0 {
		return errs.New(errs.Internal, "%s differs from its messages in %d things or more", state.MaskURL(place), n)
	}
	fmt.Fprintf(a.err, "%s has what its %d messages make, among it %d posts and %d aggregates. Nodes with the same messages have the set %s.\n",
		state.MaskURL(place), found.Messages, found.Posts, found.Aggregates, found.Set)
	return nil
}
