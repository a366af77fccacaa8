package corechannel

import "slices"

func (Operation) rank() int { return rankOperation }

func (op Operation) apply(f *Fold, e *Event) error {
	ref := f.resolve(op.Ref)
	c, r := f.cores[ref], f.resources[ref]
	switch op.Action {
	case CreateNode:
		return f.createCore(&op, e)
	case CreateResourceNode:
		return f.createResource(&op, e)
	case Link:
		return f.linkTo(op.Address, r)
	case Unlink:
		return f.unlinkFrom(op.Address, r)
	case DropNode:
		return f.dropNode(op.Address, c, r)
	case Stake:
		if err := f.mayStake(op.Address, c); err != nil {
			return err
		}
		f.stakes[op.Address] = []string{c.Hash}
	case StakeSplit:
		if err := f.mayStake(op.Address, c); err != nil {
			return err
		}
		if slices.Contains(f.stakes[op.Address], c.Hash) {
			return Ignored("the sender stakes on the node already")
		}
		f.stakes[op.Address] = append(f.stakes[op.Address], c.Hash)
	case Unstake:
		if c == nil || !slices.Contains(f.stakes[op.Address], c.Hash) {
			return Ignored("the sender does not stake on the node")
		}
		f.unstake(op.Address, c.Hash)
	case Amend:
		return f.amend(&op, c, r)
	}
	return nil
}

func (f *Fold) createCore(op *Operation, e *Event) error {
	if f.cores[string(e.Hash)] != nil {
		return Twice
	}
	// Who registered the node on chain has it already, and now describes it.
	known := f.recordOf(op, e, ChainCoordinator)
	if known == nil || known.entry == "" {
		switch {
		case len(f.owned[op.Address]) > 0:
			return Ignored("the sender has a CCN already")
		case f.holds(op.Address, known).Cmp(f.nodeWei) < 0:
			return Ignored("the sender has too few tokens")
		}
	}
	c := &core{
		Node: Node{
			Hash: string(e.Hash), Owner: op.Address, Time: unix(e.At), HasBonus: e.Height < f.settings.BonusBefore,
			Profile: profileOf(op),
		},
		entry: entry{seq: f.next(), posted: true},
	}
	if l := op.Details.Locked; l != nil {
		c.Locked = *l
	}
	f.setMultiaddress(c, c.Multiaddress, known)
	f.addCore(c)
	f.claim(op, &c.entry)
	f.bindCore(c, known)
	return nil
}

func (f *Fold) createResource(op *Operation, e *Event) error {
	if f.resources[string(e.Hash)] != nil {
		return Twice
	}
	known := f.recordOf(op, e, ChainCompute)
	r := &resource{
		ResourceNode: ResourceNode{
			Hash: string(e.Hash), Type: *op.Details.Type, Owner: op.Address, Status: Waiting, Time: unix(e.At),
			Authorized: op.Details.Authorized, Profile: profileOf(op),
		},
		entry: entry{seq: f.next(), posted: true},
	}
	if l := op.Details.Locked; l != nil {
		r.Locked = lockOf(*l)
	}
	f.setAddress(r, r.Address, known)
	f.resources[r.Hash] = r
	f.claim(op, &r.entry)
	f.bindResource(r, known)
	return nil
}

// linkTo links a CRN to the sender's CCN, the oldest that has room.
func (f *Fold) linkTo(sender string, r *resource) error {
	owned := f.owned[sender]
	switch {
	case len(owned) == 0:
		return Ignored("the sender has no CCN")
	case r == nil:
		return Ignored("there is no such CRN")
	case r.Parent != nil:
		return Ignored("the CRN is linked")
	case f.closed(r):
		return Ignored("the CRN is locked")
	}
	for _, hash := range owned {
		if c := f.cores[hash]; len(c.ResourceNodes) < f.settings.LinksMax {
			f.link(c, r)
			return nil
		}
	}
	return Ignored("the sender's CCN has as many CRNs as it may have")
}

func (f *Fold) unlinkFrom(sender string, r *resource) error {
	switch {
	case r == nil:
		return Ignored("there is no such CRN")
	case r.Parent == nil:
		return Ignored("the CRN is not linked")
	case r.Owner != sender && f.cores[*r.Parent].Owner != sender:
		return Stranger
	case r.chained:
		return Ignored("the CRN is linked on chain")
	}
	f.unlink(r)
	return nil
}

func (f *Fold) dropNode(sender string, c *core, r *resource) error {
	switch {
	case c != nil && c.Owner == sender && c.chain == 0:
		f.removeCore(c)
	case r != nil && r.Owner == sender && r.chain == 0:
		f.removeResource(r)
	case c == nil && r == nil:
		return Ignored("there is no such node")
	case c != nil && c.Owner == sender || r != nil && r.Owner == sender:
		return Ignored("the node is registered on chain")
	default:
		return Stranger
	}
	return nil
}

func (f *Fold) mayStake(sender string, c *core) error {
	switch {
	case f.balance(sender).Cmp(f.stakeWei) < 0:
		return Ignored("the sender has too few tokens")
	case c == nil:
		return Ignored("there is no such CCN")
	case len(f.owned[sender]) > 0:
		return Ignored("the sender has a CCN")
	case c.Locked && !slices.Contains(c.Authorized, sender):
		return Ignored("the CCN is locked")
	}
	return nil
}

func (f *Fold) amend(op *Operation, c *core, r *resource) error {
	d := &op.Details
	switch {
	case c != nil && (c.Owner == op.Address || c.Manager == op.Address):
		c.amend(d)
		if d.Authorized != nil {
			c.Authorized = d.Authorized
		}
		if d.Locked != nil {
			c.Locked = *d.Locked
		}
		f.setMultiaddress(c, c.Multiaddress, nil)
		if c.Owner == op.Address && f.claim(op, &c.entry) {
			f.bindCore(c, f.records[c.claim])
		}
	case r != nil && (r.Owner == op.Address || r.Manager == op.Address):
		r.amend(d)
		if d.Authorized != nil {
			r.Authorized = d.Authorized
		}
		r.Locked = lockOf(r.Locked == LockOn)
		if d.Locked != nil {
			r.Locked = lockOf(*d.Locked)
		}
		f.setAddress(r, r.Address, nil)
		if r.Owner == op.Address && f.claim(op, &r.entry) {
			f.bindResource(r, f.records[r.claim])
		}
	case c == nil && r == nil:
		return Ignored("there is no such node")
	default:
		return Stranger
	}
	return nil
}

// claim notes the id on chain that an operation says its node has, and reports
// whether there is one.
func (f *Fold) claim(op *Operation, e *entry) bool {
	if op.Details.NodeID == nil || e.chain != 0 {
		return false
	}
	e.claim = *op.Details.NodeID
	return true
}

// profileOf is what an operation says of a new node: what it leaves out is
// empty, but for who is paid.
func profileOf(op *Operation) Profile {
	p := Profile{Reward: op.Address}
	p.amend(&op.Details)
	return p
}

// amend replaces what is given.
func (p *Profile) amend(d *Details) {
	for _, change := range []struct{ from, to *string }{
		{d.Name, &p.Name},
		{d.Multiaddress, &p.Multiaddress},
		{d.Address, &p.Address},
		{d.Picture, &p.Picture},
		{d.Banner, &p.Banner},
		{d.Description, &p.Description},
		{d.Reward, &p.Reward},
		{d.StreamReward, &p.StreamReward},
		{d.Manager, &p.Manager},
		{d.Registration, &p.Registration},
		{d.Terms, &p.Terms},
	} {
		if change.from != nil {
			*change.to = *change.from
		}
	}
}
