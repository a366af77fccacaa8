package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

const (
	// senders sign the messages, and connections hand them in at the same time.
	senders     = 500
	connections = 64
)

// sign makes posts as people write them: some hundred bytes, a tag, a thread.
func sign(from, n int) ([][]byte, error) {
	out := make([][]byte, n)
	failed := make([]error, n)
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := w; i < n; i += 2 {
				out[i], failed[i] = signOne(from + i)
			}
		})
	}
	wg.Wait()
	for _, err := range failed {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func signOne(i int) ([]byte, error) {
	key, err := crypto.ToECDSA(crypto.Keccak256(fmt.Append(nil, "sender ", i%senders)))
	if err != nil {
		return nil, err
	}
	at := time.Now()
	channel := "BENCH"
	content := fmt.Sprintf(`{"address":"%s","time":%s,"content":{"body":"%0400d","tags":["bench","t%d"]},"ref":"thread-%d","type":"chat"}`,
		crypto.PubkeyToAddress(key.PublicKey).Hex(), message.FormatTime(at), i, i%50, i%1000)
	e := &message.Envelope{
		Chain: message.Ethereum, Type: message.TypePost, Channel: &channel, Time: at.UTC().Truncate(time.Microsecond), ItemType: message.Inline,
		ItemContent: content, ItemHash: message.HashOf([]byte(content)),
	}
	if err := signature.SignEVM(key, e); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"sync": true, "message": e})
}

// round is what one round of posting took.
type round struct {
	perSecond float64
	cpu       time.Duration // Of both sides, for one message.
	serverCPU time.Duration
	latencies []time.Duration
}

// post hands in messages, each when the one before it on its connection is answered.
func post(ctx context.Context, p *process, all [][]byte) (r round, err error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	defer client.CloseIdleConnections()
	own, err := measure.CPU()
	if err != nil {
		return r, err
	}
	server, err := p.cpu()
	if err != nil {
		return r, err
	}
	began := time.Now()
	var next atomic.Int64
	failed := make([]error, connections)
	took := make([][]time.Duration, connections)
	var wg sync.WaitGroup
	for c := range connections {
		wg.Go(func() {
			for failed[c] == nil && ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(all) {
					return
				}
				at := time.Now()
				failed[c] = postOne(ctx, client, p.url, all[i])
				took[c] = append(took[c], time.Since(at))
			}
		})
	}
	wg.Wait()
	for _, err := range failed {
		if err != nil {
			return r, err
		}
	}
	elapsed := time.Since(began)
	ownAfter, err := measure.CPU()
	if err != nil {
		return r, err
	}
	serverAfter, err := p.cpu()
	n := time.Duration(len(all))
	return round{float64(len(all)) / elapsed.Seconds(), (serverAfter - server + ownAfter - own) / n, (serverAfter - server) / n, slices.Concat(took...)}, err
}

func postOne(ctx context.Context, client *http.Client, url string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v0/messages", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("a message was answered %d %s", answer.StatusCode, text)
	}
	return nil
}

// startNode starts a node on the databases in dir.
func (b *bench) startNode(ctx context.Context, dir string) (*process, time.Duration, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, 0, err
	}
	args := []string{"dev", "--port", port, "--data-dir", dir, "--balance", "0", "--log-level", "warn"}
	if b.url != "" {
		args = append(args, "--state", b.url)
	}
	return start(ctx, port, "/api/v0/version", dir+".log", b.node, args...)
}

func startBare(ctx context.Context, dir string) (*process, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, _, err := start(ctx, port, "/", filepath.Join(dir, "bare.log"), self, "-bare", filepath.Join(dir, "bare-"+port))
	return p, err
}

// measureTaking posts to a node and to a bare loop, in turns.
func (b *bench) measureTaking(ctx context.Context) (err error) {
	bare, err := startBare(ctx, b.dir)
	if err != nil {
		return fmt.Errorf("start bare loop: %w", err)
	}
	defer func() { _ = bare.stop() }() // It has nothing to lose.
	node, _, err := b.startNode(ctx, filepath.Join(b.dir, "taking"))
	if err != nil {
		return fmt.Errorf("start node: %w", err)
	}
	defer func() { _ = node.stop() }()
	var ours, limit []round
	for i := range b.rounds + 1 {
		all, err := sign(i*b.posts, b.posts)
		if err != nil {
			return err
		}
		them, err := post(ctx, bare, all)
		if err != nil {
			return fmt.Errorf("post to bare loop: %w", err)
		}
		us, err := post(ctx, node, all)
		if err != nil {
			return fmt.Errorf("post to node: %w", err)
		}
		b.say("round %d: %.0f messages/s, %v CPU each, %v of it the node's; bare loop %.0f/s, %v CPU", i, us.perSecond, us.cpu, us.serverCPU, them.perSecond, them.cpu)
		if i > 0 { // The first warms up.
			ours, limit = append(ours, us), append(limit, them)
		}
	}
	b.recordTaking(ours, limit)
	return nil
}
