package p2p

import (
	"sync"
	"time"

	lpmetrics "github.com/libp2p/go-libp2p/core/metrics"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// traffic counts the bytes of each connected peer. The library's own counter has a
// task that never ends and rates that nobody reads.
type traffic struct {
	mu    sync.Mutex
	peers map[peer.ID]*lpmetrics.Stats // guarded by mu
	total lpmetrics.Stats              // guarded by mu
}

var _ lpmetrics.Reporter = (*traffic)(nil)

func newTraffic() *traffic { return &traffic{peers: map[peer.ID]*lpmetrics.Stats{}} }

func (t *traffic) add(id peer.ID, in, out int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.peers[id]
	if s == nil {
		s = &lpmetrics.Stats{}
		t.peers[id] = s
	}
	s.TotalIn += in
	s.TotalOut += out
	t.total.TotalIn += in
	t.total.TotalOut += out
}

// left forgets a peer.
func (t *traffic) left(id peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.peers, id)
}

// LogSentMessage implements metrics.Reporter; streams tell the same with a name.
func (t *traffic) LogSentMessage(int64) {}

// LogRecvMessage implements metrics.Reporter; streams tell the same with a name.
func (t *traffic) LogRecvMessage(int64) {}

// LogSentMessageStream implements metrics.Reporter.
func (t *traffic) LogSentMessageStream(size int64, _ protocol.ID, id peer.ID) { t.add(id, 0, size) }

// LogRecvMessageStream implements metrics.Reporter.
func (t *traffic) LogRecvMessageStream(size int64, _ protocol.ID, id peer.ID) { t.add(id, size, 0) }

// GetBandwidthForPeer implements metrics.Reporter.
func (t *traffic) GetBandwidthForPeer(id peer.ID) lpmetrics.Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.peers[id]; s != nil {
		return *s
	}
	return lpmetrics.Stats{}
}

// GetBandwidthForProtocol implements metrics.Reporter; protocols are not told apart.
func (t *traffic) GetBandwidthForProtocol(protocol.ID) lpmetrics.Stats { return lpmetrics.Stats{} }

// GetBandwidthTotals implements metrics.Reporter.
func (t *traffic) GetBandwidthTotals() lpmetrics.Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total
}

// GetBandwidthByPeer implements metrics.Reporter.
func (t *traffic) GetBandwidthByPeer() map[peer.ID]lpmetrics.Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[peer.ID]lpmetrics.Stats, len(t.peers))
	for id, s := range t.peers {
		out[id] = *s
	}
	return out
}

// GetBandwidthByProtocol implements metrics.Reporter; protocols are not told apart.
func (t *traffic) GetBandwidthByProtocol() map[protocol.ID]lpmetrics.Stats { return nil }

// Reset implements metrics.Reporter.
func (t *traffic) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.peers, t.total = map[peer.ID]*lpmetrics.Stats{}, lpmetrics.Stats{}
}

// TrimIdle implements metrics.Reporter; who has left is forgotten at once.
func (t *traffic) TrimIdle(time.Time) {}
