package pricing

import (
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// LineType names what a line of a cost is for.
type LineType string

// The line types of costs, spelled as the network spells them.
const (
	LineStorage    LineType = "STORAGE"
	LineExecution  LineType = "EXECUTION"
	LineCode       LineType = "EXECUTION_PROGRAM_VOLUME_CODE"
	LineRuntime    LineType = "EXECUTION_PROGRAM_VOLUME_RUNTIME"
	LineData       LineType = "EXECUTION_PROGRAM_VOLUME_DATA"
	LineRootfs     LineType = "EXECUTION_INSTANCE_VOLUME_ROOTFS"
	LineImmutable  LineType = "EXECUTION_VOLUME_INMUTABLE"
	LinePersistent LineType = "EXECUTION_VOLUME_PERSISTENT"
	LineDiscount   LineType = "EXECUTION_VOLUME_DISCOUNT"
)

// Line is one line of a cost, in the three ways to pay.
type Line struct {
	Type   LineType
	Name   string
	Ref    message.ItemHash // file of a volume, if it has one
	Hold   Decimal          // tokens held
	Stream Decimal          // tokens per second
	Credit Decimal          // credits per second
}

// Cost is what a content costs by the network's price model.
type Cost struct {
	Lines  []Line
	Hold   Decimal // sums of the columns
	Stream Decimal
	Credit Decimal
}

// Total returns the sum of the column of the payment type.
func (c *Cost) Total(p message.PaymentType) Decimal {
	switch p {
	case message.PaySuperfluid:
		return c.Stream
	case message.PayCredit:
		return c.Credit
	default:
		return c.Hold
	}
}

const secondsPerHour = 3600

// Cost returns the cost of an INSTANCE, a PROGRAM or a V-PROGRAM: section 4.12 of
// the protocol. Of files it needs the sizes; one that is not known costs nothing.
func (t *Table) Cost(content message.Content, sizes Sizes) (*Cost, error) {
	o, err := t.order(content, sizes)
	if err != nil {
		return nil, err
	}
	var floor Decimal
	if o.byItem {
		floor = leastCredit()
	}
	c := new(Cost)
	for _, s := range o.shares {
		l := Line{Type: LineExecution, Name: string(s.product)}
		l.price(s.units, t.prices[s.product].Unit)
		if !o.gpu {
			l.Credit = greatest(l.Credit, floor)
		}
		c.Lines = append(c.Lines, l.floor())
	}
	var sum Line
	for _, v := range o.volumes {
		l := v.line
		l.price(v.size, o.storage)
		l.Credit = greatest(l.Credit, floor)
		l = l.floor()
		c.Lines = append(c.Lines, l)
		sum.Hold, sum.Stream, sum.Credit = sum.Hold.add(l.Hold), sum.Stream.add(l.Stream), sum.Credit.add(l.Credit)
	}
	free := Line{Type: LineDiscount, Name: string(LineDiscount)}
	free.price(whole(o.freeMiB), o.storage)
	free.Hold = least(sum.Hold, free.Hold).neg()
	free.Stream = least(sum.Stream, free.Stream).neg()
	free.Credit = least(sum.Credit, free.Credit).neg()
	c.Lines = append(c.Lines, free.floor())
	return c.sum(), nil
}

// storedCreditMiB is the least size of a file that is paid for by credit.
const storedCreditMiB = 25

// StoreCost returns the cost of keeping the file of a STORE message, whose hash is
// ref. Its size is in MiB.
func (t *Table) StoreCost(s *message.Store, ref message.ItemHash, size Decimal) *Cost {
	if s.PaymentType() == message.PayCredit {
		size = greatest(size, whole(storedCreditMiB))
	}
	l := Line{Type: LineStorage, Name: string(LineStorage), Ref: ref}
	l.price(size, t.prices[ProductStorage].Storage)
	c := &Cost{Lines: []Line{l.floor()}}
	return c.sum()
}

// sum adds the lines up.
func (c *Cost) sum() *Cost {
	for _, l := range c.Lines {
		c.Hold, c.Stream, c.Credit = c.Hold.add(l.Hold), c.Stream.add(l.Stream), c.Credit.add(l.Credit)
	}
	return c
}

// leastCredit is the least price per second of a line paid by credit: one credit
// per hour.
func leastCredit() Decimal { return whole(1).div(secondsPerHour) }

// price fills the columns with n times the prices.
func (l *Line) price(n Decimal, c Column) {
	l.Hold = n.mul(c.Hold)
	l.Stream = n.mul(c.Stream.div(secondsPerHour))
	l.Credit = n.mul(c.Credit.div(secondsPerHour))
}

func (l Line) floor() Line {
	l.Hold, l.Stream, l.Credit = l.Hold.floor(), l.Stream.floor(), l.Credit.floor()
	return l
}
