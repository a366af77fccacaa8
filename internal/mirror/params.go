package mirror

import (
	"context"

	"github.com/ethereum/go-ethereum/core/types"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

const (
	// startSeconds is JobManager's constant: how long a node may take from the
	// assignment to the confirmation.
	startSeconds = 15 * 60
	// classCompute is the class of revenue of compute nodes, see Payees.sol.
	classCompute = 0
)

func (b *block) splitSet(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackSplitSetEvent(l)
	if err != nil {
		return malformed(err)
	}
	if e.Class != classCompute {
		return nil
	}
	return b.changeParams(ctx, func(p *state.Params) {
		p.ComputeSplitBps = [4]uint16{e.NodeBps, e.CoordinatorBps, e.StakerBps, e.DevelopmentBps}
	})
}

func (b *block) prepaySet(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackPrepaySetEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeParams(ctx, func(p *state.Params) { p.PrepaySeconds = uint64(e.Duration) })
}

func (b *block) graceSet(ctx context.Context, l *types.Log) error {
	e, err := bindings.NewPaymentManager().UnpackGraceSetEvent(l)
	if err != nil {
		return malformed(err)
	}
	return b.changeParams(ctx, func(p *state.Params) {
		p.GraceSoftSeconds, p.GraceHardSeconds = uint64(e.Soft), uint64(e.Hard)
	})
}

// changeParams changes the parameters; the contract emits the first ones when it
// is set up.
func (b *block) changeParams(ctx context.Context, change func(*state.Params)) error {
	p, err := b.tx.Params(ctx)
	if errs.KindOf(err) == errs.NotFound {
		p, err = &state.Params{StartSeconds: startSeconds}, nil
	}
	if err != nil {
		return err
	}
	change(p)
	return b.tx.PutParams(ctx, *p)
}
