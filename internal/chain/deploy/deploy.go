// Package deploy puts the product's contracts on a chain and lets nodes join:
// what a local network and the tests do first, and what an operator of another
// chain does once.
//
// All transactions of a step are signed at once, with consecutive nonces, and
// waited for once: addresses and node ids are known beforehand, so nothing has
// to be asked in between.
package deploy

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// devChain is the only chain on which tokens are made out of nothing.
const devChain = 31337

// The payees of the pools, as in Payees.sol.
const (
	PayeeTreasury     uint64 = 1 << 33
	PayeeStakers      uint64 = 1<<33 + 1
	PayeeCoordinators uint64 = 1<<33 + 2
	PayeeDevelopment  uint64 = 1<<33 + 3
)

// Grant is play money for an account of a local network.
type Grant struct {
	To       common.Address
	AlephWei *big.Int // nil = none.
	EtherWei *big.Int // nil = none.
}

// Deployment is where the contracts are.
type Deployment struct {
	ChainID         uint64                    `json:"chain_id"`
	Version         string                    `json:"version"`           // The contracts' release.
	FromBlock       uint64                    `json:"from_block"`        // The first block with events.
	Contracts       chain.Contracts           `json:"contracts"`         // Proxies where there are any.
	Implementations map[string]Implementation `json:"implementations"`   // By the name of the proxy.
	Helpers         map[string]common.Address `json:"helpers,omitempty"` // Contracts that no node talks to.
	Layouts         bindings.Layouts          `json:"layouts,omitempty"` // Of the storage; an upgrade must be able to read it.
	Deployer        common.Address            `json:"deployer"`          // The contract that chose the addresses.
	DevGateway      common.Address            `json:"dev_gateway,omitzero"`
	DevGuardian     common.Address            `json:"dev_guardian,omitzero"`
	Founder         common.Address            `json:"founder"` // The account that deployed; it keeps no role.
}

// put notes where a contract is. Nodes read those in Contracts, nobody but
// contracts and people the others.
func (d *Deployment) put(name string, at common.Address) {
	if err := d.Contracts.Set(name, at); err != nil {
		if d.Helpers == nil {
			d.Helpers = map[string]common.Address{}
		}
		d.Helpers[name] = at
	}
}

// Implementation is the code behind a proxy.
type Implementation struct {
	Address  common.Address `json:"address"`
	CodeHash common.Hash    `json:"code_hash"`
}

// Extras are what only local networks and tests ask for.
type Extras struct {
	Grants    []Grant
	KeepAdmin bool // The deploying account keeps every role.
}

// Deploy deploys and sets up the contracts with the parameters of the client's
// chain. In the end no account but contracts holds a role. It returns when all
// of it is mined.
func Deploy(ctx context.Context, c *chain.Client, key *ecdsa.PrivateKey, params Params, x Extras) (*Deployment, error) {
	if id := c.ChainID(); !id.IsUint64() || id.Uint64() != params.ChainID {
		return nil, errs.New(errs.Invalid, "the parameters are for chain %d, this is chain %s", params.ChainID, c.ChainID())
	}
	if err := params.validate(); err != nil {
		return nil, err
	}
	if !params.local() && (len(x.Grants) > 0 || x.KeepAdmin) {
		return nil, errs.New(errs.Invalid, "play money and an admin are for chain %d only", devChain)
	}
	b, err := NewBatch(ctx, c, key)
	if err != nil {
		return nil, err
	}
	admin := crypto.PubkeyToAddress(key.PublicKey)
	layouts, err := bindings.StorageLayouts()
	if err != nil {
		return nil, err
	}
	d := &Deployment{
		ChainID: params.ChainID, Deployer: crypto.CreateAddress(admin, b.Nonce()), Founder: admin,
		Implementations: map[string]Implementation{}, Layouts: layouts,
	}
	p := newPlan(d, params)
	if err := p.build(b, x); err != nil {
		return nil, err
	}
	receipts, err := b.Send(ctx)
	if err != nil {
		return nil, fmt.Errorf("deploy contracts: %w", err)
	}
	d.FromBlock = receipts[0].Number
	return d, p.finish(ctx, c)
}

// plan knows what is deployed, and with which arguments.
type plan struct {
	deployment *Deployment
	params     Params
	batch      *Batch // Of a deployment under way.
}

