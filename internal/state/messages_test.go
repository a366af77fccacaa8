package state_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// made makes a message of a content, which is inline. Nobody signed it.
func made(tb testing.TB, typ message.Type, second int64, content map[string]any) *state.Message {
	tb.Helper()
	if content["time"] == nil {
		content["time"] = second
	}
	raw, err := json.Marshal(content)
	if err != nil {
		tb.Fatal(err)
	}
	owner, _ := content["address"].(string)
	m := &state.Message{
		Envelope: message.Envelope{
			Chain: "ETH", Sender: owner, Type: typ, Time: time.Unix(second, 0).UTC(), ItemType: message.Inline, ItemContent: string(raw),
			ItemHash: message.HashOf(raw), Signature: "0x" + owner,
		},
		Content: raw, Owner: owner, Status: state.MessageProcessed, ReceivedAt: time.Unix(second+1, 0).UTC(),
	}
	if m.Parsed, err = message.ParseContent(&m.Envelope, raw); err != nil {
		tb.Fatal(err)
	}
	m.MadeAt = m.Parsed.At()
	return m
}

func post(tb testing.TB, owner string, second int64, fields ...any) *state.Message {
	tb.Helper()
	content := map[string]any{"address": owner, "type": "t", "content": map[string]any{"n": second}}
	for i := 0; i < len(fields); i += 2 {
		content[fields[i].(string)] = fields[i+1]
	}
	return made(tb, message.TypePost, second, content)
}

func view(t *testing.T, db *state.DB, fn func(v *state.View) error) {
	t.Helper()
	if err := db.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func TestMessagesComeBackAsTheyWere(t *testing.T) {
	db := open(t, t.TempDir())
	channel := "C"
	m := post(t, "A", 5, "ref", "R")
	m.Envelope.Channel, m.Quiet, m.Reason = &channel, true, "why"
	update(t, db, func(tx *state.Tx) error { return tx.AddMessages(t.Context(), []*state.Message{m}) })

	got, err := db.Message(t.Context(), m.Envelope.ItemHash)
	if err != nil {
		t.Fatal(err)
	}
	want := *m
	want.Parsed = nil
	if diff := gocmp.Diff(&want, got); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	if _, err := db.Message(t.Context(), hash("e")); !errors.Is(err, errs.NotFound) {
		t.Errorf("no message: %v, want errs.NotFound", err)
	}
	known, err := db.Known(t.Context(), m.Envelope.ItemHash)
	if err != nil || known.Status != state.MessageProcessed || known.Message == nil {
		t.Errorf("known: %+v, %v", known, err)
	}
}

// world is random messages, and what lists say of them without a catalogue.
type world struct {
	r    *rand.Rand
	all  []*state.Message
	conf map[message.ItemHash]state.Transaction
}

func (w *world) pick(words ...string) string { return words[w.r.IntN(len(words))] }

func (w *world) make(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		second := int64(1000 + w.r.IntN(n/2+1)) // Some of the same time.
		owner := w.pick("A", "B", "C")
		var m *state.Message
		switch w.r.IntN(4) {
		case 0:
			m = made(t, message.TypeAggregate, second, map[string]any{"address": owner, "key": w.pick("k", "l"), "content": map[string]any{"n": i, "tags": []string{w.pick("x", "y")}}})
		case 1:
			m = made(t, message.TypeStore, second, map[string]any{
				"address": owner, "item_type": "storage", "item_hash": hash(w.pick("a", "b")), "n": i, "ref": w.pick("r", "s"), "payment": map[string]any{"type": w.pick("hold", "credit")},
			})
		default:
			m = post(t, owner, second, "type", w.pick("t", "u"), "ref", w.pick("r", "s"), "content", map[string]any{"n": i, "tags": []string{w.pick("x", "y"), "z"}})
		}
		m.Envelope.Sender = w.pick("A", "B", "D")
		m.Envelope.Chain = message.Chain(w.pick("ETH", "SOL"))
		if c := w.pick("", "C1", "C2"); c != "" {
			m.Envelope.Channel = &c
		}
		w.all = append(w.all, m)
	}
}

