package heartbeat_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/aleph-onchain/aleph-onchain/protocol/heartbeat"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/typeddata"
)

var update = flag.Bool("update", false, "write the vectors")

const vectors = "../testdata/vectors/heartbeat.json"

// leafCase is a leaf with a proof that verifiers accept or refuse.
type leafCase struct {
	Name   string        `json:"name"`
	Leaf   common.Hash   `json:"leaf"`
	Index  uint32        `json:"index"`
	Proof  []common.Hash `json:"proof"`
	Valid  bool          `json:"valid"`
	Missed bool          `json:"missed"` // by the bitmap

	Page heartbeat.Page `json:"page"`
}

// epochCase is what coordinators say of an epoch.
type epochCase struct {
	Name       string         `json:"name"`
	Epoch      uint32         `json:"epoch"`
	StatsRoot  common.Hash    `json:"statsRoot"`
	Bitmap     hexutil.Bytes  `json:"bitmap"`
	BitmapHash common.Hash    `json:"bitmapHash"`
	Commitment common.Hash    `json:"commitment"`
	ChainID    int64          `json:"chainId"`
	Contract   common.Address `json:"contract"`
	Digest     common.Hash    `json:"digest"`
	Leaves     []leafCase     `json:"leaves"`
}

type vectorFile struct {
	About  string      `json:"about"`
	Epochs []epochCase `json:"epochs"`
}

var contract = common.HexToAddress("0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512")

func leafOf(id uint32) heartbeat.Leaf {
	n := uint64(id) * 2654435761
	return heartbeat.Leaf{
		NodeID: id, Score: uint16(n % 10001), Uptime: uint16(n >> 3 % 10001), VCPUFree: uint16(n >> 5), MemGiB: uint16(n >> 7),
		DiskGiB: uint32(n >> 9), GPUFree: uint8(n >> 11), PriceTier: uint16(n >> 13), Mbps: uint16(n >> 15), Flags: uint32(n >> 17),
		Region: uint16(n >> 19), ASN: uint32(n >> 21),
	}
}

func hashOf(l heartbeat.Leaf) common.Hash { return l.Encode() }

// epochOf makes the case of these nodes, of which some have no leaf, and all
// but every third were alive.
func epochOf(t *testing.T, name string, epoch heartbeat.Epoch, ids ...uint32) epochCase {
	t.Helper()
	var leaves []heartbeat.Leaf
	var alive []uint32
	for i, id := range ids {
		leaves = append(leaves, leafOf(id))
		if i%3 != 2 {
			alive = append(alive, id)
		}
	}
	bitmap, err := heartbeat.NewBitmap(slices.Max(ids), alive)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := heartbeat.NewTree(leaves)
	if err != nil {
		t.Fatal(err)
	}
	word := heartbeat.Word{Epoch: epoch, StatsRoot: tree.Root(), BitmapHash: bitmap.Hash()}
	c := epochCase{
		Name: name, Epoch: uint32(epoch), StatsRoot: tree.Root(), Bitmap: hexutil.Bytes(bitmap), BitmapHash: bitmap.Hash(),
		Commitment: word.Commitment(), ChainID: 31337, Contract: contract,
		Digest: job.Digest(job.Nodes(big.NewInt(31337), contract), &word),
	}
	for _, l := range leaves {
		proof, err := tree.Proof(l.NodeID, bitmap.Hash())
		if err != nil {
			t.Fatal(err)
		}
		c.Leaves = append(c.Leaves, leafCase{"leaf", hashOf(l), l.NodeID, proof, true, bitmap.Missed(l.NodeID), bitmap.Page(l.NodeID)})
	}
	return c
}

// spoil adds what no verifier accepts.
func spoil(c epochCase) epochCase {
	good := c.Leaves[len(c.Leaves)-1]
	add := func(name string, change func(*leafCase)) {
		bad := good
		bad.Name, bad.Valid, bad.Proof = name, false, slices.Clone(good.Proof)
		change(&bad)
		c.Leaves = append(c.Leaves, bad)
	}
	add("a bit of the leaf", func(l *leafCase) { l.Leaf[8] ^= 1 })
	add("a bit of a sibling", func(l *leafCase) { l.Proof[0][31] ^= 1 })
	add("a bit of the bitmap's hash", func(l *leafCase) { l.Proof[len(l.Proof)-1][0] ^= 1 })
	add("a sibling too few", func(l *leafCase) { l.Proof = l.Proof[1:] })
	add("a sibling too many", func(l *leafCase) { l.Proof = append(l.Proof, common.Hash{}) })
	add("no proof", func(l *leafCase) { l.Proof = []common.Hash{} })
	add("a proof of 21 levels", func(l *leafCase) { l.Proof = make([]common.Hash, 22) })
	add("another place", func(l *leafCase) { l.Index ^= 1 })
	add("beyond the tree", func(l *leafCase) { l.Index += 1 << (len(l.Proof) - 1) })
	add("the place of node 0", func(l *leafCase) { l.Leaf, l.Index = common.Hash{}, 0 })
	return c
}

