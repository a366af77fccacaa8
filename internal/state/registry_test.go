package state_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// element is an AGGREGATE of A.
func element(t *testing.T, key string, second int64, content string) *state.Message {
	t.Helper()
	return made(t, message.TypeAggregate, second, map[string]any{"address": "A", "key": key, "content": json.RawMessage(content)})
}

// TestChangesOfTheRegistryAreInTheirOrder: and those of blocks that are on the chain
// no more are gone.
func TestChangesOfTheRegistryAreInTheirOrder(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	put := func(c state.RegistryChange) {
		update(t, db, func(tx *state.Tx) error {
			return tx.AtBlock(c.Block, func() error { return tx.PutRegistryChange(ctx, c) })
		})
	}
	want := []state.RegistryChange{
		{Block: 9, Index: 100, At: 1, Node: state.Node{ID: 1, Kind: state.KindCompute, Locked: true}},
		{Block: 10, Index: 2, At: 2, Node: state.Node{ID: 2, PoolTokens: big.NewInt(5), PoolShares: big.NewInt(6)}, Delegator: common.Address{7}, Shares: big.NewInt(-8)},
		{Block: 10, Index: 10, At: 2, Node: state.Node{ID: 1}, Void: true},
	}
	for _, c := range want {
		put(c)
	}
	put(state.RegistryChange{Block: 11, Node: state.Node{ID: 9}})
	update(t, db, func(tx *state.Tx) error { return tx.Rollback(ctx, 10) })
	got, err := db.RegistryChanges(ctx)
	if diff := gocmp.Diff(want, got, gocmp.Comparer(func(a, b *big.Int) bool { return fmt.Sprint(a) == fmt.Sprint(b) })); err != nil || diff != "" {
		t.Errorf("changes (-want +got), %v:\n%s", err, diff)
	}
}

