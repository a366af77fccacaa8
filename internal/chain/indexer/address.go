package indexer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

const (
	// tezosAddressLen is the length of all addresses of Tezos as text.
	tezosAddressLen = 36
	// tezosPrefixLen is the length of what their text begins with.
	tezosPrefixLen = 3
)

// checkEVM wants an address of an EVM chain. Messages of contracts are signed by nobody
// and rights are those of addresses, so that an indexer may speak for no others.
func checkEVM(sender string) error {
	if !strings.HasPrefix(sender, "0x") || !common.IsHexAddress(sender) {
		return fmt.Errorf("its sender is %.*q, want an address of an EVM chain", nameMax, sender)
	}
	return nil
}

// checkTezos wants an address that can call a contract of Tezos, for the same reason: of an
// account, a contract or a rollup, in base58 with a checksum.
func checkTezos(sender string) error {
	if len(sender) != tezosAddressLen || !slices.Contains([]string{"tz1", "tz2", "tz3", "tz4", "KT1", "sr1"}, sender[:tezosPrefixLen]) {
		return fmt.Errorf("its sender is %.*q, want an address of Tezos", nameMax, sender)
	}
	if _, err := signature.DecodeBase58Check(sender, tezosAddressLen); err != nil {
		return fmt.Errorf("its sender %q is no address of Tezos: %w", sender, err)
	}
	return nil
}
