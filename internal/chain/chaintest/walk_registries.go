package chaintest

import (
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

func (w *Walk) storeKinds() map[string]func() (move, bool) {
	c := bindings.NewStorageRegistry()
	drawn := func() (objectTerms, bool) {
		if len(w.ids) == 0 {
			return objectTerms{}, false
		}
		return w.terms[w.ids[w.rng.IntN(len(w.ids))]], true
	}
	bySigner := func(data func(id uint32) []byte) func() (move, bool) {
		return func() (move, bool) {
			id, _, signer, _ := w.node()
			return move{key: signer, contract: "StorageRegistry", data: data(id)}, signer != nil
		}
	}
	commit := func() (move, bool) {
		id, _, signer, _ := w.node()
		payer, today := w.person(), w.now()/86400
		r := bindings.IStorageWordsRequest{
			NodeId: id, Root: w.hash(), Size: 1 + w.rng.Uint64N(1<<30), ItemHash: w.hash(), UntilDay: number(today + 2 + w.rng.Uint64N(40)),
			K: uint8(1 + w.rng.IntN(20)), Token: walkToken, RateQ32: RateQ32(w.rng.Int64N(1_000_000_000_000)), Deadline: number(w.now() + 1000),
		}
		digest := w.view("StorageRegistry", c.PackCommitDigest(crypto.PubkeyToAddress(payer.PublicKey), r))
		if signer == nil || len(digest) != 32 {
			return move{}, false
		}
		return move{key: payer, contract: "StorageRegistry", data: c.PackCommit(r, w.sign(signer, digest)), after: func(receipt *chain.Receipt) {
			for i := range receipt.Logs {
				if e, err := c.UnpackCommittedEvent(&receipt.Logs[i]); err == nil {
					w.keep(objectTerms{e.Id, bindings.IStorageWordsTerms{
						NodeId: r.NodeId, Root: r.Root, Size: r.Size, SinceDay: e.SinceDay, UntilDay: e.UntilDay, K: e.K, Payer: e.Payer, Token: e.Token, RateQ32: e.RateQ32,
					}})
				}
			}
		}}, true
	}
	return map[string]func() (move, bool){
		"commit": commit,
		"enlist": bySigner(c.PackEnlist),
		"releaseObject": func() (move, bool) {
			o, ok := drawn()
			return move{key: w.keys[o.terms.Payer], contract: "StorageRegistry", data: c.PackRelease(or0(o.id), whole(o.terms))}, ok
		},
		"extend": func() (move, bool) {
			o, ok := drawn()
			if !ok {
				return move{}, false
			}
			until := new(big.Int).Add(o.terms.UntilDay, number(1+w.rng.Uint64N(20)))
			store, err := c.UnpackStore(w.view("StorageRegistry", c.PackStore(o.terms.NodeId)))
			if err != nil {
				w.tb.Fatal(err)
			}
			signer, digest := w.keys[store.Signer], w.view("StorageRegistry", c.PackExtendDigest(o.id, until))
			if signer == nil || len(digest) != 32 {
				return move{}, false
			}
			return move{
				key: w.keys[o.terms.Payer], contract: "StorageRegistry", data: c.PackExtend(o.id, o.terms, until, w.sign(signer, digest)),
				after: func(*chain.Receipt) {
					o.terms.UntilDay = until
					w.keep(o)
				},
			}, true
		},
		"challenge": func() (move, bool) {
			if w.rng.IntN(3) == 0 {
				id, _, _, _ := w.node()
				return move{key: w.person(), contract: "StorageRegistry", data: c.PackChallengeBundle(id), after: w.challenged}, true
			}
			o, ok := drawn()
			return move{key: w.person(), contract: "StorageRegistry", data: c.PackChallenge(or0(o.id), whole(o.terms)), after: w.challenged}, ok
		},
		"expireChallenge": func() (move, bool) { // For nobody brings randomness.
			if len(w.challenges) == 0 {
				return move{}, false
			}
			return move{key: w.person(), contract: "StorageRegistry", data: c.PackExpireChallenge(w.challenges[w.rng.IntN(len(w.challenges))])}, true
		},
		"commitBundle": bySigner(func(id uint32) []byte { return c.PackCommitBundle(id, w.hash(), 1+w.rng.Uint64N(1000), number(1000)) }),
		"updateBundle": bySigner(func(id uint32) []byte { return c.PackUpdateBundle(id, w.hash(), 1+w.rng.Uint64N(1000)) }),
		"resizeBundle": bySigner(func(id uint32) []byte { return c.PackResizeBundle(id, number(1000+w.rng.Uint64N(1000))) }),
		"closeBundle":  bySigner(c.PackCloseBundle),
		"endBundle":    bySigner(c.PackEndBundle),
		"setStoreParameters": func() (move, bool) {
			return move{key: w.net.Admin.Key, contract: "StorageRegistry", data: c.PackSetParameters(uint16(1+w.rng.IntN(200)), uint16(w.rng.IntN(100)), uint16(1+w.rng.IntN(100)), uint16(6+w.rng.IntN(60)))}, true
		},
	}
}

func or0(id *big.Int) *big.Int {
	if id == nil {
		return new(big.Int)
	}
	return id
}

// whole returns terms that can be packed even when nothing was drawn.
func whole(t bindings.IStorageWordsTerms) bindings.IStorageWordsTerms {
	t.SinceDay, t.UntilDay, t.RateQ32 = or0(t.SinceDay), or0(t.UntilDay), or0(t.RateQ32)
	return t
}

// challenged notes a challenge that was opened.
func (w *Walk) challenged(r *chain.Receipt) {
	for i := range r.Logs {
		if e, err := bindings.NewStorageRegistry().UnpackChallengedEvent(&r.Logs[i]); err == nil {
			w.challenges = append(w.challenges, e.ChallengeId)
		}
	}
}

func (w *Walk) keep(o objectTerms) {
	id := o.id.String()
	if _, known := w.terms[id]; !known {
		w.ids = append(w.ids, id)
	}
	w.terms[id] = o
}

func (w *Walk) domainKinds() map[string]func() (move, bool) {
	c := bindings.NewDomainRegistry()
	name := func() (fqdn string, key [32]byte) {
		if fqdn = w.focus.name; fqdn == "" {
			fqdn = fmt.Sprintf("host%d.example.org", w.rng.IntN(4))
			if w.rng.IntN(4) == 0 {
				fqdn = "*." + fqdn
			}
		}
		return fqdn, crypto.Keccak256Hash([]byte(fqdn))
	}
	keyed := func() [32]byte {
		fqdn, _ := name()
		return common.BytesToHash(w.view("DomainRegistry", c.PackKeyOf(fqdn)))
	}
	byOwner := func(data func(key [32]byte) []byte) func() (move, bool) {
		return func() (move, bool) {
			key := keyed()
			v, err := c.UnpackDomain(w.view("DomainRegistry", c.PackDomain(key)))
			if err != nil {
				w.tb.Fatal(err)
			}
			owner := w.keys[v.Owner]
			return move{key: owner, contract: "DomainRegistry", data: data(key)}, owner != nil
		}
	}
	attested := func(pack func(key [32]byte, owner common.Address, method uint8, seenAt *big.Int, sigs []byte) []byte) func() (move, bool) {
		return func() (move, bool) {
			key, who, seen := keyed(), crypto.PubkeyToAddress(w.person().PublicKey), number(w.now())
			v, err := c.UnpackRequestOf(w.view("DomainRegistry", c.PackRequestOf(key, who)))
			if err != nil {
				w.tb.Fatal(err)
			}
			sigs, ok := w.quorum("DomainRegistry", c.PackAttestationDigest(key, who, v.Nonce, 2, seen))
			return move{key: w.person(), contract: "DomainRegistry", data: pack(key, who, 2, seen, sigs)}, ok
		}
	}
	request := func() (move, bool) {
		fqdn, _ := name()
		return move{key: w.person(), contract: "DomainRegistry", data: c.PackRequest(fqdn, uint8(1+w.rng.IntN(4)), w.hash())}, true
	}
	cert := func() [32]byte { return [32]byte{byte(1 + w.rng.IntN(5))} }
	later := func(days uint64) *big.Int { return number(w.now() + 1 + w.rng.Uint64N(days*86400)) }
	verify := attested(c.PackVerify)
	return map[string]func() (move, bool){
		"request": request, "verify": verify,
		"dispute": attested(c.PackDispute),
		"settleDispute": func() (move, bool) {
			return move{key: w.person(), contract: "DomainRegistry", data: c.PackSettleDispute(keyed())}, true
		},
		"lapse": func() (move, bool) {
			return move{key: w.person(), contract: "DomainRegistry", data: c.PackLapse(keyed())}, true
		},
		"setTarget": byOwner(func(key [32]byte) []byte { return c.PackSetTarget(key, uint8(1+w.rng.IntN(4)), w.hash()) }),
		"setCert": func() (move, bool) {
			return byOwner(func(key [32]byte) []byte { return c.PackSetCert(key, cert(), later(300)) })()
		},
		"rotateCert": func() (move, bool) {
			return byOwner(func(key [32]byte) []byte { return c.PackRotateCert(key, cert(), later(300), later(29)) })()
		},
		"revokeCert":   byOwner(func(key [32]byte) []byte { return c.PackRevokeCert(key, cert()) }),
		"setCaa":       byOwner(func(key [32]byte) []byte { return c.PackSetCaa(key, w.hash()) }),
		"transferName": byOwner(func(key [32]byte) []byte { return c.PackTransfer(key, crypto.PubkeyToAddress(w.person().PublicKey)) }),
		"acceptName": func() (move, bool) {
			return move{key: w.person(), contract: "DomainRegistry", data: c.PackAccept(keyed())}, true
		},
		"releaseName": byOwner(c.PackRelease),
	}
}

func (w *Walk) imageKinds() map[string]func() (move, bool) {
	c := bindings.NewImageMarketplace()
	seq := func() uint32 {
		last := int(new(big.Int).SetBytes(w.view("ImageMarketplace", c.PackLastSeq())).Int64())
		return uint32(1 + w.rng.IntN(max(last, 1)))
	}
	byPublisher := func(data func(seq uint32) []byte) func() (move, bool) {
		return func() (move, bool) {
			i := seq()
			v, err := c.UnpackImage(w.view("ImageMarketplace", c.PackImage(i)))
			if err != nil {
				w.tb.Fatal(err)
			}
			key := w.keys[v.Publisher]
			return move{key: key, contract: "ImageMarketplace", data: data(i)}, key != nil
		}
	}
	byAdmin := func(data func(seq uint32) []byte) func() (move, bool) {
		return func() (move, bool) {
			return move{key: w.net.Admin.Key, contract: "ImageMarketplace", data: data(seq())}, true
		}
	}
	publish := func() (move, bool) {
		l := w.listing(uint8(w.rng.IntN(4)))
		if w.rng.IntN(3) == 0 {
			l.Parent, l.ParentBps = seq(), uint16(w.rng.IntN(3000))
		}
		if w.rng.IntN(2) == 0 {
			a := w.People()
			l.Splits = []bindings.IImageMarketplaceSplit{{Recipient: a[0], Bps: 2500}, {Recipient: a[1], Bps: 7500}}
		}
		return move{key: w.person(), contract: "ImageMarketplace", data: c.PackPublish(l)}, true
	}
	return map[string]func() (move, bool){
		"publish":    publish,
		"newVersion": byPublisher(func(i uint32) []byte { return c.PackNewVersion(i, w.hash(), w.hash()) }),
		"setStatus":  byPublisher(func(i uint32) []byte { return c.PackSetStatus(i, uint8(1+w.rng.IntN(3))) }),
		"unpublish": byPublisher(func(i uint32) []byte {
			if w.rng.IntN(3) > 0 { // Or soon there were none.
				return c.PackSetStatus(i, 1)
			}
			return c.PackUnpublish(i)
		}),
		"returnBond": byPublisher(c.PackReturnBond),
		"takedown":   byAdmin(func(i uint32) []byte { return c.PackTakedown(i, w.hash()) }),
		"restore":    byAdmin(c.PackRestore),
		"forfeit": func() (move, bool) {
			i, reason := seq(), w.hash()
			sigs, ok := w.quorum("ImageMarketplace", c.PackVerdictDigest(i, reason))
			return move{key: w.person(), contract: "ImageMarketplace", data: c.PackForfeit(i, reason, sigs)}, ok
		},
		"distribute": byPublisher(func(i uint32) []byte { return c.PackDistribute(i, walkToken, w.People()) }),
		"rate": func() (move, bool) {
			spec := w.spec()
			j := bindings.NewJobManager()
			v, err := j.UnpackJob(w.view("JobManager", j.PackJob(spec)))
			if err != nil {
				w.tb.Fatal(err)
			}
			key := w.keys[v.Payer]
			return move{key: key, contract: "ImageMarketplace", data: c.PackRate(v.ImageSeq, uint8(1+w.rng.IntN(5)), spec, w.hash())}, key != nil
		},
		"setUsdUnit": func() (move, bool) {
			return move{key: w.net.Admin.Key, contract: "ImageMarketplace", data: c.PackSetUsdUnit(walkToken, big.NewInt(1+w.rng.Int64N(1e12)))}, true
		},
		"setImageBond": func() (move, bool) {
			return move{key: w.net.Admin.Key, contract: "ImageMarketplace", data: c.PackSetBond(uint16(1 + w.rng.IntN(90)))}, true
		},
	}
}

func (w *Walk) caseKinds() map[string]func() (move, bool) {
	c := bindings.NewSLAManager()
	caseOf := func() [32]byte {
		if w.focus.caseID != ([32]byte{}) {
			return w.focus.caseID
		}
		if len(w.cases) == 0 {
			return [32]byte{}
		}
		if w.rng.IntN(2) == 0 {
			return w.cases[len(w.cases)-1]
		}
		return w.cases[max(0, len(w.cases)-1-w.rng.IntN(6))]
	}
	byAnybody := func(data func(id [32]byte) []byte) func() (move, bool) {
		return func() (move, bool) {
			return move{key: w.person(), contract: "SLAManager", data: data(caseOf())}, true
		}
	}
	domain := job.SLA(w.net.Client.ChainID(), w.net.Deployment.Contracts.SLAManager)
	quorum := func(s job.Signable) (sigs []byte, ok bool) { return w.agree(domain, s) }
	byOwner := func(data func(id, class uint32) []byte) func() (move, bool) {
		return func() (move, bool) {
			id, owner, _, _ := w.node()
			return move{key: owner, contract: "SLAManager", data: data(id, uint32(1+w.rng.IntN(2)))}, owner != nil
		}
	}
	finalize := byAnybody(c.PackFinalize)
	return map[string]func() (move, bool){
		"finalizeCase": finalize,
		"accuse": func() (move, bool) {
			node, occurrence, severity, evidence := w.nodeID(), uint32(w.rng.IntN(3)), uint8(w.rng.IntN(4)), w.hash()
			ref := [32]byte{1}
			if len(w.specs) != 0 && w.rng.IntN(2) == 0 { // About a job the terms of its class hold.
				ref = w.specs[w.rng.IntN(len(w.specs))]
				jobs := bindings.NewJobManager()
				v, err := jobs.UnpackJob(w.view("JobManager", jobs.PackJob(ref)))
				if err != nil {
					w.tb.Fatal(err)
				}
				if v.NodeId != 0 {
					node = v.NodeId
				}
			}
			a := &job.Accusation{Kind: kindBadAttestation, NodeID: node, Ref: ref, Occurrence: occurrence, Severity: severity, Evidence: evidence}
			sigs, ok := quorum(a)
			return move{key: w.person(), contract: "SLAManager", data: c.PackAccuse(kindBadAttestation, node, ref, occurrence, severity, evidence, sigs)}, ok
		},
		"defend": func() (move, bool) {
			id := caseOf()
			v, err := c.UnpackCaseOf(w.view("SLAManager", c.PackCaseOf(id)))
			if err != nil {
				w.tb.Fatal(err)
			}
			owner := common.BytesToAddress(w.view("NodeRegistry", bindings.NewNodeRegistry().PackSignerOf(v.NodeId)))
			return move{key: w.keys[owner], contract: "SLAManager", data: c.PackDefend(id, w.hash())}, w.keys[owner] != nil
		},
		"escalate": byAnybody(c.PackEscalate),
		"resolve": func() (move, bool) {
			id, guilty := caseOf(), w.rng.IntN(2) == 0
			if id == ([32]byte{}) {
				return move{}, false
			}
			sigs, ok := quorum(&job.Verdict{CaseID: id, Guilty: guilty})
			return move{key: w.person(), contract: "SLAManager", data: c.PackCommitteeResolve(id, guilty, sigs)}, ok
		},
		"veto": func() (move, bool) {
			return move{key: w.net.Admin.Key, contract: "SLAManager", data: c.PackVeto(caseOf())}, w.rng.IntN(3) == 0
		},
		"appeal": func() (move, bool) { // The reporter, when the node is not guilty.
			id := caseOf()
			v, err := c.UnpackCaseOf(w.view("SLAManager", c.PackCaseOf(id)))
			if err != nil {
				w.tb.Fatal(err)
			}
			by := v.Reporter
			if v.Guilty {
				node, err := bindings.NewNodeRegistry().UnpackNode(w.view("NodeRegistry", bindings.NewNodeRegistry().PackNode(v.NodeId)))
				if err != nil {
					w.tb.Fatal(err)
				}
				by = node.Owner
			}
			return move{key: w.keys[by], contract: "SLAManager", data: c.PackAppeal(id)}, true
		},
		"decideCase": func() (move, bool) {
			return move{key: w.net.Admin.Key, contract: "SLAManager", data: c.PackGovernanceResolve(caseOf(), w.rng.IntN(2) == 0)}, true
		},
		"withdrawCase": func() (move, bool) {
			return move{key: w.person(), contract: "SLAManager", data: c.PackWithdraw(crypto.PubkeyToAddress(w.person().PublicKey))}, true
		},
		"burnPenalties": func() (move, bool) {
			return move{key: w.person(), contract: "SLAManager", data: c.PackBurn()}, true
		},
		"defineClass": func() (move, bool) {
			return move{key: w.net.Admin.Key, contract: "SLAManager", data: c.PackDefineClass(bindings.ISLAManagerSlaClass{
				UptimeBps: uint16(9000 + w.rng.IntN(1000)), StartTimeout: uint32(600 + w.rng.IntN(3600)), Notice: uint32(3600 * w.rng.IntN(24)), MaxGap: 7200,
				CreditBpsPerPoint: 100, SlashBps: [4]uint16{10, 50, 100, 200}, TenantBps: 1000,
			})}, true
		},
		"optIn":  byOwner(c.PackNodeOptIn),
		"optOut": byOwner(c.PackNodeOptOut),
		"setCaseBond": func() (move, bool) {
			return move{key: w.net.Admin.Key, contract: "SLAManager", data: c.PackSetBond(Aleph(int64(1 + w.rng.IntN(100))))}, true
		},
	}
}
