package rendezvous

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
)

var update = flag.Bool("update", false, "rewrite the vectors in protocol/testdata/vectors")

const vectorsPath = "../testdata/vectors/rendezvous.json"

// raceVectors are columns, because Solidity reads a column in one go.
type raceVectors struct {
	// Runs: what a runner draws, and its key.
	Runs struct {
		Seeds    []common.Hash `json:"seeds"`
		Specs    []common.Hash `json:"specs"`
		Attempts []uint16      `json:"attempts"`
		IDs      []uint32      `json:"ids"`
		Weights  []string      `json:"weights"`
		Us       []string      `json:"us"`
		Keys     []string      `json:"keys"`
	} `json:"runs"`
	// Keys: the logarithm of a number, scaled by 2^64, and its key. Those that are
	// hard: powers of two and their neighbours, the ends, all weights' ends.
	Keys struct {
		Us      []string `json:"us"`
		Weights []string `json:"weights"`
		Logs    []string `json:"logs"`
		Keys    []string `json:"keys"`
	} `json:"keys"`
	// Ties: whether a runner beats another.
	Ties struct {
		KeysA  []string `json:"keys_a"`
		UsA    []string `json:"us_a"`
		IDsA   []uint32 `json:"ids_a"`
		KeysB  []string `json:"keys_b"`
		UsB    []string `json:"us_b"`
		IDsB   []uint32 `json:"ids_b"`
		Before []bool   `json:"before"`
	} `json:"ties"`
	// Duties: 8 coordinators each, and what the race says of them.
	Duties struct {
		Seeds  []common.Hash `json:"seeds"`
		Specs  []common.Hash `json:"specs"`
		IDs    []uint32      `json:"ids"`
		Stakes []string      `json:"stakes"`
		Duties []uint32      `json:"duties"`
		Ranks  []int         `json:"ranks"`
	} `json:"duties"`
}

const dutyMembers = 8

// makeVectors computes all cases; they are the same every time.
func makeVectors() *raceVectors {
	rng := rand.New(rand.NewPCG(0xa1e9, 0x9ace))
	v := &raceVectors{}
	hash := func() (h common.Hash) {
		for i := 0; i < len(h); i += 8 {
			binary.BigEndian.PutUint64(h[i:], rng.Uint64())
		}
		return h
	}
	word := func(n uint64) string { return new(big.Int).SetUint64(n).String() }
	for i := range 1_500 {
		seed, spec, attempt, id := hash(), hash(), uint8(i%17), rng.Uint32()
		switch i % 50 { // The ends of everything.
		case 0:
			seed, spec, id = common.Hash{}, common.Hash{}, 0
		case 1:
			attempt, id = math.MaxUint8, math.MaxUint32
		}
		weight := 1 + rng.Uint64()>>(1+rng.IntN(63))
		if i%3 == 0 { // A score squared.
			score := 1 + rng.Uint64N(10_000)
			weight = score * score
		}
		r := New(seed, spec, attempt).Run(id, weight)
		v.Runs.Seeds, v.Runs.Specs = append(v.Runs.Seeds, seed), append(v.Runs.Specs, spec)
		v.Runs.Attempts, v.Runs.IDs = append(v.Runs.Attempts, uint16(attempt)), append(v.Runs.IDs, id)
		v.Runs.Weights = append(v.Runs.Weights, word(weight))
		v.Runs.Us, v.Runs.Keys = append(v.Runs.Us, r.U.String()), append(v.Runs.Keys, r.Key.String())
	}
	weights := []uint64{1, 2, 3, 1e4 * 1e4, 200_000, 1<<63 - 1, 1 << 63, math.MaxUint64}
	for n := range 128 {
		power := shiftLeft(Uint128{0, 1}, n)
		for d := range 3 { // One less, the power, one more.
			u := power
			switch {
			case d == 0 && n > 0:
				u = minusOne(power)
			case d == 2:
				u.Lo++ // No power but 2^0 ends in 1, so nothing is carried.
			}
			v.addKey(u, weights[(n+d)%len(weights)])
		}
	}
	for _, w := range weights {
		v.addKey(Uint128{math.MaxUint64, math.MaxUint64}, w)
		v.addKey(Uint128{0, 1}, w)
		v.addKey(Uint128{1 << 63, 0}, w)
		v.addKey(Uint128{rng.Uint64(), rng.Uint64()}, w)
	}
	v.addTies(rng)
	v.addDuties(rng, hash)
	return v
}

func minusOne(u Uint128) Uint128 {
	if u.Lo == 0 {
		u.Hi--
	}
	u.Lo--
	return u
}

