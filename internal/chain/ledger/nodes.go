package ledger

import (
	"slices"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/protocol/heartbeat"
)

// Numbers of INodeRegistry.
const (
	kindCoordinator = 1
	statusActive    = 2
	reasonOffline   = 9
	reasonOnline    = 10
)

// Snapshot is the coordinators of a day with their weights in whole ALEPH.
type Snapshot = bindings.NodeRegistryCoordinatorsSnapshot

type nodes struct {
	byID       map[uint32]*bindings.INodeRegistryNodeView
	links      map[uint32][]uint32 // Of coordinators.
	snapshots  map[uint64]*Snapshot
	heartbeats map[uint32][32]byte
}

func newNodes() nodes {
	return nodes{
		byID: map[uint32]*bindings.INodeRegistryNodeView{}, links: map[uint32][]uint32{},
		snapshots: map[uint64]*Snapshot{}, heartbeats: map[uint32][32]byte{},
	}
}

// Nodes returns the ids of all nodes, ascending.
func (l *Ledger) Nodes() []uint32 { return sortedKeys(l.nodes.byID) }

// Node is NodeRegistry.node.
func (l *Ledger) Node(id uint32) bindings.INodeRegistryNodeView {
	if n := l.nodes.byID[id]; n != nil {
		return *n
	}
	return *newNode()
}

// LinksOf is NodeRegistry.linksOf.
func (l *Ledger) LinksOf(coordID uint32) []uint32 { return l.nodes.links[coordID] }

// ActiveCoordinators is NodeRegistry.activeCoordinatorIds.
func (l *Ledger) ActiveCoordinators() []uint32 {
	return slices.DeleteFunc(l.Nodes(), func(id uint32) bool {
		n := l.nodes.byID[id]
		return n.Kind != kindCoordinator || n.Status != statusActive
	})
}

// CoordinatorsOn is NodeRegistry.coordinatorsOn; nil when none was taken.
func (l *Ledger) CoordinatorsOn(day uint64) *Snapshot { return l.nodes.snapshots[day] }

// HeartbeatOf is NodeRegistry.heartbeatOf.
func (l *Ledger) HeartbeatOf(epoch uint32) [32]byte { return l.nodes.heartbeats[epoch] }

func newNode() *bindings.INodeRegistryNodeView {
	return &bindings.INodeRegistryNodeView{
		StatusSince: big0(), PendingPayoutAt: big0(), PendingOwnerAt: big0(), JailedUntil: big0(),
	}
}

// change returns an event's effect on its node.
func (n *nodes) change(id uint32, do func(v *bindings.INodeRegistryNodeView)) error {
	v := n.byID[id]
	if v == nil {
		return contradiction("node %d was never registered", id)
	}
	do(v)
	return nil
}

