package chaintest

import (
	"crypto/ecdsa"
	"errors"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func (w *Walk) jobKinds() map[string]func() (move, bool) {
	c := bindings.NewJobManager()
	view := func(spec [32]byte) bindings.IJobManagerJobView {
		v, err := c.UnpackJob(w.view("JobManager", c.PackJob(spec)))
		if err != nil {
			w.tb.Fatal(err)
		}
		return v
	}
	byPayer := func(data func(spec [32]byte) []byte) func() (move, bool) {
		return func() (move, bool) {
			spec := w.spec()
			key := w.keys[view(spec).Payer]
			return move{key: key, contract: "JobManager", data: data(spec)}, key != nil
		}
	}
	byNode := func(data func(spec [32]byte) []byte) func() (move, bool) {
		return func() (move, bool) {
			spec := w.spec()
			signer := common.BytesToAddress(w.view("NodeRegistry", bindings.NewNodeRegistry().PackSignerOf(view(spec).NodeId)))
			key := w.keys[signer]
			return move{key: key, contract: "JobManager", data: data(spec)}, key != nil
		}
	}
	byAnybody := func(data func(spec [32]byte) []byte) func() (move, bool) {
		return func() (move, bool) {
			return move{key: w.person(), contract: "JobManager", data: data(w.spec())}, true
		}
	}
	// Refused items of a batch are no revert.
	confirm := func() (move, bool) {
		spec := w.spec()
		v := view(spec)
		signer := common.BytesToAddress(w.view("NodeRegistry", bindings.NewNodeRegistry().PackSignerOf(v.NodeId)))
		return move{key: w.keys[signer], contract: "JobManager", data: c.PackConfirmRunning([][32]byte{spec})}, v.Status == statusAssigned
	}
	return map[string]func() (move, bool){
		"open": w.open, "confirm": confirm,
		"createJob":       w.createJob,
		"stop":            byPayer(c.PackStop),
		"reassign":        byPayer(c.PackReassign),
		"nodeStop":        byNode(func(spec [32]byte) []byte { return c.PackNodeStop(spec, uint8(job.NodeRefused)) }),
		"complete":        byNode(func(spec [32]byte) []byte { return c.PackComplete(spec, w.hash()) }),
		"failStart":       byAnybody(c.PackFailStart),
		"finalizeJob":     byAnybody(c.PackFinalize),
		"expire":          byAnybody(func(spec [32]byte) []byte { return c.PackExpire([][32]byte{spec}) }),
		"endRoyalties":    byAnybody(func(spec [32]byte) []byte { return c.PackEndRoyalties([][32]byte{spec}) }),
		"closeForArrears": byAnybody(func(spec [32]byte) []byte { return c.PackCloseForArrears([][32]byte{spec}) }),
		"invalidateNonces": func() (move, bool) {
			return move{key: w.person(), contract: "JobManager", data: c.PackInvalidateNonces(number(1000), number(w.rng.Uint64()))}, true
		},
		"resize": func() (move, bool) {
			spec := w.spec()
			v := view(spec)
			payer := w.keys[v.Payer]
			node := w.keys[common.BytesToAddress(w.view("NodeRegistry", bindings.NewNodeRegistry().PackSignerOf(v.NodeId)))]
			if payer == nil || node == nil {
				return move{}, false
			}
			rate := RateQ32(1 + w.rng.Int64N(2_000_000))
			o, offer := w.offer(spec, v.Payer, new(big.Int).Lsh(rate, 2), v.ImageSeq, v.SlaClass)
			d := job.Jobs(w.net.Client.ChainID(), w.net.Deployment.Contracts.JobManager)
			sig, err := job.Sign(payer, d, &o)
			nodeSig, err2 := job.Sign(node, d, &job.Resize{Offer: o.StructHash(), NodeID: v.NodeId, RateQ32: rate})
			if err := errors.Join(err, err2); err != nil {
				w.tb.Fatal(err)
			}
			return move{key: w.person(), contract: "JobManager", data: c.PackResize(offer, sig, rate, nodeSig)}, true
		},
	}
}

func itemHash(spec [32]byte) message.ItemHash { return message.ItemHash(common.Hash(spec).Hex()[2:]) }

// offer returns a payer's offer in both forms.
func (w *Walk) offer(spec [32]byte, payer common.Address, maxRate *big.Int, image, class uint32) (job.Offer, bindings.IJobManagerJobOffer) {
	until := uint64(0)
	if w.rng.IntN(3) == 0 {
		until = w.now() + 3600 + uint64(w.rng.IntN(10*24*3600))
	}
	deadline, nonce := w.now()+1000, number(w.count)
	signed := job.Offer{
		Spec: itemHash(spec), Payer: payer, Token: walkToken, MaxRateQ32: maxRate, SLAClass: class,
		ImageSeq: image, MaxUntil: until, Deadline: deadline, Nonce: nonce,
	}
	packed := bindings.IJobManagerJobOffer{
		Spec: spec, Payer: payer, Token: walkToken, MaxRateQ32: maxRate, SlaClass: class, ImageSeq: image,
		MaxUntil: number(until), Deadline: number(deadline), Nonce: nonce,
	}
	return signed, packed
}

// open opens a new job, or gives one that waits to a node.
func (w *Walk) open() (move, bool) {
	c := bindings.NewJobManager()
	spec, attempt, again := w.hash(), uint8(0), false
	if w.rng.IntN(3) == 0 && len(w.specs) > 0 {
		spec, again = w.spec(), true
	}
	v, err := c.UnpackJob(w.view("JobManager", c.PackJob(spec)))
	if err != nil {
		w.tb.Fatal(err)
	}
	payer, image, class := w.person(), uint32(max(0, w.rng.IntN(8)-4)), uint32(max(0, w.rng.IntN(4)-2))
	if again {
		payer, image, class, attempt = w.keys[v.Payer], v.ImageSeq, v.SlaClass, v.Attempt
	}
	nodeID, _, node, kind := w.node()
	if kind != uint8(job.KindCompute) {
		nodeID, node = w.net.Compute.ID, w.keys[common.BytesToAddress(w.view("NodeRegistry", bindings.NewNodeRegistry().PackSignerOf(w.net.Compute.ID)))]
	}
	ids, coords := w.coordinators()
	if payer == nil || node == nil || len(ids) == 0 {
		return move{}, false
	}
	rate := RateQ32(1 + w.rng.Int64N(1_000_000_000_000_000))
	o, offer := w.offer(spec, crypto.PubkeyToAddress(payer.PublicKey), new(big.Int).Lsh(rate, 2), image, class)
	a := job.Assignment{Spec: o.Spec, NodeID: nodeID, RateQ32: rate, Attempt: attempt, CoordID: ids[0], Deadline: o.Deadline}
	s, ok := w.assignment(payer, node, ids, coords, &o, a)
	pack := c.PackOpen
	if again {
		pack = c.PackAssign
	}
	return move{key: w.person(), contract: "JobManager", data: pack(offer, s.offerSig, s.packed, s.nodeSig, s.coordSigs), after: func(*chain.Receipt) {
		if w.placed = spec; !again {
			w.specs = append(w.specs, spec)
		}
	}}, ok
}

// assigned is an assignment as the contract takes it, and who agrees to it.
type assigned struct {
	packed                       bindings.IJobManagerAssignment
	offerSig, nodeSig, coordSigs []byte
}

// assignment lets all sign that must; not ok when a coordinator's key is not here.
func (w *Walk) assignment(
	payer, node *ecdsa.PrivateKey, ids []uint32, coords []*ecdsa.PrivateKey, o *job.Offer, a job.Assignment,
) (s assigned, ok bool) {
	d, accept := job.Jobs(w.net.Client.ChainID(), w.net.Deployment.Contracts.JobManager), job.Accept(a)
	s = assigned{offerSig: w.word(payer, d, o), nodeSig: w.word(node, d, &accept), packed: bindings.IJobManagerAssignment{
		Spec: common.HexToHash(string(a.Spec)), NodeId: a.NodeID, RateQ32: a.RateQ32, Attempt: a.Attempt, CoordId: a.CoordID,
		StatsEpoch: a.StatsEpoch, ReqHash: a.ReqHash, Deadline: number(a.Deadline),
	}}
	var sigs []job.CoordSignature
	for i := range min(len(ids), 3) {
		if coords[i] == nil {
			return assigned{}, false
		}
		sigs = append(sigs, job.CoordSignature{CoordID: ids[i], Signature: w.word(coords[i], d, &a)})
	}
	var err error
	if s.coordSigs, err = job.PackQuorum(sigs); err != nil {
		w.tb.Fatal(err)
	}
	return s, true
}

// createJob offers a job on the chain.
func (w *Walk) createJob() (move, bool) {
	spec, payer := w.hash(), w.person()
	_, offer := w.offer(spec, crypto.PubkeyToAddress(payer.PublicKey), RateQ32(1_000_000_000_000_000), 0, 0)
	return move{key: payer, contract: "JobManager", data: bindings.NewJobManager().PackCreateJob(offer), after: func(*chain.Receipt) {
		w.specs = append(w.specs, spec)
	}}, true
}

func (w *Walk) paymentKinds() map[string]func() (move, bool) {
	c, rare := bindings.NewPaymentManager(), bindings.NewPaymentExtension()
	payee := func() uint64 {
		switch w.rng.IntN(4) {
		case 0:
			return 1<<32 + uint64(1+w.rng.IntN(4)) // An image.
		case 1:
			return 3<<32 + uint64(1+w.rng.IntN(int(w.nodeCount()))) // What a node stores.
		}
		return uint64(1 + w.rng.IntN(int(w.nodeCount())))
	}
	byPerson := func(data func(who common.Address) []byte) func() (move, bool) {
		return func() (move, bool) {
			key := w.person()
			return move{key: key, contract: "PaymentManager", data: data(crypto.PubkeyToAddress(key.PublicKey))}, true
		}
	}
	other := func() common.Address { return crypto.PubkeyToAddress(w.person().PublicKey) }
	claim := byPerson(func(_ common.Address) []byte { return c.PackClaim(payee(), walkToken, w.People()) })
	return map[string]func() (move, bool){
		"pull":     byPerson(func(common.Address) []byte { return c.PackPull(other(), walkToken) }),
		"pullMany": byPerson(func(common.Address) []byte { return c.PackPullMany(w.People(), walkToken) }),
		"claim":    claim,
		"withdrawCredit": func() (move, bool) {
			id, owner, _, _ := w.node()
			return move{key: owner, contract: "PaymentManager", data: c.PackWithdraw(uint64(id), walkToken, big.NewInt(1+w.rng.Int64N(1e15)))}, owner != nil
		},
		"withdrawRefund":  byPerson(func(who common.Address) []byte { return c.PackWithdrawRefund(who, walkToken) }),
		"payDebt":         byPerson(func(_ common.Address) []byte { return c.PackPayDebt(other(), walkToken, payee()) }),
		"revokeAll":       byPerson(func(common.Address) []byte { return rare.PackRevokeAll(walkToken) }),
		"deposit":         byPerson(func(common.Address) []byte { return rare.PackDeposit(walkToken, w.aleph(5)) }),
		"withdrawDeposit": byPerson(func(common.Address) []byte { return rare.PackWithdrawDeposit(walkToken, w.aleph(2)) }),
		"setSource": byPerson(func(common.Address) []byte {
			return rare.PackSetSource(walkToken, uint8(2*(w.rng.IntN(6)/5)))
		}),
		"sponsor": byPerson(func(_ common.Address) []byte {
			return rare.PackSponsor(other(), walkToken, RateQ32(1+w.rng.Int64N(1_000_000)), number(w.now()+uint64(w.rng.IntN(30*24*3600))))
		}),
		// Wide ones, or soon nobody opened anything.
		"setLimits": byPerson(func(common.Address) []byte {
			controller := w.net.Deployment.Contracts.JobManager
			if w.rng.IntN(2) == 0 {
				controller = w.net.Deployment.Contracts.ImageMarketplace
			}
			rate := new(big.Int).Lsh(big.NewInt(1), uint(100+w.rng.IntN(8))) // Beyond 2^104 as much as can be.
			return rare.PackSetLimits(walkToken, controller, rate, number(w.now()+uint64(w.rng.IntN(90*24*3600))), w.aleph(100_000_000))
		}),
		"setAutoSwap": byPerson(func(common.Address) []byte { return rare.PackSetAutoSwap(2, walkToken, uint16(w.rng.IntN(301))) }),
		// Without a path: there is one token, and no market.
		"setRoute": func() (move, bool) {
			return move{key: w.net.Admin.Key, contract: "PaymentManager", data: rare.PackSetRoute(walkToken, 2+uint8(w.rng.IntN(2)), []byte{},
				uint16(w.rng.IntN(301)), uint32(300+w.rng.IntN(3600)), uint16(w.rng.IntN(100)), w.aleph(1000))}, true
		},
		// Approvals run dry and come back.
		"approve": func() (move, bool) {
			wei := Aleph(100_000_000)
			if w.rng.IntN(4) == 0 {
				wei = new(big.Int)
			}
			return move{key: w.person(), contract: "AlephToken", data: bindings.NewAlephToken().PackApprove(w.net.Deployment.Contracts.PaymentManager, wei)}, true
		},
		"setTokenTerms": func() (move, bool) {
			return move{key: w.net.Admin.Key, contract: "PaymentManager", data: rare.PackSetTokenTerms(walkToken, 0, big.NewInt(w.rng.Int64N(1e18)), big.NewInt(w.rng.Int64N(1e15)))}, true
		},
		"setPrepay": func() (move, bool) {
			return move{key: w.net.Admin.Key, contract: "PaymentManager", data: c.PackSetPrepay(uint32(600 * (1 + w.rng.IntN(12))))}, true
		},
		"setGrace": func() (move, bool) {
			return move{key: w.net.Admin.Key, contract: "PaymentManager", data: c.PackSetGrace(3600, uint32(7200*(1+w.rng.IntN(12))))}, true
		},
		"setSplit": func() (move, bool) {
			node := uint16(4000 + 100*w.rng.IntN(30))
			return move{key: w.net.Admin.Key, contract: "PaymentManager", data: c.PackSetSplit(uint8(w.rng.IntN(2)), node, 1500, 1500, 7000-node)}, true
		},
		"relist": func() (move, bool) {
			data := c.PackRelistToken(walkToken)
			if w.rng.IntN(4) == 0 {
				data = c.PackDelistToken(walkToken)
			}
			return move{key: w.net.Admin.Key, contract: "PaymentManager", data: data}, true
		},
	}
}
