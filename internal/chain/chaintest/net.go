// Package chaintest gives tests a real chain with the real contracts, a
// coordinator, a compute node and a payer, and a wire to it that can be cut.
package chaintest

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Net is a chain with the contracts on it. It makes a block when Mine is
// called, and by itself only while Run runs.
type Net struct {
	Chain      *devchain.Chain
	Client     *chain.Client
	Deployment *deploy.Deployment
	Admin      devchain.Account // Holds every role, but of StartGoverned.
	Owner      devchain.Account // Of both nodes.
	Payer      devchain.Account // Has ALEPH and has approved all of it.
	Coord      Node
	Compute    Node

	offers int64 // Nonce of the next offer.
	end    func() error
}

// Node is a node that has joined.
type Node struct {
	ID     uint32
	Signer *ecdsa.PrivateKey
}

// Address returns the account of the node's signer.
func (n Node) Address() common.Address { return crypto.PubkeyToAddress(n.Signer.PublicKey) }

// Aleph returns n tokens in wei.
func Aleph(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(1e18)) }

// Start returns a new chain with everything on it, the randomness of which anybody
// can sign. It ends with the test.
func Start(tb testing.TB) *Net {
	tb.Helper()
	return start(tb, "", true)
}

// StartGoverned returns a chain like Start's, kept in a directory ("" = in
// memory), on which nobody but contracts holds a role, as on a devnet.
func StartGoverned(tb testing.TB, dir string) *Net {
	tb.Helper()
	return start(tb, dir, false)
}

func start(tb testing.TB, dir string, admin bool) *Net {
	tb.Helper()
	quiet := slog.New(slog.DiscardHandler)
	c, err := devchain.Open(devchain.Config{DataDir: dir}, quiet)
	if err != nil {
		tb.Fatal(err)
	}
	closeOnce := sync.OnceValue(c.Close)
	tb.Cleanup(func() {
		if err := closeOnce(); err != nil {
			tb.Errorf("close chain: %v", err)
		}
	})
	client, err := chain.Dial(tb.Context(), chain.Config{RPCURL: c.URL(), ChainID: devchain.ChainID}, quiet)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	a := devchain.Accounts()
	n := &Net{Chain: c, Client: client, Admin: a[0], Owner: a[1], Payer: a[2], end: closeOnce}
	stop := n.Run(tb)
	n.deploy(tb, admin)
	n.join(tb)
	stop()
	approve := bindings.NewAlephToken().PackApprove(n.Deployment.Contracts.PaymentManager, Aleph(1000))
	n.Do(tb, n.Payer.Key, "AlephToken", approve)
	return n
}

// Close ends the chain before the test ends.
func (n *Net) Close(tb testing.TB) {
	tb.Helper()
	if err := n.end(); err != nil {
		tb.Fatalf("close chain: %v", err)
	}
}

func (n *Net) deploy(tb testing.TB, admin bool) {
	tb.Helper()
	params, err := deploy.ParamsOf(devchain.ChainID)
	if err != nil {
		tb.Fatal(err)
	}
	params.Stake = deploy.Stake{Coordinator: 200, CoordinatorTotal: 200, Compute: 10}
	params.Pools = deploy.Pools{Stakers: n.Admin.Address, Coordinators: n.Admin.Address, Development: n.Admin.Address}
	if admin {
		params.Beacon.Key = openKey()
	}
	d, err := deploy.Deploy(tb.Context(), n.Client, n.Admin.Key, params, deploy.Extras{
		KeepAdmin: admin,
		Grants:    []deploy.Grant{{To: n.Owner.Address, AlephWei: Aleph(1000)}, {To: n.Payer.Address, AlephWei: Aleph(1000)}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	n.Deployment = d
}

// openKey is the public key to the secret key 1, the generator of the curve's
// second group: what signs a round is the point that the round is hashed to, so
// every test has the randomness of any day.
func openKey() [4]common.Hash {
	return [4]common.Hash{
		common.HexToHash("0x198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2"),
		common.HexToHash("0x1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed"),
		common.HexToHash("0x090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b"),
		common.HexToHash("0x12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa"),
	}
}

// Address returns where a contract is, also one that no node talks to.
func (n *Net) Address(tb testing.TB, contract string) common.Address {
	tb.Helper()
	if at, ok := n.Deployment.Helpers[contract]; ok {
		return at
	}
	at, err := n.Deployment.Contracts.Address(contract)
	if err != nil {
		tb.Fatal(err)
	}
	return at
}

func (n *Net) join(tb testing.TB) {
	tb.Helper()
	for i, node := range []*Node{&n.Coord, &n.Compute} {
		key, err := crypto.ToECDSA(crypto.Keccak256([]byte{byte(i)}))
		if err != nil {
			tb.Fatal(err)
		}
		node.Signer = key
	}
	ids, err := deploy.Join(tb.Context(), n.Client, n.Deployment.Contracts,
		deploy.Node{Owner: n.Owner.Key, Signer: n.Coord.Signer, Kind: job.KindCoordinator, PeerID: []byte("coordinator"), EtherWei: Aleph(1)},
		deploy.Node{Owner: n.Owner.Key, Signer: n.Compute.Signer, Kind: job.KindCompute, PeerID: []byte("compute"), EtherWei: Aleph(1)})
	if err != nil {
		tb.Fatal(err)
	}
	n.Coord.ID, n.Compute.ID = ids[0], ids[1]
}

// Run makes blocks until stop is called.
func (n *Net) Run(tb testing.TB) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan error, 1)
	go func() { done <- n.Chain.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			tb.Errorf("run chain: %v", err)
		}
	}
}

