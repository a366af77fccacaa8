package state_test

import (
	"errors"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// furnished opens a database with messages of each kind that makes something.
func furnished(t *testing.T) *state.DB {
	t.Helper()
	db := open(t, t.TempDir())
	ctx := t.Context()
	channel := "C"
	original, other := post(t, "A", 100, "ref", "r"), post(t, "B", 105)
	original.Envelope.Channel = &channel
	amend := post(t, "A", 110, "type", "amend", "ref", original.Envelope.ItemHash, "content", map[string]any{"tags": []string{"x"}})
	gone := post(t, "A", 120)
	element := func(second int64, content map[string]any) *state.Message {
		return made(t, message.TypeAggregate, second, map[string]any{"address": "A", "key": "k", "content": content})
	}
	elements := []*state.Message{element(1, map[string]any{"a": 1, "b": 1}), element(2, map[string]any{"b": 2})}
	store := made(t, message.TypeStore, 130, map[string]any{"address": "A", "item_type": "storage", "item_hash": message.HashOf([]byte("file"))})
	update(t, db, func(tx *state.Tx) error {
		err := errors.Join(tx.AddMessages(ctx, []*state.Message{original, other, amend, gone, elements[0], elements[1], store}),
			tx.AddPosts(ctx, []*state.Message{original, other, gone}), tx.AddAmend(ctx, original, amend), tx.AddElements(ctx, elements),
			tx.PutPin(ctx, state.Pin{Key: string(store.Envelope.ItemHash), Kind: state.PinMessage, File: message.HashOf([]byte("file")), Owner: "A", Tag: "t", At: store.MadeAt}),
			tx.PutCost(ctx, state.Cost{Message: store.Envelope.ItemHash, ID: store.ID, Owner: "A", Payment: message.PayHold, Lines: []byte("[]")}),
			tx.PutUses(ctx, store.Envelope.ItemHash, []message.ItemHash{hash("used")}))
		if err != nil {
			return err
		}
		if _, err := tx.PutConfirmation(ctx, other, state.Transaction{Chain: "ETH", Hash: "0x1", Height: 77, At: at(200)}); err != nil {
			return err
		}
		if _, err := tx.RemovePost(ctx, gone); err != nil {
			return err
		}
		return tx.RemoveMessage(ctx, gone)
	})
	return db
}

// creditPost is a post that moves credits, and what it does.
func creditPost(t *testing.T, owner string, second int64, typ string, content map[string]any) (*state.Message, *credit.Event) {
	t.Helper()
	rules := credit.Network()
	rules.Authority = "authority"
	m := post(t, owner, second, "type", typ, "content", content)
	m.Envelope.Channel = &rules.Channel
	e, err := rules.Event(credit.PostOf(&m.Envelope, m.Parsed.(*message.Post)))
	if err != nil || e == nil {
		t.Fatalf("the event of a post is %v, %v", e, err)
	}
	return m, e
}

// financed adds credits that were given, spent and transferred, a late one of them
// by a post that was forgotten.
func financed(t *testing.T) *state.DB {
	t.Helper()
	db, ctx := furnished(t), t.Context()
	give := func(second int64, to string, amount int64) (*state.Message, *credit.Event) {
		one := map[string]any{"address": to, "amount": amount, "price": "0.5", "tx_hash": "0x1", "provider": "P", "ref": "bill", "expiration": 4e12}
		return creditPost(t, "authority", second, credit.TypeDistribution, map[string]any{"distribution": map[string]any{"token": "ALEPH", "chain": "ETH", "credits": []any{one}}})
	}
	move := func(owner, to string, second, amount int64) (*state.Message, *credit.Event) {
		one := map[string]any{"address": to, "amount": amount}
		return creditPost(t, owner, second, credit.TypeTransfer, map[string]any{"transfer": map[string]any{"credits": []any{one}}})
	}
	var posts []*state.Message
	var events []*credit.Event
	add := func(m *state.Message, e *credit.Event) { posts, events = append(posts, m), append(events, e) }
	add(give(1800001000, "A", 10))
	add(move("A", "B", 1800001002, 4))
	add(move("authority", "C", 1800001003, 1))
	add(move("B", "A", 1800001004, 9)) // More than there is.
	add(creditPost(t, "authority", 1800001005, credit.TypeExpense, map[string]any{"expense": map[string]any{"credits": []any{map[string]any{"address": "B", "amount": 3, "execution_id": "vm"}}}}))
	gone, late := give(1800001001, "B", 2)
	update(t, db, func(tx *state.Tx) error {
		err := errors.Join(tx.AddMessages(ctx, posts), tx.AddPosts(ctx, posts), tx.PutSkeleton(ctx, state.Skeleton{
			Envelope: gone.Envelope, Status: state.MessageForgotten, Owner: gone.Owner, MadeAt: gone.MadeAt,
		}))
		for _, e := range append(events, late) {
			if err == nil {
				_, err = tx.ApplyCredit(ctx, e)
			}
		}
		return err
	})
	return db
}

// held adds what posts of two accounts say of balances, the last of which was forgotten.
func held(t *testing.T) *state.DB {
	t.Helper()
	db, ctx := furnished(t), t.Context()
	rules := credit.Network()
	rules.BalanceOwners = []string{"one", "two"}
	say := func(owner string, second, height int64, of map[string]any) (*state.Message, *credit.Balances) {
		m := post(t, owner, second, "type", credit.TypeBalances, "content", map[string]any{"chain": "ETH", "main_height": height, "balances": of})
		b, err := rules.Balances(credit.PostOf(&m.Envelope, m.Parsed.(*message.Post)))
		if err != nil || b == nil {
			t.Fatalf("the balances of a post are %v, %v", b, err)
		}
		return m, b
	}
	old, newer, gone := map[string]any{"A": 1, "B": 2.5, "E": 1}, map[string]any{"A": 3, "F": 1}, map[string]any{"C": 4}
	first, firstSays := say("one", 3000, 10, old)
	second, secondSays := say("two", 2999, 20, newer)
	third, thirdSays := say("one", 3001, 30, gone)
	update(t, db, func(tx *state.Tx) error {
		err := errors.Join(tx.AddMessages(ctx, []*state.Message{first, second}), tx.AddPosts(ctx, []*state.Message{first, second}),
			tx.PutSkeleton(ctx, state.Skeleton{Envelope: third.Envelope, Status: state.MessageForgotten, Owner: "one", MadeAt: third.MadeAt}))
		for _, b := range []*credit.Balances{secondSays, firstSays, thirdSays} {
			if err == nil {
				_, err = tx.PutBalances(ctx, b)
			}
		}
		return err
	})
	return db
}

// permissive adds an owner who allows something, has forgotten something that was
// allowed before, and something that was written for them.
func permissive(t *testing.T) *state.DB {
	t.Helper()
	db, ctx := furnished(t), t.Context()
	element := func(second int64, content map[string]any) *state.Message {
		return made(t, message.TypeAggregate, second, map[string]any{"address": "A", "key": "security", "content": content})
	}
	authorizations := map[string]any{"authorizations": []any{map[string]any{"address": "D"}}}
	grant, other, over := element(2000, authorizations), element(2001, map[string]any{"note": 1}), element(1990, authorizations)
	forget := made(t, message.TypeForget, 1995, map[string]any{"address": "A", "hashes": []message.ItemHash{over.Envelope.ItemHash}})
	again := made(t, message.TypeForget, 1997, map[string]any{"address": "A", "hashes": []message.ItemHash{over.Envelope.ItemHash}})
	written := post(t, "A", 2002)
	written.Envelope.Sender = "D"
	key := "security"
	update(t, db, func(tx *state.Tx) error {
		return errors.Join(tx.AddMessages(ctx, []*state.Message{grant, other, forget, again, written}), tx.AddElements(ctx, []*state.Message{grant, other}),
			tx.AddPosts(ctx, []*state.Message{written}), tx.PutDelegated(ctx, "A", written),
			tx.PutGrant(ctx, state.Grant{Owner: "A", Message: grant.Envelope.ItemHash, At: grant.MadeAt, Content: grant.Parsed.(*message.Aggregate).Content}),
			tx.PutGrant(ctx, state.Grant{Owner: "A", Message: over.Envelope.ItemHash, At: over.MadeAt, Until: forget.MadeAt, Content: over.Parsed.(*message.Aggregate).Content}),
			tx.PutSkeleton(ctx, state.Skeleton{
				Envelope: over.Envelope, Status: state.MessageForgotten, Owner: "A", MadeAt: over.MadeAt, Kind: &key,
				ForgottenBy: []message.ItemHash{again.Envelope.ItemHash, forget.Envelope.ItemHash},
			}))
	})
	return db
}

func TestCheckFindsNothingInWhatWasWritten(t *testing.T) {
	for name, db := range map[string]*state.DB{"furnished": furnished(t), "financed": financed(t), "permissive": permissive(t), "held": held(t)} {
		got, err := db.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]state.Checked{"furnished": {Messages: 6, Posts: 2, Aggregates: 1}, "financed": {Messages: 11, Posts: 7, Aggregates: 1}, "held": {Messages: 8, Posts: 4, Aggregates: 1}, "permissive": {Messages: 11, Posts: 3, Aggregates: 2}}[name]
		want.Set = got.Set // See TestSumsFollowMessages.
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("what was checked of the %s (-want +got):\n%s", name, diff)
		}
	}
}

