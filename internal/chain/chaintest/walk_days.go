package chaintest

import (
	"math/big"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/protocol/commitment"
)

const (
	day = 24 * 60 * 60
	// beaconDelay is StorageBase's constant: how long after a day has begun its
	// randomness is from, in seconds.
	beaconDelay = 60
)

// dayKinds are what is said of a day of stored objects, by its randomness.
func (w *Walk) dayKinds() map[string]func() (move, bool) {
	c := bindings.NewStorageRegistry()
	return map[string]func() (move, bool){
		"publishBeacon": func() (move, bool) {
			today := w.now() / day
			return move{key: w.person(), contract: "StorageRegistry", data: c.PackPublishBeacon(number(today), w.round(today*day+beaconDelay))}, true
		},
		"attestDay": func() (move, bool) {
			at := number(w.now()/day - w.rng.Uint64N(2))
			bitmap, err1 := commitment.NewBitmap([]uint32{uint32(w.rng.IntN(8)), uint32(w.rng.IntN(8))})
			root, err2 := bitmap.Root()
			if err1 != nil || err2 != nil {
				w.tb.Fatal(err1, err2)
			}
			sigs, ok := w.quorum("StorageRegistry", c.PackAttestationDigest(at, root))
			return move{key: w.person(), contract: "StorageRegistry", data: c.PackAttestDay(at, bitmap, sigs)}, ok
		},
		// Nothing is shown of a day that was attested, so of such a day few misses are taken.
		"reportMissed": func() (move, bool) {
			if len(w.ids) == 0 {
				return move{}, false
			}
			o, at := w.terms[w.ids[w.rng.IntN(len(w.ids))]], number(w.now()/day-1-w.rng.Uint64N(4))
			return move{
				key: w.person(), contract: "StorageRegistry", data: c.PackReportMissed(o.id, whole(o.terms), at, bindings.IStorageWordsBitmapPart{}),
			}, true
		},
	}
}

// round is the signature of the first round from a time on; see openKey.
func (w *Walk) round(time uint64) [2]*big.Int {
	c := bindings.NewDrandVerifier()
	round, err := c.UnpackRoundAt(w.view("DrandVerifier", c.PackRoundAt(number(time))))
	if err != nil {
		w.tb.Fatal(err)
	}
	at, err := c.UnpackHashToCurve(w.view("DrandVerifier", c.PackHashToCurve(round)))
	if err != nil {
		w.tb.Fatal(err)
	}
	return [2]*big.Int{at.X, at.Y}
}
