// Package config gathers the settings of every part of a node: the defaults,
// then the file, then ALEPH_<SECTION>_<KEY> of the environment, then flags.
//
// Each section is the Config struct of the package that it steers, and the
// comments of its fields are the documentation: config.example.toml and
// docs/operator/config.md are made from them. A key that nobody knows is an
// error that names the nearest one there is.
package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chainsync"
	"github.com/aleph-onchain/aleph-onchain/internal/corechannel"
	"github.com/aleph-onchain/aleph-onchain/internal/corenode"
	"github.com/aleph-onchain/aleph-onchain/internal/domains"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/functions"
	"github.com/aleph-onchain/aleph-onchain/internal/guestapi"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs/swarm"
	"github.com/aleph-onchain/aleph-onchain/internal/outbox"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/scheduler"
	"github.com/aleph-onchain/aleph-onchain/internal/settlement"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/telemetry"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/firecracker"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

// The roles of a node.
const (
	Coordinator = "coordinator"
	Compute     = "compute"
	API         = "api" // A process that serves the database of a coordinator.
)

// engineEmbedded is the storage engine inside the process.
const engineEmbedded = "embedded"

// Config is every setting of a node.
type Config struct {
	Node       Node               `toml:"node"`
	Chain      chain.Config       `toml:"chain"`
	Storage    Storage            `toml:"storage"`
	IPFS       swarm.Config       `toml:"ipfs"`
	State      state.Config       `toml:"state"`
	Network    p2p.Config         `toml:"network"`
	API        api.Config         `toml:"api"`
	CCN        ccn.Config         `toml:"ccn"`
	Files      ccn.FilesConfig    `toml:"files"`
	Log        telemetry.Config   `toml:"log"`
	Ingest     ingest.Config      `toml:"ingest"`
	Outbox     outbox.Config      `toml:"outbox"`
	Sync       chainsync.Config   `toml:"sync"`
	Scheduler  scheduler.Config   `toml:"scheduler"`
	Executor   executor.Config    `toml:"executor"`
	CRN        crn.Config         `toml:"crn"`
	CoreNode   corenode.Config    `toml:"corenode"`
	Settlement settlement.Config  `toml:"settlement"`
	Nodes      corechannel.Config `toml:"corechannel"`
	VMNet      vmnet.Config       `toml:"vmnet"`
	QEMU       qemu.Config        `toml:"qemu"`
	Fire       firecracker.Config `toml:"firecracker"`
	Functions  functions.Config   `toml:"functions"`
	GuestAPI   guestapi.Config    `toml:"guestapi"`
	Domains    domains.Config     `toml:"domains"`
}

// Node says what the node is.
type Node struct {
	Role      string `toml:"role"`       // coordinator, compute, or api: a process that serves the database of a coordinator.
	DataDir   string `toml:"data_dir"`   // Directory of everything that the node keeps.
	Driver    string `toml:"driver"`     // Of a compute node: what runs its machines, qemu or firecracker.
	PublicURL string `toml:"public_url"` // Base URL under which others reach the HTTP interface; "" = the address it listens on.
	PublicIP  string `toml:"public_ip"`  // Address under which others reach forwarded ports; "" = the one they listen on.
	OwnerURL  string `toml:"owner_url"`  // Of an API process: base URL of the coordinator, which gets what needs files or the chain; "" = that is refused.
}

// Storage says how the node keeps bytes and rows.
type Storage struct {
	Engine string `toml:"engine"` // Of the database without a [state] url: embedded.
	blob.Config
}

// Default is a node on loopback that knows its chain but neither its RPC nor
// its contracts.
func Default() Config {
	return Config{
		Node: Node{Role: Coordinator, DataDir: "aleph-data", Driver: qemu.Name}, Chain: chain.DefaultConfig(),
		Storage: Storage{Engine: engineEmbedded, Config: blob.DefaultConfig()}, IPFS: swarm.DefaultConfig(), State: state.DefaultConfig(), Network: p2p.DefaultConfig(), API: api.DefaultConfig(), CCN: ccn.DefaultConfig(),
		Files: ccn.DefaultFilesConfig(), Log: telemetry.DefaultConfig(), Ingest: ingest.DefaultConfig(), Outbox: outbox.DefaultConfig(), Sync: chainsync.DefaultConfig(), Scheduler: scheduler.DefaultConfig(),
		Executor: executor.DefaultConfig(), CRN: crn.DefaultConfig(), CoreNode: corenode.DefaultConfig(), Settlement: settlement.DefaultConfig(), Nodes: corechannel.DefaultConfig(), VMNet: vmnet.DefaultConfig(), QEMU: qemu.Config{},
		Functions: functions.DefaultConfig(), GuestAPI: guestapi.DefaultConfig(), Domains: domains.DefaultConfig(),
	}
}

