package pricing_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
)

const function = `{"address":"0xA","time":1,"type":"vm-function","allow_amend":false,"environment":{"internet":true},
	"resources":{"vcpus":1,"memory":2049},"payment":{"type":"credit"},"on":{"http":true,"persistent":false},
	"code":{"encoding":"zip","entrypoint":"main:app","ref":"6e30de68c6cedfa6b45240c2b51e52495ac6fb1bd4b36457b3d5ca307594d595"},
	"runtime":{"ref":"6e30de68c6cedfa6b45240c2b51e52495ac6fb1bd4b36457b3d5ca307594d595","comment":""}}`

func TestProgramsCostMoreOnlineAndForGood(t *testing.T) {
	for name, tt := range map[string]struct{ change, to, line, hold string }{
		// Two units, twice.
		"online":   {"", "", "program", "800.000000000000000000"},
		"offline":  {`"internet":true`, `"internet":false`, "program", "400.000000000000000000"},
		"for good": {`"persistent":false`, `"persistent":true`, "program_persistent", "2000.000000000000000000"},
	} {
		cost, err := defaultTable(t).Cost(program(t, strings.Replace(function, tt.change, tt.to, 1)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if l := cost.Lines[0]; l.Name != tt.line || l.Hold.String() != tt.hold {
			t.Errorf("%s: %s holds %s, want %s with %s", name, l.Name, l.Hold, tt.line, tt.hold)
		}
		if len(cost.Lines) != 2 {
			t.Errorf("%s: %d lines, want 2: no file is known", name, len(cost.Lines))
		}
	}
}

func TestStoredFilesCostBySizeAndByCreditForTwentyFiveMiBAtLeast(t *testing.T) {
	for _, tt := range []struct{ payment, mib, want string }{
		{"", "100", "33.333333300000000000"},
		{`,"payment":{"type":"hold"}`, "1", "0.333333333000000000"},
		{`,"payment":{"type":"credit"}`, "100", "0.004990969175173918"},
		{`,"payment":{"type":"credit"}`, "1", "0.001247742293793479"},
	} {
		s, err := message.ParseStore([]byte(`{"address":"0xA","time":1,"item_type":"storage","item_hash":"` + string(message.HashOf(nil)) + `"` + tt.payment + `}`))
		if err != nil {
			t.Fatal(err)
		}
		var size pricing.Decimal
		if size, err = pricing.ParseDecimal(tt.mib); err != nil {
			t.Fatal(err)
		}
		cost := defaultTable(t).StoreCost(s, message.HashOf([]byte("ref")), size)
		if got := cost.Total(s.PaymentType()).String(); got != tt.want || len(cost.Lines) != 1 || cost.Lines[0].Name != "STORAGE" {
			t.Errorf("%s MiB%s cost %s in %+v, want %s", tt.mib, tt.payment, got, cost.Lines, tt.want)
		}
	}
}

func TestTablesOfTheNetwork(t *testing.T) {
	table, err := pricing.Parse([]byte(`{"instance":{"price":{"compute_unit":{"holding":"1e3","payg":0.5}},"compute_unit":{"memory_mib":1024}},"other":1}`), []byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	cost, err := table.Cost(instance(t, small), nil)
	if err != nil {
		t.Fatal(err)
	}
	if l := cost.Lines[0]; l.Hold.String() != "2000.000000000000000000" || l.Stream.String() != "0.000277777777777777" {
		t.Errorf("two units hold %s and stream %s", l.Hold, l.Stream)
	}
	if _, err := table.Cost(program(t, function), nil); err == nil {
		t.Error("a program has a price that is not in the table")
	}
}

func TestBadTablesAreRefused(t *testing.T) {
	row := func(price string) string { return `{"instance":{"price":{"storage":{"holding":` + price + `}}}}` }
	for _, raw := range []string{
		`[]`, `x`, `{"instance":1}`, row(`"-1"`), row(`"1.2.3"`), row(`"1e41"`), row(`"e1"`), row(`"NaN"`), row(`{}`), row(`"` + strings.Repeat("1", 65) + `"`),
		`{"instance":{"compute_unit":{"memory_mib":-1}}}`, `{"instance":{"compute_unit":{"disk_mib":99999999999}}}`,
		`{"instance_gpu_premium":{"tiers":[{"model":"A","compute_units":-1}]}}`, `{"x":"` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		if _, err := pricing.Parse([]byte(raw), []byte(`{}`)); err == nil {
			t.Errorf("%.80s is accepted", raw)
		}
	}
	if _, err := pricing.Parse([]byte(`{}`), []byte(`{"compatible_gpus":1}`)); err == nil {
		t.Error("bad settings are accepted")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"instance":{"price":{"compute_unit":{"holding":"1e3"}},"compute_unit":{"memory_mib":1024}}}`), []byte(`{"compatible_gpus":[]}`))
	content := json.RawMessage(small)
	f.Fuzz(func(t *testing.T, prices, settings []byte) {
		table, err := pricing.Parse(prices, settings)
		if err != nil {
			return
		}
		i := instance(t, string(content))
		if cost, err := table.Cost(i, nil); err == nil && cost.Hold.Rat().Sign() < 0 {
			t.Errorf("it costs %s", cost.Hold)
		}
	})
}