// TestCheckFindsWhatIsWrong changes one thing at a time, as half a transaction would.
func TestCheckFindsWhatIsWrong(t *testing.T) {
	wantFound(t, furnished,
		"DELETE FROM messages WHERE id = 1",
		"DELETE FROM message_postings WHERE n = 6",
		"UPDATE message_postings SET n = n + 1 WHERE n = 6",
		"UPDATE message_postings SET span = 1 WHERE n = 6",
		"INSERT INTO message_packed (block, part, times) SELECT 0, 0, bits FROM message_postings WHERE n = 6",
		"DELETE FROM message_times WHERE id = 3",
		"UPDATE message_times SET at = at + 1 WHERE id = 1",
		"UPDATE message_blocks SET n = n - 1",
		"UPDATE message_blocks SET max_at = max_at + 1",
		"INSERT INTO message_times (id, at, terms) SELECT 40000, at, terms FROM message_times WHERE id = 0",
		"UPDATE message_times SET terms = (SELECT terms FROM message_times WHERE id = 1) WHERE id = 0",
		"UPDATE message_blocks SET marked = n",
		"UPDATE message_blocks SET bounds = (SELECT bits FROM message_postings WHERE n = 6)",
		"UPDATE post_blocks SET marked = n",
		"UPDATE messages SET status = 'removing' WHERE id = 0",
		"UPDATE messages SET at = at + 1 WHERE id = 0",
		"DELETE FROM posts WHERE original = 1",
		"UPDATE posts SET latest = original",
		"DELETE FROM amends",
		"UPDATE amends SET original = 1",
		"DELETE FROM post_postings",
		"DELETE FROM post_times",
		"DELETE FROM elements WHERE message = 4",
		"UPDATE aggregates SET updated = created",
		"UPDATE aggregates SET owner = 'B'",
		"UPDATE aggregate_values SET value = '7' WHERE name = 'b'",
		"DELETE FROM aggregate_values WHERE name = 'a'",
		"INSERT INTO aggregate_values (aggregate, pk, name, at, message, value) SELECT 99, pk, name, at, message, value FROM aggregate_values WHERE name = 'a'",
		"UPDATE senders SET total = total + 1 WHERE pk = 'A'",
		"UPDATE senders SET store = 0 WHERE pk = 'A'",
		"DELETE FROM senders WHERE pk = 'B'",
		"INSERT INTO senders (pk, total, post, aggregate, store, program, instance, forget, vprogram) VALUES ('Z', 1, 1, 0, 0, 0, 0, 0, 0)",
		"DELETE FROM words WHERE kind = 'channel' AND owner = ''",
		"DELETE FROM words WHERE kind = 'post_type' AND owner = 'B'",
		"DELETE FROM pins",
		"UPDATE pins SET file = 'another'",
		"DELETE FROM confirmed",
		"UPDATE confirmed SET height = 78",
		"DELETE FROM confirmations",
		"UPDATE costs SET id = 0",
		"UPDATE uses SET machine = 'nobody'",
		"INSERT INTO waits (thing, pk) SELECT pk, 'nobody' FROM words WHERE kind = 'post_type' AND owner = 'B'",
		"INSERT INTO rejected (pk, owner, envelope, origin, received_at, made_at, code, details, size) SELECT pk, owner, '', '', 0, 0, 0, '', 0 FROM messages WHERE id = 0",
	)
}

