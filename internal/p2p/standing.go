package p2p

import (
	"math"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// What gossip's own scores do not see: who floods and who says the same again and
// again. It counts as a part of the score, so that such a peer is not heard, and it
// fades, so that a peer that behaves is heard again.
const (
	// penaltyMax bounds what is held against a peer: whatever it did, it is heard
	// again some minutes after it stopped.
	penaltyMax = 400
	// sentence is added when a peer comes to be not heard, so that this lasts.
	sentence = 100
	// penaltyHalfLife is the time in which half of it is forgotten.
	penaltyHalfLife = time.Minute
	// penaltyForgotten is as good as none.
	penaltyForgotten = 0.5
	// burstSeconds is how long a node may publish at once what it may publish in that
	// time.
	burstSeconds = 10
	// carryFactor is how much more a peer may pass on than it may publish: what it
	// passes on is that of all others together.
	carryFactor = 4
	// repeatRate and repeatBurst are per second and at once the messages that a peer
	// may send a second time: gossip itself does after a hiccup.
	repeatRate, repeatBurst = 10, 200
	// repeatsKept bounds, per peer and half, the messages that are known to have come
	// from it.
	repeatsKept = 1024
	// standingMax bounds the peers of which anything is known.
	standingMax = 4096
	// standingIdle is when a peer is forgotten that does nothing and of which nothing
	// bad is known.
	standingIdle = 10 * time.Minute
	// preference is what a node that is registered, and has a stake to lose, is ahead
	// of strangers.
	preference = 5
)

// bucket lets events through at a rate, and a burst at once.
type bucket struct {
	tokens float64
	at     time.Time
}

// take lets up to n events through and returns how many.
func (b *bucket) take(n int, rate, burst float64, now time.Time) int {
	if b.at.IsZero() {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+rate*now.Sub(b.at).Seconds())
	}
	b.at = now
	got := min(n, int(b.tokens))
	b.tokens -= float64(got)
	return got
}

// conduct is what is known of one peer.
type conduct struct {
	penalty   float64 // as of penaltyAt
	penaltyAt time.Time
	seenAt    time.Time
	carried   bucket // messages that it sent
	published bucket // messages of its own, whoever sent them
	repeated  bucket
	sent      [2]map[uint64]struct{} // names of messages that came from it, newer and older
	preferred bool
}

// standings is what this node itself holds for and against each peer.
type standings struct {
	rate float64 // messages per second that a peer may publish

	mu    sync.Mutex
	peers map[peer.ID]*conduct // guarded by mu
}

func newStandings(rate int) *standings {
	return &standings{rate: float64(rate), peers: map[peer.ID]*conduct{}}
}

// of returns what is known of a peer. The caller holds mu.
func (s *standings) of(id peer.ID, now time.Time) *conduct {
	c := s.peers[id]
	if c == nil {
		s.makeRoom(now)
		c = &conduct{}
		s.peers[id] = c
	}
	c.seenAt = now
	return c
}

// makeRoom forgets who has long done nothing and, if all have done something, who is
// nearest to it. The caller holds mu.
func (s *standings) makeRoom(now time.Time) {
	if len(s.peers) < standingMax {
		return
	}
	var oldest peer.ID
	var oldestAt time.Time
	for id, c := range s.peers {
		if now.Sub(c.seenAt) > standingIdle && c.now(now) < penaltyForgotten {
			delete(s.peers, id)
			continue
		}
		if oldest == "" || c.seenAt.Before(oldestAt) {
			oldest, oldestAt = id, c.seenAt
		}
	}
	if len(s.peers) >= standingMax {
		delete(s.peers, oldest)
	}
}

// now returns what is left of the penalty.
func (c *conduct) now(at time.Time) float64 {
	if c.penalty == 0 {
		return 0
	}
	return c.penalty * math.Exp2(-float64(at.Sub(c.penaltyAt))/float64(penaltyHalfLife))
}

func (c *conduct) punish(by float64, at time.Time) {
	before := c.now(at)
	after := before + by
	if before < -graylist && after >= -graylist {
		after += sentence
	}
	c.penalty, c.penaltyAt = min(penaltyMax, after), at
}

// score is the part of a peer's score that is known here.
func (s *standings) score(id peer.ID) float64 {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.peers[id]
	if c == nil {
		return 0
	}
	score := -c.now(now)
	if c.preferred {
		score += preference
	}
	return score
}

// prefer says whether a peer is ahead of strangers.
func (s *standings) prefer(id peer.ID, is bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.peers[id]; c != nil || is {
		s.of(id, now).preferred = is
	}
}

// carry counts n messages that a peer sends and returns how many of them it may. What
// is more counts against it.
func (s *standings) carry(id peer.ID, n int, now time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.of(id, now)
	may := c.carried.take(n, s.rate*carryFactor, s.rate*carryFactor*burstSeconds, now)
	if may < n {
		c.punish(float64(n-may), now)
	}
	return may
}

// publish counts a message of an author that another passed on, or that came from the
// author itself, which counts against it if it is one too many. It returns whether the
// author may.
func (s *standings) publish(author, from peer.ID, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.of(author, now)
	if c.published.take(1, s.rate, s.rate*burstSeconds, now) == 1 {
		return true
	}
	if author == from {
		c.punish(1, now)
	}
	return false
}

// repeat notes that a message, which has a name, came from a peer. One that the peer
// has sent before counts against it if it makes a habit of it; then repeat returns true.
func (s *standings) repeat(id peer.ID, name uint64, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.of(id, now)
	for _, half := range c.sent {
		if _, ok := half[name]; !ok {
			continue
		}
		if c.repeated.take(1, repeatRate, repeatBurst, now) == 1 {
			return false
		}
		c.punish(1, now)
		return true
	}
	if c.sent[0] == nil {
		c.sent[0] = map[uint64]struct{}{}
	}
	c.sent[0][name] = struct{}{}
	if len(c.sent[0]) >= repeatsKept {
		c.sent[0], c.sent[1] = nil, c.sent[0]
	}
	return false
}

// left forgets what is of use for a peer that is connected only. What is held against
// it stays.
func (s *standings) left(id peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.peers[id]; c != nil {
		c.sent = [2]map[uint64]struct{}{}
	}
}
