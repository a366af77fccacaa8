package scheduler

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// scoreMax bounds the score that a node claims for itself: nobody has more
// than a whole one.
const scoreMax = wire.Bps

// market is every compute node and what it offers, as of one look.
type market struct {
	now          time.Time
	head         state.Block
	hosts        []host // By node id.
	coordinators int    // Active ones.
}

// host is a compute node; ad is nil when it never advertised.
type host struct {
	node       state.Node
	ad         *wire.CapacityAd
	receivedAt time.Time
}

type parsedAd struct {
	receivedAt time.Time
	ad         *wire.CapacityAd
}

// request is what a node must give to be eligible.
type request struct {
	table    *pricing.Table
	spec     message.ItemHash
	seed     common.Hash
	instance *message.Instance
	needs    job.Needs
	maxRate  *big.Int // nil for no ceiling
	nodeHint uint32
}

// market reads all compute nodes and their ads.
func (p *Planner) market(ctx context.Context) (*market, error) {
	m := &market{now: time.Now()}
	err := p.db.View(ctx, func(v *state.View) error {
		head, err := v.Head(ctx)
		if err != nil {
			return err
		}
		m.head = *head
		nodes, err := v.Nodes(ctx, "")
		if err != nil {
			return err
		}
		capacities, err := v.Capacities(ctx)
		if err != nil {
			return err
		}
		m.hosts, err = p.hosts(nodes, capacities)
		for _, n := range nodes {
			if n.Kind == state.KindCoordinator && n.Status == state.NodeActive {
				m.coordinators++
			}
		}
		return err
	})
	return m, err
}

func (p *Planner) hosts(nodes []state.Node, capacities []state.Capacity) ([]host, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	byID := make(map[uint32]parsedAd, len(capacities))
	for _, c := range capacities {
		old, ok := p.ads[c.NodeID]
		if ok && old.receivedAt.Equal(c.ReceivedAt) {
			byID[c.NodeID] = old
			continue
		}
		ad, err := wire.ParseCapacityAd(c.Ad)
		if err != nil {
			return nil, fmt.Errorf("read capacity of node %d: %w", c.NodeID, err)
		}
		byID[c.NodeID] = parsedAd{c.ReceivedAt, ad}
	}
	p.ads = byID
	var hosts []host
	for _, n := range nodes {
		if n.Kind == state.KindCompute {
			a := byID[n.ID]
			hosts = append(hosts, host{n, a.ad, a.receivedAt})
		}
	}
	return hosts, nil
}

// choice is the outcome of a look at all candidates.
type choice struct {
	candidates []state.Candidate
	chosen     *host    // nil when no node is eligible
	rateQ32    *big.Int // of the chosen node
}

// choose judges every host and lets the eligible ones race. Hosts in passed
// are out, for the reason given. The caller holds p.mu, or owns claims.
func choose(m *market, q request, maxAge time.Duration, claims map[message.ItemHash]claim, passed map[uint32]refusal) (choice, error) {
	c := choice{candidates: make([]state.Candidate, 0, len(m.hosts))}
	taken := takenBy(m, q.spec, claims)
	rates := map[int]*big.Int{} // by price_bps
	var entrants []entrant
	for i := range m.hosts {
		h := &m.hosts[i]
		cand := state.Candidate{NodeID: h.node.ID}
		reason, err := judge(h, q, m.now, maxAge, taken[h.node.ID], rates)
		if err != nil {
			return choice{}, err
		}
		if r, ok := passed[h.node.ID]; ok && reason == "" && r.holds(h, m.now) {
			reason = r.reason
		}
		cand.Reason, cand.Eligible = reason, reason == ""
		if cand.Eligible {
			cand.ScoreBps = min(h.ad.ScoreBps, scoreMax)
			entrants = append(entrants, entrant{index: i, id: h.node.ID, score: uint32(cand.ScoreBps)})
		}
		c.candidates = append(c.candidates, cand)
	}
	if len(entrants) == 0 {
		return c, nil
	}
	win := winner(newRace(q.seed, q.spec, attempt), entrants)
	c.chosen = &m.hosts[entrants[win].index]
	c.rateQ32 = rates[c.chosen.ad.PriceBps]
	explain(c.candidates, entrants, win, q.nodeHint != 0)
	return c, nil
}

