package scheduler

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
	"github.com/aleph-onchain/aleph-onchain/protocol/rendezvous"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

func specOf(n int) message.ItemHash { return message.HashOf(fmt.Appendf(nil, "spec %d", n)) }

func TestWinnerIsTheSmallestKeyOfAll(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for n := range 200 {
		var entrants []entrant
		for i := range 1 + rng.IntN(40) {
			entrants = append(entrants, entrant{index: i, id: uint32(i + 1), score: uint32(1 + rng.IntN(4)*2500)})
		}
		rng.Shuffle(len(entrants), func(i, j int) { entrants[i], entrants[j] = entrants[j], entrants[i] })
		got := winner(newRace(common.Hash{byte(n)}, specOf(n), attempt), entrants)

		runner := func(e entrant) rendezvous.Runner {
			return rendezvous.Runner{ID: e.id, U: e.u, Key: raceKey(e.u, e.score)}
		}
		want := 0
		for i, e := range entrants {
			if runner(e).Before(runner(entrants[want])) {
				want = i
			}
		}
		if got != want {
			t.Fatalf("race %d was won by node %d, want %d", n, entrants[got].id, entrants[want].id)
		}
	}
}

func TestNodesWinByTheirScoreSquared(t *testing.T) {
	const races = 20_000
	scores := []uint32{10_000, 5_000, 10_000, 2_500}
	wins := make([]int, len(scores))
	total := 0.0
	for _, s := range scores {
		total += float64(s) * float64(s)
	}
	for n := range races {
		var entrants []entrant
		for i, s := range scores {
			entrants = append(entrants, entrant{index: i, id: uint32(i + 1), score: s})
		}
		wins[winner(newRace(common.Hash{}, specOf(n), attempt), entrants)]++
	}
	for i, s := range scores {
		p := float64(s) * float64(s) / total
		sigma := math.Sqrt(races * p * (1 - p))
		if off := math.Abs(float64(wins[i]) - races*p); off > 5*sigma {
			t.Errorf("score %d won %d of %d races, want %.0f within %.0f", s, wins[i], races, races*p, 5*sigma)
		}
	}
}

// BenchmarkRace is one placement among 10,000 eligible nodes.
func BenchmarkRace(b *testing.B) {
	const nodes = 10_000
	entrants := make([]entrant, nodes)
	for i := range entrants {
		entrants[i] = entrant{index: i, id: uint32(i + 1), score: uint32(8_000 + i%4*500)}
	}
	spec := specOf(0)
	for n := 0; b.Loop(); n++ {
		winner(newRace(common.Hash{byte(n), byte(n >> 8)}, spec, attempt), entrants)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/nodes, "ns/node")
}

// BenchmarkChoose is one whole choice among 10,000 nodes: reasons, capacity,
// prices, draws and recorded keys.
func BenchmarkChoose(b *testing.B) {
	const nodes = 10_000
	table, err := pricing.Default()
	if err != nil {
		b.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 0)
	m := &market{now: now}
	for i := range nodes {
		m.hosts = append(m.hosts, host{
			node: state.Node{ID: uint32(i + 1), Status: state.NodeActive}, receivedAt: now,
			ad: &wire.CapacityAd{
				VCPUsFree: 1 + i%8, MemoryFreeMiB: 8192, DiskFreeMiB: 100_000, PriceBps: wire.Bps, ScoreBps: wire.Bps - i%5*500,
				Drivers: []string{"qemu"},
			},
		})
	}
	q := request{
		table: table, seed: common.Hash{1}, needs: job.Needs{Driver: "qemu", VCPUs: 2, MemoryMiB: 2048, DiskMiB: 10_000},
		instance: &message.Instance{
			Executable: message.Executable{
				Payment: &message.Payment{Type: message.PayCredit}, Resources: message.Resources{VCPUs: 2, MemoryMiB: 2048},
			},
			Rootfs: message.Rootfs{SizeMiB: 10_000},
		},
	}
	for n := 0; b.Loop(); n++ {
		q.spec = specOf(n)
		c, err := choose(m, q, time.Minute, nil, nil)
		if err != nil || c.chosen == nil {
			b.Fatalf("no choice: %v", err)
		}
	}
}
