package corechannel

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"time"
)

// ErrLate is the answer to an event whose place is before one that was applied:
// the fold must be made anew from a checkpoint that is older.
var ErrLate = errors.New("the event comes before one that was applied")

// Fold is the state after the events that were applied to it. [New] makes one.
// It is for one goroutine; a clone is independent.
type Fold struct {
	settings  Settings
	last      *Event // nil before the first
	lastScore uint64 // height of the newest scores
	created   uint64 // how many nodes ever were

	cores     map[string]*core     // by hash
	resources map[string]*resource // by hash
	owned     map[string][]string  // an owner's CCNs, oldest first
	stakes    map[string][]string  // the CCNs a staker is on, oldest first
	held      map[purse]*big.Int   // never changed in place
	balances  map[string]*big.Int  // sums of held; never changed in place
	records   map[uint32]*record   // what the registry on chain holds

	nodeWei, stakeWei, activeWei *big.Int
}

// purse is an address on one of the platforms that hold tokens.
type purse struct{ address, source string }

// entry is what CCNs and CRNs have in common inside of a fold.
type entry struct {
	seq    uint64 // order of creation
	chain  uint32 // id in the registry on chain; 0 = none
	claim  uint32 // id that its owner says it has; 0 = none
	posted bool   // a message created it
	host   string // by which it is told from others
}

type core struct {
	Node // without Stakers, TotalStaked and Status, which are computed
	entry
}

type resource struct {
	ResourceNode
	entry
	chained bool // the registry on chain links it
}

// New returns the fold of no events.
func New(s Settings) *Fold {
	return &Fold{
		settings: s, cores: map[string]*core{}, resources: map[string]*resource{},
		owned: map[string][]string{}, stakes: map[string][]string{},
		held: map[purse]*big.Int{}, balances: map[string]*big.Int{}, records: map[uint32]*record{},
		nodeWei: tokensToWei(s.NodeTokens), stakeWei: tokensToWei(s.StakeTokens), activeWei: tokensToWei(s.ActiveTokens),
	}
}

// Replay returns the fold of a set of events at the current height.
func Replay(s Settings, current uint64, events []Event) *Fold {
	f := New(s)
	for _, e := range Merge(current, events) {
		_ = f.Apply(e) // In order nothing is late, and what is ignored is of no interest.
	}
	return f
}

// Apply takes the next event, in the order of [Merge]. An event that changes
// nothing gives an [Ignored]; one whose place has passed, [ErrLate].
//
// A message that is unconfirmed moves until it is confirmed, so it belongs into
// a clone that is thrown away.
func (f *Fold) Apply(e Event) error {
	if f.last != nil {
		switch c := Compare(e, *f.last); {
		case c < 0:
			return ErrLate
		case c == 0:
			return Twice
		}
	}
	f.last = &e
	return e.Body.apply(f, &e)
}

// Height returns the height of the last event that was applied.
func (f *Fold) Height() uint64 {
	if f.last == nil {
		return 0
	}
	return f.last.Height
}

// Takes reports whether an event is not late.
func (f *Fold) Takes(e Event) bool { return f.last == nil || Compare(e, *f.last) > 0 }

// Clone returns a copy that shares nothing that changes.
func (f *Fold) Clone() *Fold {
	c := *f
	c.cores, c.resources = maps.Clone(f.cores), maps.Clone(f.resources)
	for hash, n := range c.cores {
		copied := *n
		copied.ResourceNodes = slices.Clone(n.ResourceNodes)
		c.cores[hash] = &copied
	}
	for hash, n := range c.resources {
		copied := *n
		c.resources[hash] = &copied
	}
	c.records = maps.Clone(f.records)
	for id, r := range c.records {
		copied := *r
		c.records[id] = &copied
	}
	c.owned, c.stakes = clones(f.owned), clones(f.stakes)
	c.held, c.balances = maps.Clone(f.held), maps.Clone(f.balances)
	return &c
}

func clones(m map[string][]string) map[string][]string {
	out := make(map[string][]string, len(m))
	for k, v := range m {
		out[k] = slices.Clone(v)
	}
	return out
}

// State returns what the aggregate says now.
func (f *Fold) State() State {
	stakes := f.staked()
	s := State{Nodes: make([]Node, 0, len(f.cores)), ResourceNodes: make([]ResourceNode, 0, len(f.resources))}
	cores := slices.SortedFunc(maps.Values(f.cores), func(a, b *core) int { return cmp.Compare(a.seq, b.seq) })
	for _, c := range cores {
		s.Nodes = append(s.Nodes, f.shown(c, stakes[c.Hash]))
	}
	resources := slices.SortedFunc(maps.Values(f.resources), func(a, b *resource) int { return cmp.Compare(a.seq, b.seq) })
	for _, r := range resources {
		n := r.ResourceNode
		if f.closed(r) {
			n.Locked = LockOn
		}
		s.ResourceNodes = append(s.ResourceNodes, n)
	}
	return s
}

