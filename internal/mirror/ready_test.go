package mirror_test

import (
	"context"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/mirror"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
)

func TestSyncedIsTheWordOfTheLastPass(t *testing.T) {
	n := chaintest.Start(t)
	wire := chaintest.NewWire(t, n.Chain.URL())
	client, err := chain.Dial(t.Context(), chain.Config{RPCURL: wire.URL, ChainID: devchain.ChainID}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s, _ := syncer(n, open(t, t.TempDir()), client)
	if err := s.Ready(t.Context()); s.Synced() || !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "behind the chain") {
		t.Errorf("before the first pass it is synced: %v, %v", s.Synced(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() { cancel(); <-done }()

	p2ptest.Wait(t, "the rows are those of the chain", s.Synced)
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}

	wire.Cut()
	p2ptest.Wait(t, "a pass has failed", func() bool { return !s.Synced() })
	wire.Mend()
	p2ptest.Wait(t, "the rows are those of the chain again", s.Synced)
}

// mainnet is a network of tests under another chain id, by an RPC that serves
// the head that it is told to.
type mainnet struct {
	mirror.Chain
	id   int64
	head *chain.Header // nil for the chain's.
	err  error
}

func (m *mainnet) ChainID() *big.Int { return big.NewInt(m.id) }

func (m *mainnet) Head(ctx context.Context) (*chain.Header, error) {
	if m.head != nil || m.err != nil {
		return m.head, m.err
	}
	return m.Chain.Head(ctx)
}

func TestOldWordIsNone(t *testing.T) {
	n := chaintest.Start(t)
	c := &mainnet{Chain: n.Client, id: devchain.ChainID}
	s, _ := syncer(n, open(t, t.TempDir()), c)
	now := time.Now()
	for _, tt := range []struct {
		at   time.Time
		err  error
		want bool
	}{
		{now, nil, true},
		{now.Add(-mirror.SyncedMax / 2), nil, true},
		{now.Add(-mirror.SyncedMax), nil, false},
		{now, errors.New("away"), false},
	} {
		c.err = tt.err
		s.Look(t.Context(), tt.at)
		if got := s.Synced(); got != tt.want {
			t.Errorf("%v after a pass that ended with %v: synced is %v, want %v", now.Sub(tt.at), tt.err, got, tt.want)
		}
	}
}

func TestHeightsAreThoseOfRowsAndOfTheChain(t *testing.T) {
	n := chaintest.Start(t)
	c := &mainnet{Chain: n.Client, id: devchain.ChainID}
	s, _ := syncer(n, open(t, t.TempDir()), c)
	want := func(when string, rows, head int64, known bool) {
		t.Helper()
		if r, h, k, err := s.Heights(t.Context()); err != nil || r != rows || h != head || k != known {
			t.Errorf("%s: heights are %d and %d, %t, %v, want %d and %d, %t", when, r, h, k, err, rows, head, known)
		}
	}
	want("before the first pass", 0, 0, false)
	s.Look(t.Context(), time.Now())
	at := int64(n.Head(t).Number)
	want("after it", at, at, true)
	c.head = &chain.Header{Number: uint64(at) - 1, Time: n.Head(t).Time}
	s.Look(t.Context(), time.Now())
	want("an RPC that is behind", at, at, true)
	c.head = &chain.Header{Number: uint64(at) + 5, Time: n.Head(t).Time}
	s.Look(t.Context(), time.Now()) // The blocks cannot be read.
	want("after a pass that failed", at, at, true)
}

func TestAHeadThatStandsStillIsNotBelieved(t *testing.T) {
	n := chaintest.Start(t)
	c := &mainnet{Chain: n.Client, id: 42161}
	s, _ := syncer(n, open(t, t.TempDir()), c)
	mined := time.Unix(int64(n.Head(t).Time), 0)
	for _, tt := range []struct {
		id   int64
		age  time.Duration
		want string
	}{
		{42161, mirror.HeadAgeMax, ""},
		{42161, mirror.HeadAgeMax + time.Second, "newest block is 1m31s old"},
		{42161, -time.Hour, ""}, // The clock is behind, and the start refuses that.
		{devchain.ChainID, time.Hour, ""},
	} {
		c.id = tt.id
		doubt := s.Doubt(t.Context(), mined.Add(tt.age))
		if tt.want == "" && doubt != nil || tt.want != "" && (!errors.Is(doubt, errs.Unavailable) || !strings.Contains(doubt.Error(), tt.want)) {
			t.Errorf("chain %d, a head %v old: doubt is %v, want %q", tt.id, tt.age, doubt, tt.want)
		}
	}
}

func TestAnRPCBehindTheRowsIsNotBelieved(t *testing.T) {
	n := chaintest.Start(t)
	old := n.Head(t)
	n.Mine(t)
	c := &mainnet{Chain: n.Client, id: devchain.ChainID}
	s, _ := syncer(n, open(t, t.TempDir()), c)
	s.Look(t.Context(), time.Now())

	c.head = old
	s.Look(t.Context(), time.Now())
	if !s.Synced() {
		t.Error("one look at an RPC that lags behind another took the word back")
	}
	s.Age(mirror.SyncedMax)
	s.Look(t.Context(), time.Now())
	err := s.Ready(t.Context())
	if s.Synced() || !errors.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "the RPC is at block") {
		t.Errorf("the RPC stays behind: synced is %v, %v", s.Synced(), err)
	}

	c.head = nil
	s.Look(t.Context(), time.Now())
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("the RPC has caught up: %v", err)
	}
}

func TestNodeOfSignerAsksTheRegistry(t *testing.T) {
	n := chaintest.Start(t)
	wire := chaintest.NewWire(t, n.Chain.URL())
	client, err := chain.Dial(t.Context(), chain.Config{RPCURL: wire.URL, ChainID: devchain.ChainID}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	contracts := n.Deployment.Contracts
	for signer, want := range map[common.Address]uint32{
		n.Coord.Address(): n.Coord.ID, n.Compute.Address(): n.Compute.ID, n.Payer.Address: 0, {}: 0,
	} {
		got, err := mirror.NodeOfSigner(t.Context(), client, contracts, signer)
		if err != nil || got != want {
			t.Errorf("node of %s is %d, %v, want %d", signer, got, err, want)
		}
	}

	wrong := contracts
	wrong.NodeRegistry = common.HexToAddress("0xdead")
	_, err = mirror.NodeOfSigner(t.Context(), client, wrong, n.Coord.Address())
	if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "there is no NodeRegistry at "+wrong.NodeRegistry.Hex()+"; correct [chain.contracts]") {
		t.Errorf("at the wrong address: %v, want invalid and what to correct", err)
	}
	wire.Cut()
	if _, err := mirror.NodeOfSigner(t.Context(), client, contracts, n.Coord.Address()); !errors.Is(err, errs.Unavailable) {
		t.Errorf("without an RPC: %v, want unavailable", err)
	}
}
