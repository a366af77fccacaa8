package pricing

import "fmt"

// Product names a row of the price table.
type Product string

// The products that an instance can be.
const (
	ProductInstance     Product = "instance"
	ProductConfidential Product = "instance_confidential"
	ProductGPUStandard  Product = "instance_gpu_standard"
	ProductGPUPremium   Product = "instance_gpu_premium"
)

// Column is a price in the three ways to pay.
type Column struct {
	Hold   Decimal // tokens that must be held
	Stream Decimal // tokens per hour
	Credit Decimal // credits per hour
}

// Price is a row of the price table.
type Price struct {
	Storage   Column // per MiB
	Unit      Column // per compute unit
	UnitVCPUs int64  // what one compute unit has
	UnitMiB   int64  // memory
	UnitDisk  int64  // MiB of disk that each unit has for free
}

// Table is a set of prices.
type Table struct {
	prices map[Product]Price
	// units holds the compute units of each GPU model, by the product that
	// sells it.
	units map[Product]map[string]int64
	// models maps a device id to a GPU model; models without units are known
	// but not for sale.
	models map[string]string
}

// Default returns the prices that hold until the network publishes others.
func Default() (*Table, error) {
	t := &Table{
		prices: map[Product]Price{},
		units: map[Product]map[string]int64{
			ProductGPUStandard: {"RTX 4000 ADA": 3, "RTX 3090": 4, "RTX 4090": 6, "L40S": 12},
			ProductGPUPremium:  {"A100": 16, "H100": 24},
		},
		models: map[string]string{
			"10de:26b9": "L40S",
			"10de:2685": "RTX 5090", "10de:2687": "RTX 5090",
			"10de:2684": "RTX 4090",
			"10de:2204": "RTX 3090", "10de:2203": "RTX 3090",
			"10de:27b0": "RTX 4000 ADA", "10de:27b2": "RTX 4000 ADA",
			"10de:2336": "H100", "10de:22a3": "H100", "10de:2313": "H100", "10de:2330": "H100", "10de:2331": "H100",
			"10de:2080": "A100", "10de:2081": "A100", "10de:20b2": "A100", "10de:20b5": "A100", "10de:20b8": "A100",
		},
	}
	rows := []struct {
		product              Product
		storageHold          string
		hold, stream, credit string
		vcpus, memory, disk  int64
	}{
		{ProductInstance, "0.05", "1000", "0.055", "14250", 1, 2048, 20480},
		{ProductConfidential, "0.05", "2000", "0.11", "28500", 1, 2048, 20480},
		{ProductGPUStandard, "0", "280", "0.28", "43125", 1, 6144, 61440},
		{ProductGPUPremium, "0", "560", "0.56", "86250", 1, 6144, 61440},
	}
	const storageStream, storageCredit = "0.000000977", "0.17967489030626108"
	for _, r := range rows {
		storage, err := column(r.storageHold, storageStream, storageCredit)
		if err != nil {
			return nil, fmt.Errorf("price of %s storage: %w", r.product, err)
		}
		unit, err := column(r.hold, r.stream, r.credit)
		if err != nil {
			return nil, fmt.Errorf("price of %s: %w", r.product, err)
		}
		t.prices[r.product] = Price{Storage: storage, Unit: unit, UnitVCPUs: r.vcpus, UnitMiB: r.memory, UnitDisk: r.disk}
	}
	return t, nil
}

func column(hold, stream, credit string) (Column, error) {
	var c Column
	var err error
	if c.Hold, err = parse(hold); err != nil {
		return c, err
	}
	if c.Stream, err = parse(stream); err != nil {
		return c, err
	}
	c.Credit, err = parse(credit)
	return c, err
}

// gpu returns the product that sells the device, and its compute units.
func (t *Table) gpu(device string) (Product, int64, error) {
	model, ok := t.models[device]
	if !ok {
		return "", 0, fmt.Errorf("no price for the GPU %.20q", device)
	}
	for _, p := range []Product{ProductGPUPremium, ProductGPUStandard} {
		if units, ok := t.units[p][model]; ok {
			return p, units, nil
		}
	}
	return "", 0, fmt.Errorf("no price for the GPU model %s (%s)", model, device)
}