// query is a random one.
func (w *world) query() state.MessageQuery {
	maybe := func(words ...string) []string {
		switch w.r.IntN(6) {
		case 0:
			return []string{w.pick(words...)}
		case 1:
			return []string{w.pick(words...), w.pick(words...)}
		default:
			return nil
		}
	}
	q := state.MessageQuery{
		Types: maybe("POST", "AGGREGATE", "STORE", "FORGET"), Chains: maybe("ETH", "SOL"), Senders: maybe("A", "B", "D"), Owners: maybe("A", "B", "C"),
		Channels: maybe("C1", "C2", "C3"), Refs: maybe("r", "s"), Files: maybe(string(hash("a")), string(hash("b"))), Keys: maybe("k", "l"),
		Kinds: maybe("t", "u"), Tags: maybe("x", "y", "z"), Payments: maybe("hold", "credit", "superfluid"), Oldest: w.r.IntN(2) == 0, ByTx: w.r.IntN(3) == 0,
	}
	if w.r.IntN(4) == 0 {
		q.NotTypes = []string{w.pick("POST", "STORE")}
	}
	if w.r.IntN(4) == 0 {
		q.From = time.Unix(int64(1000+w.r.IntN(len(w.all)/2)), 0)
	}
	if w.r.IntN(4) == 0 {
		q.To = time.Unix(int64(1000+w.r.IntN(len(w.all)/2)), 0)
	}
	if w.r.IntN(4) == 0 {
		q.FromHeight = int64(w.r.IntN(1000))
	}
	if w.r.IntN(4) == 0 {
		q.ToHeight = int64(w.r.IntN(1000))
	}
	if w.r.IntN(6) == 0 {
		q.Hashes = []message.ItemHash{hash("c")}
		for range w.r.IntN(30) {
			q.Hashes = append(q.Hashes, w.all[w.r.IntN(len(w.all))].Envelope.ItemHash)
		}
	}
	if w.r.IntN(6) == 0 {
		q.Statuses = []state.MessageStatus{state.MessageStatus(w.pick("processed", "removing"))}
	}
	return q
}

// has is what the rules say of a message, field by field.
func (w *world) has(q *state.MessageQuery, m *state.Message) bool {
	var c struct {
		Type    string
		Ref     string
		Key     string
		File    string `json:"item_hash"`
		Payment struct{ Type string }
		Content struct{ Tags []string }
	}
	if err := json.Unmarshal(m.Content, &c); err != nil {
		panic(err)
	}
	in := func(list []string, values ...string) bool {
		return list == nil || slices.ContainsFunc(values, func(v string) bool { return v != "" && slices.Contains(list, v) })
	}
	channel := ""
	if m.Envelope.Channel != nil {
		channel = *m.Envelope.Channel
	}
	e := &m.Envelope
	if !in(q.Types, string(e.Type)) || !in(q.Chains, string(e.Chain)) || !in(q.Senders, e.Sender) || !in(q.Owners, m.Owner) || !in(q.Channels, channel) ||
		!in(q.Refs, c.Ref) || !in(q.Files, c.File) || !in(q.Keys, c.Key) || !in(q.Kinds, c.Type) || !in(q.Payments, c.Payment.Type) || !in(q.Tags, c.Content.Tags...) {
		return false
	}
	if slices.Contains(q.NotTypes, string(e.Type)) {
		return false
	}
	if q.Statuses != nil && !slices.Contains(q.Statuses, m.Status) || q.Hashes != nil && !slices.Contains(q.Hashes, e.ItemHash) {
		return false
	}
	if !q.From.IsZero() && e.Time.Before(q.From) || !q.To.IsZero() && !e.Time.Before(q.To) {
		return false
	}
	tx, confirmed := w.conf[e.ItemHash]
	if q.ToHeight > 0 && (!confirmed || tx.Height >= q.ToHeight) {
		return false
	}
	return !confirmed || tx.Height >= q.FromHeight
}

// find is what a query finds, in order.
func (w *world) find(q state.MessageQuery) (out []message.ItemHash) {
	var found []*state.Message
	for _, m := range w.all {
		if w.has(&q, m) {
			found = append(found, m)
		}
	}
	byTx := q.ByTx || q.FromHeight > 0 || q.ToHeight > 0
	slices.SortFunc(found, func(a, b *state.Message) int {
		order := 0
		if byTx {
			x, y := int64(1<<62), int64(1<<62)
			if tx, ok := w.conf[a.Envelope.ItemHash]; ok {
				x = tx.At.Unix()
			}
			if tx, ok := w.conf[b.Envelope.ItemHash]; ok {
				y = tx.At.Unix()
			}
			order = cmp.Compare(y, x)
		}
		order = cmp.Or(order, b.Envelope.Time.Compare(a.Envelope.Time))
		if q.Oldest {
			order = -order
		}
		return cmp.Or(order, cmp.Compare(a.Envelope.ItemHash, b.Envelope.ItemHash))
	})
	for _, m := range found {
		out = append(out, m.Envelope.ItemHash)
	}
	return out
}

