package v1_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	v1 "github.com/aleph-onchain/aleph-onchain/internal/api/v1"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// quickServer serves the node over TCP with deadlines far shorter than the
// streams of the tests.
func quickServer(t *testing.T, n *node, deadline time.Duration) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(n.srv)
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = deadline, deadline
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL
}

// TestLogsFollowOverTheNetwork follows a console from a compute node, over
// libp2p and HTTP, past the server's deadlines; when the client leaves, the
// compute node learns it.
func TestLogsFollowOverTheNetwork(t *testing.T) {
	const deadline = 200 * time.Millisecond
	lines, left := make(chan string), make(chan struct{})
	compute := p2ptest.Open(t, "compute")
	compute.HandleAsk(string(job.AskLogs), func(_ context.Context, _ p2p.PeerID, raw []byte) (p2p.Answer, error) {
		if _, err := job.ParseAsk(raw); err != nil {
			return p2p.Answer{}, err
		}
		return p2p.Answer{Reply: job.Reply{}, Body: func(ctx context.Context, w io.Writer) error {
			for {
				select {
				case line := <-lines:
					if _, err := io.WriteString(w, line); err != nil {
						return err
					}
				case <-ctx.Done():
					close(left)
					return ctx.Err()
				}
			}
		}}, nil
	})
	coordinator := p2ptest.Open(t, "coordinator", compute.Addrs()...)
	p2ptest.Start(t, compute, coordinator)
	p2ptest.Meet(t, compute, coordinator)
	n := newNode(t, func(_ *v1.Self, p *v1.Parts) { p.Peers = coordinator })
	var announced wire.CapacityAd
	if err := json.Unmarshal(ad(t), &announced); err != nil {
		t.Fatal(err)
	}
	announced.PeerID = string(compute.ID())
	raw, err := json.Marshal(announced)
	if err != nil {
		t.Fatal(err)
	}
	n.put(t, n.jobRow(1, state.JobRunning))
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		return tx.PutCapacity(ctx, state.Capacity{NodeID: nodeID, Ad: raw})
	})
	target := "/api/v1/jobs/" + string(spec(1)) + "/logs?follow=1"
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, quickServer(t, n, deadline)+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", n.sign(t, target, "nonce-number-1", time.Now().Add(time.Minute)))

	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	in := bufio.NewReader(resp.Body)
	for _, line := range []string{"first\n", "second\n", "third\n"} {
		lines <- line
		if got, err := in.ReadString('\n'); err != nil || got != line {
			t.Fatalf("read %q, %v; want %q", got, err, line)
		}
		<-time.After(2 * deadline) // the machine is silent for longer than any deadline
	}
	cancel()
	select {
	case <-left:
	case <-time.After(20 * time.Second):
		t.Error("the compute node did not learn that the client left")
	}
}

// silent is a console that says nothing until its reader leaves.
type silent chan struct{}

func (s silent) Logs(ctx context.Context, _ executor.LogRequest) (io.ReadCloser, error) {
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { w.Close() })
	s <- struct{}{}
	return r, nil
}

// TestConsolesHaveFewReaders: an owner may read a console a few times, and some
// more of them, and takes no room of others.
func TestConsolesHaveFewReaders(t *testing.T) {
	opened := make(silent)
	n := newNode(t, func(s *v1.Self, p *v1.Parts) { s.Role, p.Console = v1.Compute, opened })
	nonce := 0
	get := func(ctx context.Context, number int) *httptest.ResponseRecorder {
		nonce++
		target := "/api/v1/jobs/" + string(spec(number)) + "/logs?follow=1"
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		r.Header.Set("Authorization", n.sign(t, target, fmt.Sprintf("nonce-number-%d", nonce), time.Now().Add(time.Minute)))
		w := httptest.NewRecorder()
		n.srv.ServeHTTP(w, r)
		return w
	}
	read := func(number int) (leave func()) {
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan struct{})
		go func() {
			defer close(left)
			if w := get(ctx, number); w.Code != http.StatusOK {
				t.Errorf("reader of console %d: %d %s", number, w.Code, w.Body)
			}
		}()
		select {
		case <-opened:
		case <-left:
			t.FailNow()
		}
		leave = func() { cancel(); <-left }
		t.Cleanup(leave)
		return leave
	}
	leave := read(1)
	for range v1.ReadersPerJobMax - 1 {
		read(1)
	}
	problem(t, get(t.Context(), 1), 503, "is read 4 times already")
	for i := range v1.ReadersPerCallerMax - v1.ReadersPerJobMax {
		read(2 + i/v1.ReadersPerJobMax)
	}
	problem(t, get(t.Context(), 9), 503, "reads 8 consoles already")
	payer := n.key
	stranger, err := crypto.ToECDSA(crypto.Keccak256([]byte("stranger")))
	if err != nil {
		t.Fatal(err)
	}

	n.key = stranger
	read(1)
	n.key = payer
	leave()
	read(1)
}

// TestSlowUpload moves bytes for longer than the server's deadlines.
func TestSlowUpload(t *testing.T) {
	const deadline = 100 * time.Millisecond
	n := newNode(t)
	url := quickServer(t, n, deadline)
	data := bytes.Repeat([]byte("slow"), 100)
	body, in := io.Pipe()
	go func() {
		const pieces = 10
		for i := range pieces {
			<-time.After(deadline / 4)
			if _, err := in.Write(data[i*len(data)/pieces : (i+1)*len(data)/pieces]); err != nil {
				return // the answer says what is wrong
			}
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}()

	resp, err := http.Post(url+"/api/v1/blobs", "application/octet-stream", body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated || !n.blobs.Has(message.HashOf(data)) {
		t.Errorf("status %d, stored %v", resp.StatusCode, n.blobs.Has(message.HashOf(data)))
	}
}
