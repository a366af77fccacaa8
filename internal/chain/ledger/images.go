package ledger

import (
	"math/big"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// Numbers of IImageMarketplace.Status.
const (
	imagePublished = 1
	imageRemoved   = 4
	imageTakenDown = 5
)

// rater is who rated an image.
type rater struct {
	seq uint32
	by  common.Address
}

type images struct {
	bySeq   map[uint32]*bindings.IImageMarketplaceImageView
	ratings map[rater]bindings.IImageMarketplaceRatingView
	weights map[uint32]bindings.ImageMarketplaceWeightsOfOutput
	units   map[uint8]*big.Int
	bond    uint16
}

func newImages() images {
	return images{
		bySeq: map[uint32]*bindings.IImageMarketplaceImageView{}, ratings: map[rater]bindings.IImageMarketplaceRatingView{},
		weights: map[uint32]bindings.ImageMarketplaceWeightsOfOutput{}, units: map[uint8]*big.Int{},
	}
}

// Images returns the numbers of all images, ascending.
func (l *Ledger) Images() []uint32 { return sortedKeys(l.images.bySeq) }

// Image is ImageMarketplace.image.
func (l *Ledger) Image(seq uint32) bindings.IImageMarketplaceImageView {
	if i := l.images.bySeq[seq]; i != nil {
		return *i
	}
	return bindings.IImageMarketplaceImageView{}
}

// RatingOf is ImageMarketplace.ratingOf.
func (l *Ledger) RatingOf(seq uint32, by common.Address) bindings.IImageMarketplaceRatingView {
	return l.images.ratings[rater{seq, by}]
}

// WeightsOf is ImageMarketplace.weightsOf.
func (l *Ledger) WeightsOf(seq uint32) bindings.ImageMarketplaceWeightsOfOutput {
	return l.images.weights[seq]
}

// USDUnit is ImageMarketplace.usdUnit.
func (l *Ledger) USDUnit(token uint8) *big.Int { return l.images.units[token] }

// BondOfNew is ImageMarketplace.bondOfNew.
func (l *Ledger) BondOfNew() uint16 { return l.images.bond }

func (n *images) change(seq uint32, do func(v *bindings.IImageMarketplaceImageView)) error {
	v := n.bySeq[seq]
	if v == nil {
		return contradiction("image %d was never published", seq)
	}
	do(v)
	return nil
}

func imageHandlers() map[string]handler {
	c := bindings.NewImageMarketplace()
	return map[string]handler{
		"ImageTakenDown":       nil, // ImageStatus comes with it.
		"RoyaltiesDistributed": nil, // Withdrawn of the payee tells the effect.
		"ImagePublished": on(c.UnpackImagePublishedEvent, func(l *Ledger, now uint64, e *bindings.ImageMarketplaceImagePublished) error {
			l.images.bySeq[e.Seq] = &bindings.IImageMarketplaceImageView{
				Publisher: e.Publisher, Status: imagePublished, Model: e.Model, Token: e.Token, Price: e.Price, RoyaltyBps: e.RoyaltyBps,
				Since: seconds(now), Bond: e.Bond, Parent: e.Parent, ParentBps: e.ParentBps, Depth: l.Image(e.Parent).Depth + 1,
			}
			return nil
		}),
		"SplitSet": on(c.UnpackSplitSetEvent, func(l *Ledger, _ uint64, e *bindings.ImageMarketplaceSplitSet) error {
			return l.images.change(e.Seq, func(v *bindings.IImageMarketplaceImageView) { v.Recipients = e.Recipients })
		}),
		"ImageVersion": on(c.UnpackImageVersionEvent, func(l *Ledger, _ uint64, e *bindings.ImageMarketplaceImageVersion) error {
			return l.images.change(e.Seq, func(v *bindings.IImageMarketplaceImageView) {
				v.ImageId, v.ManifestHash, v.Version = e.ImageId, e.ManifestHash, e.Version
			})
		}),
		"ImageStatus": on(c.UnpackImageStatusEvent, func(l *Ledger, now uint64, e *bindings.ImageMarketplaceImageStatus) error {
			return l.images.change(e.Seq, func(v *bindings.IImageMarketplaceImageView) {
				if v.Status = e.NewStatus; v.Status == imageRemoved || v.Status == imageTakenDown {
					v.Since = seconds(now)
				}
			})
		}),
		"BondForfeited": on(c.UnpackBondForfeitedEvent, func(l *Ledger, _ uint64, e *bindings.ImageMarketplaceBondForfeited) error {
			return l.images.change(e.Seq, func(v *bindings.IImageMarketplaceImageView) { v.Bond = 0 })
		}),
		"BondReturned": on(c.UnpackBondReturnedEvent, func(l *Ledger, _ uint64, e *bindings.ImageMarketplaceBondReturned) error {
			return l.images.change(e.Seq, func(v *bindings.IImageMarketplaceImageView) { v.Bond = 0 })
		}),
		"BondSet": on(c.UnpackBondSetEvent, func(l *Ledger, _ uint64, e *bindings.ImageMarketplaceBondSet) error {
			l.images.bond = e.Bond
			return nil
		}),
		"ImageRated": on(c.UnpackImageRatedEvent, func(l *Ledger, now uint64, e *bindings.ImageMarketplaceImageRated) error {
			l.images.ratings[rater{e.Seq, e.Payer}] = bindings.IImageMarketplaceRatingView{
				Stars: e.Stars, Weight: e.Weight, Period: e.Period, RatedAt: seconds(now),
			}
			l.images.weights[e.Seq] = bindings.ImageMarketplaceWeightsOfOutput{Arg0: e.WeightSum, Arg1: e.WeightedStars, Arg2: e.Count}
			return nil
		}),
		"UsdUnitSet": on(c.UnpackUsdUnitSetEvent, func(l *Ledger, _ uint64, e *bindings.ImageMarketplaceUsdUnitSet) error {
			l.images.units[e.Token] = e.Unit
			return nil
		}),
	}
}
