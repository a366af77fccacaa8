package pricing_test

import (
	"encoding/json"
	"math/big"
	"os"
	"testing"

	"pgregory.net/rapid"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
)

type costCase struct {
	Name    string
	Type    message.Type // "" means INSTANCE
	Content json.RawMessage
	Sizes   sizes
	Total   string // of the column of the payment type; "" means there is no price
	Lines   []struct{ Type, Name, Hold, Stream, Credit string }
}

// sizes are those of files by what they are for: in a vector all have one name.
type sizes []struct {
	Type  pricing.LineType
	Index int
	MiB   int64
}

func (s sizes) SizeMiB(f pricing.File) (pricing.Decimal, bool) {
	for _, one := range s {
		if one.Type == f.Type && one.Index == f.Index {
			return pricing.FileSizeMiB(one.MiB << 20), true
		}
	}
	return pricing.Decimal{}, false
}

// paid is a content that somebody pays for.
type paid interface {
	message.Content
	PaymentType() message.PaymentType
}

func (c costCase) content(t testing.TB) paid {
	t.Helper()
	if c.Type != message.TypeProgram {
		return instance(t, string(c.Content))
	}
	return program(t, string(c.Content))
}

func program(t testing.TB, raw string) *message.Program {
	t.Helper()
	p, err := message.ParseProgram([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func defaultTable(t testing.TB) *pricing.Table {
	t.Helper()
	table, err := pricing.Default()
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func instance(t testing.TB, raw string) *message.Instance {
	t.Helper()
	i, err := message.ParseInstance([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestCostVectors holds the price model to the network's own figures, to the
// last digit.
func TestCostVectors(t *testing.T) {
	raw, err := os.ReadFile("../testdata/vectors/cost.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []costCase }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	table := defaultTable(t)
	for _, tt := range file.Cases {
		t.Run(tt.Name, func(t *testing.T) {
			content := tt.content(t)

			cost, err := table.Cost(content, tt.Sizes)

			if tt.Total == "" {
				if err == nil {
					t.Fatalf("cost %v, want none", cost)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := cost.Total(content.PaymentType()).String(); got != tt.Total {
				t.Errorf("total %s, want %s", got, tt.Total)
			}
			if len(cost.Lines) != len(tt.Lines) {
				t.Fatalf("%d lines, want %d", len(cost.Lines), len(tt.Lines))
			}
			for n, want := range tt.Lines {
				l := cost.Lines[n]
				got := want
				got.Type, got.Name, got.Hold, got.Stream, got.Credit = string(l.Type), l.Name, l.Hold.String(), l.Stream.String(), l.Credit.String()
				if got != want {
					t.Errorf("line %d is %v, want %v", n, got, want)
				}
			}
		})
	}
}

const small = `{"address":"0xA","time":1,"allow_amend":false,"environment":{},"resources":{"vcpus":1,"memory":2048},
	"payment":{"chain":"ETH","type":"credit"},
	"rootfs":{"parent":{"ref":"6e30de68c6cedfa6b45240c2b51e52495ac6fb1bd4b36457b3d5ca307594d595"},"persistence":"host","size_mib":20480}}`

func TestCreditPaysAtLeastOneCreditPerHourAndLine(t *testing.T) {
	content := instance(t, small)
	content.Rootfs.SizeMiB = 1
	ref := content.Rootfs.Parent.Ref
	content.Volumes = []message.Volume{{Kind: message.Immutable, Ref: ref}, {Kind: message.Immutable, Ref: message.HashOf(nil)}}

	cost, err := defaultTable(t).Cost(content, pricing.SizeMiB{ref: pricing.FileSizeMiB(3 << 19)})
	if err != nil {
		t.Fatal(err)
	}

	if len(cost.Lines) != 4 {
		t.Fatalf("%d lines, want 4: the volume without a known file has none", len(cost.Lines))
	}
	const floor = "0.000277777777777777"
	for _, l := range cost.Lines[1:3] {
		if l.Credit.String() != floor {
			t.Errorf("%s costs %s credits per second, want %s", l.Name, l.Credit, floor)
		}
	}
	if l := cost.Lines[2]; l.Type != pricing.LineImmutable || l.Name != "#0:EXECUTION_VOLUME_INMUTABLE" || l.Hold.String() != "0.075000000000000000" {
		t.Errorf("line %+v, want an immutable volume that holds 0.075", l)
	}
	// The discount covers both disks, so the machine alone is left.
	if got := cost.Total(message.PayCredit).String(); got != "3.958333333333333333" {
		t.Errorf("total %s, want 3.958333333333333333", got)
	}
}

func TestFlowIsWholeWeiPerSecondRoundedUp(t *testing.T) {
	tests := []struct {
		name      string
		bps       int
		disk      int64
		perSecond string // wei
		lines     int
	}{
		{"one unit", 10_000, 20480, "15277777777778", 4},
		{"one unit at four fifths", 8_000, 20480, "12222222222223", 5},
		{"one unit and a third", 13_333, 20480, "20369861111112", 5},
		{"disk beyond the free one", 10_000, 20481, "15278049166667", 4},
		{"one wei per second is not lost", 1, 1, "1527777778", 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			content := instance(t, small)
			content.Rootfs.SizeMiB = tt.disk

			f, err := defaultTable(t).Flow(content, nil, tt.bps)
			if err != nil {
				t.Fatal(err)
			}

			if f.WeiPerSecond.String() != tt.perSecond {
				t.Errorf("%s wei per second, want %s", f.WeiPerSecond, tt.perSecond)
			}
			if len(f.Lines) != tt.lines {
				t.Errorf("lines %v, want %d", f.Lines, tt.lines)
			}
			wantLinesSum(t, f)
			month := new(big.Int).Mul(f.WeiPerSecond, big.NewInt(730*3600))
			if f.PerMonth().Cmp(month) != 0 {
				t.Errorf("month %s, want %s", f.PerMonth(), month)
			}
		})
	}
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func wantLinesSum(t fataler, f *pricing.Flow) {
	t.Helper()
	sum := new(big.Int)
	for _, l := range f.Lines {
		sum.Add(sum, l.WeiPerHour)
	}
	if sum.Cmp(f.PerHour()) != 0 {
		t.Fatalf("lines add up to %s, but the hour costs %s", sum, f.PerHour())
	}
}

func TestFlowRefusesASenselessMultiplierAndAnUnknownGPU(t *testing.T) {
	content := instance(t, small)
	for _, bps := range []int{-1, 0, pricing.PriceBpsMax + 1} {
		if _, err := defaultTable(t).Flow(content, nil, bps); err == nil {
			t.Errorf("multiplier %d accepted, want an error", bps)
		}
	}
	content.Requirements = &message.Requirements{GPU: []message.GPURequirement{{DeviceID: "10de:2685"}}}
	if _, err := defaultTable(t).Flow(content, nil, pricing.Bps); err == nil {
		t.Error("a GPU that is known but not for sale has a price, want an error")
	}
}

// TestFlowProperties checks what must hold for every instance and multiplier.
func TestFlowProperties(t *testing.T) {
	table := defaultTable(t)
	content := instance(t, small)
	rapid.Check(t, func(t *rapid.T) {
		i := *content
		i.Resources.VCPUs = rapid.IntRange(1, message.MaxVCPUs).Draw(t, "vcpus")
		i.Resources.MemoryMiB = rapid.IntRange(1, message.MaxMemoryMiB).Draw(t, "memory")
		i.Rootfs.SizeMiB = rapid.Int64Range(1, message.MaxVolumeMiB).Draw(t, "disk")
		bps := rapid.IntRange(1, pricing.PriceBpsMax).Draw(t, "bps")

		f, err := table.Flow(&i, nil, bps)
		if err != nil {
			t.Fatal(err)
		}

		wantLinesSum(t, f)
		if f.WeiPerSecond.Sign() <= 0 {
			t.Fatalf("%s wei per second, want more than 0", f.WeiPerSecond)
		}
		if wei, exact := pricing.WeiPerSecond(f.RateQ32); !exact || wei.Cmp(f.WeiPerSecond) != 0 {
			t.Fatalf("rate %s reads back as %s, want %s", f.RateQ32, wei, f.WeiPerSecond)
		}
		seconds := rapid.Uint64Range(0, 1<<40).Draw(t, "seconds")
		if got, want := pricing.Amount(f.RateQ32, seconds), f.For(seconds); got.Cmp(want) != 0 {
			t.Fatalf("amount %s, want %s", got, want)
		}
		if bps == pricing.Bps {
			wantCloseToCost(t, table, &i, f)
		}
	})
}

// wantCloseToCost checks that the two price models differ only by rounding.
func wantCloseToCost(t *rapid.T, table *pricing.Table, i *message.Instance, f *pricing.Flow) {
	cost, err := table.Cost(i, nil)
	if err != nil {
		t.Fatal(err)
	}
	wei := new(big.Rat).Mul(cost.Stream.Rat(), big.NewRat(1e18, 1))
	diff := new(big.Rat).Sub(new(big.Rat).SetInt(f.WeiPerSecond), wei)
	if diff.Sign() < 0 || diff.Cmp(big.NewRat(5, 1)) > 0 {
		t.Fatalf("flow %s and cost %s differ by %s wei per second, want 0 to 5", f.WeiPerSecond, wei.RatString(), diff.RatString())
	}
}

func TestAmountRoundsAFractionUp(t *testing.T) {
	if got := pricing.Amount(big.NewInt(1), 1); got.Cmp(big.NewInt(1)) != 0 {
		t.Errorf("amount %s, want 1", got)
	}
	if _, exact := pricing.WeiPerSecond(big.NewInt(1)); exact {
		t.Error("a rate of 2^-32 wei per second is whole, want a fraction")
	}
}
