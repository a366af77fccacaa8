package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
)

// result is a measurement.
type result struct {
	name             string
	missing          int
	size             int // Bytes of one message as JSON, on average.
	bytes, questions int64
	took, cpu        time.Duration
}

// room is what the aim allows beside three times what is missing, in bytes.
const room = 100_000

// aim is how many bytes are wanted at most.
func (r *result) aim() int64 { return 3*int64(r.missing)*int64(r.size) + room }

// reconcile measures nodes that lack some messages.
func (b *bench) reconcile(ctx context.Context) error {
	size, err := b.fill(ctx, b.folder("full"))
	if err != nil {
		return err
	}
	for _, n := range b.missing {
		for _, anywhere := range []bool{false, true} {
			name := "the newest"
			if anywhere {
				name = "anywhere"
			}
			if n == 0 {
				name = "none"
				if anywhere {
					continue
				}
			}
			if err := b.without(ctx, b.folder("full"), b.folder("part"), n, anywhere); err != nil {
				return err
			}
			if err := b.measure(ctx, result{name: name, missing: n, size: size}); err != nil {
				return err
			}
		}
	}
	if !b.join {
		return nil
	}
	return b.measure(ctx, result{name: "all", missing: b.messages, size: size})
}

// measure lets the node of the folder part find what it lacks, and removes it.
func (b *bench) measure(ctx context.Context, r result) (err error) {
	l := &line{kinds: map[string]p2p.AskHandler{}}
	full, _, err := open(ctx, b.folder("full"), end{line: l})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, full.Close()) }()
	part, pipe, err := open(ctx, b.folder("part"), end{line: l, asks: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, part.Close(), os.RemoveAll(b.folder("part"))) }()
	want, err := setOf(ctx, full)
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	began, used := time.Now(), processor()
	go func() { ended <- pipe.Run(run) }()
	look := 5 * time.Millisecond
	if r.missing > 1000 {
		look = time.Second / 4 // Looking takes time too.
	}
	for tick := time.NewTicker(look); ; {
		has, err := setOf(ctx, part)
		if err != nil {
			return err
		}
		if has == want && l.questions.Load() > 0 {
			tick.Stop()
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-ended:
			return fmt.Errorf("the node ended: %w", err)
		case <-tick.C:
		}
	}
	r.took, r.cpu, r.bytes, r.questions = time.Since(began), processor()-used, l.bytes.Load(), l.questions.Load()
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		return err
	}
	b.results = append(b.results, r)
	b.say("%s", r.line())
	return nil
}

// processor is the time that the process has used.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (r *result) line() string {
	verdict := "yes"
	if r.bytes > r.aim() {
		verdict = "no"
	}
	rate := ""
	if r.missing > 0 {
		rate = fmt.Sprintf("%.0f", float64(r.missing)/r.took.Seconds())
	}
	return fmt.Sprintf("| %d | %s | %d | %d | %d | %s | %.2f | %.2f | %s |", r.missing, r.name, r.questions, r.bytes, r.aim(), verdict, r.took.Seconds(), r.cpu.Seconds(), rate)
}

// report is mesh.md.
func (b *bench) report() string {
	var out strings.Builder
	fmt.Fprintf(&out, "# The mesh\n\nWritten by `make bench-mesh` on %s, %d processors, with %s.\n\n", runtime.GOOS+"/"+runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	size := 0
	if len(b.results) > 0 {
		size = b.results[0].size
	}
	fmt.Fprintf(&out, "## What a node missed\n\nTwo nodes in one process with real databases, of which one has %d messages of %d bytes of JSON, signed, one each %v, and "+
		"the other lacks some. They compare, and what is missing is asked for, checked and taken in, until both have the same. Bytes are all questions and answers, as "+
		"they go over a stream, the messages among them; the aim is three times the missing messages and %d. Processor time is that of both.\n\n", b.messages, size, interval, room)
	out.WriteString("| missing | which | questions | bytes | aim | met | seconds | processor seconds | messages a second |\n|---|---|---|---|---|---|---|---|---|\n")
	for i := range b.results {
		out.WriteString(b.results[i].line() + "\n")
	}
	return out.String()
}