// staked returns who has how much on which node: the balance of a staker in
// equal parts, and what is delegated on chain.
func (f *Fold) staked() map[string]map[string]*big.Int {
	out := map[string]map[string]*big.Int{}
	add := func(hash, staker string, wei *big.Int) {
		if out[hash] == nil {
			out[hash] = map[string]*big.Int{}
		}
		if before := out[hash][staker]; before != nil {
			wei = new(big.Int).Add(before, wei)
		}
		out[hash][staker] = wei
	}
	for staker, hashes := range f.stakes {
		part := new(big.Int).Quo(f.balance(staker), big.NewInt(int64(len(hashes))))
		for _, hash := range hashes {
			add(hash, staker, part)
		}
	}
	for _, r := range f.records {
		if f.cores[r.entry] == nil {
			continue
		}
		for staker, wei := range r.Delegations {
			if wei != nil && wei.Sign() > 0 {
				add(r.entry, staker, wei)
			}
		}
	}
	return out
}

// shown is a CCN with what is computed.
func (f *Fold) shown(c *core, stakes map[string]*big.Int) Node {
	n := c.Node
	n.ResourceNodes = append([]string{}, c.ResourceNodes...)
	n.Authorized = append([]string{}, c.Authorized...)
	n.Stakers = make(map[string]float64, len(stakes))
	total := new(big.Int)
	for staker, wei := range stakes {
		n.Stakers[staker] = inTokens(wei)
		total.Add(total, wei)
	}
	n.TotalStaked, n.Status = inTokens(total), Waiting
	if total.Cmp(f.activeWei) >= 0 || c.chain != 0 && f.records[c.chain].Status == ChainActive {
		n.Status = Active
	}
	return n
}

// balance returns what an address has, on all platforms.
func (f *Fold) balance(address string) *big.Int {
	if b := f.balances[address]; b != nil {
		return b
	}
	return new(big.Int)
}

// resolve returns the hash of the entry that a reference means: its own, or
// that of its id on chain.
func (f *Fold) resolve(ref string) string {
	if id, ok := chainID(ref); ok && f.records[id] != nil {
		return f.records[id].entry
	}
	return ref
}

// next counts a node that is created.
func (f *Fold) next() uint64 {
	f.created++
	return f.created
}

// addCore lists a CCN. Its owner cannot stake on others any more.
func (f *Fold) addCore(c *core) {
	f.cores[c.Hash] = c
	f.owned[c.Owner] = append(f.owned[c.Owner], c.Hash)
	delete(f.stakes, c.Owner)
}

// removeCore takes a CCN out: its CRNs wait, and its stakers are free.
func (f *Fold) removeCore(c *core) {
	for _, hash := range slices.Clone(c.ResourceNodes) {
		f.unlink(f.resources[hash])
	}
	for staker := range f.stakes {
		f.unstake(staker, c.Hash)
	}
	f.disown(c)
	delete(f.cores, c.Hash)
	if c.chain != 0 {
		f.records[c.chain].entry = ""
	}
}

// disown takes a CCN from its owner.
func (f *Fold) disown(c *core) { drop(f.owned, c.Owner, c.Hash) }

// unstake takes a staker off a CCN.
func (f *Fold) unstake(staker, hash string) { drop(f.stakes, staker, hash) }

// drop removes a value from a list, and the list when it is empty.
func drop(lists map[string][]string, key, value string) {
	rest := slices.DeleteFunc(lists[key], func(v string) bool { return v == value })
	if len(rest) == 0 {
		delete(lists, key)
		return
	}
	lists[key] = rest
}

// removeResource takes a CRN out.
func (f *Fold) removeResource(r *resource) {
	f.unlink(r)
	delete(f.resources, r.Hash)
	if r.chain != 0 {
		f.records[r.chain].entry = ""
	}
}

func (f *Fold) link(c *core, r *resource) {
	parent := c.Hash
	c.ResourceNodes = append(c.ResourceNodes, r.Hash)
	r.Parent, r.Status = &parent, Linked
}

func (f *Fold) unlink(r *resource) {
	if r.Parent == nil {
		return
	}
	if c := f.cores[*r.Parent]; c != nil {
		c.ResourceNodes = slices.DeleteFunc(c.ResourceNodes, func(hash string) bool { return hash == r.Hash })
	}
	r.Parent, r.Status, r.chained = nil, Waiting, false
}

// unix returns a time as the aggregate writes it.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	s, err := strconv.ParseFloat(fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()), 64)
	if err != nil {
		return 0 // it is a number
	}
	return s
}
