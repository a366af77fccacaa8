package state_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// says is a post that says balances, as pairs of an address and a number.
func says(t *testing.T, p credit.Place, chain message.Chain, dapp string, height int64, pairs ...string) *credit.Balances {
	t.Helper()
	b := &credit.Balances{Place: p, Chain: chain, Dapp: dapp, Height: height}
	for _, pair := range pairs {
		address, tokens, _ := strings.Cut(pair, "=")
		b.Of = append(b.Of, credit.Balance{Address: address, Tokens: number(t, tokens)})
	}
	return b
}

// putBalances takes over posts and returns who has more or less with the last.
func putBalances(t *testing.T, db *state.DB, posts ...*credit.Balances) (changed []string) {
	t.Helper()
	for _, b := range posts {
		update(t, db, func(tx *state.Tx) (err error) {
			changed, err = tx.PutBalances(t.Context(), b)
			return err
		})
	}
	return changed
}

func TestTheNewestPostSaysABalance(t *testing.T) {
	db := open(t, t.TempDir())
	for _, tt := range []struct {
		post    *credit.Balances
		changed string
		have    string
	}{
		{says(t, placeOf(5, "h5"), "ETH", "", 10, "a=1.5", "b=0.0"), "[a]", "1.5"},
		{says(t, placeOf(5, "h5"), "ETH", "", 10, "a=1.5", "b=0.0"), "[]", "1.5"},
		{says(t, placeOf(9, "h9"), "ETH", "", 9, "a=2"), "[]", "1.5"},           // A smaller height.
		{says(t, placeOf(4, "h9"), "ETH", "", 10, "a=3"), "[]", "1.5"},          // The same height, and earlier.
		{says(t, placeOf(5, "h4"), "ETH", "", 10, "a=4"), "[]", "1.5"},          // The same time, and a smaller hash.
		{says(t, placeOf(5, "h6"), "ETH", "", 10, "a=5"), "[a]", "5"},           // A greater hash.
		{says(t, placeOf(1, "h1"), "ETH", "", 12, "a=5.00"), "[]", "5.00"},      // The same, but newer.
		{says(t, placeOf(9, "h9"), "ETH", "", 11, "a=7", "b=8"), "[b]", "5.00"}, // Between the two.
		{says(t, placeOf(9, "h9"), "ETH", "SABLIER", 99, "a=100"), "[a]", "5.00"},
		{says(t, placeOf(9, "h9"), "SOL", "", 1, "a=0.25"), "[a]", "5.00"},
	} {
		changed := putBalances(t, db, tt.post)
		_, chains, err := db.BalancesOf(t.Context(), "a")
		if fmt.Sprint(changed) != tt.changed || err != nil || chains["ETH"].String() != tt.have {
			t.Errorf("%s at %d: %v changed, there are %s, %v, want %s and %s", tt.post.Hash, tt.post.Height, changed, chains["ETH"], err, tt.changed, tt.have)
		}
	}
	total, chains, err := db.BalancesOf(t.Context(), "a")
	if err != nil || total.String() != "5.25" || len(chains) != 2 || chains["SOL"].String() != "0.25" {
		t.Errorf("there are %s in all, %v, %v", total, chains, err)
	}
	if total, chains, err := db.BalancesOf(t.Context(), "A"); err != nil || total.Sign() != 0 || len(chains) != 0 {
		t.Errorf("another case has %s, %v, %v", total, chains, err)
	}
}

// TestTheOrderOfBalancesMeansNothing: shuffled posts leave the same rows.
func TestTheOrderOfBalancesMeansNothing(t *testing.T) {
	db, other := open(t, t.TempDir()), open(t, t.TempDir())
	rapid.Check(t, func(rt *rapid.T) {
		for _, db := range []*state.DB{db, other} {
			if err := db.Exec(t.Context(), "DELETE FROM token_balances"); err != nil {
				t.Fatal(err)
			}
		}
		posts := make([]*credit.Balances, rapid.IntRange(1, 6).Draw(rt, "posts"))
		for i := range posts {
			posts[i] = says(t, placeOf(rapid.Int64Range(0, 2).Draw(rt, "time"), fmt.Sprint(i)), "ETH", rapid.SampledFrom([]string{"", "x"}).Draw(rt, "dapp"),
				rapid.Int64Range(0, 2).Draw(rt, "height"), fmt.Sprintf("a=%d", i), fmt.Sprintf("%c=%d", 'b'+i%2, i))
		}
		putBalances(t, db, posts...)
		putBalances(t, other, rapid.Permutation(posts).Draw(rt, "order")...)
		want, errWant := db.Balances(t.Context(), state.BalancesQuery{})
		got, errGot := other.Balances(t.Context(), state.BalancesQuery{})
		if diff := gocmp.Diff(want, got, decimals); diff != "" || errors.Join(errWant, errGot) != nil {
			rt.Fatalf("rows, %v, %v (-in order +shuffled):\n%s", errWant, errGot, diff)
		}
	})
}

