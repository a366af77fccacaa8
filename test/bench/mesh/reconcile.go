package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

// fullNode is the database of the node that has all.
type fullNode struct {
	folder string // "" = not made yet.
	size   int    // Bytes of a message as JSON, on average.
}

const (
	// room is what the aim allows beside three times what is missing, in bytes.
	room, roomTimes = 100_000, 3
	// roundTrip is what a question and its answer take on their way.
	roundTrip = 50 * time.Millisecond
)

const (
	reconcileGroup = "What a node missed"
	joinGroup      = "A node that joins"
)

// needFull makes the database of the node that has all, once.
func (b *bench) needFull(ctx context.Context) (err error) {
	if b.full.folder != "" {
		return nil
	}
	b.full.folder = b.folder("full")
	if b.full.size, err = b.fill(ctx, b.full.folder); err != nil {
		return err
	}
	text := fmt.Sprintf("Two nodes in one process with real databases, of which one has %s messages of %d bytes of JSON, signed, one each %v, and the other lacks some. "+
		"They compare, and what is missing is asked for, checked and taken in, until both have the same. A question and its answer take %v on their way. "+
		"Bytes are all questions and answers, as they go over a stream, the messages among them; the aim is three times the missing messages and %s. "+
		"They are compared with the missing messages. Processor time is that of both sides, for each message that was missing.",
		measure.Thousands(b.messages), b.full.size, interval, roundTrip, measure.Thousands(room))
	b.report.Note(reconcileGroup, text)
	b.report.Note(joinGroup, text)
	return nil
}

// measureReconcile measures nodes that lack some messages.
func (b *bench) measureReconcile(ctx context.Context) error {
	if err := b.needFull(ctx); err != nil {
		return err
	}
	for _, n := range b.missing {
		wheres := []string{"the newest", "anywhere"}
		if n == 0 {
			wheres = []string{"none"}
		}
		for _, where := range wheres {
			if err := b.without(ctx, b.full.folder, b.folder("part"), n, where == "anywhere"); err != nil {
				return err
			}
			if err := b.measure(ctx, reconcileGroup, fmt.Sprintf("%s missing, %s: ", measure.Thousands(n), where), n); err != nil {
				return err
			}
		}
	}
	return nil
}

// measureJoin measures a node that lacks all.
func (b *bench) measureJoin(ctx context.Context) error {
	if err := b.needFull(ctx); err != nil {
		return err
	}
	return b.measure(ctx, joinGroup, "", b.messages)
}

// measure lets the node of the folder part find what it lacks, and removes it.
func (b *bench) measure(ctx context.Context, group, name string, missing int) (err error) {
	l := &line{kinds: map[string]p2p.AskHandler{}}
	full, _, err := open(ctx, b.full.folder, end{line: l})
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
	began := time.Now()
	used, err := measure.CPU()
	if err != nil {
		return err
	}
	go func() { ended <- pipe.Run(run) }()
	look := 5 * time.Millisecond
	if missing > 1000 { //nolint:mnd // Looking takes time too.
		look = time.Second / 4
	}
	for tick := time.NewTicker(look); ; {
		has, err := setOf(ctx, part)
		if err != nil {
			return err
		}
		if has == want && l.answers.Load() > 0 {
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
	took := time.Since(began)
	after, err := measure.CPU()
	if err != nil {
		return err
	}
	b.record(group, name, missing, l, took, after-used)
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (b *bench) record(group, name string, missing int, l *line, took, cpu time.Duration) {
	lacked := float64(missing) * float64(b.full.size)
	bytes := b.report.Add(group, fmt.Sprintf("%sbytes both ways, in %d questions", name, l.answers.Load()), "B", float64(l.bytes.Load()))
	bytes.Aim = roomTimes*lacked + room
	if missing == 0 {
		b.report.Add(group, name+"time", "s", took.Seconds())
		return
	}
	bytes.Against("", lacked)
	b.report.Add(group, name+"time", "s", took.Seconds()).CPUUS = float64(cpu.Microseconds()) / float64(missing)
	b.report.Add(group, name+"messages", "/s", float64(missing)/took.Seconds())
	b.report.Add(group, name+"messages for each second of processor time", "/CPU s", float64(missing)/cpu.Seconds())
}
