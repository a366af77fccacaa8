package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

// at names the group of a number of stored messages.
func at(n int) string { return fmt.Sprintf("With %s messages stored", measure.Thousands(n)) }

// readAimMS is how long a read may take.
const readAimMS = 10

func (b *bench) recordReads(n int, name string, times []time.Duration) {
	r := b.report.Add(at(n), name, "ms", measure.Milliseconds(times)...)
	r.Aim = readAimMS
	s := b.reading[name]
	s.X, s.Y = append(s.X, float64(n)), append(s.Y, max(r.High, r.Median))
	b.reading[name] = s
}

const (
	takingGroup  = "Messages taken in over HTTP, durable and in every list before the answer"
	takingAim    = 6000 // Per second.
	answerToOne  = "answer to one message"
	theBareLoop  = "bare loop"
	linesOfReads = 8 // The slowest kinds of reads have a line each.
)

// recordTaking records rounds, ours and those of the bare loop in the same run.
func (b *bench) recordTaking(ours, limit []round) {
	rate := func(all []round) (perSecond, perCPU []float64, cpu float64, times []time.Duration) {
		for _, r := range all {
			perSecond = append(perSecond, r.perSecond)
			perCPU = append(perCPU, float64(time.Second)/float64(r.cpu))
			cpu += float64(r.cpu.Microseconds()) / float64(len(all))
			times = append(times, r.latencies...)
		}
		return perSecond, perCPU, cpu, times
	}
	us, usCPU, cpu, times := rate(ours)
	them, themCPU, bareCPU, _ := rate(limit)
	bare := b.report.Add(takingGroup, "bare loop: parse, hash, signature, shared fsync", "/s", them...)
	bare.CPUUS = bareCPU
	node := b.report.Add(takingGroup, "node: signature, permission, fsync, row, every index, post", "/s", us...)
	node.Aim, node.CPUUS = takingAim, cpu
	node.Against(theBareLoop, bare.Median)
	b.report.Add(takingGroup, "the same for each second of CPU, both sides", "/CPU s", usCPU...).Against(theBareLoop, measure.Quantile(themCPU, 0.5))
	b.report.Add(takingGroup, answerToOne, "ms", measure.Milliseconds(times)...)
}

// recordBoth records posting while others read.
func (b *bench) recordBoth(n int, us round, times [][]time.Duration) {
	group := fmt.Sprintf("%d readers who filter and page %s messages while others come in", readers, measure.Thousands(n))
	b.report.Add(group, "messages taken in", "/s", us.perSecond).CPUUS = float64(us.cpu.Microseconds())
	b.report.Add(group, answerToOne, "ms", measure.Milliseconds(us.latencies)...)
	b.report.Add(group, "answer to one read", "ms", measure.Milliseconds(slices.Concat(times...))...)
}

// plot draws p99 of the slowest reads against the number of stored messages.
func (b *bench) plot() measure.Plot {
	p := measure.Plot{
		Title: "p99 of reads in ms, by stored messages", Text: "How the slowest reads grow with what is stored:",
		Aim: readAimMS, AimText: fmt.Sprintf("%d ms", readAimMS),
	}
	for name, s := range b.reading {
		s.Name = name
		p.Series = append(p.Series, s)
	}
	last := func(s measure.Series) float64 { return s.Y[len(s.Y)-1] }
	slices.SortFunc(p.Series, func(x, y measure.Series) int {
		return cmp.Or(cmp.Compare(last(y), last(x)), cmp.Compare(x.Name, y.Name))
	})
	p.Series = p.Series[:min(len(p.Series), linesOfReads)]
	return p
}

// newReport is the report of a run.
func (b *bench) newReport() *measure.Report {
	name, engine := "messages", "the embedded database, with every commit on the disk"
	if b.url != "" {
		name, engine = "messages-postgresql", "PostgreSQL on the same machine"
	}
	return &measure.Report{
		Name: name, Title: "The message network", Command: "make bench-messages", Quantile: 0.99, Say: b.say,
		About: "It was " + engine + ".\nThe load comes from the same machine. The bare loop is the limit: it checks and stores messages\nand nothing else, in the same run.",
	}
}