func allEpochs(t *testing.T) vectorFile {
	t.Helper()
	many := make([]uint32, 70)
	for i := range many {
		many[i] = uint32(i + 1)
	}
	return vectorFile{
		About: "What coordinators say of an epoch: the root of the leaves, the bitmap, what the contract stores and what is signed, and proofs of leaves that verifiers accept or refuse. Written by go test ./protocol/heartbeat -update.",
		Epochs: []epochCase{
			epochOf(t, "one node", 486111, 1),
			spoil(epochOf(t, "nodes with gaps", 486112, 2, 3, 7, 8, 13)),
			epochOf(t, "one node far out", 486113, 1000),
			epochOf(t, "nodes on three pages", 486114, 4095, 4096, 8191, 8192),
			spoil(epochOf(t, "many nodes", math.MaxUint32, many...)),
		},
	}
}

func TestVectors(t *testing.T) {
	file := allEpochs(t)
	raw, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, '\n')
	if *update {
		if err := os.WriteFile(vectors, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(vectors)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, want) {
		t.Errorf("%s is not what this package gives: run go test ./protocol/heartbeat -update", vectors)
	}
	for _, epoch := range file.Epochs {
		for _, c := range epoch.Leaves {
			leaf, err := heartbeat.ParseLeaf(c.Leaf[:])
			got := err == nil && c.Index == leaf.NodeID && heartbeat.Verify(epoch.Commitment, leaf, c.Proof)
			if got != c.Valid {
				t.Errorf("%s, %s: valid is %t, want %t", epoch.Name, c.Name, got, c.Valid)
			}
		}
	}
}

func TestTypeIsTheContracts(t *testing.T) {
	if got := typeddata.Types()["Heartbeat"]; got != heartbeat.Type {
		t.Errorf("the contract's type is %s", got)
	}
}

func TestWord(t *testing.T) {
	var word heartbeat.Word
	if word.Check() == nil {
		t.Error("a word without root passes")
	}
	word = heartbeat.Word{Epoch: 7, StatsRoot: common.Hash{1}, BitmapHash: common.Hash{2}}
	if err := word.Check(); err != nil {
		t.Error(err)
	}
	other := word
	other.Epoch = 8
	if word.StructHash() == other.StructHash() {
		t.Error("two epochs have one hash")
	}
}

func TestEpoch(t *testing.T) {
	e := heartbeat.EpochAt(1_750_000_000)
	if e != 486111 || e.Start() != 1_749_999_600 {
		t.Fatalf("epoch %d starts at %d", e, e.Start())
	}
	for ahead, want := range map[uint64]bool{0: false, 3599: false, 3600: true, 7*3600 - 1: true, 7 * 3600: false} {
		if got := e.Postable(e.Start() + ahead); got != want {
			t.Errorf("%d s after its start: postable %t", ahead, got)
		}
	}
}

