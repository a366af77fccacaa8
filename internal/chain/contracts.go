package chain

import (
	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Contracts are the addresses of the product's contracts, of the proxies where
// there are any.
type Contracts struct {
	AccessManager    common.Address `toml:"AccessManager" json:"AccessManager"`
	AlephToken       common.Address `toml:"AlephToken" json:"AlephToken"`
	NodeRegistry     common.Address `toml:"NodeRegistry" json:"NodeRegistry"`
	StakingManager   common.Address `toml:"StakingManager" json:"StakingManager"`
	JobManager       common.Address `toml:"JobManager" json:"JobManager"`
	PaymentManager   common.Address `toml:"PaymentManager" json:"PaymentManager"`
	StorageRegistry  common.Address `toml:"StorageRegistry" json:"StorageRegistry"`
	DomainRegistry   common.Address `toml:"DomainRegistry" json:"DomainRegistry"`
	SLAManager       common.Address `toml:"SLAManager" json:"SLAManager"`
	ImageMarketplace common.Address `toml:"ImageMarketplace" json:"ImageMarketplace"`
	AlephGovernor    common.Address `toml:"AlephGovernor" json:"AlephGovernor"`
	AlephLens        common.Address `toml:"AlephLens" json:"AlephLens"`
}

// each is the one list of the contracts, in the order in which they depend on
// each other.
func (c *Contracts) each() []namedAddress {
	return []namedAddress{
		{"AccessManager", &c.AccessManager},
		{"AlephToken", &c.AlephToken},
		{"NodeRegistry", &c.NodeRegistry},
		{"StakingManager", &c.StakingManager},
		{"JobManager", &c.JobManager},
		{"PaymentManager", &c.PaymentManager},
		{"StorageRegistry", &c.StorageRegistry},
		{"DomainRegistry", &c.DomainRegistry},
		{"SLAManager", &c.SLAManager},
		{"ImageMarketplace", &c.ImageMarketplace},
		{"AlephGovernor", &c.AlephGovernor},
		{"AlephLens", &c.AlephLens},
	}
}

type namedAddress struct {
	name    string
	address *common.Address
}

// Names returns the names of the contracts in the order in which they depend on
// each other.
func Names() (names []string) {
	for _, n := range new(Contracts).each() {
		names = append(names, n.name)
	}
	return names
}

// Address returns the address of the contract with the name, or errs.NotFound.
func (c Contracts) Address(name string) (common.Address, error) {
	if a := c.field(name); a != nil {
		return *a, nil
	}
	return common.Address{}, errs.New(errs.NotFound, "no contract %q", name)
}

// ABI returns the interface of the contract with the name, or errs.NotFound.
func (c Contracts) ABI(name string) (*abi.ABI, error) { return ABI(name) }

// ByName returns all addresses, by the names of the contracts.
func (c Contracts) ByName() map[string]common.Address {
	out := map[string]common.Address{}
	for _, name := range Names() {
		out[name] = *c.field(name)
	}
	return out
}

// Set sets the address of the contract with the name; errs.NotFound if there is
// no such contract.
func (c *Contracts) Set(name string, address common.Address) error {
	a := c.field(name)
	if a == nil {
		return errs.New(errs.NotFound, "no contract %q", name)
	}
	*a = address
	return nil
}

// Validate reports the first contract without an address.
func (c Contracts) Validate() error {
	for _, name := range Names() {
		if *c.field(name) == (common.Address{}) {
			return errs.New(errs.Invalid, "contracts.%s is missing, want an address as in deployments/<chain id>.json", name)
		}
	}
	return nil
}

func (c *Contracts) field(name string) *common.Address {
	for _, n := range c.each() {
		if n.name == name {
			return n.address
		}
	}
	return nil
}

// ABI returns the interface of the contract with the name, or errs.NotFound.
func ABI(name string) (*abi.ABI, error) {
	c, err := bindings.Find(name)
	if err != nil {
		return nil, err
	}
	parsed, err := c.Meta.ParseABI()
	if err != nil {
		return nil, errs.New(errs.Internal, "read the interface of %s: %w", name, err)
	}
	return parsed, nil
}
