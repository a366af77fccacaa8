//go:build e2e

// Package messages_test kills nodes while messages come in, and looks for what was
// acknowledged and is not there.
package messages_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/state/statetest"
)

var (
	kills = flag.Int("kills", 10, "how often a process is killed on each engine")
	seed  = flag.Uint64("seed", uint64(time.Now().UnixNano()), "what decides when, and who")
)

const (
	// clientsMax is how many send at the same time.
	clientsMax = 6
	// worldKills is after how many kills it begins anew, so that all can be looked
	// at after each.
	worldKills = 20
	// busyMax is how long messages come in before a kill.
	busyMax = 700 * time.Millisecond
)

// world is a database with the processes that use it, and who sends to them.
type world struct {
	options   state.Options // Of the database.
	serverURL string        // Of the server that has it; "" if it is embedded.
	owner     *process
	beside    *process // nil if the database is embedded.
	clients   []*client
}

// tally counts what happened on one engine.
type tally struct{ owner, beside, early, backends, crashes, sent, acked, unanswered, lost int }

func TestKilledNodesLoseNothing(t *testing.T) {
	for _, engine := range []string{"embedded", "PostgreSQL"} {
		t.Run(engine, func(t *testing.T) {
			r := rand.New(rand.NewPCG(*seed, 0))
			var server *statetest.Server
			if engine != "embedded" {
				var err error
				if server, err = statetest.Start(t.Context(), true); errors.Is(err, errs.NotFound) {
					t.Skip(err)
				} else if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := server.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			var all tally
			for n := 0; n < *kills && !t.Failed(); n += worldKills {
				w := newWorld(t, server, fmt.Sprint("world", n))
				w.run(t, r, min(worldKills, *kills-n), &all)
			}
			t.Logf("%s, seed %d: killed the owner %d times, a process beside it %d times, processes that were starting %d times, connections of the server %d times, the server %d times; "+
				"sent %d messages, %d acknowledged, %d requests without an answer, %d lost", engine, *seed, all.owner, all.beside, all.early, all.backends, all.crashes,
				all.sent, all.acked, all.unanswered, all.lost)
		})
	}
}

func newWorld(t *testing.T, server *statetest.Server, name string) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{options: state.Options{Dir: filepath.Join(dir, "current")}}
	url := ""
	if server != nil {
		w.serverURL = server.URL("postgres")
		if err := statetest.Create(t.Context(), w.serverURL, name); err != nil {
			t.Fatal(err)
		}
		url = server.URL(name)
		w.options = state.Options{URL: url}
	}
	w.owner = newDev(t, dir, url)
	w.owner.start(t)
	t.Cleanup(func() { w.owner.kill(t) })
	w.owner.waitReady(t) // What everybody begins with is there now.
	if server != nil {
		w.beside = newAPI(t, w.owner, url)
		w.beside.start(t)
		t.Cleanup(func() { w.beside.kill(t) })
		w.beside.waitReady(t)
	}
	keys, err := node.DevKeys(clientsMax)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range keys {
		w.clients = append(w.clients, newClient(k, *seed+uint64(i)))
	}
	return w
}

// run kills something some times while messages come in.
func (w *world) run(t *testing.T, r *rand.Rand, times int, all *tally) {
	t.Helper()
	urls := []string{w.owner.url}
	if w.beside != nil {
		urls = append(urls, w.beside.url)
	}
	for range times {
		var stop atomic.Bool
		var wg sync.WaitGroup
		for _, c := range w.clients {
			wg.Go(func() { c.run(t.Context(), &stop, urls) })
		}
		wait(t, time.Duration(r.Int64N(int64(busyMax))))
		w.strike(t, r, all)
		stop.Store(true)
		wg.Wait()
		w.owner.waitReady(t)
		at := urls[r.IntN(len(urls))]
		if w.beside != nil {
			w.beside.waitReady(t)
		}
		all.lost += w.verify(t, at)
		if t.Failed() {
			t.Logf("the owner said:\n%s", w.owner.said.Bytes())
			break
		}
	}
	for _, c := range w.clients {
		all.unanswered += c.broken
		for answer, times := range c.refused {
			if strings.HasPrefix(answer, "500 ") {
				t.Errorf("%d times the answer was %s: what fails has a reason", times, answer)
			}
		}
		for _, s := range c.all {
			all.sent++
			if s.acked {
				all.acked++
			}
		}
	}
}

// wait waits while others work.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// strike kills something, and starts it again.
func (w *world) strike(t *testing.T, r *rand.Rand, all *tally) {
	t.Helper()
	p, count := w.owner, &all.owner
	if w.beside != nil {
		switch n := r.IntN(100); {
		case n < 25:
			all.backends++
			w.cutConnections(t)
			return
		case n < 30:
			all.crashes++
			w.crashServer(t)
			return
		case n < 60:
			p, count = w.beside, &all.beside
		}
	}
	p.kill(t)
	*count++
	p.start(t)
	for r.IntN(5) == 0 { // It is killed before it is there.
		wait(t, time.Duration(r.Int64N(int64(300*time.Millisecond))))
		p.kill(t)
		all.early++
		p.start(t)
	}
}

// onServer runs fn on a connection that is not of the node's database.
func (w *world) onServer(t *testing.T, fn func(ctx context.Context, c *pgx.Conn) error) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), w.serverURL)
	if err != nil {
		t.Fatal(err)
	}
	err = fn(t.Context(), c)
	if err := errors.Join(err, c.Close(t.Context())); err != nil && !errors.Is(err, context.Canceled) {
		t.Log("connection to the server: ", err)
	}
}

// cutConnections ends about half of the connections that processes have.
func (w *world) cutConnections(t *testing.T) {
	t.Helper()
	w.onServer(t, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aleph-node' AND random() < 0.5")
		return err
	})
}

// crashServer kills a process of the server that serves a connection: the server
// takes all down, as shared memory may be spoilt, and reads its log again.
func (w *world) crashServer(t *testing.T) {
	t.Helper()
	w.onServer(t, func(ctx context.Context, c *pgx.Conn) error {
		var pid int
		if err := c.QueryRow(ctx, "SELECT pid FROM pg_stat_activity WHERE application_name = 'aleph-node' ORDER BY random() LIMIT 1").Scan(&pid); err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.SIGKILL)
	})
}
