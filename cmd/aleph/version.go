package main

import (
	"bytes"
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

// completion is the result of the completion command.
type completion struct {
	Shell  string `json:"shell"`
	Script string `json:"script"`
}

func completionCommand(a *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "Write a completion script for a shell", Args: args(cobra.ExactArgs(1)), ValidArgs: shells,
		Long: "Write a completion script for a shell to standard output. For bash: source <(aleph completion bash)",
		RunE: func(cmd *cobra.Command, args []string) error {
			var script bytes.Buffer
			var err error
			switch args[0] {
			case "bash":
				err = cmd.Root().GenBashCompletionV2(&script, true)
			case "zsh":
				err = cmd.Root().GenZshCompletion(&script)
			case "fish":
				err = cmd.Root().GenFishCompletion(&script, true)
			default:
				return usagef("shell %q: want one of %s", args[0], strings.Join(shells, ", "))
			}
			if err != nil {
				return fmt.Errorf("write completion for %s: %w", args[0], err)
			}
			return a.print(completion{Shell: args[0], Script: script.String()}, func(w io.Writer) { fmt.Fprint(w, script.String()) })
		},
	}
}
