package node_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/corechannel"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
)

// TestTheListOfNodesHasTheNodesOfTheChain: where nobody publishes it, a coordinator
// serves its own. The heights of the chain are numbers too.
func TestTheListOfNodesHasTheNodesOfTheChain(t *testing.T) {
	n := chaintest.Start(t)
	cfg, id := join(t, n, config.Coordinator)
	cfg.Nodes.Serve, cfg.Nodes.Interval = corechannel.ServeOwn, 50*time.Millisecond
	node, end := begin(t, cfg)
	defer end()
	waitReady(t, node)
	var list struct {
		Data struct {
			Corechannel struct {
				Nodes []struct{ Hash, Owner, Status string } `json:"nodes"`
				CRNs  []struct{ Owner string }               `json:"resource_nodes"`
			} `json:"corechannel"`
		} `json:"data"`
	}
	p2ptest.Wait(t, "the list has the nodes", func() bool {
		status, body := get(t, node.URL()+"/api/v0/aggregates/"+cfg.Nodes.Authority+".json?keys=corechannel")
		return status == http.StatusOK && json.Unmarshal(body, &list) == nil && len(list.Data.Corechannel.Nodes) > 0 && len(list.Data.Corechannel.CRNs) > 0
	})
	if first := list.Data.Corechannel.Nodes[0]; len(first.Hash) != 64 || !strings.HasPrefix(first.Owner, "0x") || first.Status != "active" {
		t.Errorf("the first node is %+v; this one is %d", first, id)
	}
	_, body := get(t, node.URL()+"/metrics.json")
	var metrics map[string]any
	if err := json.Unmarshal(body, &metrics); err != nil {
		t.Fatal(err)
	}
	if h, ok := metrics["pyaleph_status_chain_eth_last_committed_height"].(float64); !ok || h <= 0 {
		t.Errorf("the height is %v, want a number above zero", metrics["pyaleph_status_chain_eth_last_committed_height"])
	}
	if rest, ok := metrics["pyaleph_status_chain_eth_height_remaining_total"].(float64); !ok || rest > 5 {
		t.Errorf("the rest is %v, want about none", metrics["pyaleph_status_chain_eth_height_remaining_total"])
	}
}

func TestKeysOfTheListThatCannotBeUsed(t *testing.T) {
	n := chaintest.Start(t)
	cfg, _ := join(t, n, config.Coordinator)
	cfg.Nodes.KeyPath = filepath.Join(t.TempDir(), "none")
	refused(t, cfg, errs.Invalid, "none")
	if err := os.WriteFile(cfg.Nodes.KeyPath, []byte(strings.Repeat("11", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, cfg, errs.Invalid, "key_path", cfg.Nodes.Authority)
	if err := os.WriteFile(cfg.Nodes.KeyPath, []byte(strings.Repeat("00", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, cfg, errs.Invalid, "is no key")
}
