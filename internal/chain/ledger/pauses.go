package ledger

import (
	"math/big"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// pauseMax is Base's constant: what the guardian may pause at first, in seconds.
const pauseMax = 14 * 24 * 60 * 60

// Pause is pauseState of a contract.
type Pause = bindings.NodeRegistryPauseStateOutput

// PauseState is IBase.pauseState of a contract at a time. No event tells what the
// guardian has at first: it is the same for all.
func (l *Ledger) PauseState(contract string, now uint64) Pause {
	p := l.pauses[contract]
	if p == nil {
		p = newPause()
	}
	if now >= p.Until.Uint64() {
		return Pause{Until: big0(), Left: p.Left}
	}
	return *p
}

func newPause() *Pause { return &Pause{Until: big0(), Left: big.NewInt(pauseMax)} }

// pauseHandlers are those of a contract; the events of all are the same.
func pauseHandlers(contract string) map[string]handler {
	c := bindings.NewNodeRegistry()
	return map[string]handler{
		"PauseSet": on(c.UnpackPauseSetEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryPauseSet) error {
			l.pauses[contract] = &Pause{Bits: e.Bits, Until: e.Until, Left: e.Left}
			return nil
		}),
		"PauseRenewed": on(c.UnpackPauseRenewedEvent, func(l *Ledger, _ uint64, e *bindings.NodeRegistryPauseRenewed) error {
			entry(l.pauses, contract, newPause).Left = e.Left
			return nil
		}),
	}
}
