package state

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Origin is where a message came from, as far as it matters later.
type Origin struct {
	// Tx is the transaction that names the message; it is its confirmation.
	Tx *Transaction `json:"tx,omitempty"`
	// Contract: a contract emitted the message, which needs no signature.
	Contract bool `json:"contract,omitempty"`
	// MustPay: its sender handed it in here, so what is paid by credit needs the
	// credits whenever it is judged.
	MustPay bool `json:"must_pay,omitempty"`
	// Processed: another node says that it has processed it, which counts also when
	// what it lacks comes later.
	Processed bool `json:"processed,omitempty"`
	// Counted: it was forgotten, by a FORGET that does not count. What it made that a
	// FORGET leaves is still there.
	Counted bool `json:"counted,omitempty"`
}

// Transaction is a transaction of a chain that names messages.
type Transaction struct {
	Chain     message.Chain `json:"chain"`
	Hash      string        `json:"hash"`
	Height    int64         `json:"height"`
	At        time.Time     `json:"at"`
	Publisher string        `json:"publisher"`
}

// Pending is a message that waits for something.
type Pending struct {
	Key        string // Of the row; see PendingKey.
	Hash       message.ItemHash
	Type       message.Type
	Sender     string // Who signed; see PendingOf. Written, not read.
	Owner      string
	Envelope   json.RawMessage
	Origin     Origin
	ReceivedAt time.Time
	RetryAt    time.Time
	Woken      bool // What it waits for came since it was judged.
	Attempts   int
	Code       message.Code    // Why it waits.
	Details    json.RawMessage // Of the reason; may be nil.
	WaitsFor   []string        // Things; see Wake. Written, not read.
}

// PendingKey names the row of a message that waits: a message may be here with
// several signatures, of which one may turn out to be good.
func PendingKey(e *message.Envelope) string {
	return fmt.Sprintf("%s-%x", e.ItemHash, digest(e.Sender, e.Signature))
}

const pendingColumns = "pk, message, type, owner, envelope, origin, received_at, retry_at, woken, attempts, code, details"

// PutPending writes the row of a message that waits.
func (tx *Tx) PutPending(ctx context.Context, p Pending) error {
	origin, err := json.Marshal(p.Origin)
	if err != nil {
		return fmt.Errorf("encode origin of message %s: %w", p.Hash, err)
	}
	row := []any{
		p.Key, string(p.Hash), string(p.Type), p.Owner, string(p.Envelope), string(origin), p.ReceivedAt.UnixMicro(), p.RetryAt.UnixMicro(),
		number(p.Woken), p.Attempts, int(p.Code), string(p.Details), senderKey(p.Sender),
	}
	err = tx.insert(ctx, "pending ("+pendingColumns+", sender)", [][]any{row}, " ON CONFLICT (pk) DO UPDATE SET owner = excluded.owner, envelope = excluded.envelope,"+
		" origin = excluded.origin, retry_at = excluded.retry_at, woken = excluded.woken, attempts = excluded.attempts, code = excluded.code, details = excluded.details")
	if err != nil {
		return err
	}
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM waits WHERE pk = ?", p.Key); err != nil {
		return fmt.Errorf("write what message %s waits for: %w", p.Hash, err)
	}
	tx.touch("pending")
	return tx.wait(ctx, p.Key, p.WaitsFor)
}

// wait notes what a message waits for.
func (tx *Tx) wait(ctx context.Context, key string, things []string) error {
	rows := make([][]any, len(things))
	for i, thing := range things {
		rows[i] = []any{digest(thing), key}
	}
	return tx.insert(ctx, "waits (thing, pk)", rows, " ON CONFLICT DO NOTHING")
}

// DropPending takes out all rows of a message that waits.
func (tx *Tx) DropPending(ctx context.Context, hash message.ItemHash) error {
	for _, query := range []string{
		"DELETE FROM waits WHERE pk IN (SELECT pk FROM pending WHERE message = ?)", "DELETE FROM pending WHERE message = ?",
	} {
		if _, err := tx.tx.ExecContext(ctx, query, string(hash)); err != nil {
			return fmt.Errorf("drop pending message %s: %w", hash, err)
		}
	}
	tx.touch("pending")
	return nil
}