func TestBitmap(t *testing.T) {
	b, err := heartbeat.NewBitmap(20, []uint32{20, 1, 8})
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(b); got != "020110" {
		t.Errorf("bitmap is %s", got)
	}
	if got := b.Nodes(); !slices.Equal(got, []uint32{1, 8, 20}) {
		t.Errorf("nodes are %d", got)
	}
	for id, want := range map[uint32][2]bool{1: {true, false}, 2: {false, true}, 23: {false, true}, 24: {false, false}, math.MaxUint32: {}} {
		if got := [2]bool{b.Alive(id), b.Missed(id)}; got != want {
			t.Errorf("node %d: alive, missed %t", id, got)
		}
	}
	for name, bad := range map[string]func() error{
		"node 0":           func() error { _, err := heartbeat.NewBitmap(3, []uint32{0}); return err },
		"beyond":           func() error { _, err := heartbeat.NewBitmap(3, []uint32{4}); return err },
		"too long":         func() error { _, err := heartbeat.NewBitmap(8*heartbeat.BitmapMax, nil); return err },
		"parse empty":      func() error { _, err := heartbeat.ParseBitmap(nil); return err },
		"parse long":       func() error { _, err := heartbeat.ParseBitmap(make([]byte, heartbeat.BitmapMax+1)); return err },
		"parse node 0 set": func() error { _, err := heartbeat.ParseBitmap([]byte{1}); return err },
	} {
		if bad() == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestPage(t *testing.T) {
	b, err := heartbeat.NewBitmap(9000, []uint32{1, 4096, 8191, 9000})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []uint32{1, 2, 4095, 4096, 8191, 8192, 9000, 9007, 9008, 12287, 12288, math.MaxUint32} {
		hash, told, alive, err := b.Page(id).Look(id)
		if err != nil || hash != b.Hash() || told != b.Covers(id) || alive != b.Alive(id) {
			t.Errorf("node %d: %x, told %t, alive %t, %v", id, hash, told, alive, err)
		}
	}
	bad := b.Page(9000)
	bad.Bits = slices.Clone(bad.Bits)
	bad.Bits[0] ^= 1
	if _, told, alive, err := bad.Look(9000); err == nil || told || alive {
		t.Errorf("other bits: told %t, alive %t, %v", told, alive, err)
	}
	other := b.Page(9000)
	other.Hashes[0][0] ^= 1
	if hash, _, _, err := other.Look(9000); err != nil || hash == b.Hash() {
		t.Errorf("another page's hash: %x, %v", hash, err)
	}
}

func TestTreeRefuses(t *testing.T) {
	for name, leaves := range map[string][]heartbeat.Leaf{
		"no leaf":    nil,
		"two of one": {leafOf(3), leafOf(3)},
		"node 0":     {{Score: 1}},
		"beyond":     {{NodeID: heartbeat.NodeMax + 1}},
		"score":      {{NodeID: 1, Score: 10001}},
		"uptime":     {{NodeID: 1, Uptime: 10001}},
	} {
		if _, err := heartbeat.NewTree(leaves); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	tree, err := heartbeat.NewTree([]heartbeat.Leaf{leafOf(3)})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []uint32{0, 4, math.MaxUint32} {
		if _, err := tree.Proof(id, common.Hash{}); err == nil {
			t.Errorf("there is a proof for node %d", id)
		}
	}
}

// TestDeepestTree proves the node with the highest id.
func TestDeepestTree(t *testing.T) {
	leaf := leafOf(heartbeat.NodeMax)
	tree, err := heartbeat.NewTree([]heartbeat.Leaf{leafOf(1), leaf})
	if err != nil {
		t.Fatal(err)
	}
	proof, err := tree.Proof(leaf.NodeID, common.Hash{9})
	if err != nil {
		t.Fatal(err)
	}
	if len(proof) != heartbeat.DepthMax+1 || !heartbeat.Verify(heartbeat.Commitment(tree.Root(), common.Hash{9}), &leaf, proof) {
		t.Errorf("a proof of %d hashes is refused", len(proof))
	}
}

func FuzzParseLeaf(f *testing.F) {
	for _, id := range []uint32{1, 255, heartbeat.NodeMax} {
		l := leafOf(id)
		raw := l.Encode()
		f.Add(raw[:])
	}
	f.Add([]byte(strings.Repeat("\xff", 32)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := heartbeat.ParseLeaf(raw)
		if err != nil {
			return
		}
		if got := l.Encode(); !bytes.Equal(got[:], raw) {
			t.Errorf("%x becomes %x", raw, got)
		}
	})
}

func FuzzParseBitmap(f *testing.F) {
	f.Add([]byte{2, 1, 0x10})
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := heartbeat.ParseBitmap(raw)
		if err != nil {
			return
		}
		again, err := heartbeat.NewBitmap(uint32(len(raw))*8-1, b.Nodes())
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%x becomes %x, %v", raw, again, err)
		}
	})
}

func FuzzTree(f *testing.F) {
	f.Add(uint32(5), uint32(9), uint32(3), []byte{1})
	f.Fuzz(func(t *testing.T, a, b, c uint32, flip []byte) {
		ids := []uint32{a%5000 + 1, b%5000 + 1, c%5000 + 1}
		slices.Sort(ids)
		var leaves []heartbeat.Leaf
		for _, id := range slices.Compact(ids) {
			leaves = append(leaves, leafOf(id))
		}
		tree, err := heartbeat.NewTree(leaves)
		if err != nil {
			t.Fatal(err)
		}
		said := heartbeat.Commitment(tree.Root(), common.Hash{7})
		for _, l := range leaves {
			proof, err := tree.Proof(l.NodeID, common.Hash{7})
			if err != nil || !heartbeat.Verify(said, &l, proof) {
				t.Fatalf("leaf of node %d is refused: %v", l.NodeID, err)
			}
			if len(flip) == 0 || flip[0] == 0 {
				continue
			}
			proof[int(flip[0])%len(proof)][len(flip)%32] ^= flip[0]
			if heartbeat.Verify(said, &l, proof) {
				t.Fatalf("a wrong proof of node %d passes", l.NodeID)
			}
		}
	})
}
