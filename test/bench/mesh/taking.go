package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

const (
	// window is how many messages are on their way, or not durable yet: about half as many
	// as a host keeps for a slow peer.
	window = 500
	// pollEvery is how often it is looked how many are durable.
	pollEvery = 5 * time.Millisecond
	// stallMax is how long nothing may come before messages are taken for lost.
	stallMax = 20 * time.Second
	// bareBatch bounds what the bare loop writes at once, as ingest does.
	bareBatch = 512
)

// pair is a host that publishes, and a node that takes in what it hears.
type pair struct {
	speaker, listener *p2p.Host
	db                *state.DB
	taken             func() (int, error) // Messages that are durable and in every list.
	stop              func() error
	regs              [2]*prometheus.Registry // Of the listener's host, and the speaker's.
}

// bareHost opens a host that is measured, or measured with. Its publishing is not
// bounded: others' would be, to a thousand messages a second.
func bareHost(ctx context.Context, reg prometheus.Registerer, name, listen string, bootstrap ...string) (*p2p.Host, error) {
	cfg := p2p.DefaultConfig()
	cfg.ListenAddr, cfg.BootstrapPeers, cfg.PublishRate = listen, bootstrap, 1_000_000
	seed := sha256.Sum256([]byte(name))
	return p2p.Open(ctx, cfg, ed25519.NewKeyFromSeed(seed[:]), nil, reg, slog.New(slog.DiscardHandler))
}

func (b *bench) openPair(ctx context.Context) (_ *pair, err error) {
	const listen = "/ip4/127.0.0.1/tcp/0"
	var closers []func() error
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	p := &pair{regs: [2]*prometheus.Registry{prometheus.NewRegistry(), prometheus.NewRegistry()}, stop: func() (err error) {
		cancel()
		wg.Wait()
		for i := len(closers) - 1; i >= 0; i-- {
			err = errors.Join(err, closers[i]())
		}
		return err
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop())
		}
	}()
	if p.db, err = state.Open(ctx, b.folder("taking")); err != nil {
		return nil, err
	}
	closers = append(closers, p.db.Close)
	if p.listener, err = bareHost(ctx, p.regs[0], "listener", listen); err != nil {
		return nil, err
	}
	closers = append(closers, p.listener.Close)
	if p.speaker, err = bareHost(ctx, p.regs[1], "speaker", listen, p.listener.Addrs()...); err != nil {
		return nil, err
	}
	closers = append(closers, p.speaker.Close)
	reg := prometheus.NewRegistry()
	pipe, err := ingest.New(ingest.DefaultConfig(), job.Jobs(big.NewInt(1), common.Address{1}), p.db, p.listener, nothing{}, nil, reg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	p.taken = func() (int, error) {
		return counted(reg, "aleph_ingest_messages_total", string(state.MessageProcessed))
	}
	err = p.speaker.Subscribe(wire.TopicMessages, func(context.Context, *p2p.Gossip) p2p.Verdict { return p2p.Accept }, func(context.Context, p2p.Gossip) {})
	if err != nil {
		return nil, err
	}
	for _, run := range []func(context.Context) error{p.listener.Run, p.speaker.Run, pipe.Run} {
		wg.Go(func() { _ = run(ctx) }) // It ends with ctx; if earlier, nothing comes, which shows.
	}
	return p, nil
}

// counted sums the series of a counter that have a label's value, "" for all.
func counted(reg *prometheus.Registry, name, value string) (n int, err error) {
	families, err := reg.Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if value == "" || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == value }) {
				n += int(m.GetCounter().GetValue())
			}
		}
	}
	return n, nil
}

// lost says why messages did not come.
func (p *pair) lost(taken, sent, want int) error {
	err := fmt.Errorf("%d of %d messages came, of %d that were published", taken, want, sent)
	for _, reason := range []string{"peer_queue_full", "validation_full", "handler_behind", "flood", "nobody_listens", "invalid_signature", "other"} {
		for i, name := range []string{"listener", "speaker"} {
			n, failed := counted(p.regs[i], "aleph_p2p_gossip_dropped_total", reason)
			if err = errors.Join(err, failed); n > 0 {
				err = errors.Join(err, fmt.Errorf("%s: %d dropped: %s", name, n, reason))
			}
		}
	}
	return err
}