// explain writes the outcome of the race into the candidates.
func explain(candidates []state.Candidate, entrants []entrant, win int, pinned bool) {
	outdrawn := fmt.Sprintf("eligible, but the draw favoured node %d", entrants[win].id)
	for i, e := range entrants {
		c := &candidates[e.index]
		c.Score = raceKey(e.u, e.score).String()
		switch {
		case i != win:
			c.Reason = outdrawn
		case pinned:
			c.Chosen, c.Reason = true, "chosen: the offer names it"
		case len(entrants) == 1:
			c.Chosen, c.Reason = true, "chosen: the only eligible node"
		default:
			c.Chosen, c.Reason = true, fmt.Sprintf("chosen: smallest draw of %d eligible nodes", len(entrants))
		}
	}
}

// takenBy sums, by node, what was promised after the node's last ad.
func takenBy(m *market, spec message.ItemHash, claims map[message.ItemHash]claim) map[uint32]job.Needs {
	received := make(map[uint32]time.Time, len(claims))
	for _, c := range claims {
		received[c.nodeID] = time.Time{}
	}
	if len(received) > 0 {
		for i := range m.hosts {
			if _, ok := received[m.hosts[i].node.ID]; ok {
				received[m.hosts[i].node.ID] = m.hosts[i].receivedAt
			}
		}
	}
	taken := map[uint32]job.Needs{}
	for s, c := range claims {
		if s == spec || !c.at.IsZero() && received[c.nodeID].After(c.at) {
			continue
		}
		t := taken[c.nodeID]
		t.VCPUs += c.needs.VCPUs
		t.MemoryMiB += c.needs.MemoryMiB
		t.DiskMiB += c.needs.DiskMiB
		taken[c.nodeID] = t
	}
	return taken
}

// judge returns why the host is not eligible, or "". It fills rates.
func judge(h *host, q request, now time.Time, maxAge time.Duration, taken job.Needs, rates map[int]*big.Int) (string, error) {
	switch {
	case q.nodeHint != 0 && q.nodeHint != h.node.ID:
		return fmt.Sprintf("the offer names node %d", q.nodeHint), nil
	case h.node.Status != state.NodeActive:
		return fmt.Sprintf("is %s in the registry, not active", h.node.Status), nil
	case h.ad == nil:
		return "has not advertised its capacity", nil
	case now.Sub(h.receivedAt) > maxAge:
		// The time itself, not the age: a text that changes would be a new row.
		return fmt.Sprintf("last advertised at %s, more than %v ago", h.receivedAt.UTC().Format(time.TimeOnly), maxAge), nil
	case h.ad.Draining:
		return "takes no new jobs: it is draining", nil
	case !slices.Contains(h.ad.Drivers, q.needs.Driver):
		return fmt.Sprintf("has no %s driver, only %s", q.needs.Driver, strings.Join(h.ad.Drivers, ", ")), nil
	case h.ad.ScoreBps == 0:
		return "has a score of zero", nil
	case h.ad.PriceBps == 0:
		return "names no price", nil
	}
	if short := shortages(h.ad, q.needs, taken); short != "" {
		return short, nil
	}
	rate, ok := rates[h.ad.PriceBps]
	if !ok {
		flow, err := q.table.Flow(q.instance, nil, h.ad.PriceBps)
		if err != nil {
			return "", fmt.Errorf("price %s: %w", q.spec, err)
		}
		rate = flow.RateQ32
		rates[h.ad.PriceBps] = rate
	}
	if q.maxRate != nil && rate.Cmp(q.maxRate) > 0 {
		asked, _ := pricing.WeiPerSecond(rate)
		ceiling, _ := pricing.WeiPerSecond(q.maxRate)
		return fmt.Sprintf("asks %s wei per second, the offer's ceiling is %s", asked, ceiling), nil
	}
	return "", nil
}

func shortages(ad *wire.CapacityAd, need, taken job.Needs) string {
	var short []string
	for _, r := range []struct {
		need, have int64
		what       string
	}{
		{int64(need.VCPUs), int64(ad.VCPUsFree - taken.VCPUs), "vCPUs"},
		{int64(need.MemoryMiB), ad.MemoryFreeMiB - int64(taken.MemoryMiB), "MiB of memory"},
		{need.DiskMiB, ad.DiskFreeMiB - taken.DiskMiB, "MiB of disk"},
	} {
		if r.need > r.have {
			short = append(short, fmt.Sprintf("%d %s, %d are free", r.need, r.what, max(r.have, 0)))
		}
	}
	if len(short) == 0 {
		return ""
	}
	return "needs " + strings.Join(short, "; ")
}
