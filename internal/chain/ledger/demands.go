package ledger

import (
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// Numbers of INodeRegistry.DemandState.
const (
	demandOpen     = 1
	demandAnswered = 2
	demandWithheld = 3
)

// beatsKept is for how many epochs until its newest the registry keeps a node's
// own heartbeats.
const beatsKept = 224

// Demand names a leaf of a heartbeat, of a node.
type Demand struct {
	Epoch, NodeID uint32
}

// demands are what a single node's heartbeats are about.
type demands struct {
	leaves map[Demand]*bindings.NodeRegistryLeafDemandOutput
	beats  map[Demand]bool
	last   map[uint32]uint32 // The newest epoch that a node spoke for itself in.
}

func newDemands() demands {
	return demands{leaves: map[Demand]*bindings.NodeRegistryLeafDemandOutput{}, beats: map[Demand]bool{}, last: map[uint32]uint32{}}
}

// Demands returns the leaves that were ever demanded.
func (l *Ledger) Demands() (all []Demand) {
	for at := range l.demands.leaves {
		all = append(all, at)
	}
	return all
}

// LeafDemand is NodeRegistry.leafDemand.
func (l *Ledger) LeafDemand(at Demand) bindings.NodeRegistryLeafDemandOutput {
	if d := l.demands.leaves[at]; d != nil {
		return *d
	}
	return bindings.NodeRegistryLeafDemandOutput{Arg1: big0()}
}

// HasSelfHeartbeat is NodeRegistry.hasSelfHeartbeat.
func (l *Ledger) HasSelfHeartbeat(nodeID, epoch uint32) bool {
	return l.demands.beats[Demand{epoch, nodeID}] && l.demands.last[nodeID]-epoch < beatsKept
}

// demand moves a demand from an open state, or the same, to another.
func (n *demands) demand(at Demand, to uint8) error {
	d := n.leaves[at]
	if d == nil || d.Arg2 != demandOpen && d.Arg2 != to {
		return contradiction("the leaf of node %d in epoch %d is not demanded", at.NodeID, at.Epoch)
	}
	d.Arg2 = to
	return nil
}

func demandHandlers() map[string]handler {
	c := bindings.NewNodeRegistry()
	return map[string]handler{
		"SelfHeartbeat": on(c.UnpackSelfHeartbeatEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistrySelfHeartbeat) error {
			l.demands.beats[Demand{e.Epoch, e.NodeId}] = true
			l.demands.last[e.NodeId] = max(l.demands.last[e.NodeId], e.Epoch)
			return nil
		}),
		"LeafDemanded": on(c.UnpackLeafDemandedEvent, func(l *Ledger, now uint64, e *bindings.NodeRegistryLeafDemanded) error {
			l.demands.leaves[Demand{e.Epoch, e.NodeId}] = &bindings.NodeRegistryLeafDemandOutput{Arg0: e.By, Arg1: seconds(now), Arg2: demandOpen}
			return nil
		}),
		"LeafAnswered": on(c.UnpackLeafAnsweredEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryLeafAnswered) error {
			return l.demands.demand(Demand{e.Epoch, e.NodeId}, demandAnswered)
		}),
		"LeafWithheld": on(c.UnpackLeafWithheldEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryLeafWithheld) error {
			return l.demands.demand(Demand{e.Epoch, e.NodeId}, demandWithheld)
		}),
	}
}
