package commitment_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"
	"pgregory.net/rapid"

	"github.com/aleph-onchain/aleph-onchain/protocol/commitment"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/typeddata"
)

const proofVectors = "../testdata/vectors/asp1.json"

// proofCase is a proof that every verifier accepts or refuses.
type proofCase struct {
	Name   string        `json:"name"`
	Root   common.Hash   `json:"root"`  // of the object or the bundle
	Total  uint64        `json:"total"` // leaves of it
	Seed   common.Hash   `json:"seed"`
	ID     commitment.ID `json:"id"`
	K      int           `json:"k"`
	Object common.Hash   `json:"object"` // of inclusions: the object's root
	Leaves uint64        `json:"leaves"` // of inclusions: its leaves
	Proof  hexutil.Bytes `json:"proof"`
	Valid  bool          `json:"valid"`
}

type indexCase struct {
	Seed  common.Hash   `json:"seed"`
	ID    commitment.ID `json:"id"`
	Count uint64        `json:"count"`
	Index []uint64      `json:"index"`
}

type bitmapCase struct {
	Bitmap hexutil.Bytes `json:"bitmap"`
	Node   uint32        `json:"node"`
	Root   common.Hash   `json:"root"`
	Part   hexutil.Bytes `json:"part"`
	Path   []common.Hash `json:"path"`
	Set    bool          `json:"set"`
}

// wordsCase has the hashes of words that the contracts' test has, too.
type wordsCase struct {
	Request     common.Hash   `json:"request"`
	RequestID   commitment.ID `json:"request_id"`
	Terms       common.Hash   `json:"terms"`
	Receipt     common.Hash   `json:"receipt"`
	Extension   common.Hash   `json:"extension"`
	Repair      common.Hash   `json:"repair"`
	RepairID    commitment.ID `json:"repair_id"`
	Attestation common.Hash   `json:"attestation"`
	Sampled     []uint32      `json:"sampled"` // of the nodes 1 to 100, for the seed of "words" and one in 16
}

type proofFile struct {
	About      string       `json:"about"`
	Objects    []proofCase  `json:"objects"`
	Bundles    []proofCase  `json:"bundles"`
	Inclusions []proofCase  `json:"inclusions"`
	Indices    []indexCase  `json:"indices"`
	Bitmaps    []bitmapCase `json:"bitmaps"`
	Words      wordsCase    `json:"words"`
}

// stuff returns bytes that are the same everywhere.
func stuff(label string, size int) []byte {
	var out []byte
	for i := 0; len(out) < size; i++ {
		out = append(out, crypto.Keccak256([]byte(fmt.Sprintf("%s %d", label, i)))...)
	}
	return out[:size]
}