// TestListsAreWhatTheRulesSay compares pages and counts of random queries with
// what a look at every message finds.
func TestListsAreWhatTheRulesSay(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := &world{r: rand.New(rand.NewPCG(seed, 1)), conf: map[message.ItemHash]state.Transaction{}}
	w.make(t, 300)
	for chunk := range slices.Chunk(w.all, 40) {
		update(t, db, func(tx *state.Tx) error { return tx.AddMessages(ctx, chunk) })
	}
	w.change(t, db)
	for i := range 300 {
		q := w.query()
		want := w.find(q)
		offset, limit := int64(w.r.IntN(20)), int64(w.r.IntN(30))
		page := want[min(offset, int64(len(want))):]
		if limit > 0 {
			page = page[:min(limit, int64(len(page)))]
		}
		var got []message.ItemHash
		view(t, db, func(v *state.View) error {
			n, err := v.CountMessages(ctx, q)
			if err != nil || n != int64(len(want)) {
				t.Fatalf("query %d %+v: count %d, %v, want %d", i, q, n, err, len(want))
			}
			return v.EachMessage(ctx, q, offset, limit, func(m *state.Message) error {
				got = append(got, m.Envelope.ItemHash)
				return nil
			})
		})
		if !slices.Equal(got, page) {
			t.Fatalf("query %d %+v, %d from %d: got %d messages, want %d: %v", i, q, limit, offset, len(got), len(page), gocmp.Diff(page, got))
		}
		w.walk(t, db, q, want)
	}
}

// change confirms, ends and removes some messages.
func (w *world) change(t *testing.T, db *state.DB) {
	t.Helper()
	ctx := t.Context()
	update(t, db, func(tx *state.Tx) error {
		var all error
		for i, m := range w.all {
			if i%5 == 0 {
				c := state.Transaction{Chain: "ETH", Hash: fmt.Sprint("tx", i/15), Height: int64(i), At: time.Unix(int64(2000+i/15), 0)}
				isNew, err := tx.PutConfirmation(ctx, m, c)
				again, errAgain := tx.PutConfirmation(ctx, m, c)
				if !isNew || again {
					t.Errorf("confirmation is new: %v, and again: %v", isNew, again)
				}
				w.conf[m.Envelope.ItemHash] = c
				all = errors.Join(all, err, errAgain)
			}
			if i%7 == 0 {
				all = errors.Join(all, tx.SetMessageStatus(ctx, m, state.MessageRemoving, "broke"))
			}
		}
		for _, m := range w.all[:10] {
			all = errors.Join(all, tx.RemoveMessage(ctx, m))
		}
		return errors.Join(all, tx.DropConfirmations(ctx, message.Ethereum, "tx3"))
	})
	for h, tx := range w.conf {
		if tx.Hash == "tx3" {
			delete(w.conf, h)
		}
	}
	w.all = w.all[10:]
}

// walk reads a query by places, some at a time.
func (w *world) walk(t *testing.T, db *state.DB, q state.MessageQuery, want []message.ItemHash) {
	t.Helper()
	if q.ByTx || q.FromHeight > 0 || q.ToHeight > 0 {
		return
	}
	var got []message.ItemHash
	for {
		n := 0
		view(t, db, func(v *state.View) error {
			return v.EachMessage(t.Context(), q, 0, 17, func(m *state.Message) error {
				got, n = append(got, m.Envelope.ItemHash), n+1
				q.After = &state.MessagePlace{At: m.Envelope.Time, Hash: m.Envelope.ItemHash}
				return nil
			})
		})
		if n == 0 {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("query %+v: walked over %d messages, want %d", q, len(got), len(want))
	}
}

func TestSendersAreCounted(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	channel := "C"
	a, b, c := post(t, "A", 1), post(t, "A", 2, "type", "u"), post(t, "0xB_", 3)
	a.Envelope.Channel = &channel
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(tx.AddMessages(ctx, []*state.Message{a, b}), tx.AddMessages(ctx, []*state.Message{c}), tx.RemoveMessage(ctx, b))
	})
	for _, tt := range []struct {
		q    state.SenderQuery
		want string
	}{{state.SenderQuery{}, "0xB_ A"}, {state.SenderQuery{Contains: "b_"}, "0xB_"}, {state.SenderQuery{Contains: "%"}, ""}, {state.SenderQuery{By: message.TypeStore, Least: true}, "0xB_ A"}} {
		found, total, err := db.Senders(ctx, tt.q, 0, 0)
		var names []string
		for _, s := range found {
			names = append(names, s.Address)
		}
		if err != nil || strings.Join(names, " ") != tt.want || total != int64(len(found)) {
			t.Errorf("%+v: got %v of %d, %v, want %s", tt.q, names, total, err, tt.want)
		}
	}
	found, err := db.SendersNamed(ctx, []string{"A", "nobody"})
	if err != nil || len(found) != 1 || found[0].Total != 1 || found[0].ByType[message.TypePost] != 1 {
		t.Errorf("named: %+v, %v", found, err)
	}
	view(t, db, func(v *state.View) error {
		types, errTypes := v.PostTypesOf(ctx, "A")
		channels, errChannels := v.ChannelsOf(ctx, "A")
		all, errAll := v.Channels(ctx)
		if fmt.Sprint(types, channels, all) != "[t] [C] [C]" {
			t.Errorf("types %v, channels %v of %v", types, channels, all)
		}
		return errors.Join(errTypes, errChannels, errAll)
	})
}

