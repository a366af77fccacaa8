package chainsync_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chainsync"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/archive"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// publish makes an archive and fails the test if there is none.
func (m *member) publish(archives int) {
	m.w.t.Helper()
	if err := m.PublishOnce(m.w.t.Context()); err != nil {
		m.w.t.Fatalf("publish: %v", err)
	}
	all, err := m.db.Intents(state.LaneSync).With(m.w.t.Context(), 99, state.IntentPending, state.IntentSent, state.IntentConfirmed, state.IntentReverted)
	if err != nil || len(all) != archives {
		m.w.t.Fatalf("there are %d intents, %v, want %d", len(all), err, archives)
	}
}

// TestAnArchiveConfirmsMessages of the node that publishes it, and of one that has
// never heard of them.
func TestAnArchiveConfirmsMessages(t *testing.T) {
	w := newWorld(t)
	a := w.open(t.TempDir(), w.config(), nil)
	b := w.open(t.TempDir(), w.config(), a)
	var hashes []message.ItemHash
	for range 40 {
		hash, raw := w.post("é 😀 <&>")
		hashes = append(hashes, hash)
		a.submit(raw)
	}
	both, raw := w.post("both have it")
	hashes = append(hashes, both)
	a.submit(raw)
	b.submit(raw)
	a.sync()

	a.publish(1)
	a.publish(1) // Not a second time while the first is on its way.
	sent := a.send(common.Hash{})
	a.publish(1) // Nor before it is read back.
	a.sync()
	b.sync()
	a.publish(1) // Nor when all is confirmed.

	if a.count(hashes) != len(hashes) || b.count(hashes) != len(hashes) {
		t.Errorf("%d and %d of %d messages are confirmed once", a.count(hashes), b.count(hashes), len(hashes))
	}
	if got := a.confirmations(hashes...); got != b.confirmations(hashes...) || !strings.Contains(got, sent.TxHash.Hex()) {
		t.Errorf("confirmations differ, or are not of %s:\n%s\n%s", sent.TxHash, got, b.confirmations(hashes...))
	}
	if n := w.events(); n != 1 {
		t.Errorf("%d archives were published, want one", n)
	}
	next, raw := w.post("later")
	a.submit(raw)
	a.publish(2)
	a.send(common.Hash{})
	a.sync()
	b.sync()
	if b.count([]message.ItemHash{next}) != 1 || w.events() != 2 {
		t.Errorf("the next archive has not confirmed the next message: %s", b.confirmations(next))
	}
	for _, m := range []*member{a, b} {
		event, err := m.db.SyncEventsAbove(t.Context(), 0, 9)
		if err != nil || len(event) != 2 || event[1].Status != state.SyncDone || event[1].Taken != len(hashes) || event[1].Text != "" {
			t.Fatalf("events are %+v, %v", event, err)
		}
		if _, err := m.db.Pin(t.Context(), event[1].PinKey()); err != nil {
			t.Errorf("the archive is not pinned: %v", err)
		}
	}
}

// TestAReorganisationTakesConfirmationsBack, and the same transaction gives them again.
func TestAReorganisationTakesConfirmationsBack(t *testing.T) {
	w := newWorld(t)
	a := w.open(t.TempDir(), w.config(), nil)
	b := w.open(t.TempDir(), w.config(), a)
	hash, raw := w.post("a")
	a.submit(raw)
	a.sync()
	a.publish(1)
	first := a.send(common.Hash{})
	a.sync()
	b.sync()
	before := a.confirmations(hash)
	head, err := w.client.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	w.reorg(int(head.Number-first.MinedAt) + 1)
	w.mine(1)
	a.sync()
	b.sync()

	if got := a.confirmations(hash) + b.confirmations(hash); got != "[][]" {
		t.Fatalf("after the reorganisation: %s, want no confirmations", got)
	}
	if events, err := b.db.SyncEventsAbove(t.Context(), 0, 9); err != nil || len(events) != 0 {
		t.Errorf("events that are gone: %+v, %v", events, err)
	}
	a.publish(1) // The first is to be sent again.
	again := a.send(first.MinedIn)
	a.sync()
	b.sync()
	after := a.confirmations(hash)
	if again.TxHash != first.TxHash || again.MinedIn == first.MinedIn {
		t.Errorf("transaction %s in block %s, want the same as before, %s, in another block", again.TxHash, again.MinedIn, first.TxHash)
	}
	if after == before || after != b.confirmations(hash) || b.count([]message.ItemHash{hash}) != 1 || w.events() != 1 {
		t.Errorf("confirmations are %s and %s, want the same, and others than %s", after, b.confirmations(hash), before)
	}
}