// DropPendingRow takes out one row of a message that waits.
func (tx *Tx) DropPendingRow(ctx context.Context, key string) error {
	for _, query := range []string{"DELETE FROM waits WHERE pk = ?", "DELETE FROM pending WHERE pk = ?"} {
		if _, err := tx.tx.ExecContext(ctx, query, key); err != nil {
			return fmt.Errorf("drop pending row %s: %w", key, err)
		}
	}
	tx.touch("pending")
	return nil
}

func (r reader) pending(ctx context.Context, where string, args ...any) (out []Pending, err error) {
	err = r.each(ctx, "SELECT "+pendingColumns+" FROM pending WHERE "+where, args, func(scan func(...any) error) error {
		var p Pending
		var envelope, origin, details string
		var receivedAt, retryAt int64
		err := scan(&p.Key, &p.Hash, &p.Type, &p.Owner, &envelope, &origin, &receivedAt, &retryAt, &p.Woken, &p.Attempts, &p.Code, &details)
		if err != nil {
			return err
		}
		p.Envelope, p.ReceivedAt, p.RetryAt = json.RawMessage(envelope), micro(receivedAt), micro(retryAt)
		if details != "" {
			p.Details = json.RawMessage(details)
		}
		p.Origin, err = readOrigin(origin)
		out = append(out, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read pending messages: %w", err)
	}
	return out, nil
}

// readOrigin reads the origin of a row; those of older versions are words.
func readOrigin(raw string) (o Origin, err error) {
	if raw == "" || raw[0] != '{' {
		return o, nil
	}
	if err := json.Unmarshal([]byte(raw), &o); err != nil {
		return o, fmt.Errorf("decode origin: %w", err)
	}
	return o, nil
}

// PendingFor returns the rows of a message that waits, oldest first.
func (r reader) PendingFor(ctx context.Context, hash message.ItemHash) ([]Pending, error) {
	return r.pending(ctx, "message = ? ORDER BY received_at, pk", string(hash))
}

// PendingDue returns up to limit messages whose RetryAt is not after now, the
// longest due first.
func (r reader) PendingDue(ctx context.Context, now time.Time, limit int) ([]Pending, error) {
	return r.pending(ctx, "retry_at <= ? ORDER BY retry_at, pk LIMIT ?", now.UnixMicro(), limit)
}

// PendingDueFor is PendingDue of those that wait for one of some reasons, or for none
// of them, and of those only that were woken, or that were not.
func (r reader) PendingDueFor(ctx context.Context, now time.Time, limit int, woken, theirs bool, codes ...message.Code) ([]Pending, error) {
	of := " AND code IN "
	if !theirs {
		of = " AND code NOT IN "
	}
	args := []any{number(woken), now.UnixMicro()}
	for _, c := range codes {
		args = append(args, int(c))
	}
	return r.pending(ctx, "woken = ? AND retry_at <= ?"+of+marks(len(codes))+" ORDER BY retry_at, pk LIMIT ?", append(args, limit)...)
}

// PendingAfter reports whether a message waits for longer than until a time.
func (r reader) PendingAfter(ctx context.Context, latest time.Time) (found bool, err error) {
	// One index has both.
	const query = "SELECT EXISTS (SELECT 1 FROM pending WHERE woken = 0 AND retry_at > ?) OR EXISTS (SELECT 1 FROM pending WHERE woken = 1 AND retry_at > ?)"
	if err := r.q.QueryRowContext(ctx, query, latest.UnixMicro(), latest.UnixMicro()).Scan(&found); err != nil {
		return false, fmt.Errorf("look for messages that wait too long: %w", err)
	}
	return found, nil
}

// HurryPending makes messages due that would wait for longer than until a time.
func (tx *Tx) HurryPending(ctx context.Context, now, latest time.Time) error {
	if _, err := tx.tx.ExecContext(ctx, "UPDATE pending SET retry_at = ? WHERE retry_at > ?", now.UnixMicro(), latest.UnixMicro()); err != nil {
		return fmt.Errorf("hurry messages that wait too long: %w", err)
	}
	return nil
}

// Unwake lets messages be due like those that were not woken: what they were woken for
// does not end their wait.
func (tx *Tx) Unwake(ctx context.Context, keys []string) error {
	for chunk := range chunks(keys) {
		clause, args := in(chunk)
		if _, err := tx.tx.ExecContext(ctx, "UPDATE pending SET woken = 0 WHERE pk IN "+clause, args...); err != nil {
			return fmt.Errorf("unwake messages: %w", err)
		}
	}
	return nil
}

// Pending returns up to limit messages that wait, oldest first.
func (r reader) Pending(ctx context.Context, limit int) ([]Pending, error) {
	return r.pending(ctx, "TRUE ORDER BY received_at, pk LIMIT ?", limit)
}

// CountPending returns how many messages wait, and when the next is due; the
// time is zero if there is none.
func (r reader) CountPending(ctx context.Context) (n int, next time.Time, err error) {
	var at sql.NullInt64
	if err := r.q.QueryRowContext(ctx, "SELECT COUNT(*), MIN(retry_at) FROM pending").Scan(&n, &at); err != nil {
		return 0, next, fmt.Errorf("count pending messages: %w", err)
	}
	if at.Valid {
		next = micro(at.Int64)
	}
	return n, next, nil
}

// PendingOf returns how many messages wait that a sender signed, whatever the case of
// the letters.
func (r reader) PendingOf(ctx context.Context, sender string) (n int, err error) {
	if err := r.q.QueryRowContext(ctx, "SELECT COUNT(*) FROM pending WHERE sender = ?", senderKey(sender)).Scan(&n); err != nil {
		return 0, fmt.Errorf("count pending messages of %s: %w", sender, err)
	}
	return n, nil
}

// senderKey is what the spellings of an address have in common.
func senderKey(sender string) string { return strings.ToLower(sender) }

// wakeMax bounds the messages that one transaction wakes.
const wakeMax = 500

// Wake makes messages due now that wait for one of the things, those too that
// were refused since, and returns how many. If that are too many for one transaction, or
// if more would wait then than pendingMax, WakeRest is to wake them, in portions.
func (tx *Tx) Wake(ctx context.Context, now time.Time, pendingMax int, things ...string) (n int, err error) {
	for chunk := range chunks(things) {
		args := make([]any, len(chunk))
		for i, thing := range chunk {
			args[i] = digest(thing)
		}
		of := "FROM waits WHERE thing IN " + marks(len(chunk))
		left := wakeMax - tx.woken
		keys, err := tx.keys(ctx, "SELECT DISTINCT pk "+of+" ORDER BY pk LIMIT ?", append(args, left+1)...)
		if err != nil {
			return n, err
		}
		woken := 0
		if len(keys) <= left {
			if woken, err = tx.wakeRows(ctx, now, pendingMax, keys); err != nil {
				return n, err
			}
			n += woken
		}
		if woken == len(keys) {
			continue
		}
		// From the start: what was woken before the thing came once more may lack it still.
		_, err = tx.tx.ExecContext(ctx, "INSERT INTO wakes (thing, upto, turn) SELECT DISTINCT thing, '', (SELECT COALESCE(MAX(turn), 0) + 1 FROM wakes) "+of+" ON CONFLICT (thing) DO UPDATE SET upto = ''", args[:len(chunk)]...)
		if err != nil {
			return n, fmt.Errorf("leave messages to be woken: %w", err)
		}
		tx.touch("pending")
	}
	return n, nil
}

// WakeRest wakes a portion of what Wake left, and returns whether that changed anything.
// The things take turns, so that one for which many wait delays no other.
func (tx *Tx) WakeRest(ctx context.Context, now time.Time, pendingMax int) (bool, error) {
	var thing []byte
	var upto string
	err := tx.q.QueryRowContext(ctx, "SELECT thing, upto FROM wakes ORDER BY turn, thing LIMIT 1").Scan(&thing, &upto)
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for messages to be woken: %w", err)
	}
	keys, err := tx.keys(ctx, "SELECT pk FROM waits WHERE thing = ? AND pk > ? ORDER BY pk LIMIT ?", thing, upto, wakeMax)
	if err != nil {
		return false, err
	}
	n, err := tx.wakeRows(ctx, now, pendingMax, keys)
	switch {
	case err != nil:
		return false, err
	case n == 0 && len(keys) > 0:
		return false, nil // There is no room.
	case n == len(keys) && n < wakeMax:
		_, err = tx.tx.ExecContext(ctx, "DELETE FROM wakes WHERE thing = ?", thing)
	default:
		_, err = tx.tx.ExecContext(ctx, "UPDATE wakes SET upto = ?, turn = (SELECT MAX(turn) + 1 FROM wakes) WHERE thing = ?", keys[n-1], thing)
	}
	if err != nil {
		return false, fmt.Errorf("note which messages were woken: %w", err)
	}
	tx.touch("pending")
	return true, nil
}

// Wakes reports whether there is something for WakeRest.
func (r reader) Wakes(ctx context.Context) (bool, error) { return r.hasRows(ctx, "wakes") }

// wakeRows wakes messages in their order, and returns how many: up to the first that was
// refused and can not wait, as pendingMax do already.
func (tx *Tx) wakeRows(ctx context.Context, now time.Time, pendingMax int, keys []string) (int, error) {
	if len(keys) == 0 {
		return 0, nil
	}
	where, args := in(keys)
	refused, err := tx.rejected(ctx, "pk IN "+where+" ORDER BY pk", args...)
	if err != nil {
		return 0, err
	}
	if len(refused) > 0 {
		waiting, _, err := tx.CountPending(ctx)
		if err != nil {
			return 0, err
		}
		if room := max(pendingMax-waiting, 0); room < len(refused) {
			keys = keys[:slices.Index(keys, string(refused[room].Hash))]
			if refused = refused[:room]; len(keys) == 0 {
				return 0, nil
			}
			where, args = in(keys)
		}
	}
	_, err = tx.tx.ExecContext(ctx, "UPDATE pending SET retry_at = ?, woken = 1 WHERE pk IN "+where, append([]any{now.UnixMicro()}, args...)...)
	if err != nil {
		return 0, fmt.Errorf("wake messages: %w", err)
	}
	for _, r := range refused {
		if err := tx.Retry(ctx, r, now); err != nil {
			return 0, err
		}
	}
	tx.woken += len(keys)
	tx.touch("pending")
	return len(keys), nil
}

// keys are the keys of rows that a query selects.
func (r reader) keys(ctx context.Context, query string, args ...any) (out []string, err error) {
	err = r.each(ctx, query, args, func(scan func(...any) error) error {
		var key string
		err := scan(&key)
		out = append(out, key)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	return out, nil
}

// Waits reports whether any message waits for a thing.
func (r reader) Waits(ctx context.Context) (bool, error) {
	return r.hasRows(ctx, "waits")
}

func (r reader) hasRows(ctx context.Context, table string) (bool, error) {
	var one int
	err := r.q.QueryRowContext(ctx, "SELECT 1 FROM "+table+" LIMIT 1").Scan(&one)
	if err != nil && !isMissing(err) {
		return false, fmt.Errorf("look into %s: %w", table, err)
	}
	return err == nil, nil
}

// Rejected is a message that was refused. It gets another chance when it comes
// again, or when what it lacked comes after all.
type Rejected struct {
	Hash       message.ItemHash
	Owner      string
	Envelope   json.RawMessage // As it was received.
	Origin     Origin
	ReceivedAt time.Time
	MadeAt     time.Time // content.time
	Code       message.Code
	Details    json.RawMessage
	WaitsFor   []string // Things; see Wake. Written, not read.
}

// Reason is the refusal in words.
func (r *Rejected) Reason() string { return reason(r.Code, r.Details) }

// Reason says in words for what the message waits.
func (p *Pending) Reason() string { return reason(p.Code, p.Details) }

// reason is a verdict in words: its name, and its errors as far as they are texts.
func reason(code message.Code, details json.RawMessage) string {
	var d struct {
		Errors []json.RawMessage `json:"errors"`
	}
	refusal := &message.RejectError{Code: code}
	if json.Unmarshal(details, &d) == nil {
		for i, raw := range d.Errors {
			var text string
			if json.Unmarshal(raw, &text) != nil {
				text = string(raw)
			}
			if i > 0 {
				refusal.Detail += ", "
			}
			refusal.Detail += text
		}
	}
	return refusal.Error()
}

const rejectedColumns = "pk, owner, envelope, origin, received_at, made_at, code, details, size"

// Bounds of what is kept of messages that were refused: the oldest go first.
const (
	rejectedMax      = 100_000
	rejectedBytesMax = 256 << 20
	rejectedSpare    = 1000 // How many more may be there until the next look.
)

// PutRejected writes the row of a message that was refused. What waited under
// its hash is for the caller to drop.
func (tx *Tx) PutRejected(ctx context.Context, r Rejected) error {
	origin, err := json.Marshal(r.Origin)
	if err != nil {
		return fmt.Errorf("encode origin of message %s: %w", r.Hash, err)
	}
	row := []any{
		string(r.Hash), r.Owner, string(r.Envelope), string(origin), r.ReceivedAt.UnixMicro(), r.MadeAt.UnixMicro(), int(r.Code),
		string(r.Details), len(r.Envelope) + len(r.Details),
	}
	err = tx.insert(ctx, "rejected ("+rejectedColumns+")", [][]any{row}, " ON CONFLICT (pk) DO UPDATE SET owner = excluded.owner, envelope = excluded.envelope,"+
		" origin = excluded.origin, received_at = excluded.received_at, made_at = excluded.made_at, code = excluded.code, details = excluded.details, size = excluded.size")
	if err != nil {
		return err
	}
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM waits WHERE pk = ?", string(r.Hash)); err != nil {
		return fmt.Errorf("write what message %s lacks: %w", r.Hash, err)
	}
	tx.touch("rejected")
	return tx.wait(ctx, string(r.Hash), r.WaitsFor)
}

// DropRejected takes out the row of a message that was refused.
func (tx *Tx) DropRejected(ctx context.Context, hash message.ItemHash) error {
	for _, query := range []string{"DELETE FROM waits WHERE pk = ?", "DELETE FROM rejected WHERE pk = ?"} {
		if _, err := tx.tx.ExecContext(ctx, query, string(hash)); err != nil {
			return fmt.Errorf("drop rejected message %s: %w", hash, err)
		}
	}
	return nil
}

// Retry lets a message that was refused wait again, due now.
func (tx *Tx) Retry(ctx context.Context, r Rejected, now time.Time) error {
	var e message.Envelope
	if err := json.Unmarshal(r.Envelope, &e); err != nil {
		return fmt.Errorf("decode rejected message %s: %w", r.Hash, err)
	}
	if err := tx.DropRejected(ctx, r.Hash); err != nil {
		return err
	}
	return tx.PutPending(ctx, Pending{
		Key: PendingKey(&e), Hash: r.Hash, Type: e.Type, Sender: e.Sender, Owner: r.Owner, Envelope: r.Envelope, Origin: r.Origin, ReceivedAt: r.ReceivedAt, RetryAt: now,
		Woken: true, Code: r.Code, Details: r.Details,
	})
}

// TrimRejected drops the oldest refusals beyond what is kept, now and then.
func (tx *Tx) TrimRejected(ctx context.Context) error {
	var n, size int64
	if err := tx.q.QueryRowContext(ctx, "SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM rejected").Scan(&n, &size); err != nil {
		return fmt.Errorf("count rejected messages: %w", err)
	}
	for n > rejectedMax+rejectedSpare || size > rejectedBytesMax {
		oldest, err := tx.rejected(ctx, "TRUE ORDER BY received_at, pk LIMIT ?", rejectedSpare)
		if err != nil {
			return err
		}
		for _, r := range oldest {
			if err := tx.DropRejected(ctx, r.Hash); err != nil {
				return err
			}
			n, size = n-1, size-int64(len(r.Envelope)+len(r.Details))
		}
	}
	return nil
}

func (r reader) rejected(ctx context.Context, where string, args ...any) (out []Rejected, err error) {
	err = r.each(ctx, "SELECT "+rejectedColumns+" FROM rejected WHERE "+where, args, func(scan func(...any) error) error {
		var row Rejected
		var envelope, origin, details string
		var receivedAt, madeAt, size int64
		err := scan(&row.Hash, &row.Owner, &envelope, &origin, &receivedAt, &madeAt, &row.Code, &details, &size)
		if err != nil {
			return err
		}
		row.Envelope, row.ReceivedAt, row.MadeAt = json.RawMessage(envelope), micro(receivedAt), micro(madeAt)
		if details != "" {
			row.Details = json.RawMessage(details)
		}
		row.Origin, err = readOrigin(origin)
		out = append(out, row)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read rejected messages: %w", err)
	}
	return out, nil
}

// Rejected returns the message with the hash that was refused, or errs.NotFound.
func (r reader) Rejected(ctx context.Context, hash message.ItemHash) (*Rejected, error) {
	found, err := r.rejected(ctx, "pk = ?", string(hash))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errs.New(errs.NotFound, "no message %s", hash)
	}
	return &found[0], nil
}

// RejectedOf returns the messages of an owner that were refused for one of the
// codes and whose contents are not older than from.
func (r reader) RejectedOf(ctx context.Context, owner string, from time.Time, codes ...message.Code) ([]Rejected, error) {
	args := []any{owner, from.UnixMicro()}
	for _, c := range codes {
		args = append(args, int(c))
	}
	return r.rejected(ctx, "owner = ? AND made_at >= ? AND code IN "+marks(len(codes))+" ORDER BY received_at, pk", args...)
}

// Skeleton is what is left of a message that ended.
type Skeleton struct {
	Status      MessageStatus // Forgotten or removed.
	Envelope    message.Envelope
	Owner       string
	PaymentType *message.PaymentType
	SizeBytes   *int64 // Of the file, for a STORE.
	EndedAt     time.Time
	ForgottenBy []message.ItemHash
	Reason      string // Of a removal.
	ReceivedAt  time.Time
	File        *message.ItemHash // Of a STORE.
	Ref         *string           // content.ref
	Kind        *string           // content.type
	Parent      string            // What it belonged to; see ParentPost, ParentAggregate and ParentMachine.
	MadeAt      time.Time         // content.time
	// Sealed is the whole message, which nobody is shown: for a while it may turn out
	// that it should not have ended. nil when that is over.
	Sealed   json.RawMessage
	SealedAt time.Time // When it ended here.
}

// ParentPost is the parent of the amends of a post.
func ParentPost(original message.ItemHash) string { return "post:" + string(original) }

// ParentAggregate is the parent of the elements of an aggregate.
func ParentAggregate(owner, key string) string {
	return fmt.Sprintf("aggregate:%x", digest(owner, key))
}

// ParentMachine is the parent of a machine that may be replaced, which is itself, and of
// those that replace it. One that may not be replaced has none.
func ParentMachine(first message.ItemHash) string { return "machine:" + string(first) }

const skeletonColumns = "pk, status, type, chain, sender, owner, channel, at, item_type, signature, payment, size, ended_at, forgotten_by, reason, received_at, file, ref, kind, parent, made_at, sealed, sealed_at"

// PutSkeleton writes what is left of a message.
func (tx *Tx) PutSkeleton(ctx context.Context, s Skeleton) error {
	e := &s.Envelope
	by, err := encoded(s.ForgottenBy)
	if err != nil {
		return fmt.Errorf("encode skeleton %s: %w", e.ItemHash, err)
	}
	sealed := sql.NullString{String: string(s.Sealed), Valid: s.Sealed != nil}
	var size sql.NullInt64
	if s.SizeBytes != nil {
		size = sql.NullInt64{Int64: *s.SizeBytes, Valid: true}
	}
	row := []any{
		string(e.ItemHash), string(s.Status), string(e.Type), string(e.Chain), e.Sender, s.Owner, null(e.Channel), e.Time.UnixMicro(), string(e.ItemType),
		e.Signature, null(s.PaymentType), size, s.EndedAt.UnixMicro(), by, s.Reason, s.ReceivedAt.UnixMicro(), null(s.File), null(s.Ref), null(s.Kind), s.Parent, s.MadeAt.UnixMicro(), sealed, s.SealedAt.UnixMicro(),
	}
	tx.touch("messages")
	return tx.insert(ctx, "skeletons ("+skeletonColumns+")", [][]any{row}, " ON CONFLICT (pk) DO UPDATE SET forgotten_by = excluded.forgotten_by, status = excluded.status, ended_at = excluded.ended_at")
}

// DropSkeleton takes out what is left of a message.
func (tx *Tx) DropSkeleton(ctx context.Context, hash message.ItemHash) error {
	if _, err := tx.tx.ExecContext(ctx, "DELETE FROM skeletons WHERE pk = ?", string(hash)); err != nil {
		return fmt.Errorf("drop skeleton %s: %w", hash, err)
	}
	return nil
}

func (r reader) skeletons(ctx context.Context, where string, args ...any) (out []Skeleton, err error) {
	err = r.each(ctx, "SELECT "+skeletonColumns+" FROM skeletons WHERE "+where, args, func(scan func(...any) error) error {
		var s Skeleton
		var channel, payment, file, ref, kind, sealed sql.NullString
		var size sql.NullInt64
		var at, endedAt, receivedAt, madeAt, sealedAt int64
		var by string
		e := &s.Envelope
		err := scan(&e.ItemHash, &s.Status, &e.Type, &e.Chain, &e.Sender, &s.Owner, &channel, &at, &e.ItemType, &e.Signature, &payment, &size,
			&endedAt, &by, &s.Reason, &receivedAt, &file, &ref, &kind, &s.Parent, &madeAt, &sealed, &sealedAt)
		if err != nil {
			return err
		}
		e.Channel, s.PaymentType, s.File = optional[string](channel), optional[message.PaymentType](payment), optional[message.ItemHash](file)
		s.Ref, s.Kind = optional[string](ref), optional[string](kind)
		e.Time, s.EndedAt, s.ReceivedAt, s.MadeAt, s.SealedAt = micro(at), micro(endedAt), micro(receivedAt), micro(madeAt), micro(sealedAt)
		if size.Valid {
			s.SizeBytes = &size.Int64
		}
		if sealed.Valid {
			s.Sealed = json.RawMessage(sealed.String)
		}
		if err := json.Unmarshal([]byte(by), &s.ForgottenBy); err != nil {
			return fmt.Errorf("decode skeleton: %w", err)
		}
		out = append(out, s)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read skeletons: %w", err)
	}
	return out, nil
}

// Skeleton returns what is left of the message with the hash, or errs.NotFound.
func (r reader) Skeleton(ctx context.Context, hash message.ItemHash) (*Skeleton, error) {
	found, err := r.skeletons(ctx, "pk = ?", string(hash))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errs.New(errs.NotFound, "nothing is left of message %s", hash)
	}
	return &found[0], nil
}

// ForgetSealed drops the contents of messages that ended before a time.
func (tx *Tx) ForgetSealed(ctx context.Context, before time.Time) error {
	if _, err := tx.tx.ExecContext(ctx, "UPDATE skeletons SET sealed = NULL WHERE sealed IS NOT NULL AND sealed_at < ?", before.UnixMicro()); err != nil {
		return fmt.Errorf("drop contents of messages that ended: %w", err)
	}
	return nil
}

// Unkeep drops the content of a message that ended, which cannot come to count again then.
func (tx *Tx) Unkeep(ctx context.Context, hash message.ItemHash) error {
	if _, err := tx.tx.ExecContext(ctx, "UPDATE skeletons SET sealed = NULL WHERE pk = ?", string(hash)); err != nil {
		return fmt.Errorf("drop content of message %s that ended: %w", hash, err)
	}
	return nil
}

// SealedPosts returns what is left of posts of a type that were forgotten, and that may
// turn out not to be.
func (r reader) SealedPosts(ctx context.Context, kind string, owners []string) ([]Skeleton, error) {
	list, args := in(owners)
	return r.skeletons(ctx, "sealed IS NOT NULL AND status = ? AND type = ? AND kind = ? AND owner IN "+list+" ORDER BY pk",
		append([]any{string(MessageForgotten), string(message.TypePost), kind}, args...)...)
}

// SkeletonsOf returns what is left of messages that belonged to a parent, by hash.
func (r reader) SkeletonsOf(ctx context.Context, parent string) ([]Skeleton, error) {
	return r.skeletons(ctx, "parent = ? ORDER BY pk", parent)
}

// isMissing reports whether a row was not there.
func isMissing(err error) bool { return errors.Is(err, sql.ErrNoRows) }
