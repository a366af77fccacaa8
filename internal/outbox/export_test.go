package outbox

import "context"

// Pass makes one pass.
func (s *Sender) Pass(ctx context.Context) error { return s.pass(ctx) }

// More is more.
var More = more

// RefusalText is refusalText.
var RefusalText = refusalText

// The bounds of a pass.
const (
	WaitingMax        = waitingMax
	SentMax           = sentMax
	YieldingFlightMax = yieldingFlightMax
	UnansweredMax     = unansweredMax
	RefusalsMax       = refusalsMax
)
