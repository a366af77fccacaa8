package corechannel

import (
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Kind is what a node on chain does.
type Kind string

// The kinds of INodeRegistry.Kind that the aggregate shows.
const (
	ChainCoordinator Kind = "coordinator" // shown as a CCN
	ChainCompute     Kind = "compute"     // shown as a CRN
)

// ChainStatus is where a node on chain is in its life.
type ChainStatus string

// The statuses of INodeRegistry.Status that matter here. One that is none of
// them is that of a node that does not work now.
const (
	ChainActive ChainStatus = "active"
	ChainExited ChainStatus = "exited" // for good
	ChainBanned ChainStatus = "banned" // for good
)

// Registration is all that the registry on chain holds of a node, from now on.
type Registration struct {
	ID          uint32
	Kind        Kind
	Status      ChainStatus
	Owner       string // EIP-55 form
	Payout      string // where its earnings go; "" = to its owner
	Meta        message.ItemHash
	Name        string              // "" = not known
	Endpoint    string              // multiaddress of a coordinator, URL of a compute node; "" = not known
	Stake       *big.Int            // the owner's, in wei; nil = none. Not changed after.
	Delegations map[string]*big.Int // of others, by address, in wei. Not changed after.
	Locked      bool                // no coordinator may link it
	Linked      uint32              // id of the coordinator that links it; 0 = none
	At          time.Time           // when it was registered
}

// record is what the registry holds, and the entry that shows it.
type record struct {
	Registration
	entry string // hash; "" = not shown
}

// staked returns the owner's stake.
func (r *Registration) staked() *big.Int {
	if r.Stake == nil {
		return new(big.Int)
	}
	return r.Stake
}

// payout returns where a node's earnings go.
func (r *Registration) payout() string { return cmp.Or(r.Payout, r.Owner) }

// ChainHash returns the hash of an entry of which only the registry on chain
// knows: the id in 64 hex digits, which no message hashes to.
func ChainHash(id uint32) string { return fmt.Sprintf("%064x", id) }

// chainID is the inverse of ChainHash.
func chainID(hash string) (uint32, bool) {
	if !isHash(hash) {
		return 0, false
	}
	id, err := strconv.ParseUint(hash, 16, 32)
	return uint32(id), err == nil && id != 0
}

func (Registration) rank() int { return rankRegistration }

func (r Registration) apply(f *Fold, _ *Event) error {
	known := f.records[r.ID]
	switch {
	case r.ID == 0:
		return Ignored("no node has the id 0")
	case r.Kind != ChainCoordinator && r.Kind != ChainCompute:
		return ignored("the aggregate has no list for kind %.80q", r.Kind)
	case known != nil && known.Kind != r.Kind:
		return Ignored("a node does not change its kind")
	case r.Status == ChainExited || r.Status == ChainBanned:
		return f.deregister(known)
	}
	before := Registration{}
	if known == nil {
		known = &record{Registration: r}
		f.records[r.ID] = known
	} else {
		before, r.At = known.Registration, known.At
		known.Registration = r
	}
	if r.Kind == ChainCoordinator {
		f.registerCore(known, before)
	} else {
		f.registerResource(known, before)
	}
	return nil
}

func (f *Fold) registerCore(r *record, before Registration) {
	c := f.cores[r.entry]
	switch {
	case c != nil:
		if before.Owner != r.Owner {
			f.disown(c)
			c.Owner = r.Owner
			c.handOver(&r.Registration)
			f.addCore(c)
		}
		f.describeCore(c, before, r)
		f.keepOnChain(c, r)
	case f.matchCore(r) != nil:
		f.bindCore(f.matchCore(r), r)
	case f.lists(r):
		c = &core{Node: Node{Hash: ChainHash(r.ID), Owner: r.Owner, Time: unix(r.At)}, entry: entry{seq: f.next(), chain: r.ID}}
		f.addCore(c)
		r.entry = c.Hash
		f.describeCore(c, Registration{}, r)
		f.settleLinks(r.ID)
	}
}

// keepOnChain removes a CCN that its stake does not carry any more.
func (f *Fold) keepOnChain(c *core, r *record) {
	switch {
	case f.lists(r):
	case c.posted:
		f.keep(c)
	default:
		f.removeCore(c)
	}
}

func (f *Fold) registerResource(r *record, before Registration) {
	n := f.resources[r.entry]
	switch {
	case n != nil:
		if before.Owner != r.Owner {
			n.Owner = r.Owner
			n.handOver(&r.Registration)
		}
		f.describeResource(n, before, r)
		f.settle(r)
	case f.matchResource(r) != nil:
		f.bindResource(f.matchResource(r), r)
	default:
		n = &resource{
			ResourceNode: ResourceNode{
				Hash: ChainHash(r.ID), Type: string(ChainCompute), Owner: r.Owner, Locked: LockOff, Status: Waiting,
				Authorized: Addresses{}, Time: unix(r.At),
			},
			entry: entry{seq: f.next(), chain: r.ID},
		}
		f.resources[n.Hash] = n
		r.entry = n.Hash
		f.describeResource(n, Registration{}, r)
		f.settle(r)
	}
}

// deregister takes a node from the chain. A message that created it keeps it in
// the lists, by the rules for messages.
func (f *Fold) deregister(r *record) error {
	if r == nil {
		return Ignored("the node is not registered")
	}
	c, n := f.cores[r.entry], f.resources[r.entry]
	delete(f.records, r.ID)
	if c != nil {
		c.chain = 0
		f.settleLinks(r.ID)
		if c.posted {
			f.keep(c)
		} else {
			f.removeCore(c)
		}
	}
	if n != nil {
		n.chain = 0
		if n.chained {
			f.unlink(n)
		}
		if !n.posted {
			f.removeResource(n)
		}
	}
	return nil
}

// lists reports whether a coordinator is shown for what is staked on chain
// alone: registering is free, so being registered is not enough.
func (f *Fold) lists(r *record) bool {
	return r.Status == ChainActive || r.staked().Cmp(f.nodeWei) >= 0
}

// holds returns what an owner has for a node: in the wallet, and on chain if the
// node is there.
func (f *Fold) holds(address string, r *record) *big.Int {
	if r == nil {
		return f.balance(address)
	}
	return new(big.Int).Add(f.balance(address), r.staked())
}

// closed reports whether a CRN must not be linked.
func (f *Fold) closed(r *resource) bool {
	return r.Locked == LockOn || r.chain != 0 && f.records[r.chain].Locked
}

// recordOf returns the node on chain that an operation creates once more: the
// one it names, or the one whose metadata it is. Both must have one owner, or
// anybody could take the place of another's node.
func (f *Fold) recordOf(op *Operation, e *Event, kind Kind) *record {
	fits := func(r *record) bool {
		return r != nil && r.Kind == kind && strings.EqualFold(r.Owner, op.Address) && !f.posted(r)
	}
	if id := op.Details.NodeID; id != nil && fits(f.records[*id]) {
		return f.records[*id]
	}
	for _, id := range slices.Sorted(maps.Keys(f.records)) {
		if r := f.records[id]; r.Meta == e.Hash && fits(r) {
			return r
		}
	}
	return nil
}

// posted reports whether a message created the entry that shows a node.
func (f *Fold) posted(r *record) bool {
	c, n := f.cores[r.entry], f.resources[r.entry]
	return c != nil && c.posted || n != nil && n.posted
}

// isOf reports whether an entry that a message created is a node on chain.
func (e *entry) isOf(r *record, hash, owner string) bool {
	return e.posted && e.chain == 0 && (hash == string(r.Meta) || e.claim == r.ID) && strings.EqualFold(owner, r.Owner)
}

// matchCore returns the oldest CCN that is a node on chain; nil if none is.
func (f *Fold) matchCore(r *record) *core {
	var found *core
	for _, c := range f.cores {
		if c.isOf(r, c.Hash, c.Owner) && (found == nil || c.seq < found.seq) {
			found = c
		}
	}
	return found
}

// matchResource is matchCore for CRNs.
func (f *Fold) matchResource(r *record) *resource {
	var found *resource
	for _, n := range f.resources {
		if n.isOf(r, n.Hash, n.Owner) && (found == nil || n.seq < found.seq) {
			found = n
		}
	}
	return found
}

// bindCore makes one entry of a CCN and a node on chain, if they are one. The
// message's hash is the name of both, for that is what its author looks for.
func (f *Fold) bindCore(c *core, r *record) {
	if r == nil || r.Kind != ChainCoordinator || f.posted(r) || !c.isOf(r, c.Hash, c.Owner) {
		return
	}
	if old := f.cores[r.entry]; old != nil {
		f.replaceCore(old, c)
	}
	c.chain, r.entry = r.ID, c.Hash
	f.describeCore(c, Registration{}, r)
	f.settleLinks(r.ID)
}

// replaceCore moves what hangs on one entry to another.
func (f *Fold) replaceCore(old, c *core) {
	for staker, hashes := range f.stakes {
		if at := slices.Index(hashes, old.Hash); at >= 0 && !slices.Contains(hashes, c.Hash) {
			hashes[at] = c.Hash
		}
		f.unstake(staker, old.Hash)
	}
	for _, hash := range old.ResourceNodes {
		parent := c.Hash
		f.resources[hash].Parent = &parent
	}
	c.ResourceNodes = append(c.ResourceNodes, old.ResourceNodes...)
	if !c.ScoreUpdated {
		c.Standing = old.Standing
	}
	f.disown(old)
	delete(f.cores, old.Hash)
}

// bindResource is bindCore for CRNs.
func (f *Fold) bindResource(n *resource, r *record) {
	if r == nil || r.Kind != ChainCompute || f.posted(r) || !n.isOf(r, n.Hash, n.Owner) {
		return
	}
	if old := f.resources[r.entry]; old != nil {
		f.replaceResource(old, n)
	}
	n.chain, r.entry = r.ID, n.Hash
	f.describeResource(n, Registration{}, r)
	f.settle(r)
}

// replaceResource is replaceCore for CRNs: the new one takes the old one's
// place in the order of its CCN, which decides who is paid.
func (f *Fold) replaceResource(old, n *resource) {
	if old.Parent != nil {
		f.unlink(n)
		linked := f.cores[*old.Parent].ResourceNodes
		linked[slices.Index(linked, old.Hash)] = n.Hash
		n.Parent, n.Status, n.chained = old.Parent, old.Status, old.chained
	}
	if !n.ScoreUpdated {
		n.Standing = old.Standing
	}
	delete(f.resources, old.Hash)
}

// settleLinks brings the links of a coordinator to what the chain says.
func (f *Fold) settleLinks(coordinator uint32) {
	for _, id := range slices.Sorted(maps.Keys(f.records)) {
		if r := f.records[id]; r.Linked == coordinator {
			f.settle(r)
		}
	}
}

// settle brings the link of a compute node to what the chain says. A link by a
// message stays where the chain has none.
func (f *Fold) settle(r *record) {
	n := f.resources[r.entry]
	if n == nil {
		return
	}
	var c *core
	if parent := f.records[r.Linked]; parent != nil {
		c = f.cores[parent.entry]
	}
	switch {
	case c == nil && n.chained:
		f.unlink(n)
	case c == nil:
	case n.Parent != nil && *n.Parent == c.Hash:
		n.chained = true
	default:
		f.unlink(n)
		f.link(c, n)
		n.chained = true
	}
}

// handOver clears what the owner before has said of who profits and who may
// amend.
func (p *Profile) handOver(r *Registration) { p.Manager, p.Reward = "", r.payout() }

// describe fills in what messages have left open with what the chain says.
func (p *Profile) describe(before Registration, r *record) {
	if p.Name == "" || p.Name == before.Name {
		p.Name = r.Name
	}
	if p.Reward == "" || strings.EqualFold(p.Reward, r.Owner) || before.ID != 0 && p.Reward == before.payout() {
		p.Reward = r.payout()
	}
}

func (f *Fold) describeCore(c *core, before Registration, r *record) {
	c.describe(before, r)
	if c.Multiaddress == "" || c.Multiaddress == before.Endpoint {
		f.setMultiaddress(c, r.Endpoint, nil)
	}
}

func (f *Fold) describeResource(n *resource, before Registration, r *record) {
	n.describe(before, r)
	if n.Address == "" || n.Address == before.Endpoint {
		f.setAddress(n, r.Endpoint, nil)
	}
}
