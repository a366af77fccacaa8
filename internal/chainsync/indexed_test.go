package chainsync_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/indexer"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/indexer/indexertest"
	"github.com/aleph-onchain/aleph-onchain/internal/chainsync"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/archive"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	bscContract   = "0xdf270752c8c71d08acbae4372687da65aece2d5d"
	tezosContract = "KT1FfEoaNvooDfYrP61Ykct6L8z7w7e2pgnT"
	tezosSender   = "KT1VBeLD7hzKpj17aRJ3Kc6QQFeikCEXi7W6"
	nuls2Address  = "NULSd6HgesryNn1aUkTPr1uXbNPKkS1Yjz8Tm"
	nuls2Emitter  = "NULSd6HgUkssMi6oSjwEn3puNSijLKnyiRV7H"
)

// indexers are those of three chains, and a configuration that reads them and no RPC.
type indexers struct {
	bsc, tezos, nuls2 *indexertest.Server
}

func (w *world) indexers() (indexers, chainsync.Config) {
	w.t.Helper()
	ix := indexers{indexertest.Multichain(w.t, "bsc", bscContract), indexertest.Tezos(w.t, tezosContract), indexertest.NULS2(w.t, nuls2Address)}
	cfg := chainsync.DefaultConfig()
	cfg.BSC.URL, cfg.Tezos.URL, cfg.NULS2.URL = ix.bsc.URL, ix.tezos.URL, ix.nuls2.URL
	cfg.NULS2.Address, cfg.NULS2.Emitters = nuls2Address, []string{nuls2Emitter}
	if err := cfg.Validate(); err != nil {
		w.t.Fatal(err)
	}
	return ix, cfg
}

// follow reads all sources and takes what is new.
func (m *member) follow(cfg chainsync.Config) {
	m.w.t.Helper()
	sources, err := cfg.Sources()
	if err != nil {
		m.w.t.Fatal(err)
	}
	for _, src := range sources {
		if err := m.FollowOnce(m.w.t.Context(), src); err != nil {
			m.w.t.Fatalf("follow %s: %v", src.Chain, err)
		}
	}
	if err := m.TakeOnce(m.w.t.Context(), false); err != nil {
		m.w.t.Fatalf("take: %v", err)
	}
}

// emitted is a content that a contract sends.
func emitted(sender, text string) (string, message.ItemHash) {
	content := fmt.Sprintf(`{"address": %q, "time": 1000.0, "content": {"body": %q}, "ref": null, "type": "my-type"}`, sender, text)
	return content, message.HashOf([]byte(content))
}

