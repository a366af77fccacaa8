package node

import (
	"net/http"

	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// serveNetwork adds the interface of a core channel node to that of the product:
// both are under one address, and share no path.
func (n *Node) serveNetwork() error {
	partials, err := blob.OpenPartials(n.blobs, n.part("blob"))
	if err != nil {
		return err
	}
	n.add("partials", partials.Run)
	product := n.handler
	network := ccn.New(ccn.Self{Version: ccn.DefaultVersion, Topic: wire.TopicMessages}, ccn.Parts{
		DB: n.db, Intake: n.ingest, Peers: neighbours{n.host}, Storage: &ccn.Storage{
			Config: n.cfg.Files, Blobs: n.blobs, IPFS: n.content, Room: n.storage, Uploads: n.ingest, Purse: n.ingest, Partials: partials,
		},
	}, n.part("ccn"))
	answer := network.Handler()
	n.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if network.Serves(r) {
			answer.ServeHTTP(w, r)
			return
		}
		product.ServeHTTP(w, r)
	})
	return nil
}

// neighbours are the peers of a node, for ccn.
type neighbours struct{ host *p2p.Host }

// Addresses implements ccn.Peers.
func (p neighbours) Addresses() []string { return p.host.Addrs() }

// Count implements ccn.Peers.
func (p neighbours) Count() int { return len(p.host.Connected()) }
