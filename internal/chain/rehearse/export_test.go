package rehearse

import (
	"context"
	"log/slog"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
)

// RunAgainst is Run with a voter who votes against.
func RunAgainst(
	ctx context.Context, c *devchain.Chain, d *deploy.Deployment, params deploy.Params, release Release, log *slog.Logger,
) (*Report, error) {
	return run(ctx, c, d, params, release, voteAgainst, log)
}

// Agree reports whether an upgrade from old to next may change the answer of a
// view from was to is; a nil answer is a refusal.
func Agree(view string, old, next map[string]deploy.Implementation, was, is []byte) bool {
	r := &rehearsal{old: &deploy.Deployment{Implementations: old}, next: &deploy.Deployment{Implementations: next}}
	q := &question{contract: "X", to: common.Address{}, method: &abi.Method{Name: view, RawName: view}}
	return r.agree(q, &answer{data: was, refused: was == nil}, &answer{data: is, refused: is == nil})
}

// Added reports whether a view that refused all of was and answered is counts as
// new.
func Added(was, is [][]byte) bool {
	answers := func(raw [][]byte) (all []answer) {
		for _, data := range raw {
			all = append(all, answer{data: data, refused: data == nil})
		}
		return all
	}
	return added(answers(was), answers(is))
}
