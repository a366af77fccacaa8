package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

func instanceLogs(a *app) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use: "logs ID", Short: "Show the console of an instance", Args: args(cobra.ExactArgs(1)),
		Long: "Show the console of an instance; only its owner may. With --json each line is a JSON document of its\nown, {\"text\": \"...\"}, written as soon as the machine has ended the line; a line of more than 64 KiB comes\nin parts." + idHelp,
	}
	cmd.RunE = a.withJob(func(ctx context.Context, c *aleph.Client, spec message.ItemHash) error {
		account, err := a.unlock()
		if err != nil {
			return err
		}
		out := &jsonLines{to: a.out}
		if a.json {
			err = errors.Join(c.Logs(ctx, account, spec, follow, out), out.Close())
		} else {
			err = c.Logs(ctx, account, spec, follow, a.out)
		}
		if errors.Is(err, context.Canceled) && follow {
			return nil // Ctrl-C is how following ends.
		}
		return err
	})
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on as the machine writes, until Ctrl-C")
	return cmd
}

// lineMax bounds a line of a console, in bytes.
const lineMax = 64 << 10

// consoleLine is a line of a console, without its end.
type consoleLine struct {
	Text string `json:"text"`
}

// jsonLines writes each line that is written to it as a JSON document. Close
// writes a last line that has no end.
type jsonLines struct {
	to   io.Writer
	rest []byte // of the line that has not ended
}

// Write implements io.Writer.
func (l *jsonLines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, ended := bytes.Cut(l.rest, []byte("\n"))
		switch {
		case len(line) > lineMax:
			cut := lineMax
			for cut > lineMax-utf8.UTFMax && !utf8.RuneStart(line[cut]) {
				cut--
			}
			line, rest = l.rest[:cut], l.rest[cut:]
		case ended:
			line = bytes.TrimSuffix(line, []byte("\r"))
		default:
			return len(p), nil
		}
		if err := l.put(line); err != nil {
			return 0, err
		}
		l.rest = rest
	}
}

// Close writes what is left.
func (l *jsonLines) Close() error {
	if len(l.rest) == 0 {
		return nil
	}
	return l.put(l.rest)
}

func (l *jsonLines) put(line []byte) error {
	enc := json.NewEncoder(l.to)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(consoleLine{Text: string(line)}); err != nil {
		return fmt.Errorf("write console: %w", err)
	}
	return nil
}
