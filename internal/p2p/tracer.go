package p2p

import (
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// The reasons for which gossip is not delivered, as labels of a metric. What is
// dropped, anti-entropy finds later.
const (
	dropOutbound  = "peer_queue_full"   // a peer takes messages too slowly
	dropInbound   = "validation_full"   // more come than can be judged; they can come again
	dropBehind    = "handler_behind"    // the handler is too slow
	dropFlood     = "flood"             // one node publishes or sends too much
	dropUnheard   = "nobody_listens"    // this node's own, held for a listener for too long
	dropSignature = "invalid_signature" // of the frame, not of what is in it
	dropOther     = "other"
)

// meshes knows with whom messages of each topic are exchanged at once, and to whom
// there is a stream at all.
type meshes struct {
	changed chan struct{} // there is a stream to one more, or somebody else listens, or is in a mesh

	mu   sync.Mutex
	of   map[string]map[peer.ID]bool // by topic; guarded by mu
	open map[peer.ID]time.Time       // since when; guarded by mu
}

func (m *meshes) poke() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// opened notes that there is a stream to a peer.
func (m *meshes) opened(id peer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open == nil {
		m.open = map[peer.ID]time.Time{}
	}
	m.open[id] = time.Now()
	m.poke()
}

// openSince returns since when there is a stream to a peer.
func (m *meshes) openSince(id peer.ID) (at time.Time, isOpen bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, isOpen = m.open[id]
	return at, isOpen
}

func (m *meshes) put(topic string, id peer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[string]map[peer.ID]bool{}
	}
	if m.of[topic] == nil {
		m.of[topic] = map[peer.ID]bool{}
	}
	m.of[topic][id] = true
	m.poke()
}

func (m *meshes) drop(topic string, id peer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.of[topic], id)
}

func (m *meshes) left(id peer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.open, id)
	for _, ids := range m.of {
		delete(ids, id)
	}
}

// size returns the number of peers of a topic.
func (m *meshes) size(topic string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.of[topic])
}

// sizes returns the number of peers by topic.
func (m *meshes) sizes() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]int{}
	for topic, ids := range m.of {
		out[topic] = len(ids)
	}
	return out
}

// tracer counts what gossip does, and tells the standings.
type tracer struct{ h *Host }

var _ pubsub.RawTracer = tracer{}

// ValidateMessage notes who was the first to send a message.
func (t tracer) ValidateMessage(m *pubsub.Message) { t.came(m) }

// DuplicateMessage notes who sent it too.
func (t tracer) DuplicateMessage(m *pubsub.Message) {
	t.h.metrics.duplicates.WithLabelValues(t.h.label(m.GetTopic())).Inc()
	t.came(m)
}

func (t tracer) came(m *pubsub.Message) {
	if m.ReceivedFrom == t.h.self {
		return
	}
	if t.h.standings.repeat(m.ReceivedFrom, messageSum(m.Data), time.Now()) {
		t.h.metrics.repeats.Inc()
	}
}

// RejectMessage counts what was not judged. What was is counted with its verdict.
func (t tracer) RejectMessage(m *pubsub.Message, reason string) {
	switch reason {
	case pubsub.RejectValidationFailed, pubsub.RejectValidationIgnored:
	case pubsub.RejectValidationQueueFull, pubsub.RejectValidationThrottled:
		t.drop(m.GetTopic(), dropInbound)
	case pubsub.RejectInvalidSignature, pubsub.RejectMissingSignature:
		t.drop(m.GetTopic(), dropSignature)
	default:
		t.drop(m.GetTopic(), dropOther)
	}
}

// DropRPC counts what a peer does not get.
func (t tracer) DropRPC(rpc *pubsub.RPC, _ peer.ID) {
	for _, m := range rpc.GetPublish() {
		t.drop(m.GetTopic(), dropOutbound)
	}
}

// UndeliverableMessage counts what the handler does not get.
func (t tracer) UndeliverableMessage(m *pubsub.Message) { t.drop(m.GetTopic(), dropBehind) }

func (t tracer) drop(topic, reason string) {
	t.h.metrics.dropped.WithLabelValues(t.h.label(topic), reason).Inc()
}

// RecvRPC counts bytes that came.
func (t tracer) RecvRPC(rpc *pubsub.RPC) { t.bytes(rpc, "received") }

// SendRPC counts bytes that went.
func (t tracer) SendRPC(rpc *pubsub.RPC, _ peer.ID) { t.bytes(rpc, "sent") }

func (t tracer) bytes(rpc *pubsub.RPC, direction string) {
	for _, m := range rpc.GetPublish() {
		t.h.metrics.gossipBytes.WithLabelValues(t.h.label(m.GetTopic()), direction).Add(float64(len(m.GetData())))
	}
}

// Graft notes a peer that messages of a topic are exchanged with at once.
func (t tracer) Graft(id peer.ID, topic string) { t.h.meshes.put(t.h.label(topic), id) }

// Prune is the opposite of Graft.
func (t tracer) Prune(id peer.ID, topic string) { t.h.meshes.drop(t.h.label(topic), id) }

// OnNewOutboundStream notes that a peer can be told something.
func (t tracer) OnNewOutboundStream(id peer.ID, _ protocol.ID) { t.h.meshes.opened(id) }

// OnClosedOutboundStream implements pubsub.RawTracer.
func (t tracer) OnClosedOutboundStream(id peer.ID) {
	t.h.standings.left(id)
	t.h.meshes.left(id)
}

// Join implements pubsub.RawTracer.
func (tracer) Join(string) {}

// Leave implements pubsub.RawTracer.
func (tracer) Leave(string) {}

// DeliverMessage implements pubsub.RawTracer.
func (tracer) DeliverMessage(*pubsub.Message) {}

// ThrottlePeer implements pubsub.RawTracer.
func (t tracer) ThrottlePeer(peer.ID) { t.h.metrics.throttled.Inc() }