// newPlan fills in the addresses of a deployment of which the deployer and the
// founder are known.
func newPlan(d *Deployment, params Params) *plan {
	p := &plan{deployment: d, params: params}
	if d.Contracts.AlephToken = params.Token; params.local() {
		d.DevGateway, d.DevGuardian, d.Contracts.AlephToken = p.at("DevGateway"), p.at("DevGuardian"), p.at("AlephToken")
	}
	for _, c := range bindings.Suite() {
		if (c.Role == bindings.Bare || c.Role == bindings.Proxied) && c.Name != "AlephToken" {
			d.put(c.Name, p.at(c.Name))
		}
	}
	return p
}

const (
	// gasCreate is enough for the largest contract that a chain accepts, 24 KiB.
	gasCreate = 9_000_000
	// gasCall is enough for every call of a deployment.
	gasCall = 1_000_000
	// timelockDelay is how long what was voted for waits, so that who disagrees can
	// leave.
	timelockDelay = 2 * 24 * 60 * 60
)

// build collects the transactions.
func (p *plan) build(b *Batch, x Extras) error {
	p.batch = b
	b.Create(common.FromHex(bindings.DeployerMetaData.Bin), gasCreate)
	for _, c := range bindings.Suite() {
		if err := p.add(c); err != nil {
			return err
		}
	}
	p.giveRoles()
	p.setUp()
	p.grant(x.Grants)
	if !x.KeepAdmin {
		p.handOver()
	}
	return nil
}

// add deploys a contract, if this network has it.
func (p *plan) add(c bindings.Contract) error {
	switch c.Name {
	case "DevGateway", "DevGuardian", "AlephToken":
		if p.params.local() {
			return p.addBare(c)
		}
		return nil
	}
	switch c.Role {
	case bindings.Bare:
		return p.addBare(c)
	case bindings.Proxied:
		return p.addProxied(c)
	case bindings.Tool, bindings.Extension:
	}
	return nil
}

func (p *plan) addBare(c bindings.Contract) error {
	code, err := p.creation(c)
	if err != nil {
		return err
	}
	p.put(c.Name, code)
	return nil
}

// addProxied deploys the extension of a contract, if it has one, the contract,
// which knows its extension from its constructor, and the proxy.
func (p *plan) addProxied(c bindings.Contract) error {
	if second, has := bindings.ExtensionOf(c.Name); has {
		if err := p.implement(second); err != nil {
			return err
		}
	}
	if err := p.implement(c); err != nil {
		return err
	}
	code, err := p.proxyCreation(c.Name, p.deployment.Implementations[c.Name].Address)
	if err != nil {
		return err
	}
	p.put(c.Name, code)
	return nil
}

// implement makes code for a proxy, at no address of its own choice.
func (p *plan) implement(c bindings.Contract) error {
	code, err := p.creation(c)
	if err != nil {
		return err
	}
	p.deployment.Implementations[c.Name] = Implementation{Address: p.batch.Create(code, gasCreate)}
	return nil
}

// put makes a contract at the address of its name.
func (p *plan) put(name string, code []byte) {
	p.batch.Call(p.deployment.Deployer, bindings.NewDeployer().PackDeploy(salt(name), code), gasCreate)
}

// creation returns a contract's creation code with its arguments.
func (p *plan) creation(c bindings.Contract) ([]byte, error) { return c.Code(p.arguments(c)...) }

// arguments are those of a contract's constructor. Every implementation knows
// its peers, and nothing else, from its constructor.
func (p *plan) arguments(c bindings.Contract) []any {
	d := p.deployment
	switch c.Name {
	case "AccessManager", "DevGateway", "DevGuardian":
		return []any{d.Founder}
	case "AlephToken":
		return []any{d.DevGateway, common.Address{}}
	case "DrandVerifier":
		b := p.params.Beacon
		var key [4]*big.Int
		for i, k := range b.Key {
			key[i] = k.Big()
		}
		return []any{key, b.Genesis, b.Period}
	case "UniswapAdapter":
		return []any{p.params.Uniswap.Factory, p.at("PaymentManager")}
	case "TimelockController":
		// Nobody administers the timelock but itself, and nobody proposes or executes but the governor.
		governor := []common.Address{p.at("AlephGovernor")}
		return []any{new(big.Int).SetUint64(timelockDelay), governor, governor, common.Address{}}
	case "AlephGovernor":
		return nil // It learns its peers as it is set up.
	}
	if second, has := bindings.ExtensionOf(c.Name); has {
		return []any{p.peers(), d.Implementations[second.Name].Address}
	}
	return []any{p.peers()}
}

