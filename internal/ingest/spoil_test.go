package ingest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// noCID looks like the name of IPFS content, and is none.
const noCID = message.ItemHash("Qm11111111111111111111111111111111111111111111")

// elsewhere is a POST whose content is in a file.
func elsewhere(t *testing.T, hash message.ItemHash) []byte {
	t.Helper()
	return elsewhereBy(t, key(t, "owner"), hash)
}

func elsewhereBy(t *testing.T, k *ecdsa.PrivateKey, hash message.ItemHash) []byte {
	t.Helper()
	e := &message.Envelope{Chain: message.Ethereum, Type: message.TypePost, Time: time.Now(), ItemType: hash.Type(), ItemHash: hash}
	if err := signature.SignEVM(k, e); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func post(t *testing.T, text string) []byte {
	t.Helper()
	k := key(t, "owner")
	_, raw := envelope(t, k, message.TypePost, map[string]any{"address": addressOf(k), "time": 1, "type": "t", "content": text})
	return raw
}

// TestNamesThatNothingHasAreRefused: they are the sender's fault, not this node's.
func TestNamesThatNothingHasAreRefused(t *testing.T) {
	n := open(t, "n", config(true))
	k := key(t, "owner")
	_, file := envelope(t, k, message.TypeStore, map[string]any{"address": addressOf(k), "time": 1, "item_type": "ipfs", "item_hash": noCID})
	for name, raw := range map[string][]byte{"file": file, "content": elsewhere(t, noCID)} {
		v, err := n.pipe.Submit(t.Context(), ingest.Submission{Raw: raw, At: time.Now()})
		if err != nil || v.Status != state.MessageRejected || v.Refusal.Code != message.CodeInvalidFormat {
			t.Errorf("%s: %+v, %v; want it rejected with code 0", name, v, err)
		}
	}
}

// TestContentsThatAreTooLongAreRefused, also when they come late.
func TestContentsThatAreTooLongAreRefused(t *testing.T) {
	n := open(t, "n", config(true))
	content := bytes.Repeat([]byte(" "), 4<<20)
	hash := message.HashOf(content)
	if v := n.submit(t, elsewhere(t, hash)); v.Status != state.MessagePending {
		t.Fatalf("without its content: %+v", v)
	}
	if _, err := n.blobs.Put(t.Context(), bytes.NewReader(content), ""); err != nil {
		t.Fatal(err)
	}
	p2ptest.Start(t, n.host)
	n.run(t)
	if k := n.waitFor(t, hash, state.MessageRejected); k.Rejected.Code != message.CodeInvalidFormat {
		t.Errorf("with it: code %d, want 0", k.Rejected.Code)
	}
}

// TestOneMessageDoesNotSpoilTheOthers that share its transaction.
func TestOneMessageDoesNotSpoilTheOthers(t *testing.T) {
	n := open(t, "n", config(true))
	n.pipe.SetPendingMax(1)
	ref := message.HashOf([]byte("missing"))
	n.submit(t, elsewhere(t, ref)) // Now nothing more can wait.

	got, err := n.pipe.SubmitTogether(t.Context(), post(t, "first"), elsewhere(t, message.HashOf([]byte("missing too"))), post(t, "last"))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 2} {
		if got[i].Err != nil || got[i].Verdict.Status != state.MessageProcessed {
			t.Errorf("message %d: %+v, %v; want it processed", i, got[i].Verdict, got[i].Err)
		}
	}
	if errs.KindOf(got[1].Err) != errs.Unavailable || got[1].Verdict != nil || !strings.Contains(got[1].Err.Error(), "wait already") {
		t.Errorf("one too many: %+v, %v; want errs.Unavailable", got[1].Verdict, got[1].Err)
	}
}

