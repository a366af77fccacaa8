package mirror

import (
	"context"
	"errors"
	"math/big"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// CheckPermit asks the token whether it would take the owner's permit of value
// to PaymentManager now; a refusal is errs.Denied. What PaymentManager itself
// says is not enough: it takes any signature for what is allowed already.
func (s *Syncer) CheckPermit(ctx context.Context, owner common.Address, value *big.Int, deadline uint64, sig job.Signature) error {
	const r, ss, v = 0, 32, 64
	if len(sig) != v+1 {
		return errs.New(errs.Denied, "the permit's signature has %d bytes, want %d", len(sig), v+1)
	}
	data := bindings.NewAlephToken().PackPermit(owner, s.contracts.PaymentManager, value, new(big.Int).SetUint64(deadline),
		sig[v], [32]byte(sig[r:ss]), [32]byte(sig[ss:v]))
	_, err := s.chain.Calls(ctx, []chain.Call{{To: s.contracts.AlephToken, Data: data}})
	var refusal *chain.Revert
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal):
		return errs.New(errs.Denied, "the token refuses the permit: %s", refusal)
	}
	return errs.New(errs.Unavailable, "try permit of %s: %w", owner, err)
}
