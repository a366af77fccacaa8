package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

// settleFor is how long a host is left alone before its memory is read. It closes
// connections beyond 192 when they are half a minute old, so that it is soon.
const settleFor = 3 * time.Second

// held is what a host holds, in bytes.
type held struct {
	Connections int
	Heap, RSS   float64 // Heap and stacks in use; all that the process has.
}

// serveHub is a host in a process of its own: it writes its address, and for each line
// that it reads, what it holds.
func serveHub(ctx context.Context, listen string, in io.Reader, out io.Writer) (err error) {
	h, err := bareHost(ctx, prometheus.NewRegistry(), "hub", listen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	err = h.Subscribe(wire.TopicMessages, func(context.Context, *p2p.Gossip) p2p.Verdict { return p2p.Accept }, func(context.Context, p2p.Gossip) {})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = h.Run(ctx) }) // Ends with ctx.
	if _, err := fmt.Fprintln(out, h.Addrs()[0]); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		runtime.GC()
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		rss, err := measure.Memory(os.Getpid(), measure.Resident)
		if err != nil {
			return err
		}
		raw, err := json.Marshal(held{len(h.Connected()), float64(m.HeapAlloc + m.StackInuse), rss})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, string(raw)); err != nil {
			return err
		}
	}
	return nil
}

// hub is that process.
type hub struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	addr peer.AddrInfo
}

func startHub(ctx context.Context, listen string) (*hub, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	h := &hub{cmd: exec.CommandContext(ctx, self, "-hub", listen)}
	h.cmd.Stderr = os.Stderr
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.out = bufio.NewScanner(out)
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	if !h.out.Scan() {
		return nil, errors.Join(errors.New("the host does not say where it is"), h.stop())
	}
	addr, err := peer.AddrInfoFromString(h.out.Text())
	if err != nil {
		return nil, errors.Join(err, h.stop())
	}
	h.addr = *addr
	return h, nil
}

func (h *hub) stop() error { return errors.Join(h.in.Close(), h.cmd.Wait()) }

func (h *hub) held() (out held, err error) {
	if _, err := fmt.Fprintln(h.in); err != nil {
		return out, err
	}
	if !h.out.Scan() {
		return out, errors.New("the host does not say what it holds")
	}
	return out, json.Unmarshal(h.out.Bytes(), &out)
}

// visitor is a peer of the hub: it listens to messages, and has no table of peers, so that
// it meets nobody else.
func visitor(ctx context.Context, to peer.AddrInfo) (host.Host, error) {
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics())
	if err != nil {
		return nil, err
	}
	g, err := pubsub.NewGossipSub(ctx, h, pubsub.WithLogger(slog.New(slog.DiscardHandler)))
	if err == nil {
		var topic *pubsub.Topic
		if topic, err = g.Join(wire.TopicMessages); err == nil {
			_, err = topic.Subscribe()
		}
	}
	if err == nil {
		err = h.Connect(ctx, to)
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// hold measures a host with n connections.
func hold(ctx context.Context, listen string, n int) (out held, err error) {
	h, err := startHub(ctx, listen)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range n {
		v, err := visitor(ctx, h.addr)
		if err != nil {
			return out, err
		}
		defer v.Close()
	}
	settle := time.NewTimer(settleFor)
	defer settle.Stop()
	select {
	case <-settle.C:
	case <-ctx.Done():
		return out, context.Cause(ctx)
	}
	if out, err = h.held(); err == nil && out.Connections != n {
		err = fmt.Errorf("the host has %d connections, want %d", out.Connections, n)
	}
	return out, err
}

func (b *bench) measureConnections(ctx context.Context) error {
	const group = "Memory of a connection"
	b.report.Note(group, "A host in a process of its own, with peers that listen to messages: what it holds more than with no peer, after a collection, for each of them. "+
		"A host keeps 192 connections for long, and lets in as many as the machine's memory allows, some 250 with 24 GB.")
	for _, transport := range []struct{ name, listen string }{{"TCP", "/ip4/127.0.0.1/tcp/0"}, {"QUIC", "/ip4/127.0.0.1/udp/0/quic-v1"}} {
		none, err := hold(ctx, transport.listen, 0)
		if err != nil {
			return err
		}
		b.report.Add(group, transport.name+", no connection: resident", "MB", none.RSS/1e6)
		for _, n := range b.connections {
			got, err := hold(ctx, transport.listen, n)
			if err != nil {
				return fmt.Errorf("%s, %d connections: %w", transport.name, n, err)
			}
			name := transport.name + ", " + strconv.Itoa(n) + " connections: "
			b.report.Add(group, name+"heap and stacks", "kB", (got.Heap-none.Heap)/1e3/float64(n))
			b.report.Add(group, name+"resident", "kB", (got.RSS-none.RSS)/1e3/float64(n))
		}
	}
	return nil
}
