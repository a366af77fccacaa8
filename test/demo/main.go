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
	bin := flags.String("bin", or(env("ALEPH_BIN"), "bin"), "directory of aleph-node and aleph")
	image := flags.String("image", or(env("ALEPH_IMAGE"), "build/images/debian.aleph"), "guest image")
	if err := flags.Parse(args); err != nil {
		return err
	}
	d := &demo{out: out, bin: *bin, image: *image}
	defer func() { err = errors.Join(err, d.close(context.WithoutCancel(ctx))) }()
	return d.play(ctx)
}

func or(s, fallback string) string {
	if s != "" {
		return s
	}
	return fallback
}
