package commitment_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/aleph-onchain/aleph-onchain/protocol/commitment"
)

var update = flag.Bool("update", false, "rewrite the vectors in protocol/testdata/vectors")

const beaconVectors = "../testdata/vectors/drand.json"

// beaconCase is a signature that every verifier accepts or refuses.
type beaconCase struct {
	Name      string        `json:"name"`
	Evmnet    bool          `json:"evmnet"` // by the public network, else by the test key
	Round     uint64        `json:"round"`
	Signature hexutil.Bytes `json:"signature"`
	Valid     bool          `json:"valid"`
	Seed      common.Hash   `json:"seed"`
}

type beaconFile struct {
	About   string        `json:"about"`
	Key     hexutil.Bytes `json:"key"`
	Genesis uint64        `json:"genesis"`
	Period  uint64        `json:"period"`
	Cases   []beaconCase  `json:"cases"`
}

// secret is the key of the test network.
var secret = big.NewInt(0x616c657068)

func testNetwork() commitment.Network {
	var key bn254.G2Affine
	key.ScalarMultiplicationBase(secret)
	n := commitment.Network{Genesis: 1_700_000_000, Period: 30}
	for i, part := range []fp.Element{key.X.A1, key.X.A0, key.Y.A1, key.Y.A0} {
		b := part.Bytes()
		copy(n.Key[32*i:], b[:])
	}
	return n
}

func sign(t *testing.T, round uint64, mult int64) []byte {
	t.Helper()
	h, err := commitment.HashToCurve(round)
	if err != nil {
		t.Fatal(err)
	}
	var s bn254.G1Affine
	s.ScalarMultiplication(&h, new(big.Int).Mul(secret, big.NewInt(mult)))
	x, y := s.X.Bytes(), s.Y.Bytes()
	return append(x[:], y[:]...)
}

func beaconCases(t *testing.T) beaconFile {
	t.Helper()
	known := common.FromHex("01d65d6128f4b2df3d08de85543d8efe06b0281d0770246ae3672e8ddd3efda0269373123458f0b5c0073eeed1c816a06809e127421513e34ee07df6987910b3")
	n := testNetwork()
	file := beaconFile{
		About: "Signatures of drand rounds on BN254: one of the public network evmnet, the others by the key 0x616c657068.",
		Key:   n.Key[:], Genesis: n.Genesis, Period: n.Period,
		Cases: []beaconCase{{Name: "evmnet", Evmnet: true, Round: 9337227, Signature: known}},
	}
	add := func(name string, round uint64, sig []byte) {
		file.Cases = append(file.Cases, beaconCase{Name: name, Round: round, Signature: sig})
	}
	for _, round := range []uint64{1, 2, 3, 4, 5, 6, 7, 8, 255, 256, 1 << 32, 1<<64 - 1} {
		add("signed", round, sign(t, round, 1))
	}
	good := sign(t, 77, 1)
	changed := func(change func(sig []byte)) []byte {
		c := bytes.Clone(good)
		change(c)
		return c
	}
	plus := func(from int) func([]byte) {
		return func(sig []byte) {
			v := new(big.Int).SetBytes(sig[from : from+32])
			v.Add(v, fp.Modulus()).FillBytes(sig[from : from+32])
		}
	}
	add("of the next round", 78, good)
	add("of another network", 9337227, known)
	add("negated", 77, sign(t, 77, -1))
	add("doubled", 77, sign(t, 77, 2))
	add("infinity", 77, make([]byte, 64))
	add("x of another point", 77, changed(func(s []byte) { s[31] ^= 1 }))
	add("y of another point", 77, changed(func(s []byte) { s[63] ^= 1 }))
	add("x plus the modulus", 77, changed(plus(0)))
	add("y plus the modulus", 77, changed(plus(32)))
	add("all ones", 77, bytes.Repeat([]byte{255}, 64))
	add("the generator", 77, append(common.LeftPadBytes([]byte{1}, 32), common.LeftPadBytes([]byte{2}, 32)...))
	file.Cases = append(file.Cases, beaconCase{Name: "evmnet, next round", Evmnet: true, Round: 9337228, Signature: known})
	for i := range file.Cases {
		c := &file.Cases[i]
		if c.Name == "signed" || c.Name == "evmnet" {
			c.Valid = true
			seed, err := network(c).Verify(c.Round, c.Signature)
			if err != nil {
				t.Fatal(err)
			}
			c.Seed = seed
		}
	}
	return file
}

