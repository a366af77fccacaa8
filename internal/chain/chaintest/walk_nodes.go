package chaintest

import (
	"crypto/ecdsa"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

func (w *Walk) nodeKinds() map[string]func() (move, bool) {
	c := bindings.NewNodeRegistry()
	byOwner := func(data func(id uint32) []byte) func() (move, bool) {
		return func() (move, bool) {
			id, owner, _, _ := w.node()
			return move{key: owner, contract: "NodeRegistry", data: data(id)}, owner != nil
		}
	}
	// consent is the signature of a signer that is to be a node's.
	domain := job.Nodes(w.net.Client.ChainID(), w.net.Deployment.Contracts.NodeRegistry)
	signed := func(key *ecdsa.PrivateKey, s job.Signable) job.Signature {
		sig, err := job.Sign(key, domain, s)
		if err != nil {
			w.tb.Fatal(err)
		}
		return sig
	}
	return map[string]func() (move, bool){
		"register": func() (move, bool) {
			signer, kind, peer := w.spare[w.rng.IntN(len(w.spare))], 1+uint8(w.rng.IntN(3)), fmt.Appendf(nil, "peer %d", w.count)
			consent := signed(signer, &job.Register{Owner: w.net.Owner.Address, Kind: job.NodeKind(kind), PeerID: peer})
			return move{key: w.net.Owner.Key, contract: "NodeRegistry", data: c.PackRegisterNode(kind, peer,
				crypto.PubkeyToAddress(signer.PublicKey), w.hash(), w.rng.Uint64(), uint16(w.rng.IntN(5)), consent)}, true
		},
		"setSigner": func() (move, bool) {
			id, owner, _, _ := w.node()
			if owner == nil {
				return move{}, false
			}
			signer := w.spare[w.rng.IntN(len(w.spare))]
			consent := signed(signer, &job.SetSigner{NodeID: id, Owner: crypto.PubkeyToAddress(owner.PublicKey)})
			return move{key: owner, contract: "NodeRegistry", data: c.PackSetSigner(id, crypto.PubkeyToAddress(signer.PublicKey), consent)}, true
		},
		"updateMeta":   byOwner(func(id uint32) []byte { return c.PackUpdateMeta(id, w.hash(), w.rng.Uint64(), uint16(w.rng.IntN(9))) }),
		"setPayout":    byOwner(func(id uint32) []byte { return c.PackSetPayout(id, crypto.PubkeyToAddress(w.person().PublicKey)) }),
		"applyPayout":  byOwner(c.PackApplyPayout),
		"transferNode": byOwner(func(id uint32) []byte { return c.PackTransferNode(id, w.net.Admin.Address) }),
		"acceptNode": func() (move, bool) {
			id, _, _, _ := w.node()
			return move{key: w.net.Admin.Key, contract: "NodeRegistry", data: c.PackAcceptNode(id)}, true
		},
		"activate": byOwner(c.PackActivate),
		"drain": func() (move, bool) {
			id, owner, _, _ := w.node() // The first two carry the walk.
			return move{key: owner, contract: "NodeRegistry", data: c.PackDrain(id)}, owner != nil && id > 2
		},
		"exit":      byOwner(c.PackExit),
		"setLocked": byOwner(func(id uint32) []byte { return c.PackSetLocked(id, w.rng.IntN(2) == 0) }),
		"unjail":    byOwner(c.PackUnjail),
		"link":      byOwner(func(id uint32) []byte { return c.PackLink(w.net.Coord.ID, id) }),
		"unlink":    byOwner(func(id uint32) []byte { return c.PackUnlink(w.net.Coord.ID, id) }),
		"snapshot": func() (move, bool) {
			return move{key: w.person(), contract: "NodeRegistry", data: c.PackSnapshotCoordinators()}, true
		},
		"selfHeartbeat": func() (move, bool) {
			id, _, signer, _ := w.node()
			return move{key: signer, contract: "NodeRegistry", data: c.PackSelfHeartbeat(id, uint32(w.now()/3600))}, signer != nil
		},
		"heartbeats": w.heartbeats,
	}
}

// pauseKinds are calls that every contract has.
func (w *Walk) pauseKinds() map[string]func() (move, bool) {
	c := bindings.NewNodeRegistry()
	byAdmin := func(data func() []byte) func() (move, bool) {
		return func() (move, bool) {
			all := based()
			return move{key: w.net.Admin.Key, contract: all[w.rng.IntN(len(all))], data: data()}, true
		}
	}
	return map[string]func() (move, bool){
		// Not for long, for little happens meanwhile.
		"pause":      byAdmin(func() []byte { return c.PackPause(uint8(1+w.rng.IntN(15)), big.NewInt(1+w.rng.Int64N(1200))) }),
		"unpause":    byAdmin(c.PackUnpause),
		"renewPause": byAdmin(c.PackRenewPause),
	}
}

func (w *Walk) stakeKinds() map[string]func() (move, bool) {
	c := bindings.NewStakingManager()
	byOwner := func(data func(id uint32) []byte) func() (move, bool) {
		return func() (move, bool) {
			id, owner, _, _ := w.node()
			return move{key: owner, contract: "StakingManager", data: data(id)}, owner != nil
		}
	}
	byDelegator := func(data func(id uint32, who common.Address) []byte) func() (move, bool) {
		return func() (move, bool) {
			id, _, _, _ := w.node()
			key := w.person()
			return move{key: key, contract: "StakingManager", data: data(id, crypto.PubkeyToAddress(key.PublicKey))}, true
		}
	}
	delegate := byDelegator(func(id uint32, _ common.Address) []byte {
		return c.PackDelegate0(id, w.aleph(100), new(big.Int))
	})
	stake := byOwner(func(id uint32) []byte { return c.PackStake(id, w.aleph(300)) })
	return map[string]func() (move, bool){
		"stake": stake, "delegate": delegate,
		"requestUnstake": byOwner(func(id uint32) []byte {
			v, err := c.UnpackStakeOf(w.view("StakingManager", c.PackStakeOf(id)))
			if err != nil {
				w.tb.Fatal(err)
			}
			if w.rng.IntN(2) == 0 { // All, which only a node that does not work may.
				return c.PackRequestUnstake(id, v.Arg0)
			}
			return c.PackRequestUnstake(id, w.aleph(20))
		}),
		"withdrawSelf": byOwner(c.PackWithdrawSelf),
		"undelegate": byDelegator(func(id uint32, who common.Address) []byte {
			v, err := c.UnpackPositionValue(w.view("StakingManager", c.PackPositionValue(id, who)))
			if err != nil {
				w.tb.Fatal(err)
			}
			if w.rng.IntN(3) > 0 { // Some, or all.
				v.Arg1.Div(v.Arg1, big.NewInt(1+w.rng.Int64N(4)))
			}
			return c.PackUndelegate(id, v.Arg1, new(big.Int))
		}),
		"cancelUndelegate": byDelegator(func(id uint32, _ common.Address) []byte {
			return c.PackCancelUndelegate(id, uint8(w.rng.IntN(8)))
		}),
		"withdraw": byDelegator(func(id uint32, who common.Address) []byte {
			return c.PackWithdraw(id, w.leaving(id, who))
		}),
		"addRewards":    byDelegator(func(id uint32, _ common.Address) []byte { return c.PackAddRewards(id, w.aleph(30)) }),
		"setCommission": byOwner(func(id uint32) []byte { return c.PackSetCommission(id, uint16(w.rng.IntN(3000))) }),
		"claimOwner":    byOwner(c.PackClaimOwner),
		"syncVotes":     byDelegator(func(id uint32, who common.Address) []byte { return c.PackSyncVotes(who, []uint32{id}) }),
		"delegateVotes": byDelegator(func(uint32, common.Address) []byte {
			return c.PackDelegate(crypto.PubkeyToAddress(w.person().PublicKey))
		}),
		"setUnbonding": func() (move, bool) {
			return move{key: w.net.Admin.Key, contract: "StakingManager", data: c.PackSetUnbonding(uint32(7+w.rng.IntN(8)) * 24 * 3600)}, true
		},
	}
}

// leaving returns the tranches in which something of a delegator leaves a node.
func (w *Walk) leaving(id uint32, who common.Address) (all []uint8) {
	c := bindings.NewStakingManager()
	for i := range uint8(8) {
		v, err := c.UnpackTranche(w.view("StakingManager", c.PackTranche(id, who, i)))
		if err != nil {
			w.tb.Fatal(err)
		}
		if v.Arg1.Sign() != 0 {
			all = append(all, i)
		}
	}
	return all
}