func nodeHandlers() map[string]handler {
	c := bindings.NewNodeRegistry()
	return map[string]handler{
		"MissedReported":    nil, // NodeStatusChanged tells the effect.
		"EquivocationShown": nil, // The case tells the effect.
		"NodeRegistered": on(c.UnpackNodeRegisteredEvent, func(l *Ledger, now uint64, e *bindings.NodeRegistryNodeRegistered) error {
			v := newNode()
			v.Owner, v.Signer, v.Kind, v.Payout = e.Owner, e.Signer, e.Kind, e.Owner
			v.PeerIdHash, v.MetaHash = crypto.Keccak256Hash(e.PeerId), e.MetaHash
			v.Features, v.Region, v.StatusSince = e.Features, e.Region, seconds(now)
			l.nodes.byID[e.NodeId] = v
			return nil
		}),
		"NodeMetaUpdated": on(c.UnpackNodeMetaUpdatedEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryNodeMetaUpdated) error {
			return l.nodes.change(e.NodeId, func(v *bindings.INodeRegistryNodeView) {
				v.MetaHash, v.Features, v.Region = e.MetaHash, e.Features, e.Region
			})
		}),
		"NodeStatusChanged": on(c.UnpackNodeStatusChangedEvent, func(l *Ledger, now uint64, e *bindings.NodeRegistryNodeStatusChanged) error {
			if v := l.nodes.byID[e.NodeId]; v != nil && v.Status != e.OldStatus {
				return contradiction("node %d had status %d, not %d", e.NodeId, v.Status, e.OldStatus)
			}
			return l.nodes.change(e.NodeId, func(v *bindings.INodeRegistryNodeView) {
				v.Status, v.StatusSince = e.NewStatus, seconds(now)
				switch e.Reason {
				case reasonOffline:
					v.Offline = true
				case reasonOnline:
					v.Offline = false
				}
			})
		}),
		"NodeSignerChanged": on(c.UnpackNodeSignerChangedEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryNodeSignerChanged) error {
			return l.nodes.change(e.NodeId, func(v *bindings.INodeRegistryNodeView) { v.Signer = e.NewSigner })
		}),
		"NodePayoutScheduled": on(c.UnpackNodePayoutScheduledEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryNodePayoutScheduled) error {
			return l.nodes.change(e.NodeId, func(v *bindings.INodeRegistryNodeView) { v.PendingPayout, v.PendingPayoutAt = e.Payout, e.At })
		}),
		"NodePayoutChanged": on(c.UnpackNodePayoutChangedEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryNodePayoutChanged) error {
			return l.nodes.change(e.NodeId, func(v *bindings.INodeRegistryNodeView) {
				v.Payout, v.PendingPayout, v.PendingPayoutAt = e.Payout, [20]byte{}, big0()
			})
		}),
		"NodeTransferScheduled": on(c.UnpackNodeTransferScheduledEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryNodeTransferScheduled) error {
			return l.nodes.change(e.NodeId, func(v *bindings.INodeRegistryNodeView) { v.PendingOwner, v.PendingOwnerAt = e.To, e.Eta })
		}),
		"NodeOwnerChanged": on(c.UnpackNodeOwnerChangedEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryNodeOwnerChanged) error {
			return l.nodes.change(e.NodeId, func(v *bindings.INodeRegistryNodeView) {
				v.Owner, v.PendingOwner, v.PendingOwnerAt = e.NewOwner, [20]byte{}, big0()
			})
		}),
		"NodeLinked": on(c.UnpackNodeLinkedEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryNodeLinked) error {
			l.nodes.links[e.CoordId] = append(l.nodes.links[e.CoordId], e.NodeId)
			return l.nodes.change(e.NodeId, func(v *bindings.INodeRegistryNodeView) { v.LinkedTo = e.CoordId })
		}),
		"NodeUnlinked": on(c.UnpackNodeUnlinkedEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryNodeUnlinked) error {
			l.nodes.links[e.CoordId] = slices.DeleteFunc(slices.Clone(l.nodes.links[e.CoordId]), func(id uint32) bool { return id == e.NodeId })
			return l.nodes.change(e.NodeId, func(v *bindings.INodeRegistryNodeView) { v.LinkedTo = 0 })
		}),
		"NodeLockSet": on(c.UnpackNodeLockSetEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryNodeLockSet) error {
			return l.nodes.change(e.NodeId, func(v *bindings.INodeRegistryNodeView) { v.Locked = e.Locked })
		}),
		"NodeJailed": on(c.UnpackNodeJailedEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryNodeJailed) error {
			return l.nodes.change(e.NodeId, func(v *bindings.INodeRegistryNodeView) { v.JailedUntil = e.Until })
		}),
		"CoordinatorsSnapshot": on(c.UnpackCoordinatorsSnapshotEvent, func(l *Ledger, _ uint64, e *Snapshot) error {
			l.nodes.snapshots[e.Day.Uint64()] = e
			return nil
		}),
		"Heartbeats": on(c.UnpackHeartbeatsEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryHeartbeats) error {
			l.nodes.heartbeats[e.Epoch] = heartbeat.Commitment(e.StatsRoot, heartbeat.Bitmap(e.Bitmap).Hash())
			return nil
		}),
	}
}
