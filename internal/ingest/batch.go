package ingest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// pendingRowsMax bounds the messages that wait, which cost their senders
	// nothing.
	pendingRowsMax = 100_000
	// pendingShare is which part of them one sender may have: a tenth, so that no key
	// keeps others from waiting.
	pendingShare = 10
	// backoffMax bounds the pause before a message that waits is looked at again.
	backoffMax = 300 * time.Second
	// trimEvery is after how many refusals it is looked how many are kept.
	trimEvery = 500
)

// batch is the judgement of some messages in one transaction. New posts and
// elements of aggregates are written together at the end, or before something
// reads them: see flush.
type batch struct {
	p         *Pipeline
	tx        *state.Tx
	now       time.Time
	standings map[message.ItemHash]state.Standing

	fresh    []*state.Message // To be written, and of those
	posts    []*state.Message // the original posts
	elements []*state.Message // and the elements of aggregates.
	txOf     map[*state.Message]*state.Transaction
	back     map[*state.Message]bool       // Those of messages that were here before.
	onChain  map[string]*state.Transaction // What chains have of transactions; nil of one that is gone.
	things   []string                      // Came to be.
	// regranted are the owners whose grants changed, and since when; see rejudgeAll.
	regranted map[string]time.Time
	unsaid    []message.ItemHash // Posts whose balances should not have counted; see unsay.
	waiting   int                // Rows that wait; -1 until somebody asks.
	waitingOf map[string]int     // And of a sender.
}

// newBatch looks up what is known of the messages.
func (p *Pipeline) newBatch(ctx context.Context, tx *state.Tx, items []*item, now time.Time) (*batch, error) {
	hashes := make([]message.ItemHash, len(items))
	for i, it := range items {
		hashes[i] = it.env.ItemHash
	}
	standings, err := tx.Standings(ctx, hashes)
	if err != nil {
		return nil, err
	}
	return &batch{p: p, tx: tx, now: now, standings: standings, txOf: map[*state.Message]*state.Transaction{}, back: map[*state.Message]bool{}, waiting: -1, waitingOf: map[string]int{}}, nil
}

// take gives one message its verdict. Its error is this node's, and spoils the
// transaction.
func (b *batch) take(ctx context.Context, it *item) (*Verdict, error) {
	if v, err := b.anchor(ctx, it); v != nil || err != nil {
		return v, err
	}
	standing, known := b.standings[it.env.ItemHash]
	if it.known = known; known {
		v, err := b.takeKnown(ctx, it, standing)
		if v != nil || err != nil {
			return v, err
		}
		if err := b.inherit(ctx, it, standing); err != nil {
			return nil, err
		}
		if v, err := b.anchor(ctx, it); v != nil || err != nil {
			return v, err
		}
	}
	err := b.judge(ctx, it)
	v := &Verdict{ItemHash: it.env.ItemHash, Status: state.MessageProcessed}
	var ended *endedError
	switch {
	case errors.As(err, &ended):
		v.Status = ended.status
		if err := b.note(ctx, it); err != nil {
			return nil, err
		}
	case err != nil && !errors.As(err, &v.Refusal):
		return nil, fmt.Errorf("judge message %s: %w", it.env.ItemHash, err)
	case err != nil:
		if err := b.rejudgeAll(ctx); err != nil { // First, so that it does not wake this one.
			return nil, err
		}
		return v, b.refuse(ctx, it, v, err)
	}
	b.standings[it.env.ItemHash] = state.Standing{Status: v.Status, Signature: it.env.Signature}
	b.things = append(b.things, thingMessage(it.env.ItemHash))
	if err := b.clear(ctx, it, standing.Status); err != nil {
		return nil, err
	}
	return v, b.rejudgeAll(ctx)
}