// TestIndexersConfirmMessages of three chains, each with what its chain has of the
// transaction, and go on where they were.
func TestIndexersConfirmMessages(t *testing.T) {
	w := newWorld(t)
	ix, cfg := w.indexers()
	dir, source := t.TempDir(), w.open(t.TempDir(), w.config(), nil)
	sender, at := crypto.PubkeyToAddress(w.other.PublicKey).Hex(), time.Unix(1_700_000_000, 0)
	onBSC, bscHash := emitted(sender, "by a contract on BSC")
	onTezos, tezosHash := emitted(tezosSender, "by a contract on Tezos")
	ix.bsc.Process([2]time.Time{at, at.Add(time.Hour)})
	ix.bsc.Add(indexertest.Event{ID: "bsc_1", Tx: "0xb1", Height: 7, At: at, Publisher: sender, Type: "POST", Text: onBSC})
	ix.tezos.Add(indexertest.Event{ID: "t1", Tx: "oo1", Height: 8, At: at, Sender: tezosSender, Type: "POST", Text: onTezos},
		indexertest.Event{ID: "t2", Tx: "oo1", Height: 8, At: at, Sender: tezosSender, Type: "STORE_IPFS", Text: "nothing"})
	archived, raw := w.post("in an archive that NULS2 names")
	var out archive.Writer
	add(t, &out, raw)
	file, err := source.files.Add(t.Context(), out.Bytes(), unasked)
	if err != nil {
		t.Fatal(err)
	}
	inline, raw := w.post("by somebody else")
	ix.nuls2.Add(
		indexertest.Event{Tx: "n1", Height: 3, At: at, Publisher: nuls2Address, Remark: "ALEPH-SYNC", Text: `{"protocol":"aleph","version":1,"content":{"messages":[` + string(raw) + `]}}`},
		indexertest.Event{Tx: "n2", Height: 4, At: at, Publisher: nuls2Emitter, Remark: "ALEPH-SYNC", Text: archive.Reference(file.Hash)},
		indexertest.Event{Tx: "n3", Height: 4, At: at, Publisher: nuls2Emitter, Remark: "something else", Text: "hello"},
		indexertest.Event{Tx: "n4", Height: 5, At: at, Publisher: nuls2Emitter, Remark: "ALEPH-SYNC", Text: "no payload"})
	m := w.open(dir, cfg, source)

	m.follow(cfg)

	want := fmt.Sprintf("[BSC 0xb1 7 %[1]d %[2]s TEZOS oo1 8 %[1]d %[3]s NULS2 n2 4 %[1]d %[4]s missing]", at.Unix(), sender, tezosContract, nuls2Emitter)
	if got := m.confirmations(bscHash, tezosHash, archived, inline); got != want {
		t.Errorf("confirmations\n%s, want\n%s", got, want)
	}
	for source, dropped := range map[string]int{"BSC": 0, "TEZOS": 1, "NULS2": 1} {
		n, err := m.db.CountSyncEvents(t.Context(), source, state.SyncDropped)
		waiting, errWaiting := m.db.CountSyncEvents(t.Context(), source, state.SyncWaiting)
		if err != nil || errWaiting != nil || n != dropped || waiting != 0 {
			t.Errorf("of %s %d events were dropped and %d wait, %v, %v, want %d dropped", source, n, waiting, err, errWaiting, dropped)
		}
	}
	m.close()
	m = w.open(dir, cfg, source)
	again, againHash := emitted(tezosSender, "after a restart")
	ix.tezos.Add(indexertest.Event{ID: "t3", Tx: "oo2", Height: 9, At: at, Sender: tezosSender, Type: "POST", Text: again},
		indexertest.Event{ID: "t4", Tx: "oo3", Height: 9, At: time.Now(), Sender: tezosSender, Type: "POST", Text: again})
	m.follow(cfg)
	m.follow(cfg)
	if m.count([]message.ItemHash{againHash, bscHash, tezosHash, archived}) != 4 {
		t.Errorf("after a restart: %s", m.confirmations(againHash, bscHash, tezosHash, archived))
	}
	if at, err := m.db.SyncSource(t.Context(), "TEZOS"); err != nil || at.Events != 3 || string(at.Cursor) != `{"count":3}` {
		t.Errorf("Tezos was read up to %+v, %v, want 3 events: the fourth is too young", at, err)
	}
}

// TestAnIndexerSpeaksForItsChainOnly: a message of somebody of another chain is dropped.
func TestAnIndexerSpeaksForItsChainOnly(t *testing.T) {
	w := newWorld(t)
	ix, cfg := w.indexers()
	sender, at := crypto.PubkeyToAddress(w.other.PublicKey).Hex(), time.Unix(1_700_000_000, 0)
	onBSC, bscHash := emitted(tezosSender, "of Tezos")
	onTezos, tezosHash := emitted(sender, "of Ethereum")
	ix.bsc.Process([2]time.Time{at, at.Add(time.Hour)})
	ix.bsc.Add(indexertest.Event{ID: "b", Tx: "0xb", Height: 7, At: at, Publisher: tezosSender, Type: "POST", Text: onBSC})
	ix.tezos.Add(indexertest.Event{ID: "t", Tx: "oo", Height: 8, At: at, Sender: sender, Type: "POST", Text: onTezos})
	m := w.open(t.TempDir(), cfg, nil)

	m.follow(cfg)

	if got := m.confirmations(bscHash, tezosHash); got != "[missing missing]" {
		t.Errorf("messages are %s, want none", got)
	}
	for _, source := range []string{"BSC", "TEZOS"} {
		if n, err := m.db.CountSyncEvents(t.Context(), source, state.SyncDropped); err != nil || n != 1 {
			t.Errorf("of %s %d events were dropped, %v, want one", source, n, err)
		}
	}
}