// TestWhatCannotBeJudgedIsNotTriedForEver, as it would delay all that waits.
func TestWhatCannotBeJudgedIsNotTriedForEver(t *testing.T) {
	cfg := config(true)
	cfg.RetriesMax = 1
	n := open(t, "n", cfg)
	hash, raw := store(t, key(t, "owner"), message.HashOf([]byte("missing")))
	if v := n.submit(t, raw); v.Status != state.MessagePending {
		t.Fatalf("without its file: %+v", v)
	}
	n.broken.Store(true)
	p2ptest.Start(t, n.host)
	n.run(t)

	if k := n.waitFor(t, hash, state.MessageRejected); k.Rejected.Code != message.CodeInternal {
		t.Errorf("code %d, want -1", k.Rejected.Code)
	}
}

// amending is a node, and a post and its amend, in this order.
func amending(t *testing.T, retries int) (n *node, tr *traffic, amend message.ItemHash) {
	t.Helper()
	cfg := config(false)
	cfg.RetriesMax = retries
	tr = &traffic{t: t, names: map[message.ItemHash]string{}, second: 1_700_000_000}
	original := tr.post("original", key(t, "alice"))
	return open(t, "n", cfg), tr, tr.post("amend", key(t, "alice"), "type", "amend", "ref", original)
}

// TestNobodySpoilsAnothersMessage with a copy of it that does not count.
func TestNobodySpoilsAnothersMessage(t *testing.T) {
	for name, retries := range map[string]int{"that waits": 10, "that was refused": 0} {
		t.Run(name, func(t *testing.T) {
			n, tr, amend := amending(t, retries)
			var env message.Envelope
			if err := env.UnmarshalJSON(tr.raw[1]); err != nil {
				t.Fatal(err)
			}
			stranger, forged := env, env
			if err := signature.SignEVM(key(t, "bob"), &stranger); err != nil {
				t.Fatal(err)
			}
			forged.Signature = stranger.Signature
			n.submit(t, tr.raw[1])
			for _, e := range []message.Envelope{stranger, forged} {
				raw, err := json.Marshal(e)
				if err != nil {
					t.Fatal(err)
				}
				if v := n.submit(t, raw); v.Status != state.MessageRejected {
					t.Fatalf("a copy by %s: %+v", e.Sender, v)
				}
			}
			if k, err := n.db.Known(t.Context(), amend); err != nil || k.Rejected != nil && k.Rejected.Code != message.CodePostAmendNotFound {
				t.Errorf("before its original comes: %+v, %v", k, err)
			}
			n.submit(t, tr.raw[0])
			if err := n.pipe.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			if k, err := n.db.Known(t.Context(), amend); err != nil || k.Status != state.MessageProcessed {
				t.Errorf("after its original came: %+v, %v; want it processed", k, err)
			}
		})
	}
}

// TestConfirmationsOutlastTheWait of a message that a transaction names.
func TestConfirmationsOutlastTheWait(t *testing.T) {
	for name, retries := range map[string]int{"that waits": 10, "that was refused": 0} {
		t.Run(name, func(t *testing.T) {
			n, tr, amend := amending(t, retries)
			tx := state.Transaction{Chain: message.Ethereum, Hash: "0x1", Height: 1, At: time.Unix(1, 0)}

			n.submit(t, tr.raw[1])
			if _, err := n.pipe.Confirm(t.Context(), tr.raw[1], tx); err != nil {
				t.Fatal(err)
			}
			n.submit(t, tr.raw[1])
			n.submit(t, tr.raw[0])
			if err := n.pipe.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}

			got, err := n.db.Confirmations(t.Context(), []message.ItemHash{amend})
			if err != nil || len(got[amend]) != 1 {
				t.Errorf("confirmations: %v, %v; want one", got, err)
			}
		})
	}
}

