package chaintest

import (
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/protocol/heartbeat"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// hour is what the coordinators said of an epoch: that the first compute node has
// next to nothing free and all others have plenty.
type hour struct {
	epoch  uint32
	leaves map[uint32]heartbeat.Leaf
	tree   *heartbeat.Tree
	bitmap common.Hash
}

// placement is an assignment that can be challenged, and the numbers it was by.
type placement struct {
	assignment bindings.IJobManagerAssignment
	by         *hour
}

// dispute is a challenge of a placement.
type dispute struct {
	spec    [32]byte
	attempt uint8
	better  uint32
}

// needs is what jobs ask for of which the node is to be challenged.
func needs() [heartbeat.LeafSize]byte { return (&heartbeat.Leaf{VCPUFree: 8}).Encode() }

// heartbeats is what the coordinators say of the epoch before.
func (w *Walk) heartbeats() (move, bool) {
	c, bitmap := bindings.NewNodeRegistry(), []byte{0xff, 1}
	h := &hour{epoch: uint32(w.now()/3600) - 1, leaves: map[uint32]heartbeat.Leaf{}, bitmap: heartbeat.Bitmap(bitmap).Hash()}
	var all []heartbeat.Leaf
	for id := uint32(1); id <= w.nodeCount(); id++ {
		leaf := heartbeat.Leaf{NodeID: id, Score: 5000, Uptime: 9000, VCPUFree: 64}
		if id == w.net.Compute.ID {
			leaf.VCPUFree = 1
		}
		h.leaves[id], all = leaf, append(all, leaf)
	}
	var err error
	if h.tree, err = heartbeat.NewTree(all); err != nil {
		w.tb.Fatal(err)
	}
	sigs, ok := w.quorum("NodeRegistry", c.PackHeartbeatDigest(h.epoch, h.tree.Root(), h.bitmap))
	return move{
		key: w.person(), contract: "NodeRegistry", data: c.PackSubmitHeartbeats(h.epoch, h.tree.Root(), bitmap, sigs),
		after: func(*chain.Receipt) { w.hour = h },
	}, ok
}

func (w *Walk) placementKinds() map[string]func() (move, bool) {
	c := bindings.NewJobManager()
	domain := job.Jobs(w.net.Client.ChainID(), w.net.Deployment.Contracts.JobManager)
	drawn := func() (dispute, bool) {
		if len(w.disputes) == 0 {
			return dispute{}, false
		}
		return w.disputes[w.rng.IntN(len(w.disputes))], true
	}
	return map[string]func() (move, bool){
		"openByNeeds":        w.openByNeeds,
		"challengePlacement": w.challengePlacement,
		"answerDecline": func() (move, bool) {
			d, ok := drawn()
			signer := w.keys[common.BytesToAddress(w.view("NodeRegistry", bindings.NewNodeRegistry().PackSignerOf(d.better)))]
			if !ok || signer == nil {
				return move{}, false
			}
			word := job.Decline{Spec: itemHash(d.spec), NodeID: d.better, Attempt: d.attempt, Reason: uint8(16 + w.rng.IntN(10))}
			data := c.PackAnswerDecline(d.spec, d.attempt, d.better, word.Reason, w.word(signer, domain, &word))
			return move{key: w.person(), contract: "JobManager", data: data}, true
		},
		"answerSilence": func() (move, bool) {
			d, ok := drawn()
			if !ok {
				return move{}, false
			}
			sigs, ok := w.agree(domain, &job.Silence{Spec: itemHash(d.spec), NodeID: d.better, Attempt: d.attempt})
			return move{key: w.person(), contract: "JobManager", data: c.PackAnswerSilence(d.spec, d.attempt, d.better, sigs)}, ok
		},
		"settleChallenge": func() (move, bool) {
			d, ok := drawn()
			return move{key: w.person(), contract: "JobManager", data: c.PackSettleChallenge(d.spec, d.attempt, d.better)}, ok
		},
	}
}

// openByNeeds gives a job that needs much to the node that has little.
func (w *Walk) openByNeeds() (move, bool) {
	ids, coords := w.coordinators()
	signer := w.keys[common.BytesToAddress(w.view("NodeRegistry", bindings.NewNodeRegistry().PackSignerOf(w.net.Compute.ID)))]
	if w.hour == nil || signer == nil || len(ids) == 0 {
		return move{}, false
	}
	spec, payer, rate, wants := w.hash(), w.person(), RateQ32(1+w.rng.Int64N(1_000_000)), needs()
	o, offer := w.offer(spec, addressOf(payer), rate, 0, 0)
	o.ReqHash = crypto.Keccak256Hash(wants[:])
	offer.ReqHash = o.ReqHash
	a := job.Assignment{
		Spec: o.Spec, NodeID: w.net.Compute.ID, RateQ32: rate, CoordID: ids[0], StatsEpoch: w.hour.epoch, ReqHash: o.ReqHash, Deadline: o.Deadline,
	}
	s, ok := w.assignment(payer, signer, ids, coords, &o, a)
	by := w.hour
	data := bindings.NewJobManager().PackOpen(offer, s.offerSig, s.packed, s.nodeSig, s.coordSigs)
	return move{key: w.person(), contract: "JobManager", data: data, after: func(*chain.Receipt) {
		w.specs, w.placed = append(w.specs, spec), spec
		w.placements = append(w.placements, placement{s.packed, by})
	}}, ok
}

// challengePlacement shows a node that should have got a job.
func (w *Walk) challengePlacement() (move, bool) {
	if len(w.placements) == 0 {
		return move{}, false
	}
	p := w.placements[w.rng.IntN(len(w.placements))]
	d := dispute{p.assignment.Spec, p.assignment.Attempt, uint32(1 + w.rng.IntN(len(p.by.leaves)))}
	proof := bindings.IJobManagerStatProof{Needs: needs()}
	proof.Given, proof.GivenIndex, proof.GivenProof = w.stat(p.by, p.assignment.NodeId)
	proof.Better, proof.BetterIndex, proof.BetterProof = w.stat(p.by, d.better)
	data := bindings.NewJobManager().PackChallengeAssignment(p.assignment, proof)
	return move{key: w.person(), contract: "JobManager", data: data, after: func(*chain.Receipt) {
		w.disputes = append(w.disputes, d)
	}}, true
}

// stat is the number of a node as it is shown to the contract.
func (w *Walk) stat(h *hour, id uint32) (leaf [32]byte, index *big.Int, proof [][32]byte) {
	l := h.leaves[id]
	hashes, err := h.tree.Proof(id, h.bitmap)
	if err != nil {
		w.tb.Fatal(err)
	}
	for _, hash := range hashes {
		proof = append(proof, hash)
	}
	return l.Encode(), number(uint64(id)), proof
}