func tree(t *testing.T, object []byte) *commitment.Tree {
	t.Helper()
	tr, err := commitment.NewTree(object)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func seedOf(label string) common.Hash { return crypto.Keccak256Hash([]byte(label)) }

func idOf(label string) (id commitment.ID) {
	copy(id[:], crypto.Keccak256([]byte(label)))
	return id
}

func must[T any](t *testing.T) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func objectCases(t *testing.T) (cases []proofCase) {
	t.Helper()
	for _, size := range []int{1, 255, 256, 257, 512, 513, 1000, 4096, 5000, 65537} {
		tr := tree(t, stuff("object", size))
		c := proofCase{
			Name: fmt.Sprintf("%d bytes", size), Root: tr.Root(), Total: tr.Leaves(), K: 1 + size%3, Valid: true,
			Seed: seedOf(fmt.Sprint("seed ", size)), ID: idOf(fmt.Sprint("id ", size)),
		}
		c.Proof = must[[]byte](t)(tr.ProveObject(c.Seed, c.ID, c.K))
		cases = append(cases, c)
	}
	// Five leaves, so that three of eight places have nothing.
	object := stuff("object", 5*commitment.LeafSize)
	tr := tree(t, object)
	good := proofCase{Root: tr.Root(), Total: 5, K: 2, Seed: seedOf("bad"), ID: idOf("bad")}
	good.Proof = must[[]byte](t)(tr.ProveObject(good.Seed, good.ID, good.K))
	bad := func(name string, change func(c *proofCase)) {
		c := good
		c.Name, c.Proof = name, bytes.Clone(good.Proof)
		change(&c)
		cases = append(cases, c)
	}
	for _, at := range []int{0, 255, 256, 256 + 95, 352, len(good.Proof) - 1} {
		bad(fmt.Sprintf("byte %d is flipped", at), func(c *proofCase) { c.Proof[at] ^= 1 })
	}
	bad("another leaf's proof", func(c *proofCase) {
		other := (commitment.Index(c.Seed, c.ID, 0, 5) + 1) % 5
		copy(c.Proof, must[[]byte](t)(tr.Prove(other)))
	})
	bad("another seed", func(c *proofCase) { c.Seed = seedOf("other"); c.ID = idOf("other") })
	bad("one leaf more than there are", func(c *proofCase) {
		// A place with nothing in it: its siblings are known, but no leaf has the hash zero.
		c.Total, c.K = 6, 1
		for i := 0; ; i++ {
			if c.Seed = seedOf(fmt.Sprint(i)); commitment.Index(c.Seed, c.ID, 0, 6) == 5 {
				break
			}
		}
		proof := make([]byte, commitment.LeafSize)
		four := must[[]byte](t)(tr.Prove(4))
		leaf := tree(t, object[4*commitment.LeafSize:]).Root()
		c.Proof = append(append(proof, leaf[:]...), four[commitment.LeafSize+32:]...)
	})
	bad("an inner node as a leaf", func(c *proofCase) {
		// The root of a tree of half the depth, whose leaves would be inner nodes.
		c.Total, c.K = 3, 1
		one := must[[]byte](t)(tr.Prove(1))
		proof := make([]byte, commitment.LeafSize)
		zero := must[[]byte](t)(tr.Prove(0))
		copy(proof, one[commitment.LeafSize:][:32])
		copy(proof[32:], zero[commitment.LeafSize:][:32])
		c.Proof = append(proof, one[commitment.LeafSize+32:]...)
	})
	bad("a sibling too few", func(c *proofCase) { c.Proof = c.Proof[:len(c.Proof)-32] })
	bad("a sibling too many", func(c *proofCase) { c.Proof = append(c.Proof, make([]byte, 32)...) })
	bad("nothing", func(c *proofCase) { c.Proof = nil })
	bad("one proof for two", func(c *proofCase) { c.Proof = c.Proof[:len(c.Proof)/2] })
	bad("another root", func(c *proofCase) { c.Root[0] ^= 1 })
	return cases
}

// bundle is a bundle with its objects' trees.
type bundle struct {
	*commitment.Bundle
	trees   []*commitment.Tree
	objects []commitment.Object
}

func newBundle(t *testing.T, sizes ...int) bundle {
	t.Helper()
	var b bundle
	for i, size := range sizes {
		tr := tree(t, stuff(fmt.Sprint("member ", i), size))
		b.trees = append(b.trees, tr)
		b.objects = append(b.objects, commitment.Object{Root: tr.Root(), Leaves: tr.Leaves()})
	}
	b.Bundle = must[*commitment.Bundle](t)(commitment.NewBundle(b.objects))
	return b
}

func (b bundle) prove(t *testing.T, seed common.Hash, id commitment.ID, k int) []byte {
	t.Helper()
	return must[[]byte](t)(b.ProveBundle(seed, id, k, func(o int, i uint64) ([]byte, error) { return b.trees[o].Prove(i) }))
}

func bundleCases(t *testing.T) (cases []proofCase) {
	t.Helper()
	for _, sizes := range [][]int{{1}, {256, 256}, {1, 300, 5000}, {700, 1, 1, 9000, 256}, {10, 20, 30, 40, 50, 60, 70}} {
		b := newBundle(t, sizes...)
		c := proofCase{
			Name: fmt.Sprintf("%d objects", len(sizes)), Root: b.Root(), Total: b.Total(), K: 3, Valid: true,
			Seed: seedOf(fmt.Sprint("bundle ", sizes)), ID: commitment.BundleID(uint32(len(sizes))),
		}
		c.Proof = b.prove(t, c.Seed, c.ID, c.K)
		cases = append(cases, c)
	}
	b := newBundle(t, 700, 1, 1, 9000, 256)
	good := proofCase{Root: b.Root(), Total: b.Total(), K: 1, Seed: seedOf("bad bundle"), ID: commitment.BundleID(9)}
	good.Proof = b.prove(t, good.Seed, good.ID, 1)
	object, _ := b.Find(commitment.Index(good.Seed, good.ID, 0, b.Total()))
	depth := int(good.Proof[0])
	bad := func(name string, change func(c *proofCase)) {
		c := good
		c.Name, c.Proof = name, bytes.Clone(good.Proof)
		change(&c)
		cases = append(cases, c)
	}
	for _, at := range []int{0, 1, 2, 9, 10, 17, 18, 49, 50, 57, 58, 18 + 40*depth, len(good.Proof) - 1} {
		bad(fmt.Sprintf("byte %d is flipped", at), func(c *proofCase) { c.Proof[at] ^= 1 })
	}
	bad("a sum near 2^63", func(c *proofCase) { binary.BigEndian.PutUint64(c.Proof[50:], 1<<63-1) })
	bad("a sum near 2^64", func(c *proofCase) { binary.BigEndian.PutUint64(c.Proof[50:], 1<<64-1) })
	bad("an object near 2^63", func(c *proofCase) { binary.BigEndian.PutUint64(c.Proof[2:], 1<<63-1) })
	bad("an object without leaves", func(c *proofCase) { binary.BigEndian.PutUint64(c.Proof[2:], 0) })
	bad("a bit above the path", func(c *proofCase) { c.Proof[10] |= 0x80 })
	bad("another object", func(c *proofCase) {
		other := (object + 1) % len(b.trees)
		path := must[[]byte](t)(b.Path(other))
		c.Proof = append(path, must[[]byte](t)(b.trees[other].Prove(0))...)
	})
	bad("a total too many", func(c *proofCase) { c.Total++ })
	bad("a byte too many", func(c *proofCase) { c.Proof = append(c.Proof, 0) })
	bad("a byte too few", func(c *proofCase) { c.Proof = c.Proof[:len(c.Proof)-1] })
	bad("nothing", func(c *proofCase) { c.Proof = nil })
	bad("only a head", func(c *proofCase) { c.Proof = c.Proof[:18] })
	bad("a bundle too deep", func(c *proofCase) { c.Proof[0] = 33 })
	bad("another root", func(c *proofCase) { c.Root[31] ^= 1 })
	return append(cases, forged(t)...)
}

// forged are bundles that no honest node makes: sums that do not add up, and
// sums whose overflow would.
func forged(t *testing.T) (cases []proofCase) {
	t.Helper()
	tr := tree(t, stuff("forged", 256))
	leaf := crypto.Keccak256(append(append([]byte{2}, tr.Root().Bytes()...), 0, 0, 0, 0, 0, 0, 0, 1))
	for _, f := range []struct {
		name         string
		sum, sibling uint64 // what the inner node says of the object and of its sibling
		total        uint64
		valid        bool
	}{
		{"a sibling of any sum", 1, 1, 2, true},
		{"a sibling of almost 2^63", 1, 1<<63 - 2, 1<<63 - 1, true},
		{"the object's sum is inflated", 2, 0, 2, false},
		{"the object's sum is inflated by 2^63", 1 << 63, 1, 1<<63 - 1, false},
		{"the sums overflow to the total", 1, 1<<64 - 1, 1, false},
		{"the total is too small", 1, 5, 5, false},
	} {
		sibling := binary.BigEndian.AppendUint64(crypto.Keccak256([]byte("anything")), f.sibling)
		root := crypto.Keccak256Hash(binary.BigEndian.AppendUint64(bytes.Clone(leaf), f.sum), sibling)
		c := proofCase{Name: f.name, Root: root, Total: f.total, K: 1, ID: commitment.BundleID(5), Valid: f.valid}
		if f.total < 100 {
			for i := 0; ; i++ {
				if c.Seed = seedOf(fmt.Sprint(i)); commitment.Index(c.Seed, c.ID, 0, f.total) == 0 {
					break
				}
			}
		} else {
			// No seed asks for leaf 0 of so many; the path is right, the leaf is not.
			c.Seed, c.Valid = seedOf("far"), false
		}
		c.Proof = append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, sibling...)
		c.Proof = append(c.Proof, must[[]byte](t)(tr.Prove(0))...)
		cases = append(cases, c)
	}
	return cases
}

