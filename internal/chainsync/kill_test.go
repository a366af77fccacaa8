package chainsync_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/indexer/indexertest"
	"github.com/aleph-onchain/aleph-onchain/internal/chainsync"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/outbox"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/protocol/archive"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// childEnv tells a process of this test to be a node, and which one.
const childEnv = "ALEPH_TEST_SYNC_NODE"

// feedEvery is how often such a node looks for messages to take in.
const feedEvery = 20 * time.Millisecond

// child is a node in a process of its own.
type child struct {
	Dir      string
	Config   chainsync.Config
	Key      string // Of the publisher, in hex.
	Messages string // File with messages that clients hand in, one a line.
	Held     string // File for the name of an archive, with whose bytes here the publisher stops; "" = it goes on.
}

func TestMain(m *testing.M) {
	if raw := os.Getenv(childEnv); raw != "" {
		var c child
		err := json.Unmarshal([]byte(raw), &c)
		if err == nil {
			err = c.run(context.Background())
		}
		fmt.Println("ended by itself:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// run is the node, which says what it does and ends with an error only.
func (c child) run(ctx context.Context) error {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))
	client, err := chain.Dial(ctx, chain.Config{RPCURL: c.Config.RPCURL, ChainID: c.Config.ChainID}, quiet)
	if err != nil {
		return err
	}
	m, err := openMember(ctx, c.Dir)
	if err != nil {
		return err
	}
	if c.Held != "" {
		m.files.kept = func(hash message.ItemHash) {
			if err := os.WriteFile(c.Held, []byte(hash), 0o600); err != nil {
				panic(err)
			}
			fmt.Println("archive is here")
			<-ctx.Done()
		}
	}
	syncer, err := chainsync.New(c.Config, m.db, client, m.pipe, m.files, log, m.reg)
	if err != nil {
		return err
	}
	parts := []func(context.Context) error{syncer.Read, syncer.Take, syncer.Retry}
	sources, err := c.Config.Sources()
	if err != nil {
		return err
	}
	for _, src := range sources {
		parts = append(parts, func(ctx context.Context) error { return syncer.Follow(ctx, src) })
	}
	if c.Config.Publish {
		key, err := crypto.HexToECDSA(c.Key)
		if err != nil {
			return err
		}
		cfg := outbox.Config{Lane: state.LaneSync, Interval: 50 * time.Millisecond, Confirmations: 1, StuckAfter: time.Hour, MaxFeeGwei: 100, Replacements: 3}
		sender := outbox.New(cfg, m.db, client, c.Config.ContractAt(), key, log, prometheus.NewRegistry())
		parts = append(parts, syncer.Publish, sender.Run)
	}
	parts = append(parts, func(ctx context.Context) error { return c.feed(ctx, m) })
	ended := make(chan error, len(parts))
	for _, part := range parts {
		go func() { ended <- part(ctx) }()
	}
	return <-ended
}

// feed hands in messages as clients would, and says how many are confirmed.
func (c child) feed(ctx context.Context, m *member) error {
	var hashes []message.ItemHash
	for said := -1; ctx.Err() == nil; {
		raw, err := os.ReadFile(c.Messages)
		if err != nil {
			return err
		}
		lines := bytes.Split(raw[:bytes.LastIndexByte(raw, '\n')+1], []byte("\n"))
		for _, line := range lines[min(len(hashes), len(lines)-1) : len(lines)-1] {
			v, err := m.pipe.Submit(ctx, ingest.Submission{Raw: line, At: time.Now()})
			if err != nil {
				return err
			}
			hashes = append(hashes, v.ItemHash)
		}
		all, err := m.db.Confirmations(ctx, hashes)
		if err != nil {
			return err
		}
		if len(all) != said {
			said = len(all)
			fmt.Println("confirmed", said)
		}
		<-time.After(feedEvery)
	}
	return ctx.Err()
}

// process is a child that runs.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
}

func (c child) start(t *testing.T) *process {
	t.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(os.Args[0]), lines: make(chan string, 1024)}
	p.cmd.Env = append(os.Environ(), childEnv+"="+string(raw))
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for said := bufio.NewScanner(out); said.Scan(); {
			p.lines <- said.Text()
		}
	}()
	return p
}

// until reads what the process says until a line has a text, or the time is over; it
// reports whether there was one.
func (p *process) until(text string, patience time.Duration) bool {
	p.t.Helper()
	over := time.NewTimer(patience)
	defer over.Stop()
	for {
		select {
		case line, ok := <-p.lines:
			switch {
			case !ok || strings.Contains(line, "ended by itself"):
				p.t.Fatalf("the process ended by itself: %s", line)
			case text != "" && strings.Contains(line, text):
				return true
			}
		case <-over.C:
			return false
		}
	}
}

// kill ends the process as a power cut would end it for others.
func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	for range p.lines {
		continue // Until the pipe is closed.
	}
	_ = p.cmd.Wait() // It was killed.
}

// keepMining makes blocks until the test ends or stop is called.
func (w *world) keepMining(every time.Duration) (stop func()) {
	w.t.Helper()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				if _, err := w.chain.Mine(); err != nil {
					w.t.Errorf("make a block: %v", err)
					return
				}
			}
		}
	}()
	return func() { close(quit); <-done }
}

