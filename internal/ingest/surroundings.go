package ingest

import (
	"context"
	"math/rand/v2"
	"time"
)

// Surroundings are what a Pipeline has of the machine that it runs on. A simulation
// gives its own, so that a run can be repeated; what is nil is the machine's.
type Surroundings struct {
	// Now is the machine's clock, which may be wrong. What is kept, or compared with what
	// others wrote, is of it; how long something takes is measured without it.
	Now func() time.Time
	// Chance returns a number from 0 up to below n.
	Chance func(n int64) int64
	// Turn returns when the goroutine that calls it may work on, or when ctx ends. It is
	// called where goroutines of one node begin to work, or go on, at the same moment; name
	// tells them apart.
	Turn func(ctx context.Context, name string)
}

// Surround replaces the surroundings. It must be called before Run.
func (p *Pipeline) Surround(s Surroundings) {
	if s.Now != nil {
		p.around.Now = s.Now
	}
	if s.Chance != nil {
		p.around.Chance = s.Chance
	}
	if s.Turn != nil {
		p.around.Turn = s.Turn
	}
}

// machine are the surroundings of a node.
func machine() Surroundings {
	return Surroundings{
		Now:    time.Now,
		Chance: rand.Int64N, // Nobody gains by guessing it.
		Turn:   func(context.Context, string) {},
	}
}

// now is the time by the machine's clock.
func (p *Pipeline) now() time.Time { return p.around.Now() }

// spread is a part of a pause, so that not all come back at once.
func (p *Pipeline) spread(pause time.Duration) time.Duration {
	return time.Duration(p.around.Chance(int64(pause)))
}

// inTurn is a pass of the name that waits for its turn.
func (p *Pipeline) inTurn(name string, pass func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		p.around.Turn(ctx, name)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return pass(ctx)
	}
}
