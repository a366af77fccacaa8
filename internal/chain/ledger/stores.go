package ledger

import (
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/protocol/commitment"
)

const (
	// Numbers of IStorageWords.Status.
	storeActive   = 1
	storeClosed   = 3
	storeRepaired = 4

	day = 24 * 60 * 60
)

// promise is an object that is stored, or a bundle, which has no terms.
type promise struct {
	terms *bindings.IStorageWordsTerms
	view  bindings.IStorageWordsCommitmentView
}

func newPromise() *promise {
	return &promise{view: bindings.IStorageWordsCommitmentView{NewestDay: big0(), SinceDay: big0(), EndDay: big0()}}
}

func newStore() *bindings.IStorageWordsStoreView {
	return &bindings.IStorageWordsStoreView{Capacity: big0()}
}

// known is a key that is or was a node's.
type known struct {
	node   uint32
	signer common.Address
}

// attestedSize is how much of the root of a bitmap StorageRegistry keeps, in bytes.
const attestedSize = 30

// bundle is what binds root and leaves of a node's bundle from a day on.
type bundle struct {
	day     uint64
	binding commitment.Binding
}

type stores struct {
	commitments map[[16]byte]*promise
	bundles     map[uint32][]bundle // Of each node the newest two; older ones are overwritten.
	byNode      map[uint32]*bindings.IStorageWordsStoreView
	signers     map[known]bool
	seeds       map[uint64][32]byte
	attested    map[uint64][32]byte
	parameters  bindings.StorageRegistryParametersOutput
}

func newStores() stores {
	return stores{
		commitments: map[[16]byte]*promise{}, bundles: map[uint32][]bundle{}, byNode: map[uint32]*bindings.IStorageWordsStoreView{},
		signers: map[known]bool{}, seeds: map[uint64][32]byte{}, attested: map[uint64][32]byte{},
	}
}

// Commitments returns the ids of all commitments.
func (l *Ledger) Commitments() (ids []*big.Int) {
	for id := range l.stores.commitments {
		ids = append(ids, new(big.Int).SetBytes(id[:]))
	}
	return ids
}

// Commitment is StorageRegistry.commitment.
func (l *Ledger) Commitment(id *big.Int) bindings.IStorageWordsCommitmentView {
	if c := l.stores.commitments[keyOf(id)]; c != nil {
		return c.view
	}
	return newPromise().view
}

// Store is StorageRegistry.store.
func (l *Ledger) Store(nodeID uint32) bindings.IStorageWordsStoreView {
	if s := l.stores.byNode[nodeID]; s != nil {
		return *s
	}
	return *newStore()
}

// IsSignerOf is StorageRegistry.isSignerOf.
func (l *Ledger) IsSignerOf(nodeID uint32, signer common.Address) bool {
	return l.stores.signers[known{nodeID, signer}]
}

// BundleOn is StorageRegistry.bundleOn.
func (l *Ledger) BundleOn(nodeID uint32, day uint64) (binding [30]byte) {
	for _, b := range l.stores.bundles[nodeID] {
		if b.day <= day {
			binding = b.binding
		}
	}
	return binding
}

// SeedOf is StorageRegistry.seedOf.
func (l *Ledger) SeedOf(day uint64) [32]byte { return l.stores.seeds[day] }

// AttestedRoot is StorageRegistry.attestedRoot.
func (l *Ledger) AttestedRoot(day uint64) [32]byte { return l.stores.attested[day] }

// StoreParameters is StorageRegistry.parameters.
func (l *Ledger) StoreParameters() bindings.StorageRegistryParametersOutput {
	return l.stores.parameters
}

func keyOf(id *big.Int) (key [16]byte) {
	id.FillBytes(key[:])
	return key
}

func nodeOf(id *big.Int) uint32 { return uint32(new(big.Int).Rsh(id, 96).Uint64()) }

func (l *Ledger) promise(id *big.Int) *promise {
	return entry(l.stores.commitments, keyOf(id), newPromise)
}

func (l *Ledger) store(nodeID uint32) *bindings.IStorageWordsStoreView {
	return entry(l.stores.byNode, nodeID, newStore)
}

// note keeps the hash of the terms, keccak256(abi.encode(terms)).
func (c *promise) note() {
	t := c.terms
	var words []byte
	for _, w := range [][]byte{
		seconds(uint64(t.NodeId)).Bytes(), t.Root[:], seconds(t.Size).Bytes(), t.SinceDay.Bytes(), t.UntilDay.Bytes(), {t.K}, t.Payer[:], {t.Token}, t.RateQ32.Bytes(),
	} {
		words = append(words, common.LeftPadBytes(w, 32)...)
	}
	c.view.TermsHash = crypto.Keccak256Hash(words)
}

// at makes room for a day in the history and returns its bit.
func (c *promise) at(day *big.Int) uint32 {
	v, age := &c.view, new(big.Int).Sub(c.view.NewestDay, day).Int64()
	if age < 0 {
		shift := uint64(-age) // 32 and more leave nothing.
		v.Proven, v.Missed, v.NewestDay, age = v.Proven<<shift, v.Missed<<shift, day, 0
	}
	return 1 << uint64(age)
}

