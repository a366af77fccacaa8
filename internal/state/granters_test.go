package state_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestGrantersAreFoundByWhomTheyName(t *testing.T) {
	db := open(t, t.TempDir())
	for i, owner := range []string{"C", "A", "B", "D"} {
		entry := map[string]any{"address": map[string]string{"C": "0xD1", "A": "0xD1", "B": "0x%", "D": "\\u0030xD1"}[owner]}
		key := "security"
		if owner == "A" {
			key = "other"
		}
		m := made(t, message.TypeAggregate, int64(i+1), map[string]any{"address": owner, "key": key, "content": map[string]any{"authorizations": []any{entry}}})
		update(t, db, func(tx *state.Tx) error {
			if err := tx.AddMessages(t.Context(), []*state.Message{m}); err != nil {
				return err
			}
			return tx.AddElements(t.Context(), []*state.Message{m})
		})
	}
	// What has an escape is always among them.
	for address, want := range map[string][]string{"0xD1": {"C", "D"}, "0x%": {"B", "D"}, "0x_": {"D"}, `\`: {"D"}} {
		var got []string
		err := db.EachGranter(t.Context(), address, func(g state.Granter) error {
			got = append(got, g.Owner)
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("granters of %s = %v, %v, want %v", address, got, err, want)
		}
	}
}

func TestAllPinsAreCounted(t *testing.T) {
	db := open(t, t.TempDir())
	for i, key := range []string{"a", "b"} {
		update(t, db, func(tx *state.Tx) error {
			return tx.PutPin(t.Context(), state.Pin{Key: key, Kind: state.PinContent, File: hash("a"), At: time.Unix(int64(i), 0)})
		})
	}

	n, err := db.CountAllPins(t.Context())

	if err != nil || n != 2 {
		t.Errorf("CountAllPins = %d, %v, want 2", n, err)
	}
}
