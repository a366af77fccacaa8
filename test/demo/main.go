// Command demo shows the main job from end to end, as a user would do it: it
// starts a local network, runs a paid job in a virtual machine, reaches it,
// stops it, and checks the bill to the last wei; then it drains the node and
// runs a second job, which lands on the other one. It exits with 0 only if all
// of that is so.
//
//	demo -bin bin -image build/images/debian.aleph
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

	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run is main without the process.
func run(ctx context.Context, args []string, env func(string) string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	d := &demo{out: out}
	devnet.Flags(flags, env, &d.bin, &d.image)
	if err := flags.Parse(args); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close(context.WithoutCancel(ctx))) }()
	return d.play(ctx)
}