// TestPostsShowTheirNewestAmend in whatever order amends come and go.
func TestPostsShowTheirNewestAmend(t *testing.T) {
	original := post(t, "A", 100)
	amend := func(second int64, tag string) *state.Message {
		return post(t, "A", second, "type", "amend", "ref", original.Envelope.ItemHash, "content", map[string]any{"tags": []string{tag}})
	}
	amends := []*state.Message{amend(90, "old"), amend(110, "a"), amend(120, "b"), amend(120, "c"), amend(100, "same")}
	best := amends[2]
	if amends[3].Envelope.ItemHash > best.Envelope.ItemHash {
		best = amends[3]
	}
	for range 5 {
		db := open(t, t.TempDir())
		ctx := t.Context()
		rand.Shuffle(len(amends), func(i, j int) { amends[i], amends[j] = amends[j], amends[i] })
		update(t, db, func(tx *state.Tx) error {
			all := errors.Join(tx.AddMessages(ctx, []*state.Message{original}), tx.AddPosts(ctx, []*state.Message{original}))
			for _, a := range amends {
				all = errors.Join(all, tx.AddMessages(ctx, []*state.Message{a}), tx.AddAmend(ctx, original, a))
			}
			return all
		})
		shown := func() *state.Message {
			p, err := db.Post(ctx, original.Envelope.ItemHash)
			if err != nil {
				t.Fatal(err)
			}
			return p.Latest
		}
		if got := shown(); got.ID != best.ID {
			t.Fatalf("shows %s of %v, want %s", got.Content, got.MadeAt, best.Content)
		}
		var posts int
		view(t, db, func(v *state.View) error {
			for _, q := range []state.PostQuery{
				{Owners: []string{"A"}, Kinds: []string{"t"}, Tags: []string{"b", "c"}, From: time.Unix(120, 0)}, {Hashes: []message.ItemHash{original.Envelope.ItemHash}, Tags: []string{"b", "c"}},
			} {
				n, err := v.CountPosts(ctx, q)
				if err != nil || n != 1 {
					t.Errorf("%+v: %d posts, %v, want 1", q, n, err)
				}
				if err := v.EachPost(ctx, q, 0, 0, func(*state.Post) error { posts++; return nil }); err != nil {
					return err
				}
			}
			return nil
		})
		if posts != 2 {
			t.Errorf("%d posts, want 2", posts)
		}
		update(t, db, func(tx *state.Tx) error {
			return errors.Join(tx.RemoveAmend(ctx, amends[0]), tx.RemoveMessage(ctx, amends[0]), tx.RemoveAmend(ctx, amends[0]))
		})
		rest := slices.DeleteFunc(slices.Clone(amends), func(m *state.Message) bool { return m == amends[0] || !m.MadeAt.After(original.MadeAt) })
		newest := slices.MaxFunc(rest, func(a, b *state.Message) int {
			return cmp.Or(a.MadeAt.Compare(b.MadeAt), cmp.Compare(a.Envelope.ItemHash, b.Envelope.ItemHash))
		})
		if got := shown(); got.ID != newest.ID {
			t.Errorf("after a removal shows %s, want %s", got.Content, newest.Content)
		}
		update(t, db, func(tx *state.Tx) error {
			gone, err := tx.RemovePost(ctx, original)
			if len(gone) != 4 {
				t.Errorf("%d amends are left over, want 4", len(gone))
			}
			return err
		})
	}
}

// TestAggregatesAreWhatTheirElementsSay in whatever order elements come and go.
func TestAggregatesAreWhatTheirElementsSay(t *testing.T) {
	element := func(second int64, content map[string]any) *state.Message {
		return made(t, message.TypeAggregate, second, map[string]any{"address": "A", "key": "k", "content": content})
	}
	all := []*state.Message{
		element(1, map[string]any{"a": 1, "b": 1, "long": "<>"}), element(2, map[string]any{"b": 2, "é": nil}), element(3, map[string]any{"c": map[string]any{"x": 3}}),
		element(3, map[string]any{"c": 4, "d": 4}), element(5, map[string]any{}),
	}
	expect := func(elements []*state.Message) string {
		sorted := slices.Clone(elements)
		slices.SortFunc(sorted, func(a, b *state.Message) int {
			return cmp.Or(a.MadeAt.Compare(b.MadeAt), cmp.Compare(a.Envelope.ItemHash, b.Envelope.ItemHash))
		})
		merged := map[string]json.RawMessage{}
		for _, e := range sorted {
			if err := json.Unmarshal(e.Parsed.(*message.Aggregate).Content, &merged); err != nil {
				t.Fatal(err)
			}
		}
		raw, err := json.Marshal(merged)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s %v %v %s", raw, sorted[0].MadeAt, sorted[len(sorted)-1].MadeAt, sorted[len(sorted)-1].Envelope.ItemHash[:8])
	}
	shown := func(db *state.DB) string {
		a, err := db.Aggregate(t.Context(), "A", "k")
		if err != nil {
			t.Fatal(err)
		}
		var any map[string]json.RawMessage
		if err := json.Unmarshal(a.Content, &any); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(any)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s %v %v %s", raw, a.Created, a.Updated, a.Last[:8])
	}
	for range 5 {
		db := open(t, t.TempDir())
		ctx := t.Context()
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, m := range all {
			update(t, db, func(tx *state.Tx) error {
				return errors.Join(tx.AddMessages(ctx, []*state.Message{m}), tx.AddElements(ctx, []*state.Message{m}))
			})
		}
		if got, want := shown(db), expect(all); got != want {
			t.Fatalf("got %s\nwant %s", got, want)
		}
		for i, m := range all[:4] {
			update(t, db, func(tx *state.Tx) error { return errors.Join(tx.RemoveElement(ctx, m), tx.RemoveMessage(ctx, m)) })
			if got, want := shown(db), expect(all[i+1:]); got != want {
				t.Fatalf("after %d removals got %s\nwant %s", i+1, got, want)
			}
		}
		update(t, db, func(tx *state.Tx) error { return tx.RemoveElement(ctx, all[4]) })
		if _, err := db.Aggregate(ctx, "A", "k"); !errors.Is(err, errs.NotFound) {
			t.Errorf("an aggregate without elements: %v", err)
		}
	}
}

