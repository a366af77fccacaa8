package aleph_test

import (
	"context"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph/alephtest"
)

func dial(t *testing.T, url string) *aleph.Chain {
	t.Helper()
	chain, err := aleph.DialChain(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(chain.Close)
	return chain
}

// TestAgainstARealToken runs transfers and permits against the compiled token
// on a chain in memory.
func TestAgainstARealToken(t *testing.T) {
	node, c, a := start(t)
	real := alephtest.StartChain(t)
	chain := dial(t, real.URL)
	node.Relay(real)
	from := devchain.Accounts()[9].Key

	t.Run("transfers arrive", func(t *testing.T) {
		if _, err := chain.SendETH(t.Context(), from, a.Address(), aleph.NewWei(big.NewInt(5))); err != nil {
			t.Fatal(err)
		}
		want := aleph.NewWei(big.NewInt(7))
		if _, err := chain.SendToken(t.Context(), from, real.Token, a.Address(), want); err != nil {
			t.Fatal(err)
		}
		if got := real.Balance(t, a.Address()); got.Cmp(want) != 0 {
			t.Errorf("balance %s, want %s", got, want)
		}
	})
	t.Run("the token takes a permit, again and again", func(t *testing.T) {
		for n, text := range []string{"1", "0.5", "0.5"} {
			want, err := aleph.ParseTokens(text)
			if err != nil {
				t.Fatal(err)
			}
			granted, err := aleph.Grant(t.Context(), c, chain, a, want)
			if err != nil {
				t.Fatal(err)
			}
			if v, err := aleph.WaitGranted(t.Context(), c, chain, granted); err != nil || v.Allowance.Cmp(want) != 0 {
				t.Errorf("allowance %+v, %v; want %s", v, err, want)
			}
			if granted.Nonce.Int64() != int64(n) {
				t.Errorf("nonce %s, want %d", granted.Nonce, n)
			}
		}
	})
	t.Run("a forged permit is refused", func(t *testing.T) {
		domain, nonce, err := chain.PermitDomain(t.Context(), real.Token, a.Address())
		if err != nil {
			t.Fatal(err)
		}
		permit, err := a.SignPermit(domain, common.BytesToAddress([]byte{9}), aleph.NewWei(big.NewInt(77)), nonce, uint64(time.Now().Add(time.Hour).Unix()))
		if err != nil {
			t.Fatal(err)
		}
		permit.Value = aleph.NewWei(big.NewInt(78))
		_, err = c.Permit(t.Context(), permit)
		wantKind(t, err, aleph.Denied, "permit")
	})
	t.Run("another chain is noticed", func(t *testing.T) {
		node.SetInfo(func(i *aleph.Info) { i.Chain.ID = 42161 })
		_, err := aleph.Grant(t.Context(), c, chain, a, aleph.Wei{})
		if err == nil || !strings.Contains(err.Error(), "is chain 31337, but node") {
			t.Errorf("error %v, want one about two chains", err)
		}
	})
	t.Run("a transfer that cannot be paid is refused", func(t *testing.T) {
		poor, err := crypto.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := chain.SendToken(t.Context(), poor, real.Token, a.Address(), aleph.NewWei(big.NewInt(1))); err == nil {
			t.Error("tokens that nobody has were sent")
		}
	})
	t.Run("an address without a token is named", func(t *testing.T) {
		_, _, err := chain.PermitDomain(t.Context(), common.BytesToAddress([]byte{0xEE}), a.Address())
		if err == nil || !strings.Contains(err.Error(), "eip712Domain") {
			t.Errorf("error %v, want one that names the question", err)
		}
	})
}

func TestAChainThatIsAway(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	chain := dial(t, srv.URL)
	srv.Close()

	_, err := chain.ID(t.Context())

	wantKind(t, err, aleph.Unavailable, "no answer from")
	if _, err := aleph.DialChain(context.WithoutCancel(t.Context()), "nonsense://x"); err == nil {
		t.Error("an RPC of no scheme was dialled")
	}
}
