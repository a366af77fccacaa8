// Command bench measures the main job on this machine and writes
// bench/results.json and the table bench/README.md: how long a local network
// takes to start, how long a user waits from the command to the first page and
// where that time goes, what of it a bare QEMU would take in the same run, how
// much memory an idle node holds. What calls of the contracts cost is measured by
// make contracts.
//
//	bench -bin bin -image build/images/debian.aleph -out bench
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	say     func(format string, args ...any)
	bin     string
	image   string
	starts  int
	creates int
	idle    time.Duration
	report  *measure.Report
}

// run is main without the process.
func run(ctx context.Context, args []string, env func(string) string, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	b := &bench{}
	out := flags.String("out", "bench", "directory of the results")
	devnet.Flags(flags, env, &b.bin, &b.image)
	flags.IntVar(&b.starts, "starts", 10, "local networks to start")
	flags.IntVar(&b.creates, "creates", 20, "machines to create, and to boot by a bare QEMU")
	flags.DurationVar(&b.idle, "idle", time.Minute, "how long a node is idle before its memory is read")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b.say = measure.Progress(stderr, "bench")
	b.report = &measure.Report{
		Name: "results", Table: "README.md", Title: "Measurements", Command: "make bench", Quantile: 0.95, Say: b.say,
		About: "Guests run by translation where the host's KVM does not boot one. What a figure is compared with is measured in the same run.\n" +
			"Gas of the contracts' calls is in [contracts.md](contracts.md).",
	}
	for _, part := range []func(context.Context) error{b.measureStarts, b.measureJobs} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return b.report.Write(*out)
}
