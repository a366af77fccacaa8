package main

import (
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/internal/build"
)

// version is the result of the version command.
type version struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
}

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which version this is", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			v := version{Version: build.Version, Commit: build.Commit(), Go: runtime.Version()}
			return a.print(v, func(w io.Writer) { fmt.Fprintf(w, "aleph %s %s %s\n", v.Version, v.Commit, v.Go) })
		},
	}
}

func completionCommand(a *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "Write a completion script for a shell", Args: args(cobra.ExactArgs(1)), ValidArgs: shells,
		Long: "Write a completion script for a shell to standard output. For bash: source <(aleph completion bash)",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.out)
			case "fish":
				return cmd.Root().GenFishCompletion(a.out, true)
			}
			return usagef("shell %q: want one of %s", args[0], strings.Join(shells, ", "))
		},
	}
}