// inherit takes over what is known of where copies of a message came from that wait
// or were refused: a transaction that named one of them stays its confirmation.
func (b *batch) inherit(ctx context.Context, it *item, s state.Standing) error {
	key := state.PendingKey(it.env)
	switch s.Status {
	case state.MessagePending:
		rows, err := b.tx.PendingFor(ctx, it.env.ItemHash)
		if err != nil {
			return err
		}
		for i, row := range rows {
			if row.Key == key {
				it.again = &rows[i]
				it.origin.Tx = cmp.Or(it.origin.Tx, row.Origin.Tx)
				it.origin.MustPay = it.origin.MustPay && row.Origin.MustPay // Not if another node has asked.
				it.origin.Processed = it.origin.Processed || row.Origin.Processed
				it.origin.Counted = it.origin.Counted || row.Origin.Counted
			}
		}
	case state.MessageRejected:
		if it.waiting != nil {
			return nil
		}
		row, err := b.tx.Rejected(ctx, it.env.ItemHash)
		if errors.Is(err, errs.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		env := new(message.Envelope)
		if env.UnmarshalJSON(row.Envelope) == nil && state.PendingKey(env) == key {
			it.origin.Tx = cmp.Or(it.origin.Tx, row.Origin.Tx)
		}
	default:
	}
	return nil
}

// clear takes out the rows of a message that came to its end.
func (b *batch) clear(ctx context.Context, it *item, was state.MessageStatus) error {
	switch {
	case was == state.MessageRejected && it.waiting == nil:
		return b.tx.DropRejected(ctx, it.env.ItemHash)
	case was != "" || it.waiting != nil:
		if err := b.tx.DropRejected(ctx, it.env.ItemHash); err != nil {
			return err
		}
		return b.tx.DropPending(ctx, it.env.ItemHash)
	}
	return nil
}

// takeKnown answers for a message that is here, or returns nil if it is to be
// judged.
func (b *batch) takeKnown(ctx context.Context, it *item, s state.Standing) (*Verdict, error) {
	v := &Verdict{ItemHash: it.env.ItemHash, Status: s.Status, Known: true}
	switch s.Status {
	case state.MessageProcessed, state.MessageRemoving:
		if !it.origin.Contract && it.env.Signature != s.Signature {
			v.Status, v.Refusal = state.MessageRejected, &message.RejectError{Code: message.CodeInvalidSignature, Detail: "the message was processed with another signature"}
			return v, b.dropWaiting(ctx, it)
		}
		if err := b.confirm(ctx, it); err != nil {
			return nil, err
		}
		return v, b.dropWaiting(ctx, it)
	case state.MessageForgotten, state.MessageRemoved:
		v.Refusal = &message.RejectError{Code: message.CodeForgottenDuplicate, Detail: "the message was forgotten, or removed because nobody paid"}
		if it.env.Signature != s.Signature {
			v.Status, v.Refusal = state.MessageRejected, &message.RejectError{Code: message.CodeInvalidSignature, Detail: "the message was forgotten with another signature"}
			return v, b.dropWaiting(ctx, it)
		}
		if err := b.note(ctx, it); err != nil {
			return nil, err
		}
		return v, b.dropWaiting(ctx, it)
	default:
		return nil, nil
	}
}

func (b *batch) dropWaiting(ctx context.Context, it *item) error {
	if it.waiting == nil {
		return nil
	}
	return b.tx.DropPendingRow(ctx, it.waiting.Key)
}

// confirm records the transaction that a copy of a message came with.
func (b *batch) confirm(ctx context.Context, it *item) error {
	if it.origin.Tx == nil {
		return nil
	}
	if err := b.flush(ctx); err != nil {
		return err
	}
	m, err := b.tx.Message(ctx, it.env.ItemHash)
	if err != nil {
		return err
	}
	news, err := b.tx.PutConfirmation(ctx, m, *it.origin.Tx)
	if err != nil || !news {
		return err
	}
	for _, payment := range []message.PaymentType{message.PayHold, message.PayCredit} {
		if err := b.tx.ReviewPayers(ctx, payment, []string{m.Owner}); err != nil {
			return err // Only what is confirmed is charged.
		}
	}
	return nil
}

// note keeps the transaction that a copy of a message came with that ended: it may turn
// out that it should not have, and then it is confirmed.
func (b *batch) note(ctx context.Context, it *item) error {
	if it.origin.Tx == nil {
		return nil
	}
	_, err := b.tx.NoteConfirmation(ctx, it.env.ItemHash, *it.origin.Tx)
	return err
}

// waitError is a refusal that may end when one of the things comes.
type waitError struct {
	*message.RejectError
	things []string
}

// Unwrap gives the refusal.
func (e *waitError) Unwrap() error { return e.RejectError }

// waitFor marks a refusal with the things that may end it.
func waitFor(err error, things ...string) error {
	var rejected *message.RejectError
	if !errors.As(err, &rejected) {
		return err
	}
	return &waitError{rejected, things}
}

// thingsOf are what may end a refusal.
func thingsOf(err error) []string {
	var wait *waitError
	if errors.As(err, &wait) {
		return wait.things
	}
	return nil
}

// endedError says that the message ended before it began: what it belongs to was
// forgotten.
type endedError struct{ status state.MessageStatus }

func (e *endedError) Error() string { return "message is " + string(e.status) }

// refuse writes the row of a message that waits, or that is rejected.
func (b *batch) refuse(ctx context.Context, it *item, v *Verdict, why error) error {
	things := thingsOf(why)
	attempts := 0
	switch {
	case it.waiting != nil:
		attempts = it.waiting.Attempts + 1
	case it.again != nil:
		attempts = it.again.Attempts // Who hands it in again neither wins nor loses looks.
	}
	if v.Refusal.Code.Retriable() && attempts < b.p.cfg.RetriesMax {
		err := b.haveRoom(ctx, it, v.Refusal.Code)
		switch {
		case err == nil:
			v.Status = state.MessagePending
			return b.putPending(ctx, it, v, attempts, things)
		case !it.told() || !errors.Is(err, errSenderFull):
			return err
		}
		// A peer or a chain tells it, and what they tell must go on: as a refusal it is
		// taken up when what it lacks comes.
	}
	v.Status = state.MessageRejected
	if less, err := b.saysLess(ctx, it, v.Refusal.Code); err != nil || less {
		return err
	}
	if err := b.dropWaiting(ctx, it); err != nil {
		return err
	}
	r := state.Rejected{
		Hash: it.env.ItemHash, Owner: ownerOf(it), Envelope: it.raw, Origin: it.origin, ReceivedAt: it.receivedAt, MadeAt: madeAt(it),
		Code: v.Refusal.Code, Details: v.Refusal.Details(), WaitsFor: things,
	}
	if b.p.trims.Add(1)%trimEvery == 0 {
		if err := b.tx.TrimRejected(ctx); err != nil {
			return err
		}
	}
	b.standings[it.env.ItemHash] = state.Standing{Status: state.MessageRejected}
	return b.tx.PutRejected(ctx, r)
}

// saysLess reports whether a refusal is about who sent this copy, while another copy
// waits or was refused for what it says: anybody can spoil a copy.
func (b *batch) saysLess(ctx context.Context, it *item, code message.Code) (bool, error) {
	ofSender := func(c message.Code) bool {
		return c == message.CodeInvalidSignature || c == message.CodePermissionDenied
	}
	if it.waiting != nil || !ofSender(code) {
		return false, nil
	}
	hash, key := it.env.ItemHash, state.PendingKey(it.env)
	switch b.standings[hash].Status {
	case state.MessagePending:
		rows, err := b.tx.PendingFor(ctx, hash)
		return !slices.ContainsFunc(rows, func(p state.Pending) bool { return p.Key == key }), err
	case state.MessageRejected:
		row, err := b.tx.Rejected(ctx, hash)
		if errors.Is(err, errs.NotFound) {
			return false, nil
		}
		return err == nil && !ofSender(row.Code), err
	default:
		return false, nil
	}
}

// What turns a message away that would have to wait. Nothing of it is written.
var (
	errFull       = errs.New(errs.Unavailable, "too many messages wait already; try again later")
	errSenderFull = errs.New(errs.Unavailable, "too many messages of this sender wait already; try again later")
)

// haveRoom wants that one more message may wait, and one more of its sender. One that
// waits already needs no more room. What a contract emitted cost its sender something,
// and of a peer or a chain no more is asked when too many messages wait for bytes: these
// count, but are bounded only together with all others.
func (b *batch) haveRoom(ctx context.Context, it *item, code message.Code) (err error) {
	if it.waiting != nil || it.again != nil {
		return nil
	}
	if b.waiting < 0 {
		if b.waiting, _, err = b.tx.CountPending(ctx); err != nil {
			return err
		}
	}
	if b.waiting >= b.p.pendingMax {
		return errFull
	}
	if it.origin.Contract || it.told() && lacksBytes(code) {
		return nil
	}
	sender := strings.ToLower(it.env.Sender)
	if _, known := b.waitingOf[sender]; !known {
		if b.waitingOf[sender], err = b.tx.PendingOf(ctx, sender); err != nil {
			return err
		}
	}
	if b.waitingOf[sender] >= max(b.p.pendingMax/pendingShare, 1) {
		return errSenderFull
	}
	return nil
}

// told reports whether a message is one of a history: a peer has processed it, or a
// transaction names it.
func (it *item) told() bool { return it.processed || it.origin.Tx != nil }

// lacksBytes reports whether a message waits for a file or its content.
func lacksBytes(code message.Code) bool {
	return code == message.CodeFileUnavailable || code == message.CodeContentUnavailable
}

func (b *batch) putPending(ctx context.Context, it *item, v *Verdict, attempts int, things []string) error {
	pause := min(time.Second<<min(attempts, 20), backoffMax)
	retryAt := b.now.Add(b.p.spread(pause))
	switch {
	case it.waiting != nil:
	case it.again != nil:
		retryAt = it.again.RetryAt
	default:
		b.waiting++
		if n, known := b.waitingOf[strings.ToLower(it.env.Sender)]; known {
			b.waitingOf[strings.ToLower(it.env.Sender)] = n + 1
		}
	}
	if b.standings[it.env.ItemHash].Status == state.MessageRejected {
		if err := b.tx.DropRejected(ctx, it.env.ItemHash); err != nil {
			return err
		}
	}
	b.standings[it.env.ItemHash] = state.Standing{Status: state.MessagePending}
	return b.tx.PutPending(ctx, state.Pending{
		Key: state.PendingKey(it.env), Hash: it.env.ItemHash, Type: it.env.Type, Sender: it.env.Sender, Owner: ownerOf(it), Envelope: it.raw, Origin: it.origin,
		ReceivedAt: it.receivedAt, RetryAt: retryAt, Attempts: attempts, Code: v.Refusal.Code, Details: v.Refusal.Details(), WaitsFor: things,
	})
}

// ownerCharsMax bounds the owners that refusals are found by; no address is longer.
const ownerCharsMax = 256

// contentHead reads the owner and the time of a content that may break any rule.
func contentHead(it *item) (owner string, at time.Time) {
	var head struct {
		Address string      `json:"address"`
		Time    json.Number `json:"time"`
	}
	if json.Unmarshal(it.content, &head) != nil {
		return "", time.Time{}
	}
	if seconds, err := head.Time.Float64(); err == nil && seconds > 0 && seconds < 1<<33 {
		at = time.UnixMicro(int64(seconds * 1e6))
	}
	if len(head.Address) > ownerCharsMax {
		return "", at
	}
	return head.Address, at
}

func ownerOf(it *item) string {
	owner, _ := contentHead(it)
	return owner
}

func madeAt(it *item) time.Time {
	_, at := contentHead(it)
	return at
}

// add enters a message, now.
func (b *batch) add(ctx context.Context, m *state.Message) error {
	if err := b.flush(ctx); err != nil {
		return err
	}
	if err := b.tx.AddMessages(ctx, []*state.Message{m}); err != nil {
		return err
	}
	return b.confirmNew(ctx, m)
}

// confirmNew is the confirmation of a message that came with its transaction, and those of
// one that comes back.
func (b *batch) confirmNew(ctx context.Context, m *state.Message) error {
	if tx := b.txOf[m]; tx != nil {
		if placed, err := b.tx.PutConfirmation(ctx, m, *tx); err != nil || placed {
			return err
		}
	}
	if b.back[m] {
		return b.tx.PlaceConfirmation(ctx, m)
	}
	return nil
}

// flush writes what waits to be written.
func (b *batch) flush(ctx context.Context) error {
	if len(b.fresh) == 0 {
		return nil
	}
	if err := b.tx.AddMessages(ctx, b.fresh); err != nil {
		return err
	}
	if err := b.tx.AddPosts(ctx, b.posts); err != nil {
		return err
	}
	if err := b.tx.AddElements(ctx, b.elements); err != nil {
		return err
	}
	for _, m := range b.fresh {
		if err := b.confirmNew(ctx, m); err != nil {
			return err
		}
	}
	b.fresh, b.posts, b.elements = nil, nil, nil
	return nil
}

// finish writes the rest, and wakes who waited for what came.
func (b *batch) finish(ctx context.Context) error {
	if err := b.flush(ctx); err != nil {
		return err
	}
	if len(b.things) == 0 {
		return nil
	}
	waits, err := b.tx.Waits(ctx)
	if err != nil || !waits {
		return err
	}
	_, err = b.tx.Wake(ctx, b.now, b.p.pendingMax, b.things...)
	return err
}