// Mine makes a block.
func (n *Net) Mine(tb testing.TB) {
	tb.Helper()
	if _, err := n.Chain.Mine(); err != nil {
		tb.Fatal(err)
	}
}

// Head returns the newest block.
func (n *Net) Head(tb testing.TB) *chain.Header {
	tb.Helper()
	head, err := n.Client.Head(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return head
}

// Do sends a call, makes a block and returns the receipt of the call, which
// must have succeeded.
func (n *Net) Do(tb testing.TB, key *ecdsa.PrivateKey, contract string, data []byte) *chain.Receipt {
	tb.Helper()
	ctx, from := tb.Context(), crypto.PubkeyToAddress(key.PublicKey)
	to := n.Address(tb, contract)
	nonce, err := n.Client.Nonce(ctx, from, nil)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := n.Client.Call(ctx, chain.Call{From: from, To: to, Data: data}); err != nil {
		tb.Fatalf("call %s: %v", contract, err)
	}
	const gas, feeWei = 4_000_000, 1e9
	tx, err := types.SignNewTx(key, types.LatestSignerForChainID(n.Client.ChainID()), &types.DynamicFeeTx{
		ChainID: n.Client.ChainID(), Nonce: nonce, Gas: gas, GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(feeWei), To: &to, Data: data,
	})
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := tx.MarshalBinary()
	if err != nil {
		tb.Fatal(err)
	}
	if err := n.Client.Send(ctx, raw); err != nil {
		tb.Fatal(err)
	}
	n.Mine(tb)
	r, err := n.Client.Receipt(ctx, tx.Hash())
	if err != nil {
		tb.Fatal(err)
	}
	if !r.OK {
		tb.Fatalf("call %s was refused, %d gas used", contract, r.GasUsed)
	}
	return r
}

// Spec returns the name of a job, the same for the same text.
func Spec(text string) message.ItemHash {
	sum := sha256.Sum256([]byte(text))
	return message.ItemHash(hex.EncodeToString(sum[:]))
}

// Bytes returns a spec as the contracts take it.
func Bytes(spec message.ItemHash) [32]byte { return common.HexToHash(string(spec)) }

// RateQ32 returns the rate of so many wei per second.
func RateQ32(weiPerSecond int64) *big.Int { return new(big.Int).Lsh(big.NewInt(weiPerSecond), 32) }

// Signed is all that opening a job takes.
type Signed struct {
	Offer      job.Offer
	OfferSig   job.Signature
	Assignment job.Assignment
	AcceptSig  job.Signature
	CoordSigs  []byte
}

// Sign returns an offer of the payer for a job at the rate, accepted by the
// compute node and assigned by the coordinator, for ten minutes from now.
func (n *Net) Sign(tb testing.TB, spec message.ItemHash, rateQ32 *big.Int) *Signed {
	tb.Helper()
	deadline := n.Head(tb).Time + 600
	s := &Signed{
		Offer: job.Offer{
			Spec: spec, Payer: n.Payer.Address, Token: job.TokenALEPH, MaxRateQ32: rateQ32, Deadline: deadline, Nonce: big.NewInt(n.offers),
		},
		Assignment: job.Assignment{Spec: spec, NodeID: n.Compute.ID, RateQ32: rateQ32, CoordID: n.Coord.ID, Deadline: deadline},
	}
	n.offers++
	d := job.Jobs(n.Client.ChainID(), n.Deployment.Contracts.JobManager)
	accept := job.Accept(s.Assignment)
	var errAccept, errAssign, errPack, errOffer error
	s.OfferSig, errOffer = job.Sign(n.Payer.Key, d, &s.Offer)
	s.AcceptSig, errAccept = job.Sign(n.Compute.Signer, d, &accept)
	sig, errAssign := job.Sign(n.Coord.Signer, d, &s.Assignment)
	s.CoordSigs, errPack = job.PackQuorum([]job.CoordSignature{{CoordID: n.Coord.ID, Signature: sig}})
	if err := errors.Join(errOffer, errAccept, errAssign, errPack); err != nil {
		tb.Fatal(err)
	}
	return s
}

// Args returns the arguments of JobManager.open as an intent has them.
func (s *Signed) Args(tb testing.TB) json.RawMessage {
	tb.Helper()
	o, a := s.Offer, s.Assignment
	raw, err := json.Marshal([]any{
		map[string]string{
			"spec": "0x" + string(o.Spec), "payer": o.Payer.Hex(), "token": fmt.Sprint(o.Token), "maxRateQ32": o.MaxRateQ32.String(),
			"slaClass": fmt.Sprint(o.SLAClass), "imageSeq": fmt.Sprint(o.ImageSeq), "nodeHint": fmt.Sprint(o.NodeHint),
			"reqHash": o.ReqHash.Hex(), "maxUntil": fmt.Sprint(o.MaxUntil), "deadline": fmt.Sprint(o.Deadline), "nonce": o.Nonce.String(),
		},
		s.OfferSig.String(),
		map[string]string{
			"spec": "0x" + string(a.Spec), "nodeId": fmt.Sprint(a.NodeID), "rateQ32": a.RateQ32.String(),
			"attempt": fmt.Sprint(a.Attempt), "coordId": fmt.Sprint(a.CoordID),
			"statsEpoch": fmt.Sprint(a.StatsEpoch), "reqHash": a.ReqHash.Hex(), "deadline": fmt.Sprint(a.Deadline),
		},
		s.AcceptSig.String(), hexutil.Encode(s.CoordSigs),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// Open opens a job and makes a block.
func (n *Net) Open(tb testing.TB, spec message.ItemHash, rateQ32 *big.Int) *chain.Receipt {
	tb.Helper()
	s := n.Sign(tb, spec, rateQ32)
	until := func(t uint64) *big.Int { return new(big.Int).SetUint64(t) }
	data := bindings.NewJobManager().PackOpen(
		bindings.IJobManagerJobOffer{
			Spec: Bytes(spec), Payer: s.Offer.Payer, Token: s.Offer.Token, MaxRateQ32: s.Offer.MaxRateQ32, NodeHint: s.Offer.NodeHint,
			MaxUntil: until(s.Offer.MaxUntil), Deadline: until(s.Offer.Deadline), Nonce: s.Offer.Nonce,
		}, s.OfferSig,
		bindings.IJobManagerAssignment{
			Spec: Bytes(spec), NodeId: s.Assignment.NodeID, RateQ32: s.Assignment.RateQ32, Attempt: s.Assignment.Attempt,
			CoordId: s.Assignment.CoordID, Deadline: until(s.Assignment.Deadline),
		}, s.AcceptSig, s.CoordSigs)
	return n.Do(tb, n.Coord.Signer, "JobManager", data)
}

// Confirm reports the job running and makes a block.
func (n *Net) Confirm(tb testing.TB, spec message.ItemHash) *chain.Receipt {
	tb.Helper()
	return n.Do(tb, n.Compute.Signer, "JobManager", bindings.NewJobManager().PackConfirmRunning([][32]byte{Bytes(spec)}))
}

// Stop ends the job as its payer and makes a block.
func (n *Net) Stop(tb testing.TB, spec message.ItemHash) *chain.Receipt {
	tb.Helper()
	return n.Do(tb, n.Payer.Key, "JobManager", bindings.NewJobManager().PackStop(Bytes(spec)))
}
