package state_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

func TestOnlyPeersSeenLastAreKept(t *testing.T) {
	db, err := state.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(t.Context(), func(tx *state.Tx) error {
		for i := range 9 {
			if err := tx.PutPeer(t.Context(), state.Peer{ID: fmt.Sprint(i), SeenAt: time.Unix(int64(i), 0)}); err != nil {
				return err
			}
		}
		return tx.KeepPeers(t.Context(), 2)
	})
	if err != nil {
		t.Fatal(err)
	}

	got, err := db.Peers(t.Context(), 10)

	if err != nil || len(got) != 2 || got[0].ID != "8" || got[1].ID != "7" {
		t.Errorf("kept %+v, %v; want 8 and 7", got, err)
	}
}