func network(c *beaconCase) commitment.Network {
	if c.Evmnet {
		return commitment.Evmnet()
	}
	return testNetwork()
}

// golden compares a value with its file, or writes the file.
func golden(t *testing.T, path string, v any) {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, '\n')
	if *update {
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, raw) {
		t.Errorf("%s is not what this package gives: run `go test ./protocol/commitment -update`", path)
	}
}

func TestBeaconVectors(t *testing.T) {
	file := beaconCases(t)
	golden(t, beaconVectors, file)
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			seed, err := network(&c).Verify(c.Round, c.Signature)
			if (err == nil) != c.Valid || seed != c.Seed {
				t.Errorf("round %d: seed %s, %v; want valid %t", c.Round, seed, err, c.Valid)
			}
		})
	}
}

func TestRoundsOfDays(t *testing.T) {
	n := commitment.Evmnet()
	for _, tt := range []struct{ at, want uint64 }{
		{n.Genesis, 1}, {n.Genesis + 1, 2}, {n.Genesis + 3, 2}, {n.Genesis + 4, 3},
	} {
		if got, err := n.RoundAt(tt.at); err != nil || got != tt.want {
			t.Errorf("round at %d is %d, %v; want %d", tt.at, got, err, tt.want)
		}
	}
	if _, err := n.RoundAt(n.Genesis - 1); err == nil {
		t.Error("there is a round before the first")
	}
	if _, err := (commitment.Network{}).RoundAt(0); err == nil {
		t.Error("a network without a period has rounds")
	}
	const day = commitment.Day(20500)
	round, err := n.RoundOf(day)
	if err != nil {
		t.Fatal(err)
	}
	if at := n.Genesis + (round-1)*n.Period; at < day.Start()+60 || at >= day.Start()+60+n.Period {
		t.Errorf("the seed of day %d is of %d, want within a period of %d", day, at, day.Start()+60)
	}
	if got := day.Deadline(); got != day.Start()+30*3600 {
		t.Errorf("the deadline of day %d is %d", day, got)
	}
}

func TestVerifyRefusesBrokenInput(t *testing.T) {
	n := testNetwork()
	if _, err := n.Verify(1, nil); err == nil || !strings.Contains(err.Error(), "0 bytes") {
		t.Errorf("got %v, want the wrong size", err)
	}
	n.Key = [128]byte{}
	if _, err := n.Verify(1, sign(t, 1, 1)); err == nil {
		t.Error("a key at infinity was taken")
	}
	n.Key = [128]byte(bytes.Repeat([]byte{255}, 128))
	if _, err := n.Verify(1, sign(t, 1, 1)); err == nil {
		t.Error("a key outside the field was taken")
	}
}

func FuzzVerifyBeacon(f *testing.F) {
	f.Add(uint64(9337227), common.FromHex("01d65d6128f4b2df3d08de85543d8efe06b0281d0770246ae3672e8ddd3efda0269373123458f0b5c0073eeed1c816a06809e127421513e34ee07df6987910b3"))
	f.Add(uint64(1), make([]byte, 64))
	f.Fuzz(func(t *testing.T, round uint64, raw []byte) {
		if _, err := commitment.Evmnet().Verify(round, raw); err == nil && round != 9337227 {
			t.Errorf("round %d is signed by %x", round, raw)
		}
	})
}
