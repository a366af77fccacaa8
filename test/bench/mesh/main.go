// Command mesh measures how messages get from node to node: how soon and how often gossip
// brings them to each of a hundred hosts, and how that grows with the network; how many a
// node takes in by gossip, with all that is checked and kept; what a connection costs; and
// how nodes find and bring what one of them missed. It writes mesh.json, mesh.md and
// mesh-growth.svg; if it does not measure all, what it does not measure stays in them.
//
//	mesh -out bench -only delivery,growth,taking,connections,reconcile,join
//
// Delivery is measured by a test of internal/p2p on virtual time. All else runs in this
// process, with real hosts and databases.
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
	"slices"
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
		fmt.Fprintln(os.Stderr, "mesh:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	say    func(format string, args ...any)
	report *measure.Report
	dir    string // Of databases; removed at the end.

	hosts, published int   // Of the simulated network.
	growth           []int // Hosts of simulated networks.
	taken            int   // Messages that a node takes in by gossip.
	rounds           int
	connections      []int // Of one host.
	messages         int   // Of the node that has all.
	missing          []int // Of those, at the one that lacks some.
	full             fullNode
}

// parts are what can be measured by itself.
func (b *bench) parts() []part {
	return []part{
		{"delivery", b.measureDelivery},
		{"growth", b.measureGrowth},
		{"taking", b.measureTaking},
		{"connections", b.measureConnections},
		{"reconcile", b.measureReconcile},
		{"join", b.measureJoin},
	}
}

type part struct {
	name    string
	measure func(context.Context) error
}

// numbers is a flag of numbers that are separated by commas.
type numbers struct {
	of    *[]int
	least int
}

// String implements flag.Value.
func (n numbers) String() string {
	if n.of == nil {
		return ""
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(*n.of), " ", ","), "[]")
}

// Set implements flag.Value.
func (n numbers) Set(text string) error {
	*n.of = nil
	for one := range strings.SplitSeq(text, ",") {
		v, err := strconv.Atoi(one)
		if err != nil || v < n.least {
			return fmt.Errorf("%q is not a number from %d on", one, n.least)
		}
		*n.of = append(*n.of, v)
	}
	return nil
}

// run is main without the process.
func run(ctx context.Context, args []string, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("mesh", flag.ContinueOnError)
	flags.SetOutput(stderr)
	b := &bench{growth: []int{10, 30, 100, 300, 1000}, connections: []int{10, 50, 100, 200}, missing: []int{0, 10, 1000, 100_000}}
	var names []string
	for _, p := range b.parts() {
		names = append(names, p.name)
	}
	out := flags.String("out", "bench", "directory of the results")
	only := flags.String("only", strings.Join(names, ","), "parts to measure")
	flags.IntVar(&b.hosts, "hosts", 100, "hosts of the simulated network of delivery")
	flags.IntVar(&b.published, "published", 500, "messages that are published there")
	flags.Var(numbers{&b.growth, 2}, "growth", "hosts of the simulated networks of growth; 1000 take 8 GB of memory and seven minutes of processor time")
	flags.IntVar(&b.taken, "taken", 20_000, "messages of one round of taking")
	flags.IntVar(&b.rounds, "rounds", 5, "rounds of taking")
	flags.Var(numbers{&b.connections, 1}, "connections", "numbers of connections of one host")
	flags.IntVar(&b.messages, "messages", 1_000_000, "messages of the node that has all")
	flags.Var(numbers{&b.missing, 0}, "missing", "how many of them the other one lacks, once for each")
	hub := flags.String("hub", "", "be a host that listens here, and tell what it holds for each line of input")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *hub != "" {
		return serveHub(ctx, *hub, os.Stdin, os.Stdout)
	}
	if most := slices.Max(b.missing); most > b.messages {
		return fmt.Errorf("-missing has %d, of %d messages", most, b.messages)
	}
	wanted := strings.Split(*only, ",")
	for _, name := range wanted {
		if !slices.Contains(names, name) {
			return fmt.Errorf("-only has %q, want some of %s", name, strings.Join(names, ", "))
		}
	}
	b.say = measure.Progress(stderr, "mesh")
	b.report = &measure.Report{
		Name: "mesh", Title: "The mesh", Command: "make bench-mesh", Quantile: 0.99, Say: b.say,
		About: "All nodes and hosts of a measurement run on this machine, and processor time is that of all of them together unless it says otherwise.",
	}
	if len(wanted) < len(names) {
		if err := b.report.Keep(*out); err != nil {
			return err
		}
	}
	if b.dir, err = os.MkdirTemp("", "aleph-mesh-*"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	for _, p := range b.parts() {
		if !slices.Contains(wanted, p.name) {
			continue
		}
		if err := p.measure(ctx); err != nil {
			return fmt.Errorf("measure %s: %w", p.name, err)
		}
	}
	return b.report.Write(*out)
}

// folder is a folder of this run.
func (b *bench) folder(name string) string { return filepath.Join(b.dir, name) }
