package ledger

import (
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

const (
	// outagesKept is how many outages SLAManager keeps, outageMax the most that it
	// adds to a time, in seconds.
	outagesKept = 32
	outageMax   = 48 * 60 * 60
)

// Outage is SLAManager.outage: how long the sequencer was down between two times.
func (l *Ledger) Outage(from, to uint64) uint32 {
	sum := uint64(0)
	for _, o := range l.outages[max(0, len(l.outages)-outagesKept):] {
		if a, b := max(o.From.Uint64(), from), min(o.To.Uint64(), to); b > a {
			sum += b - a
		}
	}
	return uint32(min(sum, outageMax))
}

func outageHandlers() map[string]handler {
	c := bindings.NewSLAManager()
	return map[string]handler{
		"OutageRecorded": on(c.UnpackOutageRecordedEvent, func(l *Ledger, _ uint64, e *bindings.SLAManagerOutageRecorded) error {
			l.outages = append(l.outages, e)
			return nil
		}),
	}
}
