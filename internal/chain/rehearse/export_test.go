package rehearse

import (
	"context"
	"log/slog"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
)

// RunAgainst is Run with a voter who votes against.
func RunAgainst(
	ctx context.Context, c *devchain.Chain, d *deploy.Deployment, params deploy.Params, release Release, log *slog.Logger,
) (*Report, error) {
	return run(ctx, c, d, params, release, voteAgainst, log)
}