// TestAReorganisationLeavesOtherChainsAlone: what indexers told stays, even of heights and
// with names that the chain has too.
func TestAReorganisationLeavesOtherChainsAlone(t *testing.T) {
	w := newWorld(t)
	ix, cfg := w.indexers()
	both := w.config()
	both.BSC, both.Tezos, both.NULS2 = cfg.BSC, cfg.Tezos, cfg.NULS2
	if err := both.Validate(); err != nil {
		t.Fatal(err)
	}
	m := w.open(t.TempDir(), both, nil)
	here, raw := w.post("here")
	r := w.call(w.emitter, "doEmit", `{"protocol":"aleph","version":1,"content":{"messages":[`+string(raw)+`]}}`)
	sender, at := crypto.PubkeyToAddress(w.other.PublicKey).Hex(), time.Unix(1_700_000_000, 0)
	content, there := emitted(sender, "there")
	ix.bsc.Process([2]time.Time{at, at.Add(time.Hour)})
	ix.bsc.Add(indexertest.Event{ID: "a", Tx: r.Tx.Hex(), Height: int64(r.Number), At: at, Publisher: sender, Type: "POST", Text: content})
	m.sync()
	m.follow(both)
	if m.count([]message.ItemHash{here, there}) != 2 {
		t.Fatalf("confirmations are %s", m.confirmations(here, there))
	}

	w.reorg(1)
	w.mine(1)
	m.sync()

	if got, want := m.confirmations(here, there), fmt.Sprintf("[BSC %s %d %d %s]", r.Tx, r.Number, at.Unix(), sender); got != want {
		t.Errorf("after a reorganisation: %s, want %s", got, want)
	}
}

// liar is an indexer that says that there is more for ever.
type liar struct{}

func (liar) Page(_ context.Context, cursor json.RawMessage, _ time.Time, _ time.Duration) (indexer.Page, error) {
	return indexer.Page{Next: cursor, More: true}, nil
}

// crowdedEnd is the cursor after all that a crowded indexer has, and errCrowded says what of
// it cannot be read.
const crowdedEnd = `{"height":7}`

var errCrowded = errors.New("the indexer has of height 7: too much happened at once")

// crowded is an indexer of one page: of many events, and of others that it passes over.
type crowded int

func (n crowded) Page(_ context.Context, cursor json.RawMessage, _ time.Time, _ time.Duration) (indexer.Page, error) {
	if cursor != nil {
		return indexer.Page{Next: cursor}, nil
	}
	p := indexer.Page{Next: json.RawMessage(crowdedEnd), More: true, Missed: errCrowded}
	for i := range int(n) {
		p.Events = append(p.Events, indexer.Event{ID: fmt.Sprint(i), Tx: crowdedTx(i), Height: 7, Publisher: nuls2Emitter, Text: "no payload"})
	}
	return p, nil
}

// crowdedTx is the transaction of an event of a crowded indexer.
func crowdedTx(i int) string { return fmt.Sprint("tx", i) }

