package pricing

import (
	"fmt"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// File is a file that a content refers to, and that its price depends on.
type File struct {
	Type  LineType
	Index int              // of a volume; 0 for others
	Ref   message.ItemHash // the STORE message that names it
}

// Sizes knows the sizes of files, in MiB.
type Sizes interface {
	// SizeMiB returns false for a file that is not known, which costs nothing.
	SizeMiB(f File) (Decimal, bool)
}

// SizeMiB is the size of files by the STORE message that names them.
type SizeMiB map[message.ItemHash]Decimal

// SizeMiB implements Sizes.
func (s SizeMiB) SizeMiB(f File) (Decimal, bool) {
	size, ok := s[f.Ref]
	return size, ok
}

// order is a machine in the terms of the price table: section 4.12 of the
// protocol, steps 1 to 4.
type order struct {
	shares  []share
	gpu     bool
	storage Column
	freeMiB int64 // disk that comes with the compute units
	byItem  bool  // paid by credit: each line has a least price
	volumes []volume
}

// share is the compute units of one product.
type share struct {
	product Product
	units   Decimal
}

// volume is a disk to be priced.
type volume struct {
	line Line
	size Decimal // MiB
}

// order reads a content that a machine runs.
func (t *Table) order(c message.Content, sizes Sizes) (o order, err error) {
	if sizes == nil {
		sizes = SizeMiB(nil)
	}
	switch c := c.(type) {
	case *message.Instance:
		return t.orderInstance(c, sizes)
	case *message.Program:
		return t.orderProgram(c, sizes)
	case *message.VerifiableProgram:
		// Its volumes are verified, and cost nothing besides.
		return t.orderUnits(ProductConfidential, c.Resources, 1, c.PaymentType())
	}
	return o, fmt.Errorf("price content: a %T is no machine", c)
}

func (t *Table) orderInstance(i *message.Instance, sizes Sizes) (o order, err error) {
	switch {
	case i.Environment.TrustedExecution != nil:
		o, err = t.orderUnits(ProductConfidential, i.Resources, 1, i.PaymentType())
	case i.Requirements != nil && len(i.Requirements.GPU) > 0:
		o, err = t.orderGPU(i)
	default:
		o, err = t.orderUnits(ProductInstance, i.Resources, 1, i.PaymentType())
	}
	if err != nil {
		return o, err
	}
	rootfs := Line{Type: LineRootfs, Name: string(LineRootfs), Ref: i.Rootfs.Parent.Ref}
	o.volumes = append([]volume{{rootfs, whole(i.Rootfs.SizeMiB)}}, volumes(i.Volumes, sizes)...)
	return o, nil
}

func (t *Table) orderProgram(p *message.Program, sizes Sizes) (o order, err error) {
	product, multiplier := ProductProgram, int64(1)
	switch {
	case p.IsPersistent():
		product = ProductPersistent
	case p.Environment.Internet:
		multiplier = 2 // What is asked for over the internet costs twice.
	}
	if o, err = t.orderUnits(product, p.Resources, multiplier, p.PaymentType()); err != nil {
		return o, err
	}
	files := []File{{LineCode, 0, p.Code.Ref}, {LineRuntime, 0, p.Runtime.Ref}}
	if p.Data != nil && p.Data.Ref != nil {
		files = append(files, File{LineData, 0, *p.Data.Ref})
	}
	for _, f := range files {
		if size, ok := sizes.SizeMiB(f); ok {
			o.volumes = append(o.volumes, volume{Line{Type: f.Type, Name: string(f.Type), Ref: f.Ref}, size})
		}
	}
	o.volumes = append(o.volumes, volumes(p.Volumes, sizes)...)
	return o, nil
}

// orderUnits is a machine of one product.
func (t *Table) orderUnits(product Product, r message.Resources, multiplier int64, p message.PaymentType) (order, error) {
	price, ok := t.prices[product]
	if !ok || price.UnitMiB == 0 {
		return order{}, fmt.Errorf("price machine: the price table has no compute units of %s", product)
	}
	units := computeUnits(r, price)
	return order{
		shares: []share{{product, whole(units * multiplier)}}, storage: price.Storage, freeMiB: units * price.UnitDisk,
		byItem: p == message.PayCredit,
	}, nil
}

// orderGPU charges each GPU's compute units to the product that sells it, and
// what the resources exceed them by to the dominant product.
func (t *Table) orderGPU(i *message.Instance) (order, error) {
	units := map[Product]int64{}
	var total int64
	for _, g := range i.Requirements.GPU {
		product, n, err := t.gpu(g.DeviceID)
		if err != nil {
			return order{}, fmt.Errorf("price instance: %w", err)
		}
		units[product] += n
		total += n
	}
	dominant := ProductGPUStandard
	if units[ProductGPUPremium] > 0 {
		dominant = ProductGPUPremium
	}
	premium := t.prices[ProductGPUPremium]
	if t.prices[dominant].UnitMiB == 0 || premium.UnitMiB == 0 {
		return order{}, fmt.Errorf("price instance: the price table has no compute units of %s", dominant)
	}
	units[dominant] += max(0, computeUnits(i.Resources, t.prices[dominant])-total)
	out := order{
		gpu: true, storage: premium.Storage, freeMiB: computeUnits(i.Resources, premium) * premium.UnitDisk,
		byItem: i.PaymentType() == message.PayCredit,
	}
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

// volumes are the disks besides those that every machine of a type has.
func volumes(all []message.Volume, sizes Sizes) (out []volume) {
	for n, v := range all {
		l, size := Line{Type: LinePersistent}, whole(v.SizeMiB)
		if v.Kind == message.Immutable {
			known, ok := sizes.SizeMiB(File{LineImmutable, n, v.Ref})
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

// FileSizeMiB returns a file's size for Sizes.
func FileSizeMiB(sizeBytes int64) Decimal { return whole(sizeBytes).div(1 << 20) }
