package node

import (
	"context"
	"encoding/json"

	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// crnGuard gives the executor's confidential machines to the door for owners.
type crnGuard struct{ exec *executor.Supervisor }

var _ crn.Confidential = crnGuard{}

// Certificates implements crn.Confidential.
func (g crnGuard) Certificates(ctx context.Context) ([]byte, error) { return g.exec.Certificates(ctx) }

// Initialize implements crn.Confidential.
func (g crnGuard) Initialize(ctx context.Context, vm message.ItemHash, session, godh []byte) error {
	return g.exec.Initialize(ctx, vm, session, godh)
}

// Measurement implements crn.Confidential.
func (g crnGuard) Measurement(ctx context.Context, vm message.ItemHash) (*crn.Measurement, error) {
	m, err := g.exec.Measurement(ctx, vm)
	if err != nil {
		return nil, err
	}
	return &crn.Measurement{Launch: m.Launch, SEVInfo: crn.SEVInfo{
		Enabled: m.Enabled, APIMajor: m.APIMajor, APIMinor: m.APIMinor, BuildID: m.BuildID, Policy: int(m.Policy), State: m.State, Handle: m.Handle,
	}}, nil
}

// Inject implements crn.Confidential.
func (g crnGuard) Inject(ctx context.Context, vm message.ItemHash, s crn.Secret) (json.RawMessage, error) {
	return g.exec.Inject(ctx, vm, s.PacketHeader, s.Secret)
}
