// Command compute measures what a compute node costs: how long an instance takes
// from its message to SSH beside a bare QEMU with the same image and arguments, how
// long a function takes to start and what a call of it adds, what the node spends on
// a machine of which the hypervisor does nothing, and what a guest that writes notices
// of a backup. Everything that something is compared with is measured in the same run,
// in turns. It writes compute.json, compute.md and plots.
//
//	compute -bin bin -image build/images/debian.aleph -functionimage build/images/function.aleph -out bench
//
// With -only PART the other parts of the report stay as they are.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
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
		fmt.Fprintln(os.Stderr, "bench-compute:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	say           func(format string, args ...any)
	bin           string
	image         string
	functionImage string
	stub          string // Program that plays QEMU.
	profile       string // Where the supervisor's profile goes; "" for none.
	quick         bool   // Few repetitions, to see that it works.
	report        *measure.Report
	stderr        io.Writer
	others        string // What is said of others on this machine, in each part.
}

const (
	// lookFor is how long others are looked at before a part.
	lookFor = 2 * time.Second
	// quietMax is how many processors others may have before figures are called those
	// of a loaded machine.
	quietMax = 0.2
)

// lookAtOthers sees whether others use this machine.
func (b *bench) lookAtOthers(ctx context.Context) error {
	busy, err := measure.Busy(ctx, lookFor)
	if err != nil {
		return err
	}
	load, err := measure.Load()
	if err != nil {
		return err
	}
	b.others = fmt.Sprintf("Before it began, others had %.1f of %d processors (load average %.1f).", busy, runtime.NumCPU(), load)
	if busy > quietMax {
		b.others = "**Measured on a loaded machine.** " + b.others
	}
	return nil
}

// note says something of a group, and what others did meanwhile.
func (b *bench) note(group, text string) { b.report.Note(group, text+"\n"+b.others) }

// times is how often something is measured.
func (b *bench) times(usual, quick int) int {
	if b.quick {
		return quick
	}
	return usual
}

// part is a part of the report that can be measured alone.
type part struct {
	name    string
	measure func(context.Context) error
}

func (b *bench) parts() []part {
	return []part{
		{"instances", b.measureInstances},
		{"functions", b.measureFunctions},
		{"calls", b.measureCalls},
		{"supervisor", b.measureSupervisor},
		{"backup", b.measureBackup},
	}
}

// run is main without the process.
func run(ctx context.Context, args []string, env func(string) string, stderr io.Writer) error {
	flags := flag.NewFlagSet("compute", flag.ContinueOnError)
	flags.SetOutput(stderr)
	b := &bench{stderr: stderr}
	var names []string
	for _, p := range b.parts() {
		names = append(names, p.name)
	}
	devnet.Flags(flags, env, &b.bin, &b.image)
	out := flags.String("out", "bench", "directory of the results")
	only := flags.String("only", "", "measure only these of "+strings.Join(names, ",")+"; what else the report has stays")
	flags.StringVar(&b.functionImage, "functionimage", cmp.Or(env("ALEPH_FUNCTIONIMAGE"), "build/images/function.aleph"), "image of functions")
	flags.StringVar(&b.stub, "stub", "build/stubvm", "program that plays QEMU, as go build ./test/stubvm makes it")
	flags.StringVar(&b.profile, "profile", "", "write a profile of the supervisor's processor time to this file")
	flags.BoolVar(&b.quick, "quick", false, "measure little, to see that it works")
	var child supervising
	child.flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if child.dir != "" {
		return child.run(ctx, os.Stdout)
	}
	chosen, err := b.choose(*only)
	if err != nil {
		return err
	}
	b.say = measure.Progress(stderr, "compute")
	b.report = newReport(b.say)
	if *only != "" {
		if err := b.report.Keep(*out); err != nil {
			return err
		}
	}
	for _, p := range chosen {
		if err := b.lookAtOthers(ctx); err != nil {
			return err
		}
		b.say("%s: begins. %s", p.name, b.others)
		if err := p.measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		// What was measured is kept although a later part may fail.
		if err := b.report.Write(*out); err != nil {
			return err
		}
	}
	return nil
}

func newReport(say func(format string, args ...any)) *measure.Report {
	return &measure.Report{
		Name: "compute", Title: "What a compute node costs", Command: "make bench-compute", Quantile: 0.95, Say: say,
		About: "Guests run by translation where the host's KVM does not boot one. What a figure is compared with is measured in the same run, in turns.\n" +
			"Processor time is that of the node's process, to the hundredth of a second, unless it says of what.",
	}
}

// choose returns the parts that are named, all of them by "".
func (b *bench) choose(names string) ([]part, error) {
	all := b.parts()
	if names == "" {
		return all, nil
	}
	var out []part
	for name := range strings.SplitSeq(names, ",") {
		found := false
		for _, p := range all {
			if p.name == name {
				out, found = append(out, p), true
			}
		}
		if !found {
			return nil, fmt.Errorf("-only has %q, which is no part", name)
		}
	}
	return out, nil
}
