package outbox

import "context"

// Pass makes one pass.
func (s *Sender) Pass(ctx context.Context) error { return s.pass(ctx) }

// More is more.
var More = more

// RefusalText is refusalText.
var RefusalText = refusalText
