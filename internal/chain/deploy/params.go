package deploy

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/pelletier/go-toml/v2"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// Params are the parameters of a network: what exists there already, and what
// the contracts start with. There is one file per network in params/. A value
// of zero keeps what the contract starts with by itself.
type Params struct {
	ChainID    uint64         `toml:"chain_id"`
	Token      common.Address `toml:"token"`       // ALEPH; zero on a local network only, where one is made.
	Guardian   common.Address `toml:"guardian"`    // A contract that many sign for; zero on a local network only.
	UptimeFeed common.Address `toml:"uptime_feed"` // Chainlink's of the sequencer; zero where there is none.
	Uniswap    Uniswap        `toml:"uniswap"`
	Beacon     Beacon         `toml:"beacon"`
	Pools      Pools          `toml:"pools"`
	Stake      Stake          `toml:"stake"`
	Payments   Payments       `toml:"payments"`
}

// Uniswap is where Uniswap V3 is; zero where there is none.
type Uniswap struct {
	Factory common.Address `toml:"factory"`
	Router  common.Address `toml:"router"`
}

// Beacon is the drand network that the contracts believe.
type Beacon struct {
	Key     [4]common.Hash `toml:"key"`     // x and y of the public key, of each the imaginary part first.
	Genesis uint64         `toml:"genesis"` // Of round 1, unix seconds.
	Period  uint64         `toml:"period"`  // Between rounds, seconds.
}

// Pools are where the parts of the revenue are paid that go to no node; zero:
// the timelock, of which votes decide.
type Pools struct {
	Treasury     common.Address `toml:"treasury"`
	Stakers      common.Address `toml:"stakers"`
	Coordinators common.Address `toml:"coordinators"`
	Development  common.Address `toml:"development"`
}

// Stake is what nodes need, in whole ALEPH.
type Stake struct {
	Coordinator      uint64 `toml:"coordinator"`       // Of its owner.
	CoordinatorTotal uint64 `toml:"coordinator_total"` // With what is delegated to it.
	Compute          uint64 `toml:"compute"`
	Storage          uint64 `toml:"storage"`
}

// Payments are the times of payments, in seconds.
type Payments struct {
	Prepay    uint32 `toml:"prepay"`
	GraceSoft uint32 `toml:"grace_soft"` // Set both graces or neither.
	GraceHard uint32 `toml:"grace_hard"`
}

//go:embed params/*.toml
var files embed.FS

// ParamsOf returns the parameters of the network with the chain id; errs.NotFound
// if this release has none.
func ParamsOf(chainID uint64) (Params, error) {
	raw, err := files.ReadFile(fmt.Sprintf("params/%d.toml", chainID))
	if errors.Is(err, fs.ErrNotExist) {
		return Params{}, errs.New(errs.NotFound, "this release has no parameters for chain %d; give a file of them", chainID)
	}
	if err != nil {
		return Params{}, fmt.Errorf("read parameters: %w", err)
	}
	return ParseParams(raw)
}

// ParseParams reads the parameters of a network from TOML and checks them.
func ParseParams(raw []byte) (Params, error) {
	var p Params
	if err := toml.NewDecoder(bytes.NewReader(raw)).DisallowUnknownFields().Decode(&p); err != nil {
		return Params{}, errs.New(errs.Invalid, "read parameters: %w", err)
	}
	return p, p.validate()
}

func (p *Params) validate() error {
	switch {
	case p.ChainID == 0:
		return errs.New(errs.Invalid, "the parameters name no chain_id")
	case p.Beacon.Period == 0 || p.Beacon.Genesis == 0 || p.Beacon.Key == [4]common.Hash{}:
		return errs.New(errs.Invalid, "beacon.key, beacon.genesis and beacon.period must be those of a drand network")
	case p.local():
		return nil
	case p.Token == common.Address{}:
		return errs.New(errs.Invalid, "tokens are made on chain %d only; set token to the ALEPH token of this chain", devChain)
	case p.Guardian == common.Address{}:
		return errs.New(errs.Invalid, "set guardian to a contract that many people sign for")
	}
	return nil
}

// local reports whether these are the parameters of a local network.
func (p *Params) local() bool { return p.ChainID == devChain }

// requirements are the stakes that are set, ALEPH wei, by kind of node.
func (s Stake) requirements() map[job.NodeKind]*big.Int {
	all := map[job.NodeKind]*big.Int{}
	for kind, whole := range map[job.NodeKind]uint64{
		job.KindCoordinator: s.Coordinator, job.KindCompute: s.Compute, job.KindStorage: s.Storage,
	} {
		if whole != 0 {
			all[kind] = wei(whole)
		}
	}
	return all
}

func wei(whole uint64) *big.Int {
	return new(big.Int).Mul(new(big.Int).SetUint64(whole), big.NewInt(1e18))
}