func inclusionCases(t *testing.T) (cases []proofCase) {
	t.Helper()
	b := newBundle(t, 700, 1, 1, 9000, 256)
	base := proofCase{Root: b.Root(), Total: b.Total()}
	for i, o := range b.objects {
		c := base
		c.Name, c.Object, c.Leaves, c.Valid = fmt.Sprintf("object %d", i), o.Root, o.Leaves, true
		c.Proof = must[[]byte](t)(b.Path(i))
		cases = append(cases, c)
	}
	bad := func(name string, change func(c *proofCase)) {
		c := cases[3]
		c.Name, c.Proof, c.Valid = name, bytes.Clone(cases[3].Proof), false
		change(&c)
		cases = append(cases, c)
	}
	bad("another root", func(c *proofCase) { c.Object[0] ^= 1 })
	bad("another number of leaves", func(c *proofCase) { c.Leaves++ })
	bad("the place of another", func(c *proofCase) { c.Proof[17] ^= 1 })
	bad("a byte too many", func(c *proofCase) { c.Proof = append(c.Proof, 0) })
	bad("a byte too few", func(c *proofCase) { c.Proof = c.Proof[:len(c.Proof)-1] })
	bad("half a head", func(c *proofCase) { c.Proof = c.Proof[:17] })
	bad("another total", func(c *proofCase) { c.Total-- })
	bad("a sibling's sum", func(c *proofCase) { c.Proof[57] ^= 1 })
	return cases
}

