package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

const (
	startTargetSeconds = 5
	rssTargetMB        = 80
)

// measureStarts starts networks from nothing, and from what one has kept.
func (b *bench) measureStarts(ctx context.Context) error {
	b.say("starting %d networks from nothing, and one again and again", b.starts)
	kept, err := os.MkdirTemp("", "aleph-bench-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(kept)
	var cold, warm []float64
	for i := range b.starts + 1 {
		if i < b.starts {
			took, err := b.start(ctx, "")
			if err != nil {
				return err
			}
			cold = append(cold, took)
		}
		took, err := b.start(ctx, filepath.Join(kept, "net"))
		if err != nil {
			return err
		}
		if i > 0 { // The first one made it.
			warm = append(warm, took)
		}
	}
	b.report.Add("Local network", "start from nothing to ready", "s", cold...).Aim = startTargetSeconds
	b.report.Add("Local network", "start again to ready", "s", warm...)
	return nil
}

func (b *bench) start(ctx context.Context, dir string) (float64, error) {
	began := time.Now()
	n, err := devnet.Start(ctx, devnet.Options{Bin: b.bin, Image: b.image, DataDir: dir})
	if err != nil {
		return 0, err
	}
	took := time.Since(began).Seconds() // The start of the process counts.
	return took, n.Stop(context.WithoutCancel(ctx))
}

// measureIdle reads the memory of nodes that have nothing to do.
func (b *bench) measureIdle(ctx context.Context, n *devnet.Network) error {
	b.say("leaving the network idle for %v", b.idle)
	select {
	case <-time.After(b.idle):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	total, own := map[string][]float64{}, map[string][]float64{}
	for _, node := range n.Nodes {
		pid, err := n.PID(node.Name)
		if err != nil {
			return err
		}
		for key, into := range map[string]map[string][]float64{measure.Resident: total, measure.OwnPages: own} {
			held, err := measure.Memory(pid, key)
			if err != nil {
				return err
			}
			into[node.Role] = append(into[node.Role], held/1e6)
		}
	}
	for _, role := range slices.Sorted(maps.Keys(total)) {
		b.report.Add("Memory of an idle node", role+", resident", "MB", total[role]...).Aim = rssTargetMB
		b.report.Add("Memory of an idle node", role+", its own (the rest is the program, shared)", "MB", own[role]...)
	}
	return nil
}

// cpu returns the processor time that the nodes have used so far.
func cpu(n *devnet.Network) (sum time.Duration, err error) {
	for _, node := range n.Nodes {
		pid, err := n.PID(node.Name)
		if err != nil {
			return 0, err
		}
		one, err := measure.CPUOf(pid)
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum, nil
}
