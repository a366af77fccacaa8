// Command aleph-node is the node of the network, in either role, and a local
// network to develop with.
//
// Standard output holds what was asked for, standard error the log. The exit
// code is 0 when the node was asked to stop, 1 for a failure and 2 for a wrong
// command line.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second Ctrl-C ends the process at once.
	context.AfterFunc(ctx, stop)
	paceCollector()
	a := &app{out: os.Stdout, err: os.Stderr, environ: os.Environ()}
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
