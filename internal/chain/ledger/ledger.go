// Package ledger folds the events of the contracts into what their views
// answer. It is what an indexer of the whole network would keep, and the proof
// that one can: that no change is silent. It is for tests; no node uses it, for
// a node keeps what it needs by internal/mirror.
//
// It asks nothing and stores nothing. Feed it the events from the block of the
// deployment on, in order; then the views answer what the contracts answer at
// the time of the last block: of nodes, stakes, votes, jobs and challenges of
// where they are placed, payments, stored objects, names, images, cases and what
// is held against nodes, pauses, upgrades, proposals, the timelock and roles. An
// event that cannot follow from those before is an error.
//
// What events do not tell is said where the view is.
package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Ledger is what the events so far have told. Use New.
type Ledger struct {
	contracts map[common.Address]string
	handlers  map[string]map[string]handler

	nodes    nodes
	demands  demands
	stakes   stakes
	votes    votes
	jobs     jobs
	payments payments
	wishes   wishes
	stores   stores
	domains  domains
	images   images
	cases    cases
	access   access
	timelock timelock
	governor governor

	pauses     map[string]*Pause
	upgrades   map[string]Upgrade
	challenges map[[32]byte]*Challenge
	placements map[Dispute]*PlacementChallenge
	bonds      map[[32]byte]*big.Int
	records    map[uint32]record
	outages    []*bindings.SLAManagerOutageRecorded
}

// New returns a ledger of the contracts before their first event. The timelock is
// that of the deployment; zero when it is not to be followed.
func New(contracts chain.Contracts, timelock common.Address) *Ledger {
	l := &Ledger{
		contracts: map[common.Address]string{}, handlers: handlers(),
		nodes: newNodes(), demands: newDemands(), stakes: newStakes(), votes: newVotes(), jobs: newJobs(), payments: newPayments(), wishes: newWishes(),
		stores: newStores(), domains: newDomains(), images: newImages(), cases: newCases(),
		access: newAccess(), timelock: newTimelock(), governor: newGovernor(),
		pauses: map[string]*Pause{}, upgrades: map[string]Upgrade{}, challenges: map[[32]byte]*Challenge{},
		placements: map[Dispute]*PlacementChallenge{}, bonds: map[[32]byte]*big.Int{}, records: map[uint32]record{},
	}
	l.contracts[timelock] = timelockName
	for name, at := range contracts.ByName() {
		l.contracts[at] = name
	}
	return l
}

// handler folds one kind of event of a block with a time; nil means that no view
// here changes by it.
type handler func(l *Ledger, now uint64, log *types.Log) error

// on makes a handler of an event that is unpacked and then folded.
func on[E any](unpack func(*types.Log) (*E, error), fold func(l *Ledger, now uint64, e *E) error) handler {
	return func(l *Ledger, now uint64, log *types.Log) error {
		e, err := unpack(log)
		if err != nil {
			return errs.New(errs.Internal, "decode: %w", err)
		}
		return fold(l, now, e)
	}
}

// timelockName is the name of the one contract here that nodes need not know of.
const timelockName = "TimelockController"

// handlers is every event of the contracts whose views are here. A test holds it
// against the ABIs, so that a new event cannot be forgotten.
func handlers() map[string]map[string]handler {
	all := map[string]map[string]handler{
		"NodeRegistry":     join(nodeHandlers(), demandHandlers()),
		"StakingManager":   join(stakeHandlers(), voteHandlers()),
		"JobManager":       join(jobHandlers(), placementHandlers()),
		"PaymentManager":   join(paymentHandlers(), wishHandlers()),
		"StorageRegistry":  join(storeHandlers(), challengeHandlers()),
		"DomainRegistry":   domainHandlers(),
		"ImageMarketplace": imageHandlers(),
		"SLAManager":       join(caseHandlers(), bondHandlers(), outageHandlers()),
	}
	for contract, own := range all { // What Base has.
		maps.Copy(own, pauseHandlers(contract))
	}
	all["AlephGovernor"] = join(proposalHandlers(), governorHandlers())
	for contract, own := range all { // What every contract behind a proxy has.
		maps.Copy(own, upgradeHandlers(contract))
		for _, name := range []string{"Initialized", "EIP712DomainChanged"} {
			own[name] = nil
		}
	}
	all["AccessManager"], all[timelockName] = accessHandlers(), timelockHandlers()
	return all
}

// join puts the handlers of a contract's subjects together.
func join(subjects ...map[string]handler) map[string]handler {
	all := map[string]handler{}
	for _, s := range subjects {
		maps.Copy(all, s)
	}
	return all
}

// Fold folds the events of a block, in order; now is its time. Events of other
// contracts are left out.
func (l *Ledger) Fold(now uint64, logs []types.Log) error {
	for i := range logs {
		log := &logs[i]
		name := l.contracts[log.Address]
		if l.handlers[name] == nil || len(log.Topics) == 0 {
			continue
		}
		parsed, err := chain.ABI(name)
		if err != nil {
			return err
		}
		event, err := parsed.EventByID(log.Topics[0])
		if err != nil {
			return errs.New(errs.Invalid, "%s has no event %s in this release", name, log.Topics[0])
		}
		fold := l.handlers[name][event.Name]
		if fold == nil {
			continue
		}
		if err := fold(l, now, log); err != nil {
			return fmt.Errorf("fold %s.%s (log %d of block %d): %w", name, event.Name, log.Index, log.BlockNumber, err)
		}
	}
	return nil
}

// contradiction is the error of an event that cannot follow from those before.
func contradiction(format string, args ...any) error {
	return errs.New(errs.Conflict, "the events contradict each other: "+format, args...)
}

func big0() *big.Int { return new(big.Int) }

func seconds(t uint64) *big.Int { return new(big.Int).SetUint64(t) }

func plus(a, b *big.Int) *big.Int { return new(big.Int).Add(a, b) }

func minus(a, b *big.Int) *big.Int { return new(big.Int).Sub(a, b) }

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// entry returns the value at a key, making it when there is none.
func entry[K comparable, V any](m map[K]*V, key K, fresh func() *V) *V {
	v := m[key]
	if v == nil {
		v = fresh()
		m[key] = v
	}
	return v
}