func TestAggregatesAreListed(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	var all []*state.Message
	for i, ok := range []string{"A k", "A l", "B k", "B m"} {
		owner, key, _ := strings.Cut(ok, " ")
		all = append(all, made(t, message.TypeAggregate, int64(1+i/2), map[string]any{"address": owner, "key": key, "content": map[string]any{"i": i}}))
	}
	update(t, db, func(tx *state.Tx) error { return errors.Join(tx.AddMessages(ctx, all), tx.AddElements(ctx, all)) })
	for _, tt := range []struct {
		q    state.AggregateQuery
		want string
	}{
		{state.AggregateQuery{}, "Bk Bm Ak Al"},
		{state.AggregateQuery{Oldest: true, ByCreated: true}, "Ak Al Bk Bm"},
		{state.AggregateQuery{Owners: []string{"A"}}, "Ak Al"},
		{state.AggregateQuery{Keys: []string{"k", "m"}}, "Bk Bm Ak"},
		{state.AggregateQuery{Owners: []string{}}, ""},
		{state.AggregateQuery{After: &state.AggregatePlace{At: time.Unix(2, 0), Owner: "B", Key: "k"}}, "Bm Ak Al"},
	} {
		found, _, err := db.Aggregates(ctx, tt.q, 0, 0)
		var names []string
		for _, a := range found {
			names = append(names, a.Owner+a.Key)
		}
		if err != nil || strings.Join(names, " ") != tt.want {
			t.Errorf("%+v: %v, %v, want %s", tt.q, names, err, tt.want)
		}
	}
}

func TestPendingMessagesAreWokenByWhatTheyWaitFor(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	m := post(t, "A", 1)
	raw, err := json.Marshal(m.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	row := state.Pending{
		Key: state.PendingKey(&m.Envelope), Hash: m.Envelope.ItemHash, Type: "POST", Owner: "A", Envelope: raw, ReceivedAt: at(1), RetryAt: at(100), Attempts: 2,
		Code: message.CodePostAmendNotFound, Details: json.RawMessage(`{"errors":["why"]}`), Origin: state.Origin{Tx: &state.Transaction{Hash: "x", At: at(3)}},
	}
	waits := row
	waits.WaitsFor = []string{"message:1", "message:2"}
	refused := state.Rejected{Hash: hash("b"), Owner: "A", Envelope: raw, ReceivedAt: at(1), MadeAt: at(7), Code: 2, Details: json.RawMessage(`{"errors":["no"]}`), WaitsFor: []string{"message:2"}}
	update(t, db, func(tx *state.Tx) error { return errors.Join(tx.PutPending(ctx, waits), tx.PutRejected(ctx, refused)) })

	if due, err := db.PendingDue(ctx, at(99), 9); err != nil || len(due) != 0 {
		t.Errorf("due: %+v, %v, want none", due, err)
	}
	got, err := db.PendingFor(ctx, m.Envelope.ItemHash)
	if err != nil || len(got) != 1 {
		t.Fatalf("pending: %+v, %v", got, err)
	}
	if diff := gocmp.Diff(row, got[0]); diff != "" {
		t.Errorf("pending (-want +got):\n%s", diff)
	}
	if want := "amend target not found (code 101): why"; got[0].Reason() != want {
		t.Errorf("reason %q, want %q", got[0].Reason(), want)
	}
	update(t, db, func(tx *state.Tx) error {
		n, err := tx.Wake(ctx, at(50), 9, "message:3")
		if n != 0 {
			t.Errorf("%d woken for nothing", n)
		}
		return err
	})
	old, err := db.RejectedOf(ctx, "A", at(8), 2, 5)
	if err != nil || len(old) != 0 {
		t.Errorf("refusals since: %+v, %v", old, err)
	}
	update(t, db, func(tx *state.Tx) error {
		n, err := tx.Wake(ctx, at(50), 9, "message:2")
		if n != 2 {
			t.Errorf("%d woken, want 2", n)
		}
		return err
	})
	due, err := db.PendingDue(ctx, at(50), 9)
	if err != nil || len(due) != 1 && len(due) != 2 {
		t.Errorf("due: %+v, %v", due, err)
	}
	for _, woken := range []bool{true, false} {
		got, err := db.PendingDueFor(ctx, at(50), 9, woken, false, message.CodeFileUnavailable)
		if err != nil || woken != (len(got) > 0) {
			t.Errorf("woken %t: %+v, %v; want all that are due to be woken", woken, got, err)
		}
	}
	if _, err := db.Rejected(ctx, hash("b")); !errors.Is(err, errs.NotFound) {
		t.Errorf("a refusal that waits again is still one: %v", err)
	}
	if n, next, err := db.CountPending(ctx); err != nil || n == 0 || !next.Equal(at(50)) {
		t.Errorf("%d pending, next at %v, %v", n, next, err)
	}
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(tx.DropPending(ctx, m.Envelope.ItemHash), tx.DropPending(ctx, hash("b")))
	})
	if waits, err := db.Waits(ctx); err != nil || waits {
		t.Errorf("somebody waits: %v, %v", waits, err)
	}
}