func (v *raceVectors) addKey(u Uint128, weight uint64) {
	whole, fraction := Log2(u)
	v.Keys.Us = append(v.Keys.Us, u.String())
	v.Keys.Weights = append(v.Keys.Weights, new(big.Int).SetUint64(weight).String())
	v.Keys.Logs = append(v.Keys.Logs, Uint128{whole, fraction}.String())
	v.Keys.Keys = append(v.Keys.Keys, Key(u, weight).String())
}

// addTies adds runners with the same key, the same u, the same everything.
func (v *raceVectors) addTies(rng *rand.Rand) {
	for i := range 128 {
		a := Runner{ID: rng.Uint32(), U: Uint128{rng.Uint64(), rng.Uint64()}, Key: Uint128{rng.Uint64(), rng.Uint64()}}
		b := a
		if i&1 != 0 {
			b.ID = rng.Uint32()
		}
		if i&2 != 0 {
			b.U.Lo = rng.Uint64()
		}
		if i&4 != 0 {
			b.Key.Lo = rng.Uint64()
		}
		t := &v.Ties
		t.KeysA, t.UsA, t.IDsA = append(t.KeysA, a.Key.String()), append(t.UsA, a.U.String()), append(t.IDsA, a.ID)
		t.KeysB, t.UsB, t.IDsB = append(t.KeysB, b.Key.String()), append(t.UsB, b.U.String()), append(t.IDsB, b.ID)
		t.Before = append(t.Before, a.Before(b))
	}
}

func (v *raceVectors) addDuties(rng *rand.Rand, hash func() common.Hash) {
	for i := range 64 {
		var members []Member
		for n := range dutyMembers {
			m := Member{ID: uint32(n*3 + 1), Stake: 200_000 + rng.Uint64N(1_000_000)}
			switch {
			case i == 0 || i%7 == n: // Nobody, or one, has no stake.
				m.Stake = 0
			case i%5 == 1: // All the same.
				m.Stake = 500_000
			}
			members = append(members, m)
		}
		seed, spec := hash(), hash()
		r := New(seed, spec, 0)
		d := &v.Duties
		d.Seeds, d.Specs = append(d.Seeds, seed), append(d.Specs, spec)
		d.Duties = append(d.Duties, r.Duty(members))
		for _, m := range members {
			d.IDs = append(d.IDs, m.ID)
			d.Stakes = append(d.Stakes, new(big.Int).SetUint64(m.Stake).String())
			d.Ranks = append(d.Ranks, r.Rank(m.ID, members))
		}
	}
}

// TestVectorsAreWhatThisPackageComputes holds the file that the contracts' tests
// read to this package.
func TestVectorsAreWhatThisPackageComputes(t *testing.T) {
	v := makeVectors()
	if n := len(v.Runs.IDs) + len(v.Keys.Us) + len(v.Ties.Before) + len(v.Duties.Ranks); n < 2_000 {
		t.Errorf("%d cases, want 2,000 at least", n)
	}
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, '\n')
	if *update {
		if err := os.WriteFile(vectorsPath, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(vectorsPath)
	if err != nil {
		t.Fatal(err)
	}
	if strings.ReplaceAll(string(got), "\r\n", "\n") != string(raw) {
		t.Errorf("%s is not what this package gives: run `go test ./protocol/rendezvous -update`", vectorsPath)
	}
}

func TestDutyIsTheFirstOfTheRanks(t *testing.T) {
	d := makeVectors().Duties
	for i := range d.Duties {
		var first uint32
		for n := range dutyMembers {
			if at := i*dutyMembers + n; d.Ranks[at] == 0 && d.Stakes[at] != "0" {
				first = d.IDs[at]
			}
		}
		if first != d.Duties[i] {
			t.Errorf("race %d: coordinator %d is on duty, and %d is first", i, d.Duties[i], first)
		}
	}
}

func TestDutyFollowsTheStake(t *testing.T) {
	const races = 4_000
	members := []Member{{1, 200_000}, {2, 600_000}, {3, 0}, {4, 200_000}}
	wins := map[uint32]int{}
	for n := range races {
		wins[New(common.Hash{1}, specOf(n), 0).Duty(members)]++
	}
	for _, m := range members {
		p := float64(m.Stake) / 1_000_000
		if off := math.Abs(float64(wins[m.ID]) - races*p); off > 5*math.Sqrt(races*p*(1-p)) {
			t.Errorf("coordinator %d was on duty %d of %d times, want %.0f", m.ID, wins[m.ID], races, races*p)
		}
	}
	if r := New(common.Hash{1}, specOf(0), 0); r.Rank(9, members) != len(members) || r.Rank(3, members) != len(members) {
		t.Error("who is no member, or has no stake, comes after all")
	}
}

func TestDrawIsNeverZero(t *testing.T) {
	if u := New(common.Hash{}, common.Hash{}, 0).Draw(0); u == (Uint128{}) {
		t.Error("drew 0")
	}
}
