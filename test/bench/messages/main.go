// Command messages measures the message network on this machine: how many signed
// messages a node takes in, durable and in every list, beside a bare loop that only
// checks and stores them; how long lists, filters and counts take with that many
// messages stored; how long a start takes, and how much memory a node holds. It
// writes messages.json, messages.md and messages.svg.
//
//	messages -bin bin -out bench -sizes 10000,100000,1000000,5000000
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

	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "messages:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	say     func(format string, args ...any)
	node    string // The program of the node.
	dir     string
	url     string // Of a PostgreSQL database; "" measures the embedded one.
	posts   int
	rounds  int
	reads   int
	only    string
	sizes   []int
	report  *measure.Report
	reading map[string]measure.Series // By the kind of reads.
}

// run is main without the process.
func run(ctx context.Context, args []string, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("messages", flag.ContinueOnError)
	flags.SetOutput(stderr)
	b := &bench{reading: map[string]measure.Series{}}
	bin := flags.String("bin", "bin", "directory of the built programs")
	out := flags.String("out", "bench", "directory of the results")
	sizes := flags.String("sizes", "10000,100000,1000000,5000000", "numbers of stored messages to measure at, ascending")
	flags.StringVar(&b.dir, "dir", "", "directory to keep databases in; a temporary one if it is empty")
	flags.StringVar(&b.url, "state", "", "URL of an empty PostgreSQL database to measure in place of the embedded one")
	flags.IntVar(&b.posts, "posts", 20_000, "messages of one round of posting")
	flags.IntVar(&b.rounds, "rounds", 5, "rounds of posting")
	flags.IntVar(&b.reads, "reads", 200, "reads of one filter")
	flags.StringVar(&b.only, "only", "", "measure only taking, or only reading")
	bare := flags.String("bare", "", "be the bare loop, and keep its log in this file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *bare != "" {
		return serveBare(ctx, *bare)
	}
	for text := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-sizes has %q, want numbers from 1 on", text)
		}
		b.sizes = append(b.sizes, n)
	}
	b.say = measure.Progress(stderr, "messages")
	b.report = b.newReport()
	b.node = filepath.Join(*bin, "aleph-node")
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "aleph-bench-*"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	}
	for _, part := range []struct {
		name    string
		measure func(context.Context) error
	}{{"taking", b.measureTaking}, {"reading", b.measureReading}} {
		if b.only != "" && b.only != part.name {
			continue
		}
		if err := part.measure(ctx); err != nil {
			return err
		}
	}
	if len(b.reading) > 0 {
		b.report.Plot(b.plot())
	}
	return b.report.Write(*out)
}