// Load returns the settings of the file, "" for none, under those of the
// environment, a list of KEY=value. They are not validated yet: flags come
// last.
func Load(path string, environ []string) (Config, error) {
	cfg := Default()
	if path != "" {
		raw, err := readFile(path)
		if err != nil {
			return cfg, err
		}
		if err := Apply(&cfg, raw); err != nil {
			return cfg, fmt.Errorf("%s: %w", path, err)
		}
	}
	return cfg, applyEnviron(&cfg, environ)
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, errs.New(errs.NotFound, "there is no configuration %s; config.example.toml shows what it holds", path)
	case err == nil && info.Size() > fileMax:
		return nil, errs.New(errs.Invalid, "configuration %s has %d bytes, at most %d are read", path, info.Size(), fileMax)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return raw, nil
}

// Validate reports the first setting that cannot work, by section and key.
func (c Config) Validate() error {
	validateChain := c.Chain.Validate
	if c.Node.Role == API {
		validateChain = func() error { return nil } // It has none.
	}
	for _, s := range []struct {
		name  string
		check func() error
	}{
		{"node", c.Node.validate},
		{"chain", validateChain},
		{"storage", c.Storage.validate},
		{"ipfs", c.IPFS.Validate},
		{"state", c.State.Validate},
		{"network", c.Network.Validate},
		{"api", c.API.Validate},
		{"ccn", c.CCN.Validate},
		{"files", c.Files.Validate},
		{"log", c.Log.Validate},
		{"ingest", c.Ingest.Validate},
		{"outbox", c.Outbox.Validate},
		{"sync", c.Sync.Validate},
		{"scheduler", c.Scheduler.Validate},
		{"executor", c.Executor.Validate},
		{"crn", c.CRN.Validate},
		{"firecracker", c.Fire.Validate},
		{"corenode", c.CoreNode.Validate},
		{"settlement", c.Settlement.Validate},
		{"corechannel", c.Nodes.Validate},
		{"vmnet", c.VMNet.Validate},
		{"qemu", c.QEMU.Validate},
		{"functions", c.Functions.Validate},
		{"guestapi", c.GuestAPI.Validate},
		{"domains", c.Domains.Validate},
	} {
		if err := s.check(); err != nil {
			return errs.New(errs.Invalid, "[%s] %w", s.name, err)
		}
	}
	if c.Node.Role == API {
		return c.validateAPI()
	}
	return c.validateReach()
}

// validateAPI reports what an API process cannot be without.
func (c Config) validateAPI() error {
	if c.State.URL == "" {
		return errs.New(errs.Invalid, "[state] url is empty, and an API process has no database of its own: name that of its coordinator")
	}
	return nil
}

// validateReach reports an address that others could not use.
func (c Config) validateReach() error {
	if c.Node.Role == Compute && c.Node.PublicIP == "" && isUnspecified(c.VMNet.Bind) {
		return errs.New(errs.Invalid, "[node] public_ip is empty, and ports are forwarded at %s: name the address under which others reach this host", c.VMNet.Bind)
	}
	if host := hostOf(c.API.Bind); c.Node.PublicURL == "" && isUnspecified(host) {
		return errs.New(errs.Invalid, "[node] public_url is empty, and the HTTP interface listens on %s: name the URL under which others reach it", c.API.Bind)
	}
	return nil
}

func (n Node) validate() error {
	if !slices.Contains([]string{qemu.Name, firecracker.Name}, n.Driver) {
		return errs.New(errs.Invalid, "driver is %q, want qemu or firecracker", n.Driver)
	}
	if !slices.Contains([]string{Coordinator, Compute, API}, n.Role) {
		return errs.New(errs.Invalid, "role is %q, want coordinator, compute or api", n.Role)
	}
	if n.DataDir == "" {
		return errs.New(errs.Invalid, "data_dir is empty, want a directory")
	}
	if err := checkURL("public_url", n.PublicURL); err != nil {
		return err
	}
	if err := checkURL("owner_url", n.OwnerURL); err != nil {
		return err
	}
	return checkIP(n.PublicIP)
}

func (s Storage) validate() error {
	if s.Engine != engineEmbedded {
		return errs.New(errs.Invalid, "engine is %q, want %s", s.Engine, engineEmbedded)
	}
	return s.Config.Validate()
}

// Dir returns the path of something in the data directory.
func (c Config) Dir(elem ...string) string {
	return filepath.Join(append([]string{c.Node.DataDir}, elem...)...)
}