func words() wordsCase {
	r := request()
	terms := commitment.Terms{
		NodeID: r.NodeID, Root: r.Root, Size: r.Size, Since: 20255, Until: r.Until, K: r.K, Payer: r.Payer, Token: r.Token, RateQ32: r.RateQ32,
	}
	repair := commitment.Repair{ID: r.ID(), NodeID: 6}
	c := wordsCase{
		Request: r.StructHash(), RequestID: r.ID(), Terms: terms.Hash(), Receipt: receipt().StructHash(),
		Extension: (&commitment.Extension{ID: r.ID(), Until: 20400}).StructHash(), Repair: repair.StructHash(), RepairID: repair.NewID(),
		Attestation: (&commitment.Attestation{Day: 20255, Seed: seedOf("words"), BitmapRoot: seedOf("bitmap")}).StructHash(),
	}
	for node := uint32(1); node <= 100; node++ {
		if commitment.Sampled(seedOf("words"), node, 16) {
			c.Sampled = append(c.Sampled, node)
		}
	}
	return c
}

func allCases(t *testing.T) proofFile {
	t.Helper()
	file := proofFile{
		Words:   words(),
		About:   "Proofs of storage in the format ASP-1, right and wrong ones, and what they are made of.",
		Objects: objectCases(t), Bundles: bundleCases(t), Inclusions: inclusionCases(t),
	}
	for _, count := range []uint64{1, 2, 3, 5, 1000, 1 << 32, 1<<40 - 1, 1<<63 - 1} {
		c := indexCase{Seed: seedOf(fmt.Sprint("index ", count)), ID: idOf(fmt.Sprint("index ", count)), Count: count}
		for j := range 6 {
			c.Index = append(c.Index, commitment.Index(c.Seed, c.ID, j, count))
		}
		file.Indices = append(file.Indices, c)
	}
	for _, nodes := range [][]uint32{{1}, {3, 255, 256}, {7, 3000, 6000}, {1, 2, 3, 2047}, {9999}} {
		b := must[commitment.Bitmap](t)(commitment.NewBitmap(nodes))
		for _, node := range []uint32{nodes[0], nodes[0] + 1, nodes[len(nodes)-1], 0} {
			part, path, err := b.Part(node)
			if err != nil {
				t.Fatal(err)
			}
			if path == nil {
				path = []common.Hash{}
			}
			root := must[common.Hash](t)(b.Root())
			file.Bitmaps = append(file.Bitmaps, bitmapCase{Bitmap: hexutil.Bytes(b), Node: node, Root: root, Part: part, Path: path, Set: b.Has(node)})
		}
	}
	return file
}

