package deploy

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"maps"
	"slices"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// Implement puts the code of a release for the proxies with the names on the
// chain, built for the peers of the deployment. It returns the deployment as it
// is when those proxies have been upgraded to it, and what that cost. Nothing
// runs the code yet.
func Implement(
	ctx context.Context, c *chain.Client, key *ecdsa.PrivateKey, d *Deployment, params Params, suite []bindings.Contract, names []string,
) (*Deployment, []*chain.Receipt, error) {
	b, err := NewBatch(ctx, c, key)
	if err != nil {
		return nil, nil, err
	}
	next := *d
	next.Implementations, next.Helpers = maps.Clone(d.Implementations), maps.Clone(d.Helpers)
	p := newPlan(&next, params)
	p.batch = b
	// The extension first: the contract knows it from its constructor.
	for _, role := range []bindings.Role{bindings.Extension, bindings.Proxied} {
		for _, of := range suite {
			if of.Role != role || !slices.Contains(names, of.Name) && !slices.Contains(names, of.Of) {
				continue
			}
			if err := p.implement(of); err != nil {
				return nil, nil, err
			}
		}
	}
	receipts, err := b.Send(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("deploy new code: %w", err)
	}
	return &next, receipts, p.hashes(ctx, c)
}