func TestOwnAggregatesAndTheirVersions(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	version := func() state.AggregateVersion {
		t.Helper()
		v, err := db.AggregateVersion(ctx, "A", "k")
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if _, err := db.AggregateVersion(ctx, "A", "k"); !errors.Is(err, errs.NotFound) {
		t.Errorf("before there is one: %v", err)
	}
	var seen []state.AggregateVersion
	differs := func(when string) {
		t.Helper()
		v := version()
		for _, old := range seen {
			if v == old {
				t.Errorf("%s: the version %+v was there before", when, v)
			}
		}
		seen = append(seen, v)
	}
	middle := element(t, "k", 5, `{"b":1}`)
	add := func(m *state.Message) {
		update(t, db, func(tx *state.Tx) error {
			return errors.Join(tx.AddMessages(ctx, []*state.Message{m}), tx.AddElements(ctx, []*state.Message{m}))
		})
	}
	add(element(t, "k", 1, `{"a":1}`))
	differs("the first")
	add(element(t, "k", 9, `{"a":2}`))
	differs("a newer one")
	add(middle)
	differs("one between them")
	update(t, db, func(tx *state.Tx) error { return tx.RemoveElement(ctx, middle) })
	differs("without it")
	add(element(t, "other", 1, `{}`))
	if v := version(); v != seen[len(seen)-1] {
		t.Errorf("another aggregate changed the version: %+v", v)
	}
	own := state.Aggregate{Owner: "A", Key: "k", Content: []byte(`{"own":1}`), Created: at(1), Updated: at(2)}
	update(t, db, func(tx *state.Tx) error { return tx.PutOwnAggregate(ctx, own) })
	differs("an own one")
	own.Content, own.Updated, own.Created = []byte(`{"own":2}`), at(3), at(3)
	update(t, db, func(tx *state.Tx) error { return tx.PutOwnAggregate(ctx, own) })
	differs("another own one")
	got, err := db.OwnAggregates(ctx, "A")
	if err != nil || len(got) != 1 || string(got[0].Content) != `{"own":2}` || !got[0].Created.Equal(at(1)) || !got[0].Updated.Equal(at(3)) {
		t.Errorf("own aggregates: %+v, %v", got, err)
	}
	update(t, db, func(tx *state.Tx) error { return tx.DropOwnAggregate(ctx, "A", "k") })
	if v := version(); v.Own {
		t.Errorf("after it went: %+v", v)
	}
	if got, err := db.OwnAggregates(ctx, "A"); err != nil || len(got) != 0 {
		t.Errorf("own aggregates that are left: %+v, %v", got, err)
	}
}

func TestHeightsAtATime(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	m := element(t, "k", 1, `{}`)
	update(t, db, func(tx *state.Tx) (err error) {
		err = tx.AddMessages(ctx, []*state.Message{m})
		for i, c := range []state.Transaction{{Chain: "ETH", Height: 10, At: at(10)}, {Chain: "ETH", Height: 12, At: at(20)}, {Chain: "TEZOS", Height: 1, At: at(15)}} {
			c.Hash = fmt.Sprint(i)
			_, errPut := tx.PutConfirmation(ctx, m, c)
			err = errors.Join(err, errPut)
		}
		return err
	})
	for second, want := range map[int64]int64{0: 10, 10: 10, 11: 12, 20: 12, 21: 0} {
		if got, err := db.ConfirmedHeight(ctx, message.Ethereum, at(second)); err != nil || got != want {
			t.Errorf("at %d the height is %d, %v, want %d", second, got, err, want)
		}
	}
}

func TestMetricsOfNodesAreKeptForATime(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	m := element(t, "k", 1, `{}`)
	row := func(kind, node string, second int64) state.NodeMetrics {
		return state.NodeMetrics{Kind: kind, Node: node, At: at(second), Message: m.ID, Doc: []byte(fmt.Sprint(second))}
	}
	update(t, db, func(tx *state.Tx) error {
		if err := tx.AddMessages(ctx, []*state.Message{m}); err != nil {
			return err
		}
		rows := []state.NodeMetrics{row("ccn", "a", 1), row("ccn", "a", 2), row("ccn", "a", 3), row("crn", "a", 2), row("ccn", "b", 2)}
		gone := row("ccn", "a", 2)
		gone.Message = m.ID + 99 // Its post is not here.
		return errors.Join(tx.PutNodeMetrics(ctx, append(rows, gone)), tx.PutNodeMetrics(ctx, rows[:1]), tx.PutMeasured(ctx, 7))
	})
	want := func(when, want string, from, to int64, newest bool, limit int) {
		t.Helper()
		found, err := db.NodeMetrics(ctx, "ccn", "a", at(from), at(to), newest, limit)
		var got []string
		for _, f := range found {
			got = append(got, string(f.Doc))
			if f.Hash != m.Envelope.ItemHash || f.Message != m.ID || f.Kind != "ccn" || f.Node != "a" {
				t.Errorf("%s: row is %+v", when, f)
			}
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v, want %s", when, got, err, want)
		}
	}
	want("all", "1 2 3", 0, 9, false, 9)
	want("the newest", "3 2", 0, 9, true, 2)
	want("a part", "2 3", 2, 3, false, 9)
	var n int64
	update(t, db, func(tx *state.Tx) (err error) { n, err = tx.TrimNodeMetrics(ctx, at(2), 1); return err })
	want("after a trim", "2 3", 0, 9, false, 9)
	if id, err := db.Measured(ctx); n != 1 || err != nil || id != 7 {
		t.Errorf("%d rows went, and the last message is %d, %v, want 1 and 7", n, id, err)
	}
	update(t, db, func(tx *state.Tx) (err error) { n, err = tx.TrimNodeMetrics(ctx, at(0), 9); return err })
	if n != 0 {
		t.Errorf("%d rows went that are not too old", n)
	}
	if id, err := open(t, t.TempDir()).Measured(ctx); err != nil || id != -1 {
		t.Errorf("before the first the last message is %d, %v, want -1", id, err)
	}
}

// TestListsWithoutTablesSaySo: each says what it was about.
func TestListsWithoutTablesSaySo(t *testing.T) {
	ctx := t.Context()
	db := open(t, t.TempDir())
	for _, table := range []string{"own_aggregates", "node_metrics", "confirmations", "registry"} {
		if err := db.Exec(ctx, "DROP TABLE "+table); err != nil {
			t.Fatal(err)
		}
	}
	for want, do := range map[string]func(tx *state.Tx) error{
		"into own_aggregates": func(tx *state.Tx) error { return tx.PutOwnAggregate(ctx, state.Aggregate{}) },
		"drop own aggregate":  func(tx *state.Tx) error { return tx.DropOwnAggregate(ctx, "a", "b") },
		"read own aggregates": func(tx *state.Tx) error { _, err := tx.OwnAggregates(ctx, "a"); return err },
		"read version":        func(tx *state.Tx) error { _, err := tx.AggregateVersion(ctx, "a", "b"); return err },
		"into node_metrics":   func(tx *state.Tx) error { return tx.PutNodeMetrics(ctx, []state.NodeMetrics{{}}) },
		"old metrics":         func(tx *state.Tx) error { _, err := tx.TrimNodeMetrics(ctx, at(1), 1); return err },
		"read metrics": func(tx *state.Tx) error {
			_, err := tx.NodeMetrics(ctx, "ccn", "a", at(1), at(2), true, 1)
			return err
		},
		"find height":            func(tx *state.Tx) error { _, err := tx.ConfirmedHeight(ctx, "ETH", at(1)); return err },
		"change of the registry": func(tx *state.Tx) error { return tx.PutRegistryChange(ctx, state.RegistryChange{}) },
	} {
		if err := db.Update(ctx, do); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
