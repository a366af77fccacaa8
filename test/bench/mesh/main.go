// Command mesh measures how nodes find and bring what one of them missed: bytes, time
// and processor time to reconcile two nodes of which one lacks a part of the messages, and
// to join with none. Both nodes run in this process with real databases; what they
// ask and answer is carried as JSON, and counted. It writes mesh.md.
//
//	mesh -out bench -messages 1000000 -missing 0,10,1000,100000
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "mesh:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	say      func(format string, args ...any)
	dir      string
	messages int
	missing  []int
	join     bool
	results  []result
}

func run(ctx context.Context, args []string, errOut io.Writer) (err error) {
	flags := flag.NewFlagSet("mesh", flag.ContinueOnError)
	flags.SetOutput(errOut)
	out := flags.String("out", "bench", "folder for mesh.md")
	messages := flags.Int("messages", 1_000_000, "messages of the node that has all")
	missing := flags.String("missing", "0,10,1000,100000", "how many of them the other one lacks, once for each")
	join := flags.Bool("join", true, "measure a node that lacks all, too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b := &bench{say: func(format string, args ...any) { fmt.Fprintf(errOut, format+"\n", args...) }, messages: *messages, join: *join}
	for text := range strings.SplitSeq(*missing, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > *messages {
			return fmt.Errorf("-missing has %q, want numbers from 0 to %d", text, *messages)
		}
		b.missing = append(b.missing, n)
	}
	if b.dir, err = os.MkdirTemp("", "aleph-mesh-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.reconcile(ctx); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(*out, "mesh.md"), []byte(b.report()), 0o644)
}
