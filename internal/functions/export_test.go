package functions

import (
	"context"
	"maps"
	"slices"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Waiting returns how many programs wait for their start.
func Waiting(s *Service) int {
	s.starts.mu.Lock()
	defer s.starts.mu.Unlock()
	return s.starts.queued
}

// Review is what triggers do again and again.
func Review(ctx context.Context, t *Triggers) error { return t.review(ctx) }

// Reacts lists the programs that react to messages, and those that react to the clock.
func Reacts(t *Triggers) (messages, clock []message.ItemHash) {
	return slices.Sorted(maps.Keys(t.patterns)), slices.Sorted(maps.Keys(t.clocks))
}
