package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

const (
	startTargetSeconds = 5
	rssTargetMB        = 80
	// ticksPerSecond is the unit of times in /proc, the same on every Linux.
	ticksPerSecond = 100
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
	b.add("Local network", "start from nothing to ready", "s", cold, func(r *result) { r.Target = startTargetSeconds })
	b.add("Local network", "start again to ready", "s", warm, nil)
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
		for key, into := range map[string]map[string][]float64{"VmRSS": total, "RssAnon": own} {
			kib, err := status(pid, key)
			if err != nil {
				return err
			}
			into[node.Role] = append(into[node.Role], float64(kib)*1024/1e6)
		}
	}
	for _, role := range slices.Sorted(maps.Keys(total)) {
		b.add("Memory of an idle node", role+", resident", "MB", total[role], func(r *result) { r.Target = rssTargetMB })
		b.add("Memory of an idle node", role+", its own (the rest is the program, shared)", "MB", own[role], nil)
	}
	return nil
}

// status reads a figure in kB from /proc/PID/status.
func status(pid int, key string) (int, error) {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, key+":"); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("process %d has no %s", pid, key)
}

// cpu returns the processor time that the nodes have used so far.
func cpu(n *devnet.Network) (time.Duration, error) {
	var ticks int
	for _, node := range n.Nodes {
		pid, err := n.PID(node.Name)
		if err != nil {
			return 0, err
		}
		raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			return 0, fmt.Errorf("read time of process %d: %w", pid, err)
		}
		_, rest, _ := strings.Cut(string(raw), ") ")
		fields := strings.Fields(rest)
		const user, system = 11, 12 // After the name: fields 14 and 15.
		for _, i := range []int{user, system} {
			v, err := strconv.Atoi(fields[i])
			if err != nil {
				return 0, fmt.Errorf("read time of process %d: %w", pid, err)
			}
			ticks += v
		}
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}