// TestWhoWaitsForBytesDelaysNobodyElse, however many they are.
func TestWhoWaitsForBytesDelaysNobodyElse(t *testing.T) {
	n := openAlone(t, config(true))
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		for i := range ingest.DueMax {
			row := state.Pending{Key: fmt.Sprint(i), RetryAt: time.Unix(1, 0), Code: message.CodeFileUnavailable}
			if err := tx.PutPending(ctx, row); err != nil {
				return err
			}
		}
		return tx.PutPending(ctx, state.Pending{Key: "amend", RetryAt: time.Unix(2, 0), Code: message.CodePostAmendNotFound})
	})
	for bytes, want := range map[bool]int{true: ingest.DueMax, false: 1} {
		if due, err := n.pipe.Due(t.Context(), bytes); err != nil || len(due) != want {
			t.Errorf("for bytes %t: %d due, %v; want %d", bytes, len(due), err, want)
		}
	}
}

// TestWhatWasWokenComesFirst, however many wait longer for what does not come; and if
// it was woken in vain it delays no other that was.
func TestWhatWasWokenComesFirst(t *testing.T) {
	n := openAlone(t, config(true))
	hash, raw := store(t, key(t, "owner"), message.HashOf([]byte("file")))
	v := n.submit(t, raw)
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		for i := range ingest.DueMax + 1 {
			row := state.Pending{Key: fmt.Sprint(i), RetryAt: time.Unix(1, 0), Code: message.CodeFileUnavailable, Envelope: raw}
			if err := tx.PutPending(ctx, row); err != nil {
				return err
			}
		}
		return nil
	})
	if err := n.pipe.Uploaded(t.Context(), state.FileInfo{Hash: message.HashOf([]byte("file")), SizeBytes: 1}, time.Now()); err != nil || v.Status != state.MessagePending {
		t.Fatal(v, err)
	}
	due, err := n.pipe.Due(t.Context(), true)
	if err != nil || len(due) == 0 || due[0].Hash != hash || !due[0].Woken {
		t.Fatalf("%d due, %v; want the one that was woken before all others", len(due), err)
	}
	n.pipe.StopFetching()
	if err := n.pipe.FetchPass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if due, err := n.pipe.Due(t.Context(), true); err != nil || len(due) != ingest.DueMax || due[0].Woken {
		t.Errorf("%d due, %v; want none to be woken any more, as the bytes are not here", len(due), err)
	}
}

// deaf is a network of one peer, which has nothing. It notes until when it was asked.
type deaf struct {
	ingest.Network
	asked []time.Time
}

func (*deaf) Subscribe(string, p2p.Validator, func(context.Context, p2p.Gossip)) error { return nil }
func (*deaf) HandleAsk(string, p2p.AskHandler)                                         {}
func (*deaf) Connected() []p2p.PeerID                                                  { return []p2p.PeerID{"peer"} }

func (d *deaf) Ask(ctx context.Context, _ p2p.PeerID, _, _ any) error {
	until, _ := ctx.Deadline()
	d.asked = append(d.asked, until)
	return errs.New(errs.NotFound, "nothing is here")
}

// TestOneMessageDoesNotTakeAllTheTime: however many files it names, the peers have one
// while to answer for all of them.
func TestOneMessageDoesNotTakeAllTheTime(t *testing.T) {
	n, net := openAlone(t, config(true)), &deaf{}
	var err error
	if n.pipe, err = ingest.New(config(true), domain(), n.db, net, noFiles{}, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	_, raw := instance(t, key(t, "owner"), message.HashOf([]byte("root")), func(c map[string]any) {
		c["volumes"] = []any{map[string]any{"ref": message.HashOf([]byte("1"))}, map[string]any{"ref": message.HashOf([]byte("2"))}}
	})
	env, err := message.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}

	n.pipe.ObtainMissing(t.Context(), env)

	if len(net.asked) != 3 || net.asked[0] != net.asked[2] {
		t.Errorf("asked until %v, want three times until the same", net.asked)
	}
}

// brokenFiles panics when it is asked for one file.
type brokenFiles struct {
	noFiles
	hash message.ItemHash
}

func (f brokenFiles) Stat(ctx context.Context, hash message.ItemHash) (state.FileInfo, error) {
	if hash == f.hash {
		panic("no such case")
	}
	return f.noFiles.Stat(ctx, hash)
}

