package message_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	someHash = "6e30de68c6cedfa6b45240c2b51e52495ac6fb1bd4b36457b3d5ca307594d595"
	base     = `"address":"0xA","time":1`
)

// content returns a content of the type that is good but for the given fields.
func content(t message.Type, fields string) string {
	executable := base + `,"allow_amend":false,"environment":{"hypervisor":"qemu"}`
	if !strings.Contains(fields, `"resources"`) {
		executable += `,"resources":{}`
	}
	switch t {
	case message.TypePost:
		return "{" + base + `,"type":"t",` + fields + "}"
	case message.TypeForget:
		return "{" + base + `,"hashes":[],` + fields + "}"
	case message.TypeInstance:
		return "{" + executable + `,"rootfs":{"parent":{"ref":"` + someHash + `"},"persistence":"host","size_mib":1},` + fields + "}"
	case message.TypeProgram:
		c := executable + `,"type":"vm-function","code":{"encoding":"zip","entrypoint":"m","ref":"` + someHash +
			`"},"runtime":{"ref":"` + someHash + `","comment":""}`
		if !strings.Contains(fields, `"on"`) {
			c += `,"on":{"http":true}`
		}
		return "{" + c + "," + fields + "}"
	case message.TypeVProgram:
		disk := `{"ref":"` + someHash + `","hash_tree":"` + someHash + `","roothash":"` + strings.Repeat("a", 64) + `"}`
		return "{" + base + `,"payment":{"type":"credit"},"environment":{},"resources":{},"runtime":{"ref":"` + someHash +
			`","comment":"c"},"workload":` + disk + `,"verification":` + verification(1, "") + "," + fields + "}"
	default:
		return "{" + base + "," + fields + "}"
	}
}

func verification(measurements int, vcpu string) string {
	return `{"backend":"sev_snp","policy":196608,"measurements":` + repeat(measurement(vcpu), measurements) + "}"
}

func measurement(vcpu string) string {
	return `{"platform":"sev_snp","digest":"` + strings.Repeat("a", 96) + `","vcpu_type":"` + vcpu + `"}`
}

// repeat returns a list of n equal elements.
func repeat(element string, n int) string {
	return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
}

