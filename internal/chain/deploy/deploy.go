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
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// devChain is the only chain on which tokens are made out of nothing.
const devChain = 31337

// The payees of the pools, as in Payees.sol.
const (
	PayeeStakers      uint64 = 1<<33 + 1
	PayeeCoordinators uint64 = 1<<33 + 2
	PayeeDevelopment  uint64 = 1<<33 + 3
)

// Options say how the contracts are set up.
type Options struct {
	Token            common.Address            // The ALEPH token; zero on a local network, where one is made.
	Pools            map[uint64]common.Address // Where the pools are paid; a pool that is missing is paid later.
	Requirements     map[job.NodeKind]*big.Int // Stake by kind of node, ALEPH wei; a kind that is missing keeps the contract's.
	PrepaySeconds    uint32                    // 0 keeps the contract's.
	GraceSoftSeconds uint32                    // In arrears; set both graces or neither.
	GraceHardSeconds uint32
	Grants           []Grant // Only on a local network.
}

// Grant is play money for an account of a local network.
type Grant struct {
	To       common.Address
	AlephWei *big.Int // nil = none.
	EtherWei *big.Int // nil = none.
}

// Deployment is where the contracts are.
type Deployment struct {
	ChainID         uint64                    `json:"chain_id"`
	Version         string                    `json:"version"`         // The contracts' release.
	FromBlock       uint64                    `json:"from_block"`      // The first block with events.
	Contracts       chain.Contracts           `json:"contracts"`       // Proxies where there are any.
	Implementations map[string]Implementation `json:"implementations"` // By the name of the proxy.
	Deployer        common.Address            `json:"deployer"`        // The contract that chose the addresses.
	DevGateway      common.Address            `json:"dev_gateway,omitzero"`
	Admin           common.Address            `json:"admin"` // The account that holds every role.
}

// Implementation is the code behind a proxy.
type Implementation struct {
	Address  common.Address `json:"address"`
	CodeHash common.Hash    `json:"code_hash"`
}

// Deploy deploys and sets up the contracts; the account of key becomes their
// admin. It returns when all of it is mined.
func Deploy(ctx context.Context, c *chain.Client, key *ecdsa.PrivateKey, o Options) (*Deployment, error) {
	local := c.ChainID().Uint64() == devChain && c.ChainID().IsUint64()
	if !local && (o.Token == common.Address{} || len(o.Grants) > 0) {
		return nil, errs.New(errs.Invalid, "tokens are made on chain %d only; name the token of this chain", devChain)
	}
	b, err := NewBatch(ctx, c, key)
	if err != nil {
		return nil, err
	}
	p := plan{batch: b, options: o, admin: crypto.PubkeyToAddress(key.PublicKey)}
	p.deployer = crypto.CreateAddress(p.admin, b.Nonce())
	if err := p.build(); err != nil {
		return nil, err
	}
	receipts, err := b.Send(ctx)
	if err != nil {
		return nil, fmt.Errorf("deploy contracts: %w", err)
	}
	return p.deployment(ctx, c, receipts)
}

// plan collects the transactions of a deployment.
type plan struct {
	batch     *Batch
	options   Options
	admin     common.Address
	deployer  common.Address
	gateway   common.Address
	contracts chain.Contracts
	impls     map[string]common.Address
}

const (
	// gasCreate is enough for the largest contract that a chain accepts, 24 KiB.
	gasCreate = 9_000_000
	// gasCall is enough for every call of a deployment.
	gasCall = 1_000_000
)

func (p *plan) build() error {
	p.batch.Create(common.FromHex(bindings.DeployerMetaData.Bin), gasCreate)
	p.contracts.AccessManager = p.at("AccessManager")
	p.contracts.AlephToken = p.options.Token
	if p.contracts.AlephToken == (common.Address{}) {
		p.gateway, p.contracts.AlephToken = p.at("DevGateway"), p.at("AlephToken")
	}
	for _, c := range proxied() {
		if err := p.contracts.Set(c.Name, p.at(c.Name)); err != nil {
			return err
		}
	}
	p.put("AccessManager", bindings.NewAccessManager().PackConstructor(p.admin))
	if p.gateway != (common.Address{}) {
		p.put("DevGateway", bindings.NewDevGateway().PackConstructor(p.admin))
		p.put("AlephToken", bindings.NewAlephToken().PackConstructor(p.gateway, common.Address{}))
	}
	if err := p.putProxies(); err != nil {
		return err
	}
	p.giveRoles()
	p.setUp()
	return nil
}

// proxied are the contracts behind proxies.
func proxied() (all []bindings.Contract) {
	for _, c := range bindings.Suite() {
		if c.Role == bindings.Proxied {
			all = append(all, c)
		}
	}
	return all
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
	return crypto.CreateAddress(crypto.CreateAddress2(p.deployer, salt(name), crypto.Keccak256(first)), 1)
}