// TestMessagesOfContracts are taken without a signature, with the hash that every node
// computes, and are gone with their transaction.
func TestMessagesOfContracts(t *testing.T) {
	w := newWorld(t)
	a := w.open(t.TempDir(), w.config(), nil)
	sender := crypto.PubkeyToAddress(w.other.PublicKey).Hex()
	content := `{"address": "` + sender + `", "time": 1000.0, "content": {"body": "by a contract"}, "ref": null, "type": "my-type"}`
	w.call(w.other, "doMessage", "POST", content)
	hash := message.HashOf([]byte(content))
	store := w.call(w.other, "doMessage", "STORE_IPFS", "QmaMLRsvmDRCezZe2iebcKWtEzKNjBaQfwcu7mcpdm8eY2")
	w.call(w.other, "doMessage", "STORE_IPFS", "nothing")
	w.call(w.other, "doMessage", "POST", "no JSON")

	a.sync()

	m, err := a.db.Message(t.Context(), hash)
	if err != nil || m.Envelope.Sender != sender || m.Envelope.Signature != "" || m.Owner != sender {
		t.Fatalf("message of a contract: %+v, %v", m, err)
	}
	if a.count([]message.ItemHash{hash}) != 1 {
		t.Errorf("its confirmations are %s", a.confirmations(hash))
	}
	events, err := a.db.SyncEventsAbove(t.Context(), 0, 9)
	if err != nil || len(events) != 4 {
		t.Fatalf("events: %+v, %v", events, err)
	}
	if e := events[1]; e.Status != state.SyncDropped || !strings.Contains(e.Reason, "want a CID") {
		t.Errorf("an event without a CID: %+v", e)
	}
	header, err := w.client.Header(t.Context(), store.Number)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(int64(header.Time), 0)
	want, err := archive.Event{Chain: message.Ethereum, Sender: sender, At: at, Type: "STORE_IPFS", Content: "QmaMLRsvmDRCezZe2iebcKWtEzKNjBaQfwcu7mcpdm8eY2"}.Message(at)
	if err != nil {
		t.Fatal(err)
	}
	waits, err := a.db.PendingFor(t.Context(), want.ItemHash)
	if err != nil || len(waits) != 1 || waits[0].Code != message.CodeFileUnavailable {
		t.Errorf("a file that is nowhere: %+v, %v, want it to wait", waits, err)
	}

	w.reorg(4)
	a.sync()

	if _, err := a.db.Message(t.Context(), hash); !errors.Is(err, errs.NotFound) {
		t.Errorf("the message outlived its transaction: %v", err)
	}
	if waits, err := a.db.PendingFor(t.Context(), want.ItemHash); err != nil || len(waits) != 0 {
		t.Errorf("a message waits whose transaction is gone: %+v, %v", waits, err)
	}
	w.call(w.other, "doMessage", "POST", content)
	a.sync()
	if a.count([]message.ItemHash{hash}) != 1 {
		t.Errorf("when it comes again its confirmations are %s", a.confirmations(hash))
	}
}