func TestCheckFindsWrongCredits(t *testing.T) {
	wantFound(t, financed,
		"DELETE FROM credit_events WHERE at = 1800001000000000 AND spender IS NULL",
		"DELETE FROM credit_events WHERE at = 1800001002000000",
		"UPDATE credit_events SET at = at + 1 WHERE at = 1800001005000000",
		"UPDATE credit_events SET spender = 'C' WHERE at = 1800001002000000",
		"UPDATE credit_events SET spender = NULL WHERE at = 1800001002000000",
		"UPDATE credit_events SET spender = NULL, doc = NULL WHERE at = 1800001002000000",
		"UPDATE credit_events SET doc = REPLACE(doc, '4', '3') WHERE at = 1800001002000000",
		"INSERT INTO credit_events (pk, at) VALUES ('nothing', 1)",
		"DELETE FROM skeletons",
		"DELETE FROM credit_history WHERE at = 1800001000000000",
		"DELETE FROM credit_history WHERE at = 1800001001000000",
		"DELETE FROM credit_history WHERE at = 1800001002000000 AND amount < 0",
		"UPDATE credit_history SET amount = amount + 1 WHERE at = 1800001000000000",
		"UPDATE credit_history SET amount = amount + 1 WHERE at = 1800001001000000",
		"UPDATE credit_history SET price = '0.6' WHERE at = 1800001000000000",
		"UPDATE credit_history SET token = NULL WHERE at = 1800001000000000",
		"UPDATE credit_history SET resource = 'another' WHERE at = 1800001000000000",
		"UPDATE credit_history SET resource = NULL WHERE at = 1800001005000000",
		"UPDATE credit_history SET ref = 'nothing' WHERE at = 1800001003000000",
		"INSERT INTO credit_history (ref, idx, at, address, amount) VALUES ('nothing', 0, 1, 'A', 1)",
		"DELETE FROM credit_lots WHERE at = 1800001003000000",
		"UPDATE credit_lots SET amount = amount + 1 WHERE at = 1800001003000000",
		"UPDATE credit_lots SET address = 'D' WHERE at = 1800001003000000",
		"UPDATE credit_lots SET expires_at = NULL WHERE at = 1800001000000000",
		"UPDATE credit_lots SET expires_at = expires_at + 1 WHERE at = 1800001000000000",
		"UPDATE credit_lots SET remaining = remaining - 1 WHERE at = 1800001000000000",
		"UPDATE credit_lots SET remaining = remaining + 1 WHERE at = 1800001001000000",
		"UPDATE credit_lots SET remaining = 0 WHERE at = 1800001002000000",
		"INSERT INTO credit_lots (ref, idx, address, at, amount, remaining) VALUES ('nothing', 0, 'A', 1, 1, 0)",
		"DELETE FROM credit_drains WHERE at = 1800001005000000",
		"UPDATE credit_drains SET amount = amount - 1 WHERE at = 1800001005000000",
		"UPDATE credit_drains SET address = 'A' WHERE at = 1800001005000000",
		"UPDATE credit_drains SET at = at - 1 WHERE at = 1800001002000000",
		"INSERT INTO credit_drains (ref, lot_ref, lot_idx, address, at, amount) VALUES ('nothing', 'nothing', 0, 'A', 1, 1)",
		"UPDATE messages SET channel = NULL WHERE made_at = 1800001000000000",
	)
}

