package executor

import (
	"context"
	"net/netip"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Keep gives the VM a worker that is to keep it running, as a pass does, and
// returns when the worker has ended.
func (s *Supervisor) Keep(ctx context.Context, spec message.ItemHash) {
	s.work(ctx, spec, order{})
	s.mu.Lock()
	w := s.workers[spec]
	s.mu.Unlock()
	<-w.done
}

// Claim keeps others from the machine's disks until done is called, as a copy does.
func (s *Supervisor) Claim(spec message.ItemHash) (done func(), err error) {
	return s.claim(spec, movesAway)
}

// NewExportsTo returns an Exports that connects to the addresses that allowed
// names.
func NewExportsTo(allowed func(netip.Addr) bool) *Exports { return newExports(allowed) }

// LabelOf is how metrics name a machine.
var LabelOf = labelOf
