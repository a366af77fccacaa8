package deploy

import (
	"bytes"
	"context"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/state"
	"github.com/ethereum/go-ethereum/core/tracing"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/core/vm/runtime"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// ImplementationSlot is where a proxy keeps the address of its code (ERC-1967).
var ImplementationSlot = common.HexToHash("0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc") //nolint:gochecknoglobals // A constant.

// Finding is what one contract of a deployment turned out to be.
type Finding struct {
	Contract string         // Its name; of the code behind a proxy "JobManager (implementation)".
	Address  common.Address // Where it is.
	Want     common.Hash    // Hash of the code that this release's creation code gives there.
	Have     common.Hash    // Hash of the code that is there.
	Problem  string         // "" when all is as it should be.
}

// Verify makes the code of every contract of a deployment anew, from the
// creation code in this release and the constructor's arguments, and compares
// it with what is on the chain. It says too when a proxy points elsewhere or a
// contract is not where its name puts it. Nothing is believed but the chain,
// the parameters and this program.
func Verify(ctx context.Context, c *chain.Client, d *Deployment, params Params) ([]Finding, error) {
	return VerifySuite(ctx, c, d, params, bindings.Suite())
}

// VerifySuite is Verify with the contracts of any release.
func VerifySuite(ctx context.Context, c *chain.Client, d *Deployment, params Params, suite []bindings.Contract) ([]Finding, error) {
	v := verifier{plan: newPlan(d, params), client: c, deployment: d}
	for _, of := range suite {
		var err error
		switch of.Role {
		case bindings.Proxied:
			err = v.proxied(ctx, of)
		case bindings.Bare:
			err = v.bare(ctx, of)
		case bindings.Extension:
			err = v.extension(ctx, of)
		case bindings.Tool:
		}
		if err != nil {
			return nil, fmt.Errorf("verify %s: %w", of.Name, err)
		}
	}
	return v.findings, nil
}

type verifier struct {
	plan       *plan
	client     *chain.Client
	deployment *Deployment
	findings   []Finding
}

// bare checks a contract that is used as it is. A token that the parameters name
// is the chain's, not ours.
func (v *verifier) bare(ctx context.Context, of bindings.Contract) error {
	if of.Name == "AlephToken" && v.deployment.DevGateway == (common.Address{}) {
		return nil
	}
	creation, err := v.plan.creation(of)
	if err != nil {
		return err
	}
	return v.compare(ctx, of.Name, v.plan.at(of.Name), creation)
}

// extension checks the second half of an implementation, which is at no address
// of its own choice.
func (v *verifier) extension(ctx context.Context, of bindings.Contract) error {
	creation, err := v.plan.creation(of)
	if err != nil {
		return err
	}
	return v.compare(ctx, of.Name, v.deployment.Implementations[of.Name].Address, creation)
}

// proxied checks a proxy, where it points, and what is there.
func (v *verifier) proxied(ctx context.Context, of bindings.Contract) error {
	proxy, err := v.deployment.Contracts.Address(of.Name)
	if err != nil {
		return err
	}
	implementation := v.deployment.Implementations[of.Name].Address
	creation, err := v.plan.proxyCreation(of.Name, implementation)
	if err != nil {
		return err
	}
	if err := v.compare(ctx, of.Name, proxy, creation, implementation); err != nil {
		return err
	}
	slot, err := v.client.Storage(ctx, proxy, ImplementationSlot)
	if err != nil {
		return err
	}
	f := &v.findings[len(v.findings)-1]
	if points := common.BytesToAddress(slot[:]); f.Problem == "" && points != implementation {
		f.Problem = fmt.Sprintf("the proxy points to %s, the deployment says %s", points, implementation)
	}
	if want := v.plan.at(of.Name); f.Problem == "" && want != proxy {
		f.Problem = fmt.Sprintf("the deployer puts %s at %s", of.Name, want)
	}
	if creation, err = v.plan.creation(of); err != nil {
		return err
	}
	return v.compare(ctx, of.Name+" (implementation)", implementation, creation)
}

// compare notes whether the code at an address is what creation code gives there;
// callees are contracts that the constructor calls.
func (v *verifier) compare(ctx context.Context, name string, at common.Address, creation []byte, callees ...common.Address) error {
	want, err := codeAt(v.client.ChainID(), at, creation, callees)
	if err != nil {
		return err
	}
	have, err := v.client.Code(ctx, at)
	if err != nil {
		return err
	}
	f := Finding{Contract: name, Address: at, Want: crypto.Keccak256Hash(want), Have: crypto.Keccak256Hash(have)}
	switch {
	case len(have) == 0:
		f.Problem = "there is no contract"
	case !bytes.Equal(want, have):
		f.Problem = "the code is not what this release gives"
	}
	v.findings = append(v.findings, f)
	return nil
}

// codeAt runs creation code as if it made the contract at an address and returns
// the contract's code. Every callee accepts every call.
func codeAt(chainID *big.Int, at common.Address, creation []byte, callees []common.Address) ([]byte, error) {
	db, err := state.New(types.EmptyRootHash, state.NewDatabaseForTesting())
	if err != nil {
		return nil, fmt.Errorf("make state: %w", err)
	}
	// A call of code that creates returns what would be stored at the address.
	db.SetCode(at, creation, tracing.CodeChangeUnspecified)
	// A new contract starts at 1, on which the addresses of what it creates itself depend (EIP-161).
	db.SetNonce(at, 1, tracing.NonceChangeUnspecified)
	for _, callee := range callees {
		const stop = 0x00
		db.SetCode(callee, []byte{stop}, tracing.CodeChangeUnspecified)
	}
	rules := *params.MergedTestChainConfig
	rules.ChainID = chainID
	const limit = 100_000_000 // Constructors take a fraction.
	code, _, err := runtime.Call(at, nil, &runtime.Config{ChainConfig: &rules, State: db, GasLimit: limit})
	if err != nil {
		return nil, errs.New(errs.Internal, "run the creation code: %w", err)
	}
	return code, nil
}