// takeIn publishes messages, and returns when all are durable and in every list.
func (p *pair) takeIn(ctx context.Context, all [][]byte) error {
	before, err := p.taken()
	if err != nil {
		return err
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	sent, taken, changed := 0, 0, time.Now()
	for taken < len(all) {
		for ; sent < len(all) && sent-taken < window; sent++ {
			if err := p.speaker.Publish(ctx, wire.TopicMessages, all[sent]); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		now, err := p.taken()
		if err != nil {
			return err
		}
		if now-before != taken {
			taken, changed = now-before, time.Now()
		}
		if time.Since(changed) > stallMax {
			return p.lost(taken, sent, len(all))
		}
	}
	return nil
}

// bareTake is the least that taking in messages can be: each is read, its hash and its
// signature are checked, and it is on the disk; some share the wait for it.
func bareTake(file string, all [][]byte) (err error) {
	log, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	todo, checked := make(chan []byte, window), make(chan []byte, window)
	failed := make(chan error, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for raw := range todo {
				env, err := message.Parse(raw)
				if err == nil {
					err = signature.Verify(env)
				}
				if err != nil {
					failed <- err
					return
				}
				checked <- raw
			}
		})
	}
	go func() {
		for _, raw := range all {
			todo <- raw
		}
		close(todo)
		wg.Wait()
		close(checked)
	}()
	for raw := range checked {
		batch := append([]byte(nil), raw...)
		for n := 1; n < bareBatch && len(checked) > 0; n++ {
			batch = append(batch, <-checked...)
		}
		if _, err := log.Write(batch); err != nil {
			return err
		}
		if err := log.Sync(); err != nil {
			return err
		}
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// cost is what a round of taking took.
type cost struct{ perSecond, perCPU, cpuUS float64 }

func costOf(n int, run func() error) (c cost, err error) {
	used, err := measure.CPU()
	if err != nil {
		return c, err
	}
	began := time.Now()
	if err := run(); err != nil {
		return c, err
	}
	took := time.Since(began)
	after, err := measure.CPU()
	cpu := after - used
	return cost{float64(n) / took.Seconds(), float64(n) / cpu.Seconds(), float64(cpu.Microseconds()) / float64(n)}, err
}

// encoded makes messages as they are gossiped.
func encoded(first, n int) ([][]byte, error) {
	keys, err := keysOf()
	if err != nil {
		return nil, err
	}
	made, _, err := signed(keys, first, n)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, n)
	for i, m := range made {
		if out[i], err = json.Marshal(m.Envelope); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (b *bench) measureTaking(ctx context.Context) (err error) {
	p, err := b.openPair(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	var ours, limit []cost
	for i := range b.rounds + 1 {
		all, err := encoded(i*b.taken, b.taken)
		if err != nil {
			return err
		}
		them, err := costOf(b.taken, func() error { return bareTake(b.folder("bare"), all) })
		if err != nil {
			return err
		}
		us, err := costOf(b.taken, func() error { return p.takeIn(ctx, all) })
		if err != nil {
			return err
		}
		b.say("round %d: %.0f messages/s, %.0f us of CPU each; bare loop %.0f/s, %.0f us", i, us.perSecond, us.cpuUS, them.perSecond, them.cpuUS)
		if i > 0 { // The first warms up.
			ours, limit = append(ours, us), append(limit, them)
		}
	}
	const group, bareLoop = "Messages that a node takes in by gossip, durable and in every list", "bare loop"
	b.report.Note(group, fmt.Sprintf("A host publishes signed messages of %d senders to a node, over TCP on this machine, %d ahead of what the node has on its disk. "+
		"The node does all that it does: the frame's signature, the message's, permission, a commit with its wait for the disk, every index. "+
		"Processor time is that of both. The bare loop checks hash and signature, writes, and waits for the disk, in the same run.", senders, window))
	column := func(all []cost, of func(cost) float64) (out []float64) {
		for _, c := range all {
			out = append(out, of(c))
		}
		return out
	}
	perSecond, perCPU := func(c cost) float64 { return c.perSecond }, func(c cost) float64 { return c.perCPU }
	cpu := func(all []cost) float64 {
		return measure.Quantile(column(all, func(c cost) float64 { return c.cpuUS }), 0.5)
	}
	bare := b.report.Add(group, "bare loop", "/s", column(limit, perSecond)...)
	bare.CPUUS = cpu(limit)
	node := b.report.Add(group, "node", "/s", column(ours, perSecond)...)
	node.CPUUS = cpu(ours)
	node.Against(bareLoop, bare.Median)
	b.report.Add(group, "node, for each second of processor time, both sides", "/CPU s", column(ours, perCPU)...).Against(bareLoop, measure.Quantile(column(limit, perCPU), 0.5))
	return nil
}
