package bindings

import (
	"fmt"

	"github.com/ethereum/go-ethereum/accounts/abi/bind/v2"
	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Role is how a contract is deployed.
type Role int

const (
	// Tool is a contract that deploys others or is only for local networks.
	Tool Role = iota
	// Bare is a contract that is used as it is.
	Bare
	// Proxied is an implementation behind a proxy, built for Peers.
	Proxied
	// Extension is the second half of an implementation, for the same Peers.
	Extension
)

// Contract is a contract of the suite.
type Contract struct {
	Name string // As its Solidity file.
	Role Role
	Of   string         // The contract that an extension belongs to.
	Meta *bind.MetaData // Interface and creation code.
}

// Suite returns every contract, in the order of deployment.
func Suite() []Contract { return suite() }

// Find returns the contract with the name, or errs.NotFound.
func Find(name string) (Contract, error) {
	for _, c := range suite() {
		if c.Name == name {
			return c, nil
		}
	}
	return Contract{}, errs.New(errs.NotFound, "no contract %q", name)
}

// ExtensionOf returns the extension of the contract with the name, if it has one.
func ExtensionOf(name string) (Contract, bool) {
	for _, c := range suite() {
		if c.Role == Extension && c.Of == name {
			return c, true
		}
	}
	return Contract{}, false
}

// Code returns the contract's creation code with the arguments of its
// constructor.
func (c Contract) Code(args ...any) ([]byte, error) {
	parsed, err := c.Meta.ParseABI()
	if err != nil {
		return nil, fmt.Errorf("read the interface of %s: %w", c.Name, err)
	}
	packed, err := parsed.Pack("", args...)
	if err != nil {
		return nil, fmt.Errorf("pack the constructor of %s: %w", c.Name, err)
	}
	return append(common.FromHex(c.Meta.Bin), packed...), nil
}
