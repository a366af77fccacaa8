package state_test

import (
	"errors"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
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

func TestCheckFindsNothingInWhatWasWritten(t *testing.T) {
	got, err := furnished(t).Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Messages != 6 || got.Posts != 2 || got.Aggregates != 1 || len(got.Differences) != 0 {
		t.Errorf("check says %+v, want 6 messages, 2 posts, 1 aggregate and no differences", got)
	}
}

// TestCheckFindsWhatIsWrong changes one thing at a time, as half a transaction would.
func TestCheckFindsWhatIsWrong(t *testing.T) {
	for _, wrong := range []string{
		"DELETE FROM messages WHERE id = 1",
		"DELETE FROM message_postings WHERE n = 6",
		"UPDATE message_postings SET n = n + 1 WHERE n = 6",
		"DELETE FROM message_times WHERE id = 3",
		"UPDATE message_times SET at = at + 1 WHERE id = 1",
		"UPDATE message_blocks SET n = n - 1",
		"UPDATE message_blocks SET max_at = max_at + 1",
		"INSERT INTO message_times (id, at, terms) SELECT 40000, at, terms FROM message_times WHERE id = 0",
		"UPDATE message_times SET terms = (SELECT terms FROM message_times WHERE id = 1) WHERE id = 0",
		"UPDATE message_blocks SET marked = n",
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
	} {
		t.Run(wrong, func(t *testing.T) {
			db := furnished(t)
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