func TestCheckFindsWrongGrants(t *testing.T) {
	wantFound(t, permissive,
		"DELETE FROM grants WHERE at = 2000000000",
		"UPDATE grants SET at = at + 1 WHERE at = 2000000000",
		"UPDATE grants SET until = 2001000000 WHERE at = 2000000000",
		"UPDATE grants SET content = '{}' WHERE at = 2000000000",
		"UPDATE grants SET owner = 'B' WHERE at = 2000000000",
		"INSERT INTO grants (owner, message, at, until, content) SELECT owner, pk, made_at, 9223372036854775807, '{}' FROM messages WHERE made_at = 2001000000",
		"INSERT INTO grants (owner, message, at, until, content) VALUES ('A', 'nothing', 1, 2, '{}')",
		"UPDATE grants SET until = 1997000000 WHERE at = 1990000000",
		"UPDATE grants SET until = 9223372036854775807 WHERE at = 1990000000",
		"UPDATE skeletons SET kind = 'another'",
		"DELETE FROM skeletons",
		"DELETE FROM delegated",
		"UPDATE delegated SET at = at + 1",
	)
}

func TestCheckFindsWrongBalances(t *testing.T) {
	wantFound(t, held,
		"DELETE FROM token_balances WHERE address = 'B'",
		"UPDATE token_balances SET tokens = '2' WHERE address = 'B'",
		"UPDATE token_balances SET whole = 3 WHERE address = 'B'",
		"UPDATE token_balances SET tokens = 'many' WHERE address = 'B'",
		"UPDATE token_balances SET address = 'D' WHERE address = 'B'",
		"UPDATE token_balances SET height = height + 1 WHERE address = 'A'",
		"UPDATE token_balances SET tokens = '1', whole = 1, height = 10, at = 3000000000, ref = (SELECT ref FROM token_balances WHERE address = 'B') WHERE address = 'A'",
		"INSERT INTO token_balances (address, chain, dapp, tokens, whole, height, at, ref) SELECT 'D', chain, dapp, tokens, whole, height, at, ref FROM token_balances WHERE address = 'B'",
	)
}

// wantFound wants a difference after each of the statements.
func wantFound(t *testing.T, fill func(*testing.T) *state.DB, statements ...string) {
	t.Helper()
	for _, wrong := range statements {
		t.Run(wrong, func(t *testing.T) {
			db := fill(t)
			if err := db.Exec(t.Context(), wrong); err != nil {
				t.Fatal(err)
			}

			got, err := db.Check(t.Context())

			if err != nil || len(got.Differences) == 0 {
				t.Errorf("check says %+v, %v, want a difference", got, err)
			}
		})
	}
}
