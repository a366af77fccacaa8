package node

import (
	"context"
	"fmt"

	v1 "github.com/aleph-onchain/aleph-onchain/internal/api/v1"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/scheduler"
	"github.com/aleph-onchain/aleph-onchain/internal/settlement"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
)

// addCoordinator adds the parts that only a coordinator runs: it takes offers,
// gives jobs to nodes and keeps payments going.
func (n *Node) addCoordinator(ctx context.Context) error {
	planner, err := scheduler.New(n.cfg.Scheduler, scheduler.Self{NodeID: n.id, Key: n.keys.Signer, Domain: n.jobDomain()},
		n.db, asker{n.host}, n.metrics, n.part("scheduler"))
	if err != nil {
		return fmt.Errorf("build scheduler: %w", err)
	}
	settler, err := settlement.New(n.cfg.Settlement, settlement.Self{NodeID: n.id, Kind: state.KindCoordinator},
		n.db, n.mirror, n.metrics, n.part("settlement"))
	if err != nil {
		return fmt.Errorf("build settlement: %w", err)
	}
	n.storage.Reclaim(files{n.db, n.content, n.part("storage")})
	collector, err := storage.NewCollector(n.db, n.blobs, n.content, n.metrics, n.part("storage"))
	if err != nil {
		return fmt.Errorf("build collector: %w", err)
	}
	n.add("collector", collector.Run)
	n.add("remover", ingest.NewRemover(n.ingest, n.mirror).Run)
	n.add("scheduler", planner.Run)
	n.add("settlement", settler.Run)
	if err := n.addCorechannel(); err != nil {
		return err
	}
	if err := n.addSync(ctx); err != nil {
		return err
	}
	n.serve(v1.Coordinator, v1.Parts{
		Intake: n.ingest, Planner: planner, Peers: n.host, Funds: n.mirror, Ether: n.chain, Blobs: n.blobs, Room: n.storage,
	})
	return n.serveMessages()
}