func TestProofVectors(t *testing.T) {
	file := allCases(t)
	golden(t, proofVectors, file)
	for _, c := range file.Objects {
		t.Run("object/"+c.Name, func(t *testing.T) {
			if err := commitment.VerifyObject(c.Proof, c.Root, c.Total, c.Seed, c.ID, c.K); (err == nil) != c.Valid {
				t.Errorf("got %v, want valid %t", err, c.Valid)
			}
		})
	}
	for _, c := range file.Bundles {
		t.Run("bundle/"+c.Name, func(t *testing.T) {
			if err := commitment.VerifyBundle(c.Proof, commitment.Bind(c.Root, c.Total), c.Total, c.Seed, c.ID, c.K); (err == nil) != c.Valid {
				t.Errorf("got %v, want valid %t", err, c.Valid)
			}
		})
	}
	for _, c := range file.Inclusions {
		t.Run("inclusion/"+c.Name, func(t *testing.T) {
			err := commitment.VerifyInclusion(c.Proof, commitment.Bind(c.Root, c.Total), c.Total, commitment.Object{Root: c.Object, Leaves: c.Leaves})
			if (err == nil) != c.Valid {
				t.Errorf("got %v, want valid %t", err, c.Valid)
			}
		})
	}
}

func TestBuilderAgreesWithTheTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		object := rapid.SliceOfN(rapid.Byte(), 1, 6000).Draw(t, "object")
		cuts := rapid.SliceOfN(rapid.IntRange(0, 700), 0, 20).Draw(t, "cuts")
		tr, err := commitment.NewTree(object)
		if err != nil {
			t.Fatal(err)
		}
		var b commitment.Builder
		rest := object
		for _, cut := range cuts {
			n := min(cut, len(rest))
			if _, err := b.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if _, err := b.Write(rest); err != nil {
			t.Fatal(err)
		}
		for range 2 { // Asking for the root changes nothing.
			root, err := b.Root()
			if err != nil || root != tr.Root() {
				t.Fatalf("builder has %s, %v; the tree %s", root, err, tr.Root())
			}
		}
		if b.Size() != uint64(len(object)) {
			t.Fatalf("size %d, want %d", b.Size(), len(object))
		}
		i := rapid.Uint64Range(0, tr.Leaves()-1).Draw(t, "leaf")
		proof, err := tr.Prove(i)
		if err != nil {
			t.Fatal(err)
		}
		if err := commitment.VerifyLeaf(proof, tr.Root(), tr.Leaves(), i); err != nil {
			t.Fatal(err)
		}
		at := rapid.IntRange(0, len(proof)-1).Draw(t, "flipped")
		proof[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if err := commitment.VerifyLeaf(proof, tr.Root(), tr.Leaves(), i); err == nil {
			t.Fatalf("a proof with byte %d flipped is valid", at)
		}
	})
}

