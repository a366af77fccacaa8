package pricing

import (
	_ "embed" // for the prices that hold first
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
)

// Product names a row of the price table.
type Product string

// The products.
const (
	ProductStorage      Product = "storage"
	ProductProgram      Product = "program"
	ProductPersistent   Product = "program_persistent"
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

//go:embed default.json
var defaults []byte

// Default returns the prices that hold until the network publishes others.
func Default() (*Table, error) {
	var both struct{ Pricing, Settings json.RawMessage }
	if err := json.Unmarshal(defaults, &both); err != nil {
		return nil, fmt.Errorf("read the default prices: %w", err)
	}
	return Parse(both.Pricing, both.Settings)
}

// Bounds of a price table.
const (
	tableBytesMax = 1 << 20
	unitMax       = 1 << 30 // of what a compute unit has, and of the units of a tier
)

// Parse reads a price table from the contents of the aggregates `pricing` and
// `settings`: section 4.12 of the protocol. What is missing costs nothing; a
// product that is not known is left out.
func Parse(pricing, settings []byte) (*Table, error) {
	if len(pricing)+len(settings) > tableBytesMax {
		return nil, fmt.Errorf("price table has %d bytes, at most %d are allowed", len(pricing)+len(settings), tableBytesMax)
	}
	var rows map[string]json.RawMessage
	if err := json.Unmarshal(pricing, &rows); err != nil {
		return nil, fmt.Errorf("price table: %w", err)
	}
	t := &Table{prices: map[Product]Price{}, units: map[Product]map[string]int64{}, models: map[string]string{}}
	for _, p := range []Product{
		ProductStorage, ProductProgram, ProductPersistent, ProductInstance, ProductConfidential, ProductGPUStandard, ProductGPUPremium,
	} {
		if raw, ok := rows[string(p)]; ok {
			if err := t.addRow(p, raw); err != nil {
				return nil, fmt.Errorf("price table: %s: %w", p, err)
			}
		}
	}
	return t, t.addModels(settings)
}

// rowJSON is a product in the aggregate `pricing`.
type rowJSON struct {
	Price struct {
		Storage columnJSON `json:"storage"`
		Unit    columnJSON `json:"compute_unit"`
	} `json:"price"`
	Unit struct {
		VCPUs  int64 `json:"vcpus"`
		Memory int64 `json:"memory_mib"`
		Disk   int64 `json:"disk_mib"`
	} `json:"compute_unit"`
	Tiers []struct {
		Units int64   `json:"compute_units"`
		Model *string `json:"model"`
	} `json:"tiers"`
}

type columnJSON struct {
	Hold   json.RawMessage `json:"holding"`
	Stream json.RawMessage `json:"payg"`
	Credit json.RawMessage `json:"credit"`
}

func (t *Table) addRow(p Product, raw []byte) error {
	var row rowJSON
	if err := json.Unmarshal(raw, &row); err != nil {
		return err
	}
	storage, err := row.Price.Storage.read()
	if err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	unit, err := row.Price.Unit.read()
	if err != nil {
		return fmt.Errorf("compute_unit: %w", err)
	}
	for _, n := range []int64{row.Unit.VCPUs, row.Unit.Memory, row.Unit.Disk} {
		if n < 0 || n > unitMax {
			return fmt.Errorf("a compute unit has %d of something, want 0 to %d", n, unitMax)
		}
	}
	t.prices[p] = Price{Storage: storage, Unit: unit, UnitVCPUs: row.Unit.VCPUs, UnitMiB: row.Unit.Memory, UnitDisk: row.Unit.Disk}
	for _, tier := range row.Tiers {
		if tier.Model == nil {
			continue // Such tiers are shown to people only.
		}
		if tier.Units < 0 || tier.Units > unitMax {
			return fmt.Errorf("tier %.80s has %d compute units, want 0 to %d", *tier.Model, tier.Units, unitMax)
		}
		if t.units[p] == nil {
			t.units[p] = map[string]int64{}
		}
		t.units[p][*tier.Model] = tier.Units
	}
	return nil
}

// addModels reads which devices are which GPUs; of a device that is listed twice
// the first line holds.
func (t *Table) addModels(settings []byte) error {
	var s struct {
		GPUs []struct {
			Model  string `json:"model"`
			Device string `json:"device_id"`
		} `json:"compatible_gpus"`
	}
	if err := json.Unmarshal(settings, &s); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	for _, g := range s.GPUs {
		if _, ok := t.models[g.Device]; !ok {
			t.models[g.Device] = g.Model
		}
	}
	return nil
}

func (c columnJSON) read() (out Column, err error) {
	if out.Hold, err = price(c.Hold); err != nil {
		return out, err
	}
	if out.Stream, err = price(c.Stream); err != nil {
		return out, err
	}
	out.Credit, err = price(c.Credit)
	return out, err
}

// price reads a price, a text or a number; one that is missing is 0.
func price(raw json.RawMessage) (Decimal, error) {
	s := strings.Trim(string(raw), `"`)
	if s == "" || s == "null" {
		return Decimal{}, nil
	}
	return ParseDecimal(s)
}

// CreditsPerToken is how many credits pay for what a token pays for, second by
// second, by the price of an instance; false if one of both has no price.
func (t *Table) CreditsPerToken() (*big.Rat, bool) {
	unit := t.prices[ProductInstance].Unit
	tokens, credits := unit.Stream.Rat(), unit.Credit.Rat()
	if tokens.Sign() == 0 || credits.Sign() == 0 {
		return nil, false
	}
	return credits.Quo(credits, tokens), true
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
	return "", 0, fmt.Errorf("no price for the GPU model %.80s (%s)", model, device)
}