// entries returns an object of n fields.
func entries(value string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"%d":%s,`, i, value)
	}
	return "{" + strings.TrimSuffix(b.String(), ",") + "}"
}

// chars returns a text of n characters, each of more than one byte.
func chars(n int) string { return `"` + strings.Repeat("é", n) + `"` }

func volume(size int) string   { return `"volumes":[{"name":"n","size_mib":` + strconv.Itoa(size) + `}]` }
func resource(f string) string { return `"resources":{` + f + `}` }
func tee(fields string) string {
	return `"environment":{"hypervisor":"qemu","trusted_execution":{` + fields + `}}`
}

// TestBounds holds every bound of the tables: good at the bound, refused one
// beyond it.
func TestBounds(t *testing.T) {
	const instance, program, forget, verifiable = message.TypeInstance, message.TypeProgram, message.TypeForget, message.TypeVProgram
	number := func(format string) func(n int) string {
		return func(n int) string { return fmt.Sprintf(format, n) }
	}
	tests := []struct {
		name   string
		typ    message.Type
		bound  int
		step   int // beyond the bound
		fields func(n int) string
	}{
		{"channel of a quoted message", message.TypePost, 128, 1, func(n int) string {
			return `"ref":{"chain":"ETH","item_content":"","item_type":"inline","item_hash":"` + someHash + `","channel":` + chars(n) + `}`
		}},
		{"hashes of a FORGET", forget, 1000, 1, func(n int) string { return `"hashes":` + repeat(`"`+someHash+`"`, n) }},
		{"aggregates of a FORGET", forget, 1000, 1, func(n int) string { return `"aggregates":` + repeat(`"`+someHash+`"`, n) }},
		{"reason of a FORGET", forget, 1000, 1, func(n int) string { return `"reason":` + chars(n) }},
		{"metadata", instance, 256, 1, func(n int) string { return `"metadata":` + entries("1", n) }},
		{"authorized keys", instance, 256, 1, func(n int) string { return `"authorized_keys":` + repeat(`""`, n) }},
		{"authorized key", instance, 8192, 1, func(n int) string { return `"authorized_keys":[` + chars(n) + `]` }},
		{"variables", instance, 256, 1, func(n int) string { return `"variables":` + entries(`""`, n) }},
		{"name of a variable", instance, 128, 1, func(n int) string { return `"variables":{` + chars(n) + `:""}` }},
		{"value of a variable", instance, 4096, 1, func(n int) string { return `"variables":{"a":` + chars(n) + `}` }},
		{"volumes", instance, 256, 1, func(n int) string { return `"volumes":` + repeat(`{"size_mib":1}`, n) }},
		{"replaces", instance, 128, 1, func(n int) string { return `"replaces":` + chars(n) }},
		{"most vcpus", instance, 256, 1, func(n int) string { return resource(number(`"vcpus":%d`)(n)) }},
		{"least vcpus", instance, 1, -1, func(n int) string { return resource(number(`"vcpus":%d`)(n)) }},
		{"most memory", instance, 1 << 20, 1, func(n int) string { return resource(number(`"memory":%d`)(n)) }},
		{"least memory", instance, 1, -1, func(n int) string { return resource(number(`"memory":%d`)(n)) }},
		{"most seconds", instance, 315_360_000, 1, func(n int) string { return resource(number(`"seconds":%d`)(n)) }},
		{"least seconds", instance, 1, -1, func(n int) string { return resource(number(`"seconds":%d`)(n)) }},
		{"highest port", instance, 65535, 1, func(n int) string { return resource(number(`"published_ports":[{"port":%d}]`)(n)) }},
		{"lowest port", instance, 1, -1, func(n int) string { return resource(number(`"published_ports":[{"port":%d}]`)(n)) }},
		{"regular expression", instance, 256, 1, func(n int) string { return `"requirements":{"node":{"address_regex":` + chars(n) + `}}` }},
		{"comment of a volume", instance, 256, 1, func(n int) string { return `"volumes":[{"size_mib":1,"comment":` + chars(n) + `}]` }},
		{"mount of a volume", instance, 256, 1, func(n int) string { return `"volumes":[{"size_mib":1,"mount":` + chars(n) + `}]` }},
		{"name of a volume", instance, 256, 1, func(n int) string { return `"volumes":[{"size_mib":1,"name":` + chars(n) + `}]` }},
		{"biggest ephemeral volume", instance, 1000, 1, number(`"volumes":[{"ephemeral":true,"size_mib":%d}]`)},
		{"smallest ephemeral volume", instance, 1, -1, number(`"volumes":[{"ephemeral":true,"size_mib":%d}]`)},
		{"biggest persistent volume", instance, 1_953_125, 1, volume},
		{"smallest persistent volume", instance, 1, -1, volume},
		{"biggest root disk", instance, 1_953_125, 1, number(`"rootfs":{"parent":{"ref":"` + someHash + `"},"persistence":"host","size_mib":%d}`)},
		{"smallest root disk", instance, 1, -1, number(`"rootfs":{"parent":{"ref":"` + someHash + `"},"persistence":"host","size_mib":%d}`)},
		{"measurements", instance, 16, 1, func(n int) string { return tee(`"measurements":` + repeat(measurement(""), n)) }},
		{"type of vcpu", instance, 64, 1, func(n int) string {
			return tee(`"measurements":[` + measurement(strings.Repeat("é", n)) + `]`)
		}},
		{"highest attestation port", instance, 65535, 1, func(n int) string { return tee(number(`"attestation_port":%d`)(n)) }},
		{"lowest attestation port", instance, 1, -1, func(n int) string { return tee(number(`"attestation_port":%d`)(n)) }},
		{"keys of a subscription", program, 32, 1, func(n int) string { return `"on":{"http":true,"message":[` + entries("1", n) + `]}` }},
		{"comment of a verified runtime", verifiable, 1024, 1, func(n int) string { return `"runtime":{"ref":"` + someHash + `","comment":` + chars(n) + `}` }},
		{"verified volumes", verifiable, 8, 1, func(n int) string {
			return `"volumes":` + repeat(`{"ref":"`+someHash+`","hash_tree":"`+someHash+`","roothash":"`+strings.Repeat("a", 64)+`"}`, n)
		}},
		{"most measurements of a verifiable program", verifiable, 16, 1, func(n int) string { return `"verification":` + verification(n, "") }},
		{"fewest measurements of a verifiable program", verifiable, 1, -1, func(n int) string { return `"verification":` + verification(n, "") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseAs(tt.typ, content(tt.typ, tt.fields(tt.bound))); err != nil {
				t.Errorf("at the bound %d: %v", tt.bound, err)
			}
			_, err := parseAs(tt.typ, content(tt.typ, tt.fields(tt.bound+tt.step)))
			if err == nil {
				t.Fatalf("one beyond the bound %d is accepted", tt.bound)
			}
			wantReject(t, err, message.CodeInvalidFormat, "content.")
		})
	}
}

// inline returns an envelope around a content.
func inline(t *testing.T, text string, edit func(fields map[string]string)) []byte {
	t.Helper()
	fields := map[string]string{
		"chain": `"ETH"`, "sender": `"0xA"`, "type": `"POST"`, "time": "1", "signature": `"0x"`,
		"item_content": strconv.Quote(text), "item_hash": `"` + string(message.HashOf([]byte(text))) + `"`,
	}
	if edit != nil {
		edit(fields)
	}
	var b strings.Builder
	for k, v := range fields {
		b.WriteString(`,"` + k + `":` + v)
	}
	return []byte("{" + b.String()[1:] + "}")
}

func TestInlineContentIsBoundedInCharacters(t *testing.T) {
	head, tail := `{"address":"0xA","time":1,"type":"t","content":"`, `"}`
	for _, letter := range []string{"a", "é", "😀"} {
		room := 200_000 - len(head) - len(tail)
		if _, err := message.Parse(inline(t, head+strings.Repeat(letter, room)+tail, nil)); err != nil {
			t.Errorf("200000 characters %s: %v", letter, err)
		}
		_, err := message.Parse(inline(t, head+strings.Repeat(letter, room+1)+tail, nil))
		wantReject(t, err, message.CodeInvalidFormat, "has 200001 characters")
	}
}

func TestEveryChainIsKnown(t *testing.T) {
	const codes = "ARB AURORA AVAX BASE BLAST BOB BSC CSDK CYBER DOT ES ETH ETHERLINK FRAX HYPE INK LENS LINEA LISK METIS MODE " +
		"NEO NULS NULS2 OP POL SOL SONIC STT TEZOS UNICHAIN WLD ZORA"
	for _, code := range strings.Fields(codes) {
		raw := inline(t, `{"address":"0xA","time":1,"type":"t"}`, func(f map[string]string) { f["chain"] = strconv.Quote(code) })
		if _, err := message.Parse(raw); err != nil {
			t.Errorf("chain %s: %v", code, err)
		}
	}
	for _, code := range []string{"", "eth", "ETH ", "BTC"} {
		if message.Chain(code).Known() {
			t.Errorf("chain %q is known", code)
		}
	}
}

func TestOnlyMessagesOfContractsNeedNoSignature(t *testing.T) {
	for _, edit := range []func(map[string]string){
		func(f map[string]string) { delete(f, "signature") },
		func(f map[string]string) { f["signature"] = "null" },
	} {
		raw := inline(t, `{"address":"0xA","time":1,"type":"t"}`, edit)
		_, err := message.Parse(raw)
		wantReject(t, err, message.CodeInvalidSignature, "missing")
		if _, err := message.ParseUnsigned(raw); err != nil {
			t.Error(err)
		}
	}
}

func TestTimesAreReadToTheMicrosecondNearest(t *testing.T) {
	tests := []struct{ time, want string }{
		{"1619017773.8950577", "1619017773.895058"},
		{"1732118563.2142403", "1732118563.21424"},
		{"0.0000005", "0"},
		{"0.0000015", "0.000002"},
		{"0.9999999", "1"},
		{`"2024-11-20T16:02:43.214390+00:00"`, "1732118563.21439"},
	}
	for _, tt := range tests {
		e, err := message.Parse(inline(t, `{"address":"0xA","time":1,"type":"t"}`, func(f map[string]string) { f["time"] = tt.time }))
		if err != nil {
			t.Fatal(err)
		}
		if got := message.FormatTime(e.Time); got != tt.want {
			t.Errorf("time %s reads as %s, want %s", tt.time, got, tt.want)
		}
	}
}
