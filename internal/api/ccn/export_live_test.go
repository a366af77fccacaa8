package ccn

import (
	"context"
	"time"
)

// The bounds of what listens live.
const (
	QueueMax      = queueMax
	QueueBytesMax = queueBytesMax
	SaidMax       = saidMax
	WordsMax      = wordsMax
	ListMax       = listMax
)

// Limit bounds who listens live.
func (s *Server) Limit(messages, status int) {
	s.live.limits = [topics]int{toMessages: messages, toStatus: status}
}

// Counters are the numbers of those who listen live.
func (s *Server) Counters() Counters { return s.live.counters() }

// TellStatus looks at the numbers of the node, however old they are.
func (s *Server) TellStatus(ctx context.Context) {
	s.numbers.mu.Lock()
	s.numbers.until = time.Time{}
	s.numbers.mu.Unlock()
	s.live.tellStatus(ctx)
}

// PingAll asks everybody who listens to answer in time.
func (s *Server) PingAll(ctx context.Context, within time.Duration) {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	for k := range s.live.sockets {
		s.live.work.Go(func() { k.ping(ctx, within) })
	}
}

// Words is how many values the filters of all have.
func (s *Server) Words() int {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	return s.live.words
}

// Settled reports whether everybody who listens has what was there before.
func (s *Server) Settled() bool {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	for k := range s.live.sockets {
		k.mu.Lock()
		busy := k.writing
		k.mu.Unlock()
		if busy {
			return false
		}
	}
	return true
}
