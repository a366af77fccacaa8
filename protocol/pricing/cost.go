package pricing

import (
	"fmt"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// LineType names what a line of a cost is for.
type LineType string

// The line types of an instance, spelled as the network spells them.
const (
	LineExecution  LineType = "EXECUTION"
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

// Cost is what an instance costs by the network's price model.
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

// SizeMiB is the size of files that volumes refer to, by the STORE message
// that names them. Immutable volumes whose file is not in it cost nothing.
type SizeMiB map[message.ItemHash]Decimal

const secondsPerHour = 3600

// Cost returns the cost of an instance. Sizes are needed for immutable volumes
// only.
func (t *Table) Cost(i *message.Instance, sizes SizeMiB) (*Cost, error) {
	plan, err := t.plan(i)
	if err != nil {
		return nil, err
	}
	floor := creditFloor(i)
	c := new(Cost)
	for _, s := range plan.shares {
		l := Line{Type: LineExecution, Name: string(s.product)}
		l.price(s.units, t.prices[s.product].Unit)
		if !plan.gpu {
			l.Credit = greatest(l.Credit, floor)
		}
		c.Lines = append(c.Lines, l.floor())
	}
	volumes := volumeLines(i, sizes)
	var sum Line
	for _, v := range volumes {
		l := v.line
		l.price(v.size, plan.storage)
		l.Credit = greatest(l.Credit, floor)
		l = l.floor()
		c.Lines = append(c.Lines, l)
		sum.Hold, sum.Stream, sum.Credit = sum.Hold.add(l.Hold), sum.Stream.add(l.Stream), sum.Credit.add(l.Credit)
	}
	free := Line{Type: LineDiscount, Name: string(LineDiscount)}
	free.price(whole(plan.freeMiB), plan.storage)
	free.Hold = least(sum.Hold, free.Hold).neg()
	free.Stream = least(sum.Stream, free.Stream).neg()
	free.Credit = least(sum.Credit, free.Credit).neg()
	c.Lines = append(c.Lines, free.floor())
	for _, l := range c.Lines {
		c.Hold, c.Stream, c.Credit = c.Hold.add(l.Hold), c.Stream.add(l.Stream), c.Credit.add(l.Credit)
	}
	return c, nil
}

// creditFloor returns the least price per second of a line paid by credit: one
// credit per hour.
func creditFloor(i *message.Instance) Decimal {
	if i.PaymentType() != message.PayCredit {
		return Decimal{}
	}
	return whole(1).div(secondsPerHour)
}

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

// share is the compute units of one product.
type share struct {
	product Product
	units   Decimal
}

// plan is an instance in the terms of the price table.
type plan struct {
	shares  []share
	gpu     bool
	storage Column
	freeMiB int64 // disk that comes with the compute units
}

func (t *Table) plan(i *message.Instance) (plan, error) {
	if i.Requirements != nil && len(i.Requirements.GPU) > 0 && i.Environment.TrustedExecution == nil {
		return t.planGPU(i)
	}
	product := ProductInstance
	if i.Environment.TrustedExecution != nil {
		product = ProductConfidential
	}
	p := t.prices[product]
	units := computeUnits(i.Resources, p)
	return plan{shares: []share{{product, whole(units)}}, storage: p.Storage, freeMiB: units * p.UnitDisk}, nil
}

// planGPU charges each GPU's compute units to the product that sells it, and
// what the resources exceed them by to the dominant product.
func (t *Table) planGPU(i *message.Instance) (plan, error) {
	units := map[Product]int64{}
	var total int64
	for _, g := range i.Requirements.GPU {
		product, n, err := t.gpu(g.DeviceID)
		if err != nil {
			return plan{}, fmt.Errorf("price instance: %w", err)
		}
		units[product] += n
		total += n
	}
	dominant := ProductGPUStandard
	if units[ProductGPUPremium] > 0 {
		dominant = ProductGPUPremium
	}
	needed := computeUnits(i.Resources, t.prices[dominant])
	units[dominant] += max(0, needed-total)
	premium := t.prices[ProductGPUPremium]
	out := plan{gpu: true, storage: premium.Storage, freeMiB: computeUnits(i.Resources, premium) * premium.UnitDisk}
	for _, product := range []Product{ProductGPUPremium, ProductGPUStandard} {
		if units[product] > 0 {
			out.shares = append(out.shares, share{product, whole(units[product])})
		}
	}
	return out, nil
}

// computeUnits is the greater of what the processors and the memory need.
func computeUnits(r message.Resources, p Price) int64 {
	memory := (int64(r.MemoryMiB) + p.UnitMiB - 1) / p.UnitMiB
	return max(int64(r.VCPUs), memory)
}

// volume is a disk to be priced.
type volume struct {
	line Line
	size Decimal // MiB
}

func volumeLines(i *message.Instance, sizes SizeMiB) []volume {
	out := []volume{{
		line: Line{Type: LineRootfs, Name: string(LineRootfs), Ref: i.Rootfs.Parent.Ref},
		size: whole(i.Rootfs.SizeMiB),
	}}
	for n, v := range i.Volumes {
		l, size := Line{Type: LinePersistent}, whole(v.SizeMiB)
		if v.Kind == message.Immutable {
			known, ok := sizes[v.Ref]
			if !ok {
				continue
			}
			l, size = Line{Type: LineImmutable, Ref: v.Ref}, known
		}
		name := string(l.Type)
		if v.Mount != nil && *v.Mount != "" {
			name = *v.Mount
		}
		l.Name = fmt.Sprintf("#%d:%s", n, name)
		out = append(out, volume{l, size})
	}
	return out
}

// FileSizeMiB returns a file's size for SizeMiB.
func FileSizeMiB(sizeBytes int64) Decimal { return whole(sizeBytes).div(1 << 20) }