// TestAPanicEndsOneMessage, and neither those that come with it nor those that come
// later.
func TestAPanicEndsOneMessage(t *testing.T) {
	bad := message.HashOf([]byte("bad"))
	n := openAlone(t, config(true))
	var err error
	if n.pipe, err = ingest.New(config(true), domain(), n.db, nil, brokenFiles{hash: bad}, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	k := key(t, "owner")
	_, file := envelope(t, k, message.TypeStore, map[string]any{"address": addressOf(k), "time": 1, "item_type": "storage", "item_hash": bad})

	got, err := n.pipe.SubmitTogether(t.Context(), post(t, "with it"), file)
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Err != nil || got[0].Verdict.Status != state.MessageProcessed {
		t.Errorf("with it: %+v", got[0])
	}
	if errs.KindOf(got[1].Err) != errs.Internal {
		t.Errorf("the message: %+v, want an internal error", got[1])
	}
	if _, err := n.pipe.Submit(t.Context(), ingest.Submission{Raw: file, At: time.Now()}); errs.KindOf(err) != errs.Internal {
		t.Errorf("the message again: %v, want an internal error", err)
	}
	if v := n.submit(t, post(t, "later")); v.Status != state.MessageProcessed {
		t.Errorf("later: %+v", v)
	}
}

// slowFiles has one file, and another one takes until nobody wants it any more.
type slowFiles struct {
	noFiles
	quick, slow message.ItemHash
	asked       chan struct{} // Closed when the slow one is asked for.
}

func (f slowFiles) Stat(ctx context.Context, hash message.ItemHash) (state.FileInfo, error) {
	select {
	case <-f.asked:
		if hash == f.quick {
			return state.FileInfo{Hash: hash, SizeBytes: 1}, nil
		}
	default:
	}
	return f.noFiles.Stat(ctx, hash)
}

func (f slowFiles) Fetch(ctx context.Context, hash message.ItemHash) error {
	if hash == f.slow {
		close(f.asked)
		<-ctx.Done()
	}
	return f.noFiles.Fetch(ctx, hash)
}

// TestASlowFileDelaysNoOther.
func TestASlowFileDelaysNoOther(t *testing.T) {
	files := slowFiles{quick: message.HashOf([]byte("quick")), slow: message.HashOf([]byte("slow")), asked: make(chan struct{})}
	n := openAlone(t, config(true))
	var err error
	if n.pipe, err = ingest.New(config(true), domain(), n.db, nil, files, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	k := key(t, "owner")
	store := func(file message.ItemHash) (message.ItemHash, []byte) {
		return envelope(t, k, message.TypeStore, map[string]any{"address": addressOf(k), "time": 1, "item_type": "storage", "item_hash": file})
	}
	_, slow := store(files.slow)
	hash, quick := store(files.quick)
	n.submit(t, slow)
	n.run(t)
	if v := n.submit(t, quick); v.Status == state.MessagePending {
		<-files.asked
	}
	n.waitFor(t, hash, state.MessageProcessed)
}

// TestWhatAForgetRepeatsIsReadOnce: each reading of this aggregate takes its time.
func TestWhatAForgetRepeatsIsReadOnce(t *testing.T) {
	const elements = 100
	n, alice := openAlone(t, config(false)), key(t, "alice")
	tr := &traffic{t: t, names: map[message.ItemHash]string{}, second: 1_700_000_000}
	whole := string(message.HashOf([]byte("key")))
	for range elements {
		tr.aggregate("element", alice, whole, map[string]any{"a": strings.Repeat("x", 100_000), "b": tr.second})
	}
	tr.say("forget", alice, message.TypeForget, map[string]any{
		"hashes": slices.Repeat([]message.ItemHash{tr.hashes[0]}, message.MaxForgetTargets), "aggregates": slices.Repeat([]string{whole}, message.MaxForgetTargets),
	})
	if _, err := n.pipe.SubmitTogether(t.Context(), tr.raw[:elements]...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if out, err := n.pipe.SubmitTogether(ctx, tr.raw[elements]); err != nil || out[0].Err != nil {
		t.Fatalf("%+v, %v", out, err)
	}
	for _, hash := range tr.hashes[:elements] {
		if k, err := n.db.Known(t.Context(), hash); err != nil || k.Status != state.MessageForgotten || len(k.Skeleton.ForgottenBy) != 1 {
			t.Fatalf("element: %+v, %v; want it forgotten once", k, err)
		}
	}
}

// amendsOfNothing are amends by one sender, whose originals nobody has.
func amendsOfNothing(t *testing.T, k *ecdsa.PrivateKey, n int) (out [][]byte) {
	t.Helper()
	for i := range n {
		_, raw := envelope(t, k, message.TypePost, map[string]any{
			"address": addressOf(k), "time": 1, "type": "amend", "content": "x", "ref": message.HashOf([]byte(fmt.Sprint("nothing", i))),
		})
		out = append(out, raw)
	}
	return out
}

// TestOneSenderHasAShareOfWhatWaits, so that others can wait too.
func TestOneSenderHasAShareOfWhatWaits(t *testing.T) {
	n := openAlone(t, config(false))
	n.pipe.SetPendingMax(20) // Two of one sender.
	amends := amendsOfNothing(t, key(t, "greedy"), 3)
	n.submit(t, amends[0])
	together, err := n.pipe.SubmitTogether(t.Context(), amends[1], amends[2])
	if err != nil {
		t.Fatal(err)
	}
	if together[0].Err != nil || together[0].Verdict.Status != state.MessagePending {
		t.Errorf("the second: %+v, want it to wait", together[0])
	}
	if err := together[1].Err; errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "of this sender") {
		t.Errorf("one too many: %v, want errs.Unavailable for the sender's sake", err)
	}
	if v := n.submit(t, amendsOfNothing(t, key(t, "other"), 1)[0]); v.Status != state.MessagePending {
		t.Errorf("somebody else's: %+v, want it to wait", v)
	}
	if got, err := n.pipe.Hear(t.Context(), amends[2]); err != nil || got.Status != state.MessageRejected {
		t.Errorf("one too many that a peer has processed: %+v, %v; want it refused, and the history goes on", got, err)
	}
	if got, err := n.pipe.Hear(t.Context(), elsewhereBy(t, key(t, "greedy"), message.HashOf([]byte("missing")))); err != nil || got.Status != state.MessagePending {
		t.Errorf("one that a peer has processed and that lacks bytes: %+v, %v; want it to wait", got, err)
	}
}

// TestWhatWaitsMayBeHandedInAgain, also when nothing more may wait; it keeps its looks.
func TestWhatWaitsMayBeHandedInAgain(t *testing.T) {
	n := openAlone(t, config(false))
	n.pipe.SetPendingMax(1)
	raw := amendsOfNothing(t, key(t, "owner"), 1)[0]
	hash := n.submit(t, raw).ItemHash
	for range 3 {
		rows, err := n.db.PendingFor(t.Context(), hash)
		if err != nil || len(rows) != 1 {
			t.Fatal(rows, err)
		}
		if err := n.pipe.Retry(t.Context(), &rows[0]); err != nil {
			t.Fatal(err)
		}
	}
	before, err := n.db.PendingFor(t.Context(), hash)
	if err != nil || before[0].Attempts != 3 {
		t.Fatal(before, err)
	}

	if v := n.submit(t, raw); v.Status != state.MessagePending {
		t.Errorf("again: %+v, want it to wait still", v)
	}

	after, err := n.db.PendingFor(t.Context(), hash)
	if err != nil || len(after) != 1 || after[0].Attempts != 3 || !after[0].RetryAt.Equal(before[0].RetryAt) {
		t.Errorf("row %+v, %v; want it as it was: %+v", after, err, before)
	}
}