// put deploys a contract at its address.
func (p *plan) put(name string, args []byte) {
	c, err := bindings.Find(name)
	if err != nil {
		panic(err) // The names are ours.
	}
	p.deploy(name, append(common.FromHex(c.Meta.Bin), args...))
}

func (p *plan) deploy(name string, code []byte) {
	p.batch.Call(p.deployer, bindings.NewDeployer().PackDeploy(salt(name), code), gasCreate)
}

// putProxies creates the implementations, each of which knows its peers from its
// constructor, and the proxies, which are set up as they are made.
func (p *plan) putProxies() error {
	p.impls = map[string]common.Address{}
	for _, c := range proxied() {
		code, err := c.Code(p.peers())
		if err != nil {
			return err
		}
		p.impls[c.Name] = p.batch.Create(code, gasCreate)
	}
	start := crypto.Keccak256([]byte("initialize()"))[:4]
	proxy := bindings.NewERC1967Proxy()
	for _, c := range proxied() {
		code := append(common.FromHex(bindings.ERC1967ProxyMetaData.Bin), proxy.PackConstructor(p.impls[c.Name], start)...)
		p.deploy(c.Name, code)
	}
	return nil
}

// peers are the addresses that every implementation is built for.
func (p *plan) peers() bindings.Peers {
	return bindings.Peers{
		Authority: p.contracts.AccessManager,
		Token:     p.contracts.AlephToken,
		Nodes:     p.at("NodeRegistry"),
		Staking:   p.at("StakingManager"),
		Jobs:      p.at("JobManager"),
		Payments:  p.at("PaymentManager"),
		Storages:  p.at("StorageRegistry"),
		Domains:   p.at("DomainRegistry"),
		Sla:       p.at("SLAManager"),
		Images:    p.at("ImageMarketplace"),
		Beacon:    p.at("DrandVerifier"),
		Swaps:     p.at("UniswapAdapter"),
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
	access, manager := bindings.NewAccessManager(), p.contracts.AccessManager
	for _, g := range order {
		p.batch.Call(manager, access.PackSetTargetFunctionRole(p.at(g.contract), selectors[g], g.role), gasCall)
	}
	for _, role := range []uint64{bindings.RoleUpgrader, bindings.RoleParam, bindings.RoleGuardian, bindings.RoleLister} {
		p.batch.Call(manager, access.PackGrantRole(role, p.admin, 0), gasCall)
	}
}

// setUp lists the token, sets parameters and gives play money.
func (p *plan) setUp() {
	payments, staking, o := bindings.NewPaymentManager(), bindings.NewStakingManager(), p.options
	p.batch.Call(p.contracts.PaymentManager, payments.PackListToken(p.contracts.AlephToken), gasCall)
	for _, payee := range sortedKeys(o.Pools) {
		p.batch.Call(p.contracts.PaymentManager, payments.PackSetPoolPayout(payee, o.Pools[payee]), gasCall)
	}
	for _, kind := range sortedKeys(o.Requirements) {
		p.batch.Call(p.contracts.StakingManager, staking.PackSetRequirement(uint8(kind), o.Requirements[kind]), gasCall)
	}
	if o.PrepaySeconds != 0 {
		p.batch.Call(p.contracts.PaymentManager, payments.PackSetPrepay(o.PrepaySeconds), gasCall)
	}
	if o.GraceSoftSeconds != 0 || o.GraceHardSeconds != 0 {
		p.batch.Call(p.contracts.PaymentManager, payments.PackSetGrace(o.GraceSoftSeconds, o.GraceHardSeconds), gasCall)
	}
	grant(p.batch, p.gateway, p.contracts.AlephToken, o.Grants)
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

// deployment checks that the contracts are where they should be.
func (p *plan) deployment(ctx context.Context, c *chain.Client, receipts []*chain.Receipt) (*Deployment, error) {
	d := &Deployment{
		ChainID: c.ChainID().Uint64(), FromBlock: receipts[0].Number, Contracts: p.contracts, Deployer: p.deployer,
		DevGateway: p.gateway, Admin: p.admin, Implementations: map[string]Implementation{},
	}
	for _, of := range proxied() {
		code, err := c.Code(ctx, p.impls[of.Name])
		if err != nil {
			return nil, err
		}
		d.Implementations[of.Name] = Implementation{Address: p.impls[of.Name], CodeHash: crypto.Keccak256Hash(code)}
	}
	jobs := bindings.NewJobManager()
	out, err := c.Call(ctx, chain.Call{To: p.contracts.JobManager, Data: jobs.PackVERSION()})
	if err != nil {
		return nil, fmt.Errorf("ask the new contracts for their version: %w", err)
	}
	if d.Version, err = jobs.UnpackVERSION(out); err != nil {
		return nil, errs.New(errs.Internal, "there is no JobManager at %s: %w", p.contracts.JobManager, err)
	}
	return d, nil
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
