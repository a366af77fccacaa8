// Command aleph is the user's command line: accounts, allowances, images and
// instances on a network of nodes.
//
// Machine data goes to standard output, words for people to standard error;
// with --json standard output holds one JSON document and nothing else, or one
// per line of a console. The exit code is 0 for success, 1 for a failure and 2
// for a wrong command line.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/ethereum/go-ethereum/accounts/keystore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv,
		scryptN: keystore.StandardScryptN, scryptP: keystore.StandardScryptP,
	}, os.Args[1:])
	stop()
	os.Exit(code)
}