func storeHandlers() map[string]handler {
	c := bindings.NewStorageRegistry()
	return map[string]handler{
		"ProofRefused": nil, // Nothing changed.
		"RepairedBy":   nil, // Committed and StatusChanged tell the effect.
		"SignerNoted": on(c.UnpackSignerNotedEvent, func(l *Ledger, _ uint64, e *bindings.StorageRegistrySignerNoted) error {
			l.store(e.NodeId).Signer = e.Signer
			if e.Signer != (common.Address{}) {
				l.stores.signers[known{e.NodeId, e.Signer}] = true
			}
			return nil
		}),
		"Committed": on(c.UnpackCommittedEvent, func(l *Ledger, _ uint64, e *bindings.StorageRegistryCommitted) error {
			m := l.promise(e.Id)
			m.terms = &bindings.IStorageWordsTerms{
				NodeId: nodeOf(e.Id), Root: e.Root, Size: e.Size, SinceDay: e.SinceDay, UntilDay: e.UntilDay, K: e.K, Payer: e.Payer, Token: e.Token, RateQ32: e.RateQ32,
			}
			m.view.Status = storeActive
			m.note()
			l.store(nodeOf(e.Id)).Active++
			return nil
		}),
		"Extended": on(c.UnpackExtendedEvent, func(l *Ledger, _ uint64, e *bindings.StorageRegistryExtended) error {
			m := l.promise(e.Id)
			if m.terms == nil {
				return contradiction("what was extended, %s, has no terms", e.Id)
			}
			m.terms.UntilDay = e.UntilDay
			m.note()
			return nil
		}),
		"StatusChanged": on(c.UnpackStatusChangedEvent, func(l *Ledger, now uint64, e *bindings.StorageRegistryStatusChanged) error {
			m, s := l.promise(e.Id), l.store(nodeOf(e.Id))
			m.view.Status, m.view.EndDay = e.Status, e.EndDay
			switch {
			case e.Status == storeActive: // A bundle begins.
				m.view.SinceDay = seconds(now/day + 1)
				s.Active++
			case e.Status != storeRepaired: // It had ended before it was repaired.
				s.Active--
			}
			if m.terms == nil && e.Status == storeClosed {
				s.Capacity = big0()
			}
			return nil
		}),
		"BundleUpdated": on(c.UnpackBundleUpdatedEvent, func(l *Ledger, _ uint64, e *bindings.StorageRegistryBundleUpdated) error {
			next, had := bundle{e.EffectiveDay.Uint64(), commitment.Bind(e.Root, e.Leaves)}, l.stores.bundles[e.NodeId]
			if n := len(had); n > 0 && had[n-1].day == next.day {
				had = had[:n-1] // What waited for tomorrow.
			}
			l.stores.bundles[e.NodeId] = append(slices.Clone(had[max(0, len(had)-1):]), next)
			return nil
		}),
		"BundleClosing": on(c.UnpackBundleClosingEvent, func(l *Ledger, _ uint64, e *bindings.StorageRegistryBundleClosing) error {
			l.promise(new(big.Int).Lsh(seconds(uint64(e.NodeId)), 96)).view.EndDay = e.EndDay
			return nil
		}),
		"CapacitySet": on(c.UnpackCapacitySetEvent, func(l *Ledger, _ uint64, e *bindings.StorageRegistryCapacitySet) error {
			l.store(e.NodeId).Capacity = e.Capacity
			return nil
		}),
		"BeaconPublished": on(c.UnpackBeaconPublishedEvent, func(l *Ledger, _ uint64, e *bindings.StorageRegistryBeaconPublished) error {
			l.stores.seeds[e.Day.Uint64()] = e.Seed
			return nil
		}),
		// The low 16 bits count the parts of the bitmap, and no view tells them.
		"DayAttested": on(c.UnpackDayAttestedEvent, func(l *Ledger, _ uint64, e *bindings.StorageRegistryDayAttested) error {
			root := e.BitmapRoot
			clear(root[attestedSize:])
			l.stores.attested[e.Day.Uint64()] = root
			return nil
		}),
		"Proven": on(c.UnpackProvenEvent, func(l *Ledger, _ uint64, e *bindings.StorageRegistryProven) error {
			m := l.promise(e.Id)
			bit := m.at(e.Day)
			m.view.Proven |= bit
			return nil
		}),
		"Missed": on(c.UnpackMissedEvent, func(l *Ledger, _ uint64, e *bindings.StorageRegistryMissed) error {
			m := l.promise(e.Id)
			bit := m.at(e.Day)
			m.view.Missed |= bit
			return nil
		}),
		"ParametersSet": on(c.UnpackParametersSetEvent, func(l *Ledger, _ uint64, e *bindings.StorageRegistryParametersSet) error {
			l.stores.parameters = bindings.StorageRegistryParametersOutput{
				Arg0: e.AuditDenominator, Arg1: e.StakePerTiB, Arg2: e.Bond, Arg3: e.ResponseHours,
			}
			return nil
		}),
	}
}