// TestManyAreWokenInPortions, each in a transaction of its own, and no more than may wait.
func TestManyAreWokenInPortions(t *testing.T) {
	const all, room = 1100, 700
	dir := t.TempDir()
	db := open(t, dir)
	ctx := t.Context()
	update(t, db, func(tx *state.Tx) error {
		for i := range all {
			m := post(t, "A", int64(i))
			raw, err := json.Marshal(m.Envelope)
			if err != nil {
				return err
			}
			r := state.Rejected{Hash: m.Envelope.ItemHash, Owner: "A", Envelope: raw, Code: 2, WaitsFor: []string{"many"}}
			if err := tx.PutRejected(ctx, r); err != nil {
				return err
			}
		}
		return tx.PutPending(ctx, state.Pending{Key: "one", RetryAt: at(100), WaitsFor: []string{"few"}})
	})
	wake := func(thing string, want int) {
		t.Helper()
		update(t, db, func(tx *state.Tx) error {
			if n, err := tx.Wake(ctx, at(50), room, thing); err != nil || n != want {
				t.Errorf("%s: %d woken, %v; want %d", thing, n, err, want)
			}
			return nil
		})
	}
	rest := func(most int) (changed bool) {
		t.Helper()
		update(t, db, func(tx *state.Tx) (err error) {
			changed, err = tx.WakeRest(ctx, at(50), most)
			return err
		})
		return changed
	}
	waiting := func(want int) {
		t.Helper()
		if n, _, err := db.CountPending(ctx); err != nil || n != want {
			t.Errorf("%d wait, %v; want %d", n, err, want)
		}
	}
	wake("many", 0)
	wake("few", 1)
	waiting(1)
	rest(room)
	waiting(501)
	rest(room)
	waiting(room)
	if rest(room) {
		t.Error("more were woken than may wait")
	}
	waiting(room)
	for more, err := true, error(nil); more; more, err = db.Wakes(ctx) {
		if changed := rest(2 * all); err != nil || !changed {
			t.Fatalf("changed %t, %v; want another portion", changed, err)
		}
	}
	waiting(all + 1)
	if waits, err := db.RejectedOf(ctx, "A", at(0).Add(-time.Hour*1e6), 2); err != nil || len(waits) != 0 {
		t.Errorf("%d are refused still, %v", len(waits), err)
	}
}