// proxyCreation returns the creation code of the proxy of a contract.
func (p *plan) proxyCreation(name string, implementation common.Address) ([]byte, error) {
	parsed, err := chain.ABI(name)
	if err != nil {
		return nil, err
	}
	start, err := parsed.Pack("initialize", p.initial(name)...)
	if err != nil {
		return nil, errs.New(errs.Internal, "pack the set-up of %s: %w", name, err)
	}
	code := common.FromHex(bindings.ERC1967ProxyMetaData.Bin)
	return append(code, bindings.NewERC1967Proxy().PackConstructor(implementation, start)...), nil
}

// initial are the arguments that a proxy is set up with.
func (p *plan) initial(name string) []any {
	if name == "AlephGovernor" {
		return []any{p.at("StakingManager"), p.at("TimelockController"), p.guardian()}
	}
	return nil
}

// guardian is the contract that may pause and cancel.
func (p *plan) guardian() common.Address {
	if p.params.Guardian == (common.Address{}) {
		return p.deployment.DevGuardian
	}
	return p.params.Guardian
}

// salt is a name padded to 32 bytes.
func salt(name string) (s [32]byte) {
	copy(s[:], name)
	return s
}

// at returns where the deployer puts the contract with the name. It makes, by
// CREATE2, a small contract whose first CREATE is ours, so the address depends
// on the name alone.
func (p *plan) at(name string) common.Address {
	first := common.FromHex("73365f5f37365f34f06012573d5f5f3e3d5ffd5b005f526014600cf3")
	return crypto.CreateAddress(crypto.CreateAddress2(p.deployment.Deployer, salt(name), crypto.Keccak256(first)), 1)
}

// peers are the addresses that every implementation is built for.
func (p *plan) peers() bindings.Peers {
	return bindings.Peers{
		Authority:  p.at("AccessManager"),
		Token:      p.deployment.Contracts.AlephToken,
		Nodes:      p.at("NodeRegistry"),
		Staking:    p.at("StakingManager"),
		Jobs:       p.at("JobManager"),
		Payments:   p.at("PaymentManager"),
		Storages:   p.at("StorageRegistry"),
		Domains:    p.at("DomainRegistry"),
		Sla:        p.at("SLAManager"),
		Images:     p.at("ImageMarketplace"),
		Beacon:     p.at("DrandVerifier"),
		Swaps:      p.at("UniswapAdapter"),
		UptimeFeed: p.params.UptimeFeed,
	}
}

// giveRoles maps the restricted functions to roles, one call per contract and
// role, and gives the roles out.
func (p *plan) giveRoles() {
	type group struct {
		contract string
		role     uint64
	}
	var order []group
	selectors := map[group][][4]byte{}
	for _, r := range bindings.Restrictions() {
		g := group{r.Contract, r.Role}
		if selectors[g] == nil {
			order = append(order, g)
		}
		selectors[g] = append(selectors[g], r.Selector)
	}
	access, manager := bindings.NewAccessManager(), p.at("AccessManager")
	for _, g := range order {
		p.batch.Call(manager, access.PackSetTargetFunctionRole(p.at(g.contract), selectors[g], g.role), gasCall)
	}
	for _, role := range roles() {
		p.batch.Call(manager, access.PackGrantRole(role, p.deployment.Founder, 0), gasCall)
	}
}

// roles are those that the founder holds until it hands over, besides the
// admin's.
func roles() []uint64 {
	return []uint64{bindings.RoleUpgrader, bindings.RoleParam, bindings.RoleGuardian, bindings.RoleLister}
}

// setUp lists the token and sets parameters.
func (p *plan) setUp() {
	payments, staking := bindings.NewPaymentManager(), bindings.NewStakingManager()
	at := p.deployment.Contracts
	p.batch.Call(at.PaymentManager, payments.PackListToken(at.AlephToken), gasCall)
	pools := p.pools()
	for _, payee := range sortedKeys(pools) {
		p.batch.Call(at.PaymentManager, payments.PackSetPoolPayout(payee, pools[payee]), gasCall)
	}
	stakes := p.params.Stake.requirements()
	for _, kind := range sortedKeys(stakes) {
		p.batch.Call(at.StakingManager, staking.PackSetRequirement(uint8(kind), stakes[kind]), gasCall)
	}
	if total := p.params.Stake.CoordinatorTotal; total != 0 {
		p.batch.Call(at.StakingManager, staking.PackSetTotalRequirement(wei(total)), gasCall)
	}
	if t := p.params.Payments.Prepay; t != 0 {
		p.batch.Call(at.PaymentManager, payments.PackSetPrepay(t), gasCall)
	}
	if t := p.params.Payments; t.GraceSoft != 0 || t.GraceHard != 0 {
		p.batch.Call(at.PaymentManager, payments.PackSetGrace(t.GraceSoft, t.GraceHard), gasCall)
	}
}