// TestAnArchiveThatNobodyHasDelaysNothing, and is taken when somebody has it.
func TestAnArchiveThatNobodyHasDelaysNothing(t *testing.T) {
	w := newWorld(t)
	a := w.open(t.TempDir(), w.config(), nil)
	b := w.open(t.TempDir(), w.config(), a)
	first, raw := w.post("first")
	var late archive.Writer
	add(t, &late, raw)
	file, err := a.files.Add(t.Context(), late.Bytes(), unasked)
	if err != nil {
		t.Fatal(err)
	}
	second, raw := w.post("second")
	w.call(w.emitter, "doEmit", archive.Reference(file.Hash))
	w.call(w.emitter, "doEmit", `{"protocol":"aleph","version":1,"content":{"messages":[`+string(raw)+`,{"bad":true}]}}`)
	b.files.cut.Store(true)

	b.sync()

	if got := b.confirmations(first); got != "[missing]" {
		t.Errorf("the message of an archive that is nowhere: %s", got)
	}
	if b.count([]message.ItemHash{second}) != 1 {
		t.Errorf("a later event waits too: %s", b.confirmations(second))
	}
	waiting := func() int {
		n, err := b.db.CountSyncEvents(t.Context(), "", state.SyncWaiting)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	events, err := b.db.SyncEventsAbove(t.Context(), 0, 9)
	if err != nil || waiting() != 1 || events[1].Attempts != 1 || !strings.Contains(events[1].Reason, "nobody has it") {
		t.Errorf("%d events wait, %v: %+v", waiting(), err, events)
	}
	b.files.cut.Store(false)
	wait(t, "the archive is taken", func() bool {
		if err := b.TakeOnce(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		return waiting() == 0
	})
	if b.count([]message.ItemHash{first}) != 1 {
		t.Errorf("after its archive came: %s", b.confirmations(first))
	}
}

func add(t *testing.T, w *archive.Writer, raw json.RawMessage) {
	t.Helper()
	var e message.Envelope
	if err := e.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	if !w.Add(&e) {
		t.Fatal("full")
	}
}

// TestOnlyWhatCanBeUsedCounts: events of others do not, and what says nothing is
// dropped with a reason.
func TestOnlyWhatCanBeUsedCounts(t *testing.T) {
	w := newWorld(t)
	a := w.open(t.TempDir(), w.config(), nil)
	hash, raw := w.post("by somebody else")
	w.call(w.other, "doEmit", `{"protocol":"aleph","version":1,"content":{"messages":[`+string(raw)+`]}}`)
	file, err := a.files.Add(t.Context(), []byte("no archive"), unasked)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{"", "{", `{"protocol":"aleph","version":2,"content":{"messages":[]}}`, archive.Reference(file.Hash)}
	for _, text := range texts {
		w.call(w.emitter, "doEmit", text)
	}
	w.call(w.other, "doMessage", strings.Repeat("x", archive.MaxTypeBytes+1), "text")

	a.sync()

	if got := a.confirmations(hash); got != "[missing]" {
		t.Errorf("an archive of somebody else counts: %s", got)
	}
	events, err := a.db.SyncEventsAbove(t.Context(), 0, 99)
	if err != nil || len(events) != len(texts)+1 {
		t.Fatalf("%d events, %v, want %d", len(events), err, len(texts)+1)
	}
	if !strings.Contains(events[0].Reason, "its type has 65 bytes, at most 64") {
		t.Errorf("the newest was dropped because %q, want its type", events[0].Reason)
	}
	for _, e := range events {
		if e.Status != state.SyncDropped || e.Reason == "" || e.Text != "" || e.Type != "" {
			t.Errorf("event %+v, want it dropped with a reason", e)
		}
	}
}

// broken is an intake that fails after some messages, as a process that dies.
type broken struct {
	*ingest.Pipeline
	left atomic.Int64
}

func (b *broken) Anchor(ctx context.Context, raw json.RawMessage, o state.Origin, now time.Time) error {
	if b.left.Add(-1) < 0 {
		return errs.New(errs.Unavailable, "the process died")
	}
	return b.Pipeline.Anchor(ctx, raw, o, now)
}

// TestNodesThatDieLoseNothing: the reader in the middle of an archive, and the
// publisher before its transaction was sent.
func TestNodesThatDieLoseNothing(t *testing.T) {
	w := newWorld(t)
	dirA, dirB := t.TempDir(), t.TempDir()
	a := w.open(dirA, w.config(), nil)
	var hashes []message.ItemHash
	for range 700 { // More than a chunk.
		hash, raw := w.post("x")
		hashes = append(hashes, hash)
		a.submit(raw)
	}
	a.sync()
	a.publish(1)
	a.close()
	a = w.open(dirA, w.config(), nil)
	a.sync()
	a.publish(1)
	a.send(common.Hash{})
	b := w.open(dirB, w.config(), a, func(m *member) (chainsync.Chain, chainsync.Intake) {
		dies := &broken{Pipeline: m.pipe}
		dies.left.Store(600)
		return w.client, dies
	})
	b.sync()
	n := b.count(hashes)
	events, err := b.db.SyncEventsAbove(t.Context(), 0, 9)
	if err != nil || n == 0 || n == len(hashes) || events[0].Taken != 512 {
		t.Fatalf("%d of %d messages are confirmed, %v: %+v, want a part", n, len(hashes), err, events)
	}
	b.close()

	b = w.open(dirB, w.config(), a)
	a.sync()
	wait(t, "the rest of the archive is taken", func() bool {
		b.sync()
		if err := b.TakeOnce(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		return b.count(hashes) == len(hashes)
	})

	if a.count(hashes) != len(hashes) || w.events() != 1 {
		t.Errorf("%d of %d messages are confirmed by %d archives, want all by one", a.count(hashes), len(hashes), w.events())
	}
	if last, err := b.db.LastMessage(t.Context()); err != nil || last != int64(len(hashes))-1 {
		t.Errorf("the last message is number %d, %v, want each of %d once", last, err, len(hashes))
	}
}

// narrow is a chain whose RPC answers no long ranges.
type narrow struct {
	*chain.Client
	most  uint64
	asked atomic.Int64
}

func (n *narrow) LogsBetween(ctx context.Context, from, to uint64, contracts []common.Address) ([]types.Log, error) {
	n.asked.Add(1)
	if to-from+1 > n.most {
		return nil, errs.New(errs.Unavailable, "query returned more than 10000 results")
	}
	return n.Client.LogsBetween(ctx, from, to, contracts)
}

// TestRangesFollowWhatTheRPCAllows, and reading goes on where it was.
func TestRangesFollowWhatTheRPCAllows(t *testing.T) {
	w := newWorld(t)
	rpc := &narrow{Client: w.client, most: 7}
	dir := t.TempDir()
	open := func() *member {
		return w.open(dir, w.config(), nil, func(m *member) (chainsync.Chain, chainsync.Intake) { return rpc, m.pipe })
	}
	a := open()
	w.mine(60)
	hash, raw := w.post("far")
	w.call(w.emitter, "doEmit", `{"protocol":"aleph","version":1,"content":{"messages":[`+string(raw)+`]}}`)
	failed := 0
	for a.ReadOnce(t.Context()) != nil {
		if failed++; failed > 9 {
			t.Fatal("it never finds a range that the RPC answers")
		}
	}
	a.sync()
	if a.count([]message.ItemHash{hash}) != 1 || a.Span() > 14 {
		t.Errorf("with ranges of %d blocks: %s", a.Span(), a.confirmations(hash))
	}
	a.close()
	a = open()
	before := rpc.asked.Load()
	a.sync()
	if n := rpc.asked.Load() - before; n != 0 {
		t.Errorf("%d queries after a restart, want none: all was read", n)
	}
	rpc.most = 1000
	w.mine(200)
	a.sync()
	if a.Span() < 2000 {
		t.Errorf("the span is %d, want it to stay as long as the RPC answers", a.Span())
	}
}

// TestEventsAreReadWhenTheyAreDeep enough, and not when an RPC is behind.
func TestEventsAreReadWhenTheyAreDeep(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Confirmations = 3
	a := w.open(t.TempDir(), cfg, nil)
	hash, raw := w.post("deep")
	w.call(w.emitter, "doEmit", `{"protocol":"aleph","version":1,"content":{"messages":[`+string(raw)+`]}}`)
	w.mine(2)
	a.sync()
	if got := a.confirmations(hash); got != "[missing]" {
		t.Errorf("two blocks deep: %s", got)
	}
	w.reorg(3) // Nobody has seen it.
	w.call(w.emitter, "doEmit", `{"protocol":"aleph","version":1,"content":{"messages":[`+string(raw)+`]}}`)
	w.mine(3)
	a.sync()
	if a.count([]message.ItemHash{hash}) != 1 {
		t.Errorf("three blocks deep: %s", a.confirmations(hash))
	}
}

// behind is a chain whose RPC has not heard of the newest blocks.
type behind struct {
	*chain.Client
	by atomic.Int64
}

func (b *behind) Head(ctx context.Context) (*chain.Header, error) {
	head, err := b.Client.Head(ctx)
	if err != nil || b.by.Load() == 0 {
		return head, err
	}
	return b.Header(ctx, head.Number-uint64(b.by.Load()))
}

// TestAnRPCThatIsBehindTakesNothingBack, but one that is behind and on another branch
// does.
func TestAnRPCThatIsBehindTakesNothingBack(t *testing.T) {
	w := newWorld(t)
	rpc := &behind{Client: w.client}
	a := w.open(t.TempDir(), w.config(), nil, func(m *member) (chainsync.Chain, chainsync.Intake) { return rpc, m.pipe })
	w.mine(3)
	a.sync()
	hash, raw := w.post("seen")
	w.call(w.emitter, "doEmit", `{"protocol":"aleph","version":1,"content":{"messages":[`+string(raw)+`]}}`)
	w.mine(1)
	a.sync()

	rpc.by.Store(4)
	a.sync()

	if a.count([]message.ItemHash{hash}) != 1 {
		t.Errorf("after an RPC was behind: %s", a.confirmations(hash))
	}
	w.reorg(5)
	rpc.by.Store(1)
	a.sync()
	if got := a.confirmations(hash); got != "[]" {
		t.Errorf("after an RPC was behind on another branch: %s", got)
	}
}

// TestAnotherHistoryTakesNothingBack: what is too deep to change has not changed, so it
// is the RPC that is wrong.
func TestAnotherHistoryTakesNothingBack(t *testing.T) {
	w := newWorld(t)
	a := w.open(t.TempDir(), w.config(), nil)
	err := a.db.Update(t.Context(), func(tx *state.Tx) error {
		for _, number := range []uint64{1, 1 + chainsync.UndoMax} {
			if err := tx.PutSyncBlock(t.Context(), state.Block{Number: number, Hash: common.BigToHash(new(big.Int).SetUint64(number))}); err != nil {
				return err
			}
		}
		return tx.PutSyncEvent(t.Context(), state.SyncEvent{Tx: "0x1", Number: 9, Status: state.SyncDone})
	})
	if err != nil {
		t.Fatal(err)
	}

	err = a.ReadOnce(t.Context())

	if errs.KindOf(err) != errs.Internal || !strings.Contains(err.Error(), "[sync] rpc_url") {
		t.Errorf("error %v, want what to do", err)
	}
	if events, err := a.db.SyncEventsAbove(t.Context(), 0, 9); err != nil || len(events) != 1 {
		t.Errorf("events are %+v, %v, want them untouched", events, err)
	}
}

// TestWhatWaitsIsConfirmedWhileItsTransactionStays: two messages wait for another one,
// and the transaction of one of them goes meanwhile.
func TestWhatWaitsIsConfirmedWhileItsTransactionStays(t *testing.T) {
	w := newWorld(t)
	a := w.open(t.TempDir(), w.config(), nil)
	original, first := w.post("original")
	emit := func(raw json.RawMessage) {
		w.call(w.emitter, "doEmit", `{"protocol":"aleph","version":1,"content":{"messages":[`+string(raw)+`]}}`)
	}
	stays, raw := w.amend(original, "stays")
	emit(raw)
	goes, raw := w.amend(original, "goes")
	emit(raw)
	a.sync()
	if got := a.confirmations(stays, goes); got != "[missing missing]" {
		t.Fatalf("amends of a post that is not here: %s", got)
	}
	w.reorg(1)
	a.sync()

	a.submit(first)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.pipe.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("pipeline: %v", err)
		}
	}()

	wait(t, "both amends count", func() bool { return !strings.Contains(a.confirmations(stays, goes), "missing") })
	if a.count([]message.ItemHash{stays}) != 1 || a.count([]message.ItemHash{goes}) != 0 {
		t.Errorf("confirmations are %s and %s, want one of the first alone", a.confirmations(stays), a.confirmations(goes))
	}
}

// TestWhatNobodySignedIsNotPublished: others would refuse it, and an archive of nothing
// costs as much as any.
func TestWhatNobodySignedIsNotPublished(t *testing.T) {
	w := newWorld(t)
	a := w.open(t.TempDir(), w.config(), nil)
	_, raw := w.post("preset")
	var e message.Envelope
	if err := e.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	e.Signature = ""
	if _, err := a.pipe.Preset(t.Context(), &e, time.Now()); err != nil {
		t.Fatal(err)
	}
	a.publish(0) // The chain was not read yet.
	a.sync()
	a.publish(0)
}

// TestAForgottenMessageOfAContractGoesToo: when its transaction is gone, it cannot come to
// count again.
func TestAForgottenMessageOfAContractGoesToo(t *testing.T) {
	w := newWorld(t)
	a := w.open(t.TempDir(), w.config(), nil)
	sender := crypto.PubkeyToAddress(w.other.PublicKey).Hex()
	content, hash := emitted(sender, "by a contract")
	w.call(w.other, "doMessage", "POST", content)
	a.sync()
	a.submit(w.forget(hash))
	sealed := func() bool {
		t.Helper()
		s, err := a.db.Skeleton(t.Context(), hash)
		if err != nil {
			t.Fatal(err)
		}
		return s.Sealed != nil
	}
	if !sealed() {
		t.Fatal("what may count again is not kept")
	}
	w.call(w.other, "doMessage", "POST", content) // Named twice.
	a.sync()

	w.reorg(1)
	w.mine(1)
	a.sync()
	if !sealed() {
		t.Error("the first transaction still names it")
	}
	head, err := w.client.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.reorg(int(head.Number) - 1)
	a.sync()
	if sealed() {
		t.Error("nothing names it, and it may count again")
	}
}