// TestEveryLeafHasOneOpening is SR-10: in a bundle, honest or not, a leaf of
// the bundle is at most one leaf of one object.
func TestEveryLeafHasOneOpening(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 1200), 1, 9).Draw(t, "sizes")
		var trees []*commitment.Tree
		var objects []commitment.Object
		for i, size := range sizes {
			tr, err := commitment.NewTree(stuff(fmt.Sprint(i), size))
			if err != nil {
				t.Fatal(err)
			}
			trees = append(trees, tr)
			objects = append(objects, commitment.Object{Root: tr.Root(), Leaves: tr.Leaves()})
		}
		b, err := commitment.NewBundle(objects)
		if err != nil {
			t.Fatal(err)
		}
		id, binding := commitment.BundleID(1), commitment.Bind(b.Root(), b.Total())
		seed := seedOf(rapid.String().Draw(t, "seed"))
		asked := commitment.Index(seed, id, 0, b.Total())
		valid := 0
		for o, tr := range trees {
			path, err := b.Path(o)
			if err != nil {
				t.Fatal(err)
			}
			for leaf := range tr.Leaves() {
				inner, err := tr.Prove(leaf)
				if err != nil {
					t.Fatal(err)
				}
				if commitment.VerifyBundle(append(bytes.Clone(path), inner...), binding, b.Total(), seed, id, 1) != nil {
					continue
				}
				valid++
				if object, i := b.Find(asked); object != o || i != leaf {
					t.Fatalf("leaf %d opens as %d of object %d, want %d of %d", asked, leaf, o, i, object)
				}
			}
		}
		if valid != 1 {
			t.Fatalf("leaf %d of %d has %d openings", asked, b.Total(), valid)
		}
	})
}