// TestWhatIsPassedOverCanBeFound: in the log, in a metric and in a row that a restart keeps,
// each of which says it once, while each event that was read waits to be taken, however many
// they are.
func TestWhatIsPassedOverCanBeFound(t *testing.T) {
	w := newWorld(t)
	_, cfg := w.indexers()
	var logged bytes.Buffer
	withLog := func(m *member) (chainsync.Chain, chainsync.Intake) {
		m.log = slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelError}))
		return w.client, m.pipe
	}
	dir := t.TempDir()
	m := w.open(dir, cfg, nil, withLog)
	const count = 2*chainsync.EnterMax + 7

	for range 2 {
		if err := m.FollowOnce(t.Context(), chainsync.Source{Chain: "NULS2", Indexer: crowded(count), Emitters: []string{nuls2Emitter}}); err != nil {
			t.Fatal(err)
		}
	}

	if got := metric(t, m.reg, "aleph_chainsync_missed_total"); got != 1 {
		t.Errorf("missed is %v, want 1", got)
	}
	var line struct {
		Level, Chain, Err string
		Count             int
	}
	if err := json.Unmarshal(logged.Bytes(), &line); err != nil || line.Level != "ERROR" || line.Chain != "NULS2" || line.Err != errCrowded.Error() || line.Count != count {
		t.Errorf("logged %q, %v, want one error that says how much of NULS2 was read, and %q", logged.Bytes(), err, errCrowded)
	}
	m.close()
	m = w.open(dir, cfg, nil)
	at, err := m.db.SyncSource(t.Context(), "NULS2")
	if err != nil || at.Events != count+1 || string(at.Cursor) != crowdedEnd {
		t.Errorf("source %+v, %v, want %d events and one for what was passed over", at, err, count)
	}
	if n, err := m.db.CountSyncEvents(t.Context(), "NULS2", state.SyncDropped); err != nil || n != 1 {
		t.Errorf("%d events are dropped, %v, want 1", n, err)
	}
	row := state.SyncEvent{Source: "NULS2", Chain: "NULS2", Tx: chainsync.MissedTx, Index: chainsync.IndexOf(crowdedEnd), Status: state.SyncDropped, Reason: errCrowded.Error()}
	if got, err := m.db.SyncEvent(t.Context(), row.Key()); err != nil || *got != row {
		t.Errorf("what was passed over is %+v, %v, want %+v", got, err, row)
	}
	waiting, err := m.db.SyncEventsDue(t.Context(), time.Now(), false, count+1)
	if err != nil || len(waiting) != count {
		t.Errorf("%d events wait, %v, want %d", len(waiting), err, count)
	}
	missing := map[string]bool{}
	for i := range count {
		missing[crowdedTx(i)] = true
	}
	for _, e := range waiting {
		delete(missing, e.Tx)
	}
	if len(missing) > 0 {
		t.Errorf("%d transactions that were read do not wait: %v", len(missing), slices.Collect(maps.Keys(missing)))
	}
}

// metric is the sum of the values of a counter.
func metric(t *testing.T, reg prometheus.Gatherer, name string) (sum float64) {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}

// TestAnIndexerThatFailsStopsNobodyElse, and one that does not go on is an error.
func TestAnIndexerThatFailsStopsNobodyElse(t *testing.T) {
	w := newWorld(t)
	ix, cfg := w.indexers()
	m := w.open(t.TempDir(), cfg, nil)
	sources, err := cfg.Sources()
	if err != nil || len(sources) != 3 {
		t.Fatalf("%d sources, %v", len(sources), err)
	}
	ix.tezos.SetStatus("in_progress")

	if err := m.FollowOnce(t.Context(), sources[1]); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("an indexer that is not synced: %v", err)
	}
	if err := m.FollowOnce(t.Context(), sources[2]); err != nil {
		t.Errorf("another one: %v", err)
	}
	if _, err := m.db.SyncSource(t.Context(), "TEZOS"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a cursor of what was not read: %v", err)
	}
	if err := m.FollowOnce(t.Context(), chainsync.Source{Chain: "TEZOS", Indexer: liar{}}); errs.KindOf(err) != errs.Internal {
		t.Errorf("an indexer that does not go on: %v", err)
	}
}

func TestIndexersAreChecked(t *testing.T) {
	w := newWorld(t)
	_, good := w.indexers()
	for want, spoil := range map[string]func(*chainsync.Config){
		"bsc.url is":          func(c *chainsync.Config) { c.BSC.URL = "ftp://x" },
		"bsc.address is":      func(c *chainsync.Config) { c.BSC.Contract = "KT1" },
		"tezos.address is":    func(c *chainsync.Config) { c.Tezos.Contract = "a\nb" },
		"nuls2.address is":    func(c *chainsync.Config) { c.NULS2.Address = "" },
		"nuls2.emitters is":   func(c *chainsync.Config) { c.NULS2.Emitters = nil },
		"indexer_interval is": func(c *chainsync.Config) { c.IndexerInterval = 0 },
		"indexer_delay is":    func(c *chainsync.Config) { c.IndexerDelay = -1 },
		"chain is BSC": func(c *chainsync.Config) {
			c.RPCURL, c.Chain, c.Contract = "http://127.0.0.1:1", "BSC", common.Address{1}.Hex()
		},
	} {
		cfg := good
		spoil(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