func TestListsOfBalances(t *testing.T) {
	db := open(t, t.TempDir())
	ctx := t.Context()
	putBalances(t, db, says(t, placeOf(1, "h1"), "ETH", "", 1, "a=10", "b=9.99", "c=-3"), says(t, placeOf(1, "h2"), "SOL", "", 1, "a=2.5", "d=1e30"),
		says(t, placeOf(1, "h3"), "ETH", "x", 1, "a=11"))
	for _, tt := range []struct {
		q    state.BalancesQuery
		want string
		all  int
	}{
		{state.BalancesQuery{}, "a ETH 10, a ETH/x 11, a SOL 2.5, b ETH 9.99, c ETH -3, d SOL 1000000000000000000000000000000", 6},
		{state.BalancesQuery{Chains: []message.Chain{"SOL", "BASE"}}, "a SOL 2.5, d SOL 1000000000000000000000000000000", 2},
		{state.BalancesQuery{Min: 10}, "a ETH 10, a ETH/x 11, d SOL 1000000000000000000000000000000", 3},
		{state.BalancesQuery{Min: 9, Limit: 2, Offset: 2}, "b ETH 9.99, d SOL 1000000000000000000000000000000", 4},
		{state.BalancesQuery{After: &state.TokenBalance{Address: "a", Chain: "ETH"}, Limit: 2}, "a ETH/x 11, a SOL 2.5", 5},
		{state.BalancesQuery{After: &state.TokenBalance{Address: "a", Chain: "SOL"}, Chains: []message.Chain{"ETH"}, Min: 1}, "b ETH 9.99", 1},
	} {
		found, err := db.Balances(ctx, tt.q)
		n, errCount := db.CountBalances(ctx, tt.q)
		var got []string
		for _, b := range found {
			chain := string(b.Chain)
			if b.Dapp != "" {
				chain += "/" + b.Dapp
			}
			got = append(got, b.Address+" "+chain+" "+b.Tokens.String())
		}
		if err := errors.Join(err, errCount); err != nil || strings.Join(got, ", ") != tt.want || n != tt.all {
			t.Errorf("%+v: %s of %d, %v, want %s of %d", tt.q, strings.Join(got, ", "), n, err, tt.want, tt.all)
		}
	}
}

func TestBalancesOfTheNetworkAreTaken(t *testing.T) {
	db := open(t, t.TempDir())
	want := map[string]string{}
	for i, sample := range readSample(t).Balances {
		b, err := credit.Network().Balances(credit.Post{
			Hash: message.ItemHash(fmt.Sprint(i)), Type: credit.TypeBalances, Owner: credit.Network().BalanceOwners[0], At: at(int64(i)), Content: sample.Content,
		})
		if err != nil {
			t.Fatal(err)
		}
		putBalances(t, db, b)
		for address, tokens := range sample.Tokens {
			want[address+string(b.Chain)+b.Dapp] = tokens
		}
	}
	found, err := db.Balances(t.Context(), state.BalancesQuery{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, b := range found {
		got[b.Address+string(b.Chain)+b.Dapp] = b.Tokens.String()
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("balances (-want +got):\n%s", diff)
	}
}

// TestARevokedPostNeverSaidABalance: what the others say holds again, of those that are
// here and of those that are not.
func TestARevokedPostNeverSaidABalance(t *testing.T) {
	db, ctx := open(t, t.TempDir()), t.Context()
	rules := credit.Network()
	rules.BalanceOwners = []string{"one", "two"}
	var all []*state.Message
	for i, of := range []map[string]any{{"a": 1, "b": 2, "d": 5}, {"a": 3, "b": 2, "c": 1, "e": 7}} {
		m := post(t, rules.BalanceOwners[i], int64(3000+i), "type", credit.TypeBalances, "content", map[string]any{"chain": "ETH", "main_height": 10 + i, "balances": of})
		b, err := rules.Balances(credit.PostOf(&m.Envelope, m.Parsed.(*message.Post)))
		if err != nil {
			t.Fatal(err)
		}
		putBalances(t, db, b)
		all = append(all, m)
	}
	update(t, db, func(tx *state.Tx) error { return errors.Join(tx.AddMessages(ctx, all), tx.AddPosts(ctx, all)) })
	gone := all[1].Envelope.ItemHash
	revoke := func() (changed []string) {
		update(t, db, func(tx *state.Tx) (err error) {
			changed, err = tx.RevokeBalances(ctx, rules, []message.ItemHash{gone}, func(hear func(*credit.Balances)) error {
				hear(says(t, placeOf(1, "h1"), "ETH", "", 9, "a=8", "c=9", "d=8"))
				hear(says(t, placeOf(1, "h1"), "SOL", "", 9, "e=9"))
				return nil
			})
			return err
		})
		return changed
	}

	if changed := revoke(); fmt.Sprint(changed) != "[a c e]" {
		t.Errorf("%v changed, want a, c and e", changed)
	}
	found, err := db.Balances(ctx, state.BalancesQuery{})
	got := []string{}
	for _, b := range found {
		got = append(got, b.Address+"="+b.Tokens.String())
	}
	if want := "a=1 b=2 c=9 d=5"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("balances are %v, %v; want %s", got, err, want)
	}
	if changed := revoke(); changed != nil {
		t.Errorf("what was not there changed %v", changed)
	}
}
