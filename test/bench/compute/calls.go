package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

const (
	groupCalls = "A call of a function that has a machine"

	addedAim = 1 // ms
	// warmUps are calls that are not counted: the guest translates what it runs first.
	warmUps = 30
)

// measureCalls calls a function through the node and, in turns, a copy of its machine
// by nothing but the driver's streams.
func (b *bench) measureCalls(ctx context.Context) (err error) {
	f, err := b.newFunctionWorld(ctx, "1h")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close(context.WithoutCancel(ctx))) }()
	b.say("calling the program once, and waiting for a snapshot")
	if _, err := f.call(ctx, f.function, "/"); err != nil {
		return err
	}
	snapshot, err := f.awaitSnapshot(ctx)
	if err != nil {
		return err
	}
	// Both machines are to be copies of the snapshot.
	status, body, err := f.owned(ctx, http.MethodPost, "/control/machine/"+string(f.function)+"/stop")
	if err := want("stop", status, body, err, http.StatusOK); err != nil {
		return err
	}
	if err := f.awaitGone(ctx, f.function); err != nil {
		return err
	}
	d := qemu.New(qemu.Config{CacheDir: filepath.Join(f.dir, "cache")}, slog.New(slog.DiscardHandler))
	defer func() { err = errors.Join(err, d.Close()) }()
	direct, end, err := f.clone(ctx, d, snapshot)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	for range warmUps {
		if _, err := f.call(ctx, f.function, "/"); err != nil {
			return err
		}
		if _, err := callDirectly(ctx, direct); err != nil {
			return err
		}
	}
	n := b.times(500, 50)
	b.say("calling the function %d times, and a copy of its machine as often", n)
	var through, straight, added []float64
	used := time.Duration(0)
	for range n {
		before, err := f.compute.cpu()
		if err != nil {
			return err
		}
		a, err := f.call(ctx, f.function, "/")
		if err != nil {
			return err
		}
		after, err := f.compute.cpu()
		if err != nil {
			return err
		}
		used += after - before
		s, err := callDirectly(ctx, direct)
		if err != nil {
			return err
		}
		through, straight, added = append(through, a), append(straight, s), append(added, a-s)
	}
	b.note(groupCalls, "Through the node is HTTP over a connection that is there. Straight is a call of a second copy of the same snapshot by the driver's streams, from the\n"+
		"program that measures: what guest and hypervisor take. Calls go one after another, in turns.")
	one := b.report.Add(groupCalls, "through the node", "ms", through...)
	one.Against("straight to the guest", measure.Quantile(straight, 0.5))
	one.CPUUS = float64(used.Microseconds()) / float64(n)
	b.report.Add(groupCalls, "straight to the guest", "ms", straight...)
	b.report.Add(groupCalls, "added by the node: the difference of the medians", "ms", measure.Quantile(through, 0.5)-measure.Quantile(straight, 0.5)).Aim = addedAim
	b.report.Add(groupCalls, "added by the node, pair by pair", "ms", added...).Aim = addedAim
	return nil
}

// clone starts a copy of a snapshot of the node's, beside the node.
func (f *functionWorld) clone(ctx context.Context, d *qemu.Driver, snapshot string) (_ vmm.Streamer, end func() error, err error) {
	img := f.image
	img.Format = vmm.Raw
	// What it boots decides what a probe finds, and that must be what the node found.
	probe, err := vmm.OpenImage(ctx, f.b.image, filepath.Join(f.dir, "images"))
	if err != nil {
		return nil, nil, err
	}
	if _, err := d.Probe(ctx, probe); err != nil {
		return nil, nil, err
	}
	m, err := d.StartClone(ctx, vmm.Spec{
		ID: string(message.HashOf([]byte("copy"))), VCPUs: 1, MemoryMiB: functionMiB, Image: img, Dir: filepath.Join(f.dir, "copy"),
		Net: vmm.NetDevice{Kind: vmm.NetUser}, Function: true,
	}, snapshot)
	if err != nil {
		return nil, nil, err
	}
	end = func() error { return m.Kill(context.WithoutCancel(ctx)) }
	streams, ok := m.(vmm.Streamer)
	if !ok {
		return nil, nil, errors.Join(errors.New("the copy has no streams"), end())
	}
	if err := reseed(ctx, streams); err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return streams, end, nil
}

// reseed tells a copy who it is, as the node does.
func reseed(ctx context.Context, s vmm.Streamer) error {
	seed := make([]byte, guest.SeedBytes)
	_, _ = rand.Read(seed) // Never fails.
	raw, err := guest.Reseed{Seed: seed, Time: time.Now().UnixNano()}.Encode()
	if err != nil {
		return err
	}
	conn, err := s.Dial(ctx, guest.PortReseed)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(awaitMax)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	if _, err := conn.Write(raw); err != nil {
		return fmt.Errorf("reseed copy: %w", err)
	}
	result, err := guest.ReadResult(bufio.NewReader(conn))
	if err == nil && !result.Success {
		err = errors.New(result.Error)
	}
	if err != nil {
		return fmt.Errorf("reseed copy: %w", err)
	}
	return nil
}

// callDirectly calls the program in a machine, and returns the milliseconds.
func callDirectly(ctx context.Context, s vmm.Streamer) (float64, error) {
	began := time.Now()
	conn, err := s.Dial(ctx, guest.PortRun)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(began.Add(awaitMax)); err != nil {
		return 0, fmt.Errorf("set deadline: %w", err)
	}
	raw, err := guest.Run{Stream: true, Scope: guest.Scope{
		Type: guest.TypeHTTP, Path: "/", Method: http.MethodGet, Headers: []guest.Header{{Name: []byte("host"), Value: []byte("localhost")}},
	}}.Encode()
	if err != nil {
		return 0, err
	}
	if _, err := conn.Write(raw); err != nil {
		return 0, fmt.Errorf("call program: %w", err)
	}
	if err := guest.NewBodyWriter(conn).Close(); err != nil {
		return 0, fmt.Errorf("call program: %w", err)
	}
	r := bufio.NewReader(conn)
	reply, err := guest.ReadReply(r)
	if err != nil || reply.Status != http.StatusOK {
		return 0, fmt.Errorf("call program: status %d, %s: %w", reply.Status, reply.Error, err)
	}
	text, err := io.ReadAll(guest.NewBodyReader(r))
	if err != nil || string(text) != "hello" {
		return 0, fmt.Errorf("call program: it answered %.100q: %w", text, err)
	}
	if end, err := guest.ReadReply(r); err != nil || end.Failed {
		return 0, fmt.Errorf("call program: %s: %w", end.Error, err)
	}
	return milliseconds(time.Since(began)), nil
}
