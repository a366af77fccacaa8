package tidy_test

import (
	"slices"
	"strings"
	"testing"
)

// strata lists every folder of Go code, lowest first. A package may import only
// strata below its own. Inside one entry's folder Go's own ban on cycles is
// enough; the parts of protocol may share only protocol/message.
var strata = [][]string{
	{"protocol", "internal/build"},
	{"internal/errs", "internal/loop", "internal/flight", "internal/peering", "internal/telemetry"},
	{
		"internal/state", "internal/blob", "internal/ipfs", "internal/chain", "internal/p2p", "internal/vmm",
		"internal/vmnet", "internal/keystore", "internal/hostinfo", "internal/corenode",
	},
	{
		"internal/ingest", "internal/mirror", "internal/chainsync", "internal/outbox", "internal/storage", "internal/scheduler",
		"internal/executor", "internal/settlement", "internal/corechannel", "internal/functions", "internal/guestapi", "internal/domains",
		"sdk/go",
	},
	{"internal/api"},
	{"internal/config"},
	{"internal/node", "internal/devnet"},
	{"cmd", "packaging"},
	{"test", "internal/tidy"},
}

// find returns the entry of strata that a folder belongs to, and its level; -1
// when there is none.
func find(dir string) (family string, level int) {
	for level, families := range strata {
		for _, family := range families {
			if under(dir, family) {
				return family, level
			}
		}
	}
	return "", -1
}

// under says whether dir is folder or inside it.
func under(dir, folder string) bool {
	return dir == folder || strings.HasPrefix(dir, folder+"/")
}

func TestImportsPointDown(t *testing.T) {
	for _, s := range everySource(t) {
		fromFamily, fromLevel := find(s.dir())
		if fromLevel < 0 {
			t.Errorf("%s is in no stratum: give its folder a row in internal/tidy/imports_test.go and in ARCHITECTURE.md", s.name)
			continue
		}
		if s.isTest() {
			continue // A test may look up, to see its package at work.
		}
		for _, imported := range s.imports(t) {
			to, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			toFamily, toLevel := find(to)
			sibling := fromFamily == toFamily && (fromFamily != "protocol" || to == "protocol/message")
			if toLevel >= fromLevel && !sibling {
				t.Errorf("%s imports %s: stratum %d may not see stratum %d", s.name, to, fromLevel, toLevel)
			}
		}
	}
}

// TestReservedImports holds what is meant for few packages to those. Tests are
// free, and so is what only tests use.
func TestReservedImports(t *testing.T) {
	rules := []struct {
		imported string // a path, or a folder of paths
		allowed  []string
		why      string
	}{
		{module + "internal/chain", []string{
			"internal/chain", "internal/mirror", "internal/chainsync", "internal/outbox", "internal/config", "internal/node",
			"internal/devnet", "sdk/go/aleph/alephtest", "cmd/aleph-node", "test",
		}, "mirror reads the product's chain, chainsync the one that confirms messages, and only outbox writes to either"},
		{"github.com/ethereum/go-ethereum/ethclient", []string{"internal/chain", "sdk/go", "test"}, "the chain is reached through internal/chain"},
		{"database/sql", []string{"internal/state"}, "only internal/state talks to the engine"},
		{"modernc.org/sqlite", []string{"internal/state"}, "only internal/state talks to the engine"},
		{"github.com/jackc/pgx", []string{"internal/state"}, "only internal/state talks to the engine"},
		{module + "internal/telemetry", []string{"internal/config", "internal/node", "internal/devnet", "cmd", "test"}, "a logger and a registerer are handed in"},
		{"log", nil, "log/slog, handed in"},
		{"io/ioutil", nil, "os and io"},
		{"github.com/pkg/errors", nil, "errors and fmt are enough"},
		{"github.com/stretchr/testify", nil, "testing is enough"},
	}
	for _, s := range everySource(t) {
		if s.isTest() {
			continue
		}
		for _, imported := range s.imports(t) {
			for _, r := range rules {
				exact := r.imported == "log" // Its folder holds log/slog.
				if imported != r.imported && (exact || !under(imported, r.imported)) {
					continue
				}
				if !slices.ContainsFunc(r.allowed, func(folder string) bool { return under(s.dir(), folder) }) {
					t.Errorf("%s imports %s: %s", s.name, imported, r.why)
				}
			}
		}
	}
}

// TestProtocolIsPure keeps the words free of the machine that reads them:
// the same input gives the same output everywhere, for every implementation.
func TestProtocolIsPure(t *testing.T) {
	banned := []string{"os", "net", "net/http", "log", "log/slog", "math/rand", "math/rand/v2", "database/sql", "context"}
	for _, s := range everySource(t) {
		if s.isTest() || !under(s.dir(), "protocol") {
			continue
		}
		for _, imported := range s.imports(t) {
			if slices.Contains(banned, imported) || strings.HasPrefix(imported, module+"internal/") {
				t.Errorf("%s imports %s: protocol does no I/O and stands alone", s.name, imported)
			}
		}
		s.calls("time", "Now", func(at string) {
			t.Errorf("%s asks the clock: times come from the caller", at)
		})
	}
}
