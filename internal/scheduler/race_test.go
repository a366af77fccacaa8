package scheduler

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

func specOf(n int) message.ItemHash { return message.HashOf(fmt.Appendf(nil, "spec %d", n)) }

func TestLog2AgreesWithFloatingPoint(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		u := uint128{rng.Uint64() >> (i % 64), rng.Uint64()}
		whole, fraction := log2(u)

		got := float64(whole) + float64(fraction)/math.Pow(2, 64)
		want := math.Log2(float64(u.hi)*math.Pow(2, 64) + float64(u.lo))
		if math.Abs(got-want) > 1e-12*want {
			t.Errorf("log2(%s) is %v, want %v", u, got, want)
		}
	}
}

func TestLog2OfPowersOfTwoIsWhole(t *testing.T) {
	for n := range 128 {
		whole, fraction := log2(shiftLeft(uint128{0, 1}, n))
		if whole != uint64(n) || fraction != 0 {
			t.Errorf("log2(2^%d) is %d and %d/2^64, want %d and 0", n, whole, fraction, n)
		}
	}
}

func TestSquareKeepsAllBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		m := uint128{rng.Uint64() | 1<<63, rng.Uint64()}
		got, two := square(m)

		v, _ := new(big.Int).SetString(m.String(), 10)
		v.Mul(v, v)
		shift := uint(127)
		if v.BitLen() == 256 {
			shift = 128
		}
		if want := v.Rsh(v, shift).String(); got.String() != want || two != (shift == 128) {
			t.Fatalf("square(%s) is %s, %v; want %s, %v", m, got, two, want, shift == 128)
		}
	}
}

// Keys are part of what other implementations must reproduce, so some are kept
// here as they came out first.
func TestRaceKeysAreFixed(t *testing.T) {
	tests := []struct {
		node  uint32
		score uint32
		u     string
		key   string
	}{
		{1, 10_000, "116853988671126331689683933865767720249", "1221718401529767332188"},
		{7, 5_000, "299859590429534590382897434347486851479", "578192168347429003690"},
	}
	r := newRacer(common.HexToHash("0x5eed"), specOf(0), 0)
	for _, tt := range tests {
		u := r.draw(tt.node)
		if u.String() != tt.u {
			t.Errorf("node %d drew %s, want %s", tt.node, u, tt.u)
		}
		if key := raceKey(u, tt.score); key.String() != tt.key {
			t.Errorf("key of node %d is %s, want %s", tt.node, key, tt.key)
		}
	}
}

func TestUint128IsWrittenInDecimal(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	all := []uint128{{}, {0, 1}, {1, 0}, {0, math.MaxUint64}, {math.MaxUint64, math.MaxUint64}}
	for i := range 200 {
		all = append(all, uint128{rng.Uint64() >> (i % 64), rng.Uint64()})
	}
	for _, a := range all {
		want := new(big.Int).SetUint64(a.hi)
		want.Lsh(want, 64).Or(want, new(big.Int).SetUint64(a.lo))
		if a.String() != want.String() {
			t.Errorf("%d and %d are written %s, want %s", a.hi, a.lo, a, want)
		}
	}
}

func TestRaceKeyIsTheFormula(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		u := uint128{rng.Uint64(), rng.Uint64()}
		score := uint32(1 + rng.IntN(100_000))
		whole, fraction := log2(u)

		l := new(big.Int).Lsh(big.NewInt(128-int64(whole)), 64)
		l.Sub(l, new(big.Int).SetUint64(fraction)).Lsh(l, keyShift)
		want := l.Div(l, big.NewInt(int64(score)*int64(score)))
		if got := raceKey(u, score); got.String() != want.String() {
			t.Fatalf("key of %s at score %d is %s, want %s", u, score, got, want)
		}
	}
}

func TestWinnerIsTheSmallestKeyOfAll(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for n := range 200 {
		var entrants []entrant
		for i := range 1 + rng.IntN(40) {
			entrants = append(entrants, entrant{index: i, id: uint32(i + 1), score: uint32(1 + rng.IntN(4)*2500)})
		}
		rng.Shuffle(len(entrants), func(i, j int) { entrants[i], entrants[j] = entrants[j], entrants[i] })
		got := winner(newRacer(common.Hash{byte(n)}, specOf(n), attempt), entrants)

		want := 0
		for i, e := range entrants {
			if before(raceKey(e.u, e.score), e, raceKey(entrants[want].u, entrants[want].score), entrants[want]) {
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
		wins[winner(newRacer(common.Hash{}, specOf(n), attempt), entrants)]++
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
		winner(newRacer(common.Hash{byte(n), byte(n >> 8)}, spec, attempt), entrants)
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
			Payment: &message.Payment{Type: message.PayCredit}, Resources: message.Resources{VCPUs: 2, MemoryMiB: 2048},
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
