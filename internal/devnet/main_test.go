package devnet_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/devnet"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/internal/telemetry"
)

// roleVar says what a process of the tests is. The settings of nodes are hidden
// from those of a network, so it is not named like one.
const roleVar = "DEVNET_TEST_ROLE"

const (
	realNode = "node"     // Is what cmd/aleph-node would be.
	broken   = "broken"   // Says why it cannot run, and ends.
	silent   = "silent"   // Ends and says nothing.
	patient  = "patient"  // Runs until it is asked to end.
	stubborn = "stubborn" // Runs until it is killed.
	keeper   = "keeper"   // Watches over a node that is patient.
)

func TestMain(m *testing.M) {
	role := os.Getenv(roleVar)
	if role == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := act(ctx, role)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "test node:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func act(ctx context.Context, role string) error {
	switch role {
	case realNode:
		return runNode(ctx, os.Args[2])
	case broken:
		return errors.New("the port is taken")
	case silent:
		os.Exit(3)
	case patient:
		fmt.Println("begun")
		<-ctx.Done()
		fmt.Println("asked to end")
	case stubborn:
		fmt.Println("begun")
		select {}
	case keeper:
		if err := os.Setenv(roleVar, patient); err != nil {
			return err
		}
		return devnet.NewMember(os.Args[1], os.Args[0], 0, slog.New(slog.DiscardHandler)).Supervise(context.WithoutCancel(ctx))
	}
	return nil
}

func runNode(ctx context.Context, path string) error {
	cfg, err := config.Load(path, os.Environ())
	if err != nil {
		return err
	}
	n, err := node.New(ctx, cfg, telemetry.NewLogger(cfg.Log, os.Stderr))
	if err != nil {
		return err
	}
	return errors.Join(n.Run(ctx), n.Close())
}