// pools are the addresses that the pools are paid to.
func (p *plan) pools() map[uint64]common.Address {
	all := map[uint64]common.Address{}
	for payee, to := range map[uint64]common.Address{
		PayeeTreasury: p.params.Pools.Treasury, PayeeStakers: p.params.Pools.Stakers,
		PayeeCoordinators: p.params.Pools.Coordinators, PayeeDevelopment: p.params.Pools.Development,
	} {
		if to == (common.Address{}) {
			to = p.at("TimelockController")
		}
		all[payee] = to
	}
	return all
}

// handOver gives the roles to the timelock and the guardian, and takes every role
// from the founder.
func (p *plan) handOver() {
	access, manager := bindings.NewAccessManager(), p.at("AccessManager")
	grant := func(role uint64, to common.Address) {
		p.batch.Call(manager, access.PackGrantRole(role, to, 0), gasCall)
	}
	renounce := func(role uint64) {
		p.batch.Call(manager, access.PackRenounceRole(role, p.deployment.Founder), gasCall)
	}
	timelock := p.at("TimelockController")
	for _, role := range []uint64{bindings.RoleUpgrader, bindings.RoleParam, bindings.RoleLister, bindings.RoleAdmin} {
		grant(role, timelock)
	}
	grant(bindings.RoleGuardian, p.guardian())
	for _, role := range roles() {
		renounce(role)
	}
	renounce(bindings.RoleAdmin)
}

func (p *plan) grant(grants []Grant) {
	grant(p.batch, p.deployment.DevGateway, p.deployment.Contracts.AlephToken, grants)
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// grant adds the transactions that give play money.
func grant(b *Batch, gateway, token common.Address, grants []Grant) {
	for _, g := range grants {
		if g.EtherWei != nil && g.EtherWei.Sign() > 0 {
			b.Pay(g.To, g.EtherWei)
		}
		if g.AlephWei != nil && g.AlephWei.Sign() > 0 {
			b.Call(gateway, bindings.NewDevGateway().PackMint(token, g.To, g.AlephWei), gasCall)
		}
	}
}

// finish checks that the contracts are where they should be, and notes the
// hashes of their code.
func (p *plan) finish(ctx context.Context, c *chain.Client) error {
	if err := p.hashes(ctx, c); err != nil {
		return err
	}
	jobs, at := bindings.NewJobManager(), p.deployment.Contracts.JobManager
	out, err := c.Call(ctx, chain.Call{To: at, Data: jobs.PackVERSION()})
	if err != nil {
		return fmt.Errorf("ask the new contracts for their version: %w", err)
	}
	if p.deployment.Version, err = jobs.UnpackVERSION(out); err != nil {
		return errs.New(errs.Internal, "there is no JobManager at %s: %w", at, err)
	}
	return nil
}

// hashes notes the hashes of the code behind the proxies.
func (p *plan) hashes(ctx context.Context, c *chain.Client) error {
	for name, of := range p.deployment.Implementations {
		code, err := c.Code(ctx, of.Address)
		if err != nil {
			return err
		}
		of.CodeHash = crypto.Keccak256Hash(code)
		p.deployment.Implementations[name] = of
	}
	return nil
}

// Read reads a deployment's file. One that is not there gives errs.NotFound.
func Read(path string) (*Deployment, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.New(errs.NotFound, "no deployment at %s", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read deployment: %w", err)
	}
	return Parse(raw)
}

// Parse reads a deployment from JSON and checks that no contract is missing.
func Parse(raw []byte) (*Deployment, error) {
	var d Deployment
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, errs.New(errs.Invalid, "read deployment: %w", err)
	}
	if d.ChainID == 0 {
		return nil, errs.New(errs.Invalid, "the deployment names no chain_id")
	}
	if err := d.Contracts.Validate(); err != nil {
		return nil, fmt.Errorf("read deployment: %w", err)
	}
	return &d, nil
}

// Write writes the deployment's file, whole or not at all.
func (d *Deployment) Write(path string) (err error) {
	raw, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return fmt.Errorf("encode deployment: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write deployment: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".deployment-*")
	if err != nil {
		return fmt.Errorf("write deployment: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(append(raw, '\n'))
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write deployment: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("write deployment: %w", err)
	}
	return nil
}