// handIn appends messages to the file of a child.
func handIn(t *testing.T, path string, raws ...json.RawMessage) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range raws {
		if _, err := f.Write(append(slices.Clone(raw), '\n')); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// killsMax is how often each process is killed.
const killsMax = 40

// TestAKilledPublisherPaysOnce kills a publisher again and again: at any time, and at the
// moments between the file of an archive, its intent, its transaction and its event. Each
// message is in one archive, each archive was paid for once and is kept.
func TestAKilledPublisherPaysOnce(t *testing.T) {
	w := newWorld(t)
	c := child{Dir: t.TempDir(), Config: w.config(), Key: common.Bytes2Hex(crypto.FromECDSA(w.emitter)), Messages: filepath.Join(t.TempDir(), "messages")}
	c.Config.Publish = true
	before, err := w.client.Nonce(t.Context(), crypto.PubkeyToAddress(w.emitter.PublicKey), nil)
	if err != nil {
		t.Fatal(err)
	}
	var hashes []message.ItemHash
	r := rand.New(rand.NewPCG(20, 1))
	stop := w.keepMining(25 * time.Millisecond)
	reached := map[string]int{}
	for range killsMax {
		for range 1 + r.IntN(4) {
			hash, raw := w.post("x")
			hashes = append(hashes, hash)
			handIn(t, c.Messages, raw)
		}
		p := c.start(t)
		at := []string{"", "confirmed", `"archive made"`, "msg=sent", "msg=mined", "msg=finished", `"event taken"`, `"chain read"`}[r.IntN(8)]
		p.until("confirmed", waitMax)
		if at != "" && p.until(at, time.Second) {
			reached[at]++
		}
		p.until("", time.Duration(r.IntN(1+r.IntN(60_000)))*time.Microsecond)
		p.kill()
	}
	p := c.start(t)
	if !p.until(fmt.Sprint("confirmed ", len(hashes)), waitMax) {
		t.Errorf("not all of %d messages are confirmed", len(hashes))
	}
	stop()
	p.kill()
	t.Logf("killed %d times, after %v", killsMax, reached)

	m := w.open(c.Dir, c.Config, nil)
	m.sync()
	archives := m.archives()
	count := map[message.ItemHash]int{}
	for _, all := range archives {
		for _, hash := range all {
			count[hash]++
		}
	}
	for _, hash := range hashes {
		if count[hash] != 1 {
			t.Errorf("message %s is in %d archives, want one", hash, count[hash])
		}
	}
	if len(count) != len(hashes) || m.count(hashes) != len(hashes) {
		t.Errorf("%d messages are in archives and %d are confirmed, want %d", len(count), m.count(hashes), len(hashes))
	}
	after, err := w.client.Nonce(t.Context(), crypto.PubkeyToAddress(w.emitter.PublicKey), nil)
	if err != nil || int(after-before) != len(archives) || w.events() != len(archives) {
		t.Errorf("%d transactions and %d events, %v, want one for each of %d archives", after-before, w.events(), err, len(archives))
	}
}

// TestAnArchiveWithoutAnIntentIsDeleted kills a publisher between the file of an archive and
// its intent. The next archive has other messages, so nobody wants the first one any more.
func TestAnArchiveWithoutAnIntentIsDeleted(t *testing.T) {
	w := newWorld(t)
	c := child{
		Dir: t.TempDir(), Config: w.config(), Key: common.Bytes2Hex(crypto.FromECDSA(w.emitter)), Messages: filepath.Join(t.TempDir(), "messages"),
		Held: filepath.Join(t.TempDir(), "held"),
	}
	c.Config.Publish = true
	_, raw := w.post("a")
	handIn(t, c.Messages, raw)
	p := c.start(t)
	if !p.until("archive is here", waitMax) {
		t.Fatal("no archive was made")
	}
	p.kill()
	name, err := os.ReadFile(c.Held)
	if err != nil {
		t.Fatal(err)
	}
	held := message.ItemHash(name)

	m := w.open(c.Dir, c.Config, nil)
	text, err := m.files.Read(t.Context(), held, archive.MaxBytes)
	if err != nil {
		t.Fatalf("the archive that was kept: %v", err)
	}
	_, raw = w.post("b")
	m.submit(raw)
	m.sync()
	m.publish(1)
	collector, err := storage.NewCollector(m.db, m.blobs, m.files.content, m.reg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		in   time.Duration
		kept bool
	}{{0, true}, {chainsync.ArchiveGrace + time.Minute, false}} {
		if _, err := collector.Collect(t.Context(), time.Now().Add(tt.in)); err != nil {
			t.Fatal(err)
		}
		if _, err := m.files.Stat(t.Context(), held); (err == nil) != tt.kept || err != nil && errs.KindOf(err) != errs.NotFound {
			t.Errorf("in %v the archive without an intent: %v, want it kept: %t", tt.in, err, tt.kept)
		}
		if m.blobs.Has(message.HashOf(text)) != tt.kept {
			t.Errorf("in %v its bytes are here: %t, want %t", tt.in, !tt.kept, tt.kept)
		}
		if all := m.archives(); len(all) != 1 || len(all[0]) != 2 {
			t.Errorf("in %v archives with an intent have %v, want one with both messages", tt.in, all)
		}
	}
}

// archives are the messages of each archive that the chain names, which this node keeps.
func (m *member) archives() (out [][]message.ItemHash) {
	t := m.w.t
	t.Helper()
	intents, err := m.db.Intents(state.LaneSync).With(t.Context(), 9999, state.IntentPending, state.IntentSent, state.IntentConfirmed, state.IntentReverted, state.IntentExpired)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range intents {
		pin, err := m.db.Pin(t.Context(), "archive:"+i.Key)
		if err != nil {
			t.Errorf("the archive of %s, %s, is not kept: %v", i.Key, i.Status, err)
			continue
		}
		raw, err := m.files.Read(t.Context(), pin.File, archive.MaxBytes)
		if err != nil {
			t.Errorf("archive of %s: %v", i.Key, err)
			continue
		}
		all, err := archive.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		var hashes []message.ItemHash
		for _, text := range all {
			var e message.Envelope
			if err := e.UnmarshalJSON(text); err != nil {
				t.Fatal(err)
			}
			hashes = append(hashes, e.ItemHash)
		}
		out = append(out, hashes)
	}
	return out
}

// TestAKilledReaderMissesNothing kills a reader of the chain and of an indexer again and
// again, while events come. In the end it has the rows and confirmations of a node that was
// never killed.
func TestAKilledReaderMissesNothing(t *testing.T) {
	w := newWorld(t)
	tezos := indexertest.Tezos(t, tezosContract)
	c := child{Dir: t.TempDir(), Config: w.config(), Messages: filepath.Join(t.TempDir(), "messages")}
	c.Config.Tezos.URL, c.Config.IndexerInterval, c.Config.IndexerDelay = tezos.URL, 50*time.Millisecond, 0
	handIn(t, c.Messages)
	var hashes []message.ItemHash
	r := rand.New(rand.NewPCG(21, 1))
	told := 0 // By the indexer.
	for n := range killsMax {
		p := c.start(t)
		p.until("confirmed", waitMax)
		for k := range 1 + r.IntN(3) {
			a, rawA := w.post("a")
			b, rawB := w.post("b")
			w.call(w.emitter, "doEmit", fmt.Sprintf(`{"protocol":"aleph","version":1,"content":{"messages":[%s,%s]}}`, rawA, rawB))
			content, hash := emitted(tezosSender, fmt.Sprint(n, k))
			tezos.Add(indexertest.Event{ID: fmt.Sprint(n, "_", k), Tx: fmt.Sprint("oo", n), Height: int64(n + 1), At: time.Unix(1_700_000_000, 0), Sender: tezosSender, Type: "POST", Text: content})
			hashes = append(hashes, a, b, hash)
			told++
		}
		if at := []string{"", `"chain read"`, `"indexer read"`, `"event taken"`}[r.IntN(4)]; at != "" {
			p.until(at, time.Second)
		}
		p.until("", time.Duration(r.IntN(1+r.IntN(60_000)))*time.Microsecond)
		p.kill()
	}
	p := c.start(t)
	p.until("confirmed", waitMax)
	p.kill()

	killed, fresh := w.open(c.Dir, c.Config, nil), w.open(t.TempDir(), c.Config, nil)
	for _, m := range []*member{killed, fresh} {
		m.sync()
		m.follow(c.Config)
		if err := m.TakeOnce(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	if killed.count(hashes) != len(hashes) {
		t.Errorf("%d of %d messages have one confirmation", killed.count(hashes), len(hashes))
	}
	if diff := cmp.Diff(fresh.confirmations(hashes...), killed.confirmations(hashes...)); diff != "" {
		t.Errorf("confirmations (-never killed +killed):\n%s", diff)
	}
	rows := killed.rows()
	if diff := cmp.Diff(fresh.rows(), rows); diff != "" {
		t.Errorf("rows (-never killed +killed):\n%s", diff)
	}
	for source, want := range map[string]int{"": told, "TEZOS": told} {
		done, err := killed.db.CountSyncEvents(t.Context(), source, state.SyncDone)
		if err != nil || done != want || len(rows) != 2*told+1 {
			t.Errorf("%d events of source %q are done and there are %d rows, %v, want %d of each and the cursor", done, source, len(rows), err, want)
		}
	}
}

// rows are what a node knows of events, but for how it came to.
func (m *member) rows() (out []string) {
	t := m.w.t
	t.Helper()
	changes, err := m.db.Changes(t.Context(), 0, 99_999) // Which name the rows of every source.
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, c := range changes {
		if c.Topic == "sync_events" {
			keys = append(keys, c.Key)
		}
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		e, err := m.db.SyncEvent(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		e.Attempts, e.RetryAt = 0, time.Time{}
		row, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(row))
	}
	at, err := m.db.SyncSource(t.Context(), "TEZOS")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, fmt.Sprintf("%s %d", at.Cursor, at.Events))
}