// TestPaddingNeverLowersTheChallenges is SR-11: however much is added to a
// bundle, a leaf is asked for at least as often as once in 2 TiB.
func TestPaddingNeverLowersTheChallenges(t *testing.T) {
	const tib = 1 << 32
	for _, tt := range []struct {
		total uint64
		want  int
	}{{1, 5}, {10 * tib, 5}, {10*tib + 1, 10}, {20 * tib, 10}, {256 * tib, 130}} {
		if got := commitment.BundleChallenges(tt.total); got != tt.want {
			t.Errorf("%d leaves: %d challenges, want %d", tt.total, got, tt.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.Uint64Range(1, 1<<40).Draw(t, "total")
		if k := uint64(commitment.BundleChallenges(total)); k*2*tib < total {
			t.Fatalf("%d leaves have %d challenges", total, k)
		}
	})
}

func TestBoundsAreKept(t *testing.T) {
	if _, err := commitment.NewTree(nil); err == nil {
		t.Error("an object without bytes has a tree")
	}
	if _, err := commitment.ObjectRoot(nil); err == nil {
		t.Error("an object without bytes has a root")
	}
	tr := tree(t, []byte{1})
	if _, err := tr.Prove(1); err == nil {
		t.Error("leaf 1 of 1 was proven")
	}
	if err := commitment.VerifyLeaf(make([]byte, 256), common.Hash{}, 1, 1); err == nil {
		t.Error("leaf 1 of 1 is valid")
	}
	for _, leaves := range []uint64{0, 1<<40 + 1} {
		if err := commitment.VerifyLeaf(nil, common.Hash{}, leaves, 0); err == nil {
			t.Errorf("an object of %d leaves is valid", leaves)
		}
		if err := commitment.VerifyObject(nil, common.Hash{}, leaves, common.Hash{}, commitment.ID{}, 1); err == nil {
			t.Errorf("an object of %d leaves is valid", leaves)
		}
		if _, err := commitment.NewBundle([]commitment.Object{{Leaves: leaves}}); err == nil {
			t.Errorf("a bundle has an object of %d leaves", leaves)
		}
	}
	for _, total := range []uint64{0, 1 << 63} {
		if err := commitment.VerifyBundle(nil, commitment.Binding{}, total, common.Hash{}, commitment.ID{}, 1); err == nil {
			t.Errorf("a bundle of %d leaves is valid", total)
		}
	}
	if _, err := commitment.NewBundle(nil); err == nil {
		t.Error("a bundle has no objects")
	}
	b := newBundle(t, 1, 2)
	if o, _ := b.Find(2); o != -1 {
		t.Errorf("leaf 2 of 2 is in object %d", o)
	}
	for _, o := range []int{-1, 2} {
		if _, err := b.Path(o); err == nil {
			t.Errorf("object %d of 2 has a path", o)
		}
	}
	refuse := func(int, uint64) ([]byte, error) { return nil, fmt.Errorf("gone") }
	if _, err := b.ProveBundle(common.Hash{}, commitment.ID{}, 1, refuse); err == nil {
		t.Error("a bundle was proven without its objects")
	}
	if _, err := commitment.NewBitmap([]uint32{128 * 2048}); err == nil {
		t.Error("a bitmap has more parts than fit")
	}
	for _, size := range []int{0, 255, 257, 129 * 256} {
		if _, err := commitment.Bitmap(make([]byte, size)).Root(); err == nil {
			t.Errorf("a bitmap of %d bytes has a root", size)
		}
	}
}

func receipt() *commitment.Receipt {
	return &commitment.Receipt{NodeID: 5, Root: seedOf("root"), Leaves: 9, Since: 20255, Until: 20300, Holder: common.HexToAddress("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")}
}

func request() *commitment.Request {
	return &commitment.Request{
		Payer: common.HexToAddress("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"), NodeID: 5, Root: seedOf("root"), Size: 1000,
		ItemHash: seedOf("item"), Until: 20300, K: 5, Token: 1, RateQ32: big.NewInt(1 << 40), Deadline: 1750000600,
	}
}

func TestTypesAreTheContracts(t *testing.T) {
	for name, typ := range map[string]string{
		"StoreRequest": commitment.RequestType, "StoreExtension": commitment.ExtensionType, "StoreRepair": commitment.RepairType,
		"StorageReceipt": commitment.ReceiptType, "DayAttestation": commitment.AttestationType,
	} {
		if got := typeddata.Types()[name]; got != typ {
			t.Errorf("%s is %s, the contracts have %s", name, typ, got)
		}
	}
}

func TestWordsAreSigned(t *testing.T) {
	key, err := crypto.HexToECDSA("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
	if err != nil {
		t.Fatal(err)
	}
	domain := job.Storages(big.NewInt(31337), common.HexToAddress("0x5FbDB2315678afecb367f032d93F642f64180aa3"))
	for _, word := range []job.Signable{
		receipt(), request(), &commitment.Extension{}, &commitment.Repair{NodeID: 1}, &commitment.Attestation{Seed: seedOf("x")},
	} {
		sig, err := job.Sign(key, domain, word)
		if err != nil {
			t.Fatalf("%T: %v", word, err)
		}
		if err := job.Verify(domain, word, sig, crypto.PubkeyToAddress(key.PublicKey)); err != nil {
			t.Errorf("%T: %v", word, err)
		}
	}
}

func TestWordsAreChecked(t *testing.T) {
	for name, err := range map[string]error{
		"receipt": receipt().Check(), "request": request().Check(), "extension": (&commitment.Extension{Until: 1}).Check(),
		"repair": (&commitment.Repair{NodeID: 1}).Check(), "attestation": (&commitment.Attestation{Seed: seedOf("x")}).Check(),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(r *commitment.Receipt){
		"node": func(r *commitment.Receipt) { r.NodeID = 0 }, "root": func(r *commitment.Receipt) { r.Root = common.Hash{} },
		"leaves": func(r *commitment.Receipt) { r.Leaves = 0 }, "end": func(r *commitment.Receipt) { r.Until = r.Since },
		"far end": func(r *commitment.Receipt) { r.Until = 1 << 24 },
	} {
		r := receipt()
		change(r)
		if r.Check() == nil {
			t.Errorf("receipt: %s is not checked", name)
		}
	}
	for name, change := range map[string]func(r *commitment.Request){
		"node": func(r *commitment.Request) { r.NodeID = 0 }, "root": func(r *commitment.Request) { r.Root = common.Hash{} },
		"item": func(r *commitment.Request) { r.ItemHash = common.Hash{} }, "size": func(r *commitment.Request) { r.Size = 0 },
		"large": func(r *commitment.Request) { r.Size = 1<<48 + 1 }, "k": func(r *commitment.Request) { r.K = 0 },
		"many": func(r *commitment.Request) { r.K = 21 }, "end": func(r *commitment.Request) { r.Until = 1 << 24 },
		"deadline": func(r *commitment.Request) { r.Deadline = 1 << 40 }, "rate": func(r *commitment.Request) { r.RateQ32 = nil },
		"high rate": func(r *commitment.Request) { r.RateQ32 = new(big.Int).Lsh(big.NewInt(1), 96) },
	} {
		r := request()
		change(r)
		if r.Check() == nil {
			t.Errorf("request: %s is not checked", name)
		}
	}
	if (&commitment.Extension{Until: 1 << 24}).Check() == nil || (&commitment.Repair{}).Check() == nil || (&commitment.Attestation{}).Check() == nil {
		t.Error("an extension, a repair or an attestation is not checked")
	}
	if id := request().ID(); id.NodeID() != 5 || id == commitment.BundleID(5) {
		t.Errorf("the request's id is %s", id)
	}
}

func FuzzReceipt(f *testing.F) {
	raw, err := json.Marshal(receipt())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := commitment.ParseReceipt(raw)
		if err != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := commitment.ParseReceipt(again); err != nil || *back != *r {
			t.Errorf("%s reads back as %v, %v", again, back, err)
		}
	})
}

func FuzzID(f *testing.F) {
	f.Add(commitment.BundleID(7).String())
	f.Fuzz(func(t *testing.T, s string) {
		id, err := commitment.ParseID(s)
		if err != nil {
			return
		}
		if back, err := commitment.ParseID(id.String()); err != nil || back != id {
			t.Errorf("%s reads back as %s, %v", id, back, err)
		}
	})
}

func FuzzObjectProof(f *testing.F) {
	object := stuff("fuzz", 3000)
	tr, err := commitment.NewTree(object)
	if err != nil {
		f.Fatal(err)
	}
	seed, id := seedOf("fuzz"), commitment.BundleID(1)
	good, err := tr.ProveObject(seed, id, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, tr.Leaves())
	f.Fuzz(func(t *testing.T, proof []byte, leaves uint64) {
		err := commitment.VerifyObject(proof, tr.Root(), leaves, seed, id, 1)
		if err == nil && !bytes.Equal(proof, good) {
			t.Error("another proof is valid")
		}
	})
}

func FuzzBundleProof(f *testing.F) {
	var objects []commitment.Object
	for i := range 3 {
		root, err := commitment.ObjectRoot(stuff(fmt.Sprint(i), 1))
		if err != nil {
			f.Fatal(err)
		}
		objects = append(objects, commitment.Object{Root: root, Leaves: 1})
	}
	b, err := commitment.NewBundle(objects)
	if err != nil {
		f.Fatal(err)
	}
	seed, id := seedOf("fuzz"), commitment.BundleID(1)
	leaf := func(o int, _ uint64) ([]byte, error) {
		tr, err := commitment.NewTree(stuff(fmt.Sprint(o), 1))
		if err != nil {
			return nil, err
		}
		return tr.Prove(0)
	}
	good, err := b.ProveBundle(seed, id, 1, leaf)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, b.Total())
	f.Fuzz(func(t *testing.T, proof []byte, total uint64) {
		err := commitment.VerifyBundle(proof, commitment.Bind(b.Root(), b.Total()), total, seed, id, 1)
		if err == nil && !bytes.Equal(proof, good) {
			t.Error("another proof is valid")
		}
		path, err := b.Path(1)
		if err != nil {
			t.Fatal(err)
		}
		err = commitment.VerifyInclusion(proof, commitment.Bind(b.Root(), b.Total()), total, objects[1])
		if err == nil && !bytes.Equal(proof, path) {
			t.Error("another path is valid")
		}
	})
}