func TestSkeletonsAndReceptionsAreListed(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	hold, size, kind, file, channel := message.PayHold, int64(7), "t", hash("f"), "C"
	a := post(t, "A", 1)
	one := state.Skeleton{
		Status: state.MessageForgotten, Envelope: message.Envelope{Chain: "ETH", Sender: "S", Type: "POST", Channel: &channel, Time: at(1).UTC(), ItemType: "inline", ItemHash: hash("1"), Signature: "x"},
		Owner: "A", PaymentType: &hold, SizeBytes: &size, EndedAt: at(10).UTC(), ForgottenBy: []message.ItemHash{hash("9")}, Reason: "r", ReceivedAt: at(3).UTC(), File: &file, Ref: &kind, Kind: &kind,
		Parent: state.ParentPost(hash("8")), MadeAt: at(2).UTC(), Sealed: json.RawMessage(`{"a":1}`), SealedAt: at(13).UTC(),
	}
	two := one
	two.Status, two.Envelope.ItemHash, two.EndedAt, two.Owner, two.ReceivedAt = state.MessageRemoved, hash("2"), at(11), "B", at(4)
	three := one
	three.Envelope.ItemHash, three.EndedAt, three.ReceivedAt = hash("3"), at(12), at(5)
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(tx.PutSkeleton(ctx, one), tx.PutSkeleton(ctx, two), tx.PutSkeleton(ctx, three), tx.AddMessages(ctx, []*state.Message{a}))
	})
	got, err := db.Skeleton(ctx, hash("1"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(&one, got); diff != "" {
		t.Errorf("skeleton (-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		q    state.SkeletonQuery
		want string
	}{
		{state.SkeletonQuery{Status: state.MessageForgotten}, "31"},
		{state.SkeletonQuery{Status: state.MessageForgotten, Oldest: true, Owners: []string{"A"}}, "13"},
		{state.SkeletonQuery{Status: state.MessageRemoved, Channels: []string{"C"}, Types: []string{"POST"}}, "2"},
		{state.SkeletonQuery{Status: state.MessageForgotten, From: at(11)}, "3"},
		{state.SkeletonQuery{Status: state.MessageForgotten, Hashes: []message.ItemHash{hash("1")}, Payments: []string{"hold"}}, "1"},
		{state.SkeletonQuery{Status: state.MessageForgotten, Senders: []string{}}, ""},
	} {
		found, total, err := db.Skeletons(ctx, tt.q, 0, 0)
		names := ""
		for _, s := range found {
			names += string(s.Envelope.ItemHash[:1])
		}
		if err != nil || names != tt.want || total != int64(len(found)) {
			t.Errorf("%+v: %s of %d, %v, want %s", tt.q, names, total, err, tt.want)
		}
	}
	for _, tt := range []struct {
		q    state.ReceptionQuery
		want string
	}{{state.ReceptionQuery{}, "321" + string(a.Envelope.ItemHash[:1])}, {state.ReceptionQuery{Status: state.MessageForgotten, Oldest: true}, "13"}, {state.ReceptionQuery{From: at(4), To: at(5)}, "2"}} {
		found, total, err := db.Receptions(ctx, tt.q, 0, 9)
		names := ""
		for _, s := range found {
			names += string(s.Hash[:1])
		}
		if err != nil || names != tt.want || total != int64(len(found)) {
			t.Errorf("%+v: %s of %d, %v, want %s", tt.q, names, total, err, tt.want)
		}
	}
}

func TestFilesArePinnedAndTagged(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	ref := "r"
	pin := func(key string, file string, second int64) state.Pin {
		return state.Pin{Key: string(hash(key)), Kind: state.PinMessage, File: hash(file), Owner: "A", Tag: "A/r", Ref: &ref, Name: "n", At: at(second)}
	}
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(tx.PutFileInfo(ctx, state.FileInfo{Hash: hash("a"), SizeBytes: 10}), tx.PutFileInfo(ctx, state.FileInfo{Hash: hash("b"), Directory: true, SizeBytes: 5}),
			tx.PutPin(ctx, pin("1", "a", 1)), tx.PutPin(ctx, pin("3", "b", 3)), tx.PutPin(ctx, pin("2", "a", 3)),
			tx.PutPin(ctx, state.Pin{Key: state.GraceKey(hash("c")), Kind: state.PinGrace, File: hash("c"), At: at(1), Until: at(9)}))
	})
	if p, err := db.Tagged(ctx, "A/r"); err != nil || p.File != hash("b") {
		t.Errorf("tagged: %+v, %v, want the newest with the greater hash", p, err)
	}
	files, total, size, err := db.FilesOf(ctx, state.FileQuery{Owner: "A"}, 0, 2)
	if err != nil || total != 3 || size != 25 || len(files) != 2 || files[0].Ref != hash("2") || files[1].Ref != hash("3") || !files[1].Directory {
		t.Errorf("files: %+v of %d, %d bytes, %v", files, total, size, err)
	}
	files, _, _, err = db.FilesOf(ctx, state.FileQuery{Owner: "A", Hash: hash("a"), Oldest: true, After: &state.MessagePlace{At: at(1), Hash: hash("1")}}, 0, 0)
	if err != nil || len(files) != 1 || files[0].Ref != hash("2") || files[0].SizeBytes != 10 {
		t.Errorf("files after a place: %+v, %v", files, err)
	}
	if over, err := db.PinsOver(ctx, state.PinGrace, at(9), 9); err != nil || len(over) != 1 || over[0].File != hash("c") {
		t.Errorf("over: %+v, %v", over, err)
	}
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(tx.DropPin(ctx, string(hash("3"))), tx.PutUses(ctx, hash("d"), []message.ItemHash{hash("1"), hash("1")}))
	})
	if loose, err := db.LooseFiles(ctx, "", 9); err != nil || !slices.Equal(loose, []message.ItemHash{hash("b")}) {
		t.Errorf("loose: %v, %v", loose, err)
	}
	if user, err := db.UserOf(ctx, hash("1")); err != nil || user != hash("d") {
		t.Errorf("used by %s, %v", user, err)
	}
	if n, err := db.CountPins(ctx, hash("a")); err != nil || n != 2 {
		t.Errorf("%d pins, %v", n, err)
	}
	if f, err := db.File(ctx, hash("1")); err != nil || f.Hash != hash("a") || f.Name != "n" {
		t.Errorf("file: %+v, %v", f, err)
	}
}

func TestCostsAreListed(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	cost := func(key string, id int64, owner string, p message.PaymentType) state.Cost {
		return state.Cost{Message: hash(key), ID: id, Owner: owner, Payment: p, Hold: "1.5", Stream: "0", Credit: "2", Lines: json.RawMessage(`[]`)}
	}
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(tx.PutCost(ctx, cost("1", 2, "A", "hold")), tx.PutCost(ctx, cost("2", 1, "A", "hold")), tx.PutCost(ctx, cost("3", 3, "A", "credit")), tx.PutCost(ctx, cost("4", 4, "B", "hold")), tx.DropCost(ctx, hash("4")))
	})
	if got, err := db.CostsOf(ctx, "A", "hold"); err != nil || len(got) != 2 || got[0].Message != hash("2") {
		t.Errorf("costs: %+v, %v", got, err)
	}
	want := cost("1", 2, "A", "hold")
	if got, err := db.Cost(ctx, hash("1")); err != nil || gocmp.Diff(&want, got) != "" {
		t.Errorf("cost: %+v, %v", got, err)
	}
	if got, total, err := db.Costs(ctx, state.CostQuery{Owner: "A"}, 1, 1); err != nil || total != 3 || len(got) != 1 || got[0].Message != hash("1") {
		t.Errorf("page: %+v of %d, %v", got, total, err)
	}
}

func TestGrantsAreKept(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	m := post(t, "A", 5)
	a := state.Grant{Owner: "A", Message: hash("2"), At: at(1).UTC(), Content: json.RawMessage(`{}`)}
	b := state.Grant{Owner: "A", Message: hash("1"), At: at(2).UTC(), Until: at(3).UTC(), Content: json.RawMessage(`{}`)}
	update(t, db, func(tx *state.Tx) error {
		drop := func(want bool) error {
			was, err := tx.DropGrant(ctx, "A", hash("3"))
			if was != want {
				t.Errorf("a grant was there: %v, want %v", was, want)
			}
			return err
		}
		return errors.Join(tx.PutGrant(ctx, b), tx.PutGrant(ctx, a), tx.PutGrant(ctx, state.Grant{Owner: "A", Message: hash("3"), At: at(9)}), drop(true), drop(false),
			tx.AddMessages(ctx, []*state.Message{m}), tx.PutDelegated(ctx, m.Owner, m))
	})
	got, err := db.Grants(ctx, "A")
	if err != nil || gocmp.Diff([]state.Grant{a, b}, got) != "" {
		t.Errorf("grants: %+v, %v", got, err)
	}
	for _, tt := range []struct {
		at     int64
		before message.ItemHash
		want   message.ItemHash
	}{{0, "", ""}, {1, "", a.Message}, {1, hash("2"), ""}, {1, hash("3"), a.Message}, {2, "", b.Message}, {3, "", b.Message}, {4, "", a.Message}} {
		g, err := db.GrantAt(ctx, "A", at(tt.at), tt.before)
		if tt.want == "" && !errors.Is(err, errs.NotFound) || tt.want != "" && (err != nil || g.Message != tt.want) {
			t.Errorf("grant at %d before %q: %+v, %v; want %s", tt.at, tt.before, g, err, tt.want)
		}
	}
	if g, err := db.Grant(ctx, "A", b.Message); err != nil || gocmp.Diff(&b, g) != "" {
		t.Errorf("grant: %+v, %v", g, err)
	}
	if g, err := db.Grant(ctx, "A", hash("3")); !errors.Is(err, errs.NotFound) {
		t.Errorf("grant that is none: %+v, %v", g, err)
	}
	for from, want := range map[int64]int{5: 1, 6: 0} {
		if found, err := db.Delegated(ctx, "A", time.Unix(from, 0)); err != nil || len(found) != want {
			t.Errorf("delegated from %d: %v, %v, want %d", from, found, err, want)
		}
	}
}

// BenchmarkAddMessages adds posts as the network does, many with one commit.
func BenchmarkAddMessages(b *testing.B) {
	db, err := state.OpenFor(b, b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	const batch = 256
	for n := 0; n < b.N; n += batch {
		b.StopTimer()
		all := make([]*state.Message, batch)
		for i := range all {
			all[i] = post(b, fmt.Sprintf("0x%040d", (n+i)%5000), int64(n+i), "ref", fmt.Sprint("ref", (n+i)%3000))
		}
		b.StartTimer()
		if err := db.Update(b.Context(), func(tx *state.Tx) error {
			return errors.Join(tx.AddMessages(b.Context(), all), tx.AddPosts(b.Context(), all))
		}); err != nil {
			b.Fatal(err)
		}
	}
}
