package firecrackertest

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestConfigurationFiles: configuration files of Firecracker's own tests are
// taken or refused as there.
func TestConfigurationFiles(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"vm_config": "", "vm_config_cpu_template_C3": "", "vm_config_network": "", "vm_config_smt_true": "",
		"vm_config_with_mmdsv1": "", "vm_config_with_mmdsv2": "",
		"vm_config_missing_mem_size_mib": "missing field `mem_size_mib`",
		"vm_config_missing_vcpu_count":   "missing field `vcpu_count`",
		"aleph_vm_root_config":           "unknown field",
	} {
		raw, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		err = Check("FullVmConfiguration", raw)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestBodiesThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ definition, body string }{
		{"Drive", `{"drive_id":"a","is_root_device":true,"path":"x"}`},
		{"Drive", `{"drive_id":"a","is_root_device":"yes"}`},
		{"Drive", `{"drive_id":"a","is_root_device":true,"cache_type":"None"}`},
		{"Drive", `{"drive_id":"a","is_root_device":true,"rate_limiter":{"bandwidth":{"size":1}}}`},
		{"MachineConfiguration", `{"vcpu_count":33,"mem_size_mib":128}`},
		{"MachineConfiguration", `{"vcpu_count":0,"mem_size_mib":128}`},
		{"MachineConfiguration", `{"vcpu_count":1.5,"mem_size_mib":128}`},
		{"Vsock", `{"guest_cid":2,"uds_path":"/v"}`},
		{"MmdsConfig", `{"network_interfaces":[1]}`},
		{"TokenBucket", `{"size":-1,"refill_time":1}`},
		{"Nothing", `{}`},
	} {
		if err := Check(c.definition, []byte(c.body)); err == nil {
			t.Errorf("%s %s was taken", c.definition, c.body)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("Drive", []byte(`{"drive_id":"a","is_root_device":true}`))
	f.Fuzz(func(t *testing.T, definition string, raw []byte) {
		if Check(definition, raw) == nil && !json.Valid(raw) {
			t.Fatalf("%q was taken for a %s", raw, definition)
		}
	})
}

// swaggerVar names a file with Firecracker's description of its API, to check
// what is known here of it. It is src/firecracker/swagger/firecracker.yaml of its
// repository.
const swaggerVar = "ALEPH_FIRECRACKER_SWAGGER"

type swaggerField struct {
	Type    string   `yaml:"type"`
	Ref     string   `yaml:"$ref"`
	Enum    []string `yaml:"enum"`
	Minimum *int64   `yaml:"minimum"`
	Maximum *int64   `yaml:"maximum"`
	Items   *swaggerField
}

type swagger struct {
	Paths map[string]map[string]struct {
		Parameters []struct {
			In     string `yaml:"in"`
			Schema struct {
				Ref string `yaml:"$ref"`
			} `yaml:"schema"`
		} `yaml:"parameters"`
	} `yaml:"paths"`
	Definitions map[string]struct {
		Type       string                  `yaml:"type"`
		Required   []string                `yaml:"required"`
		Enum       []string                `yaml:"enum"`
		Properties map[string]swaggerField `yaml:"properties"`
	} `yaml:"definitions"`
}

func refName(ref string) string { return strings.TrimPrefix(ref, "#/definitions/") }

func TestTheTableIsThePublishedDescription(t *testing.T) {
	t.Parallel()
	name := os.Getenv(swaggerVar)
	if name == "" {
		t.Skipf("%s names no file", swaggerVar)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var doc swagger
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	for definition, have := range definitions {
		want, there := doc.Definitions[definition]
		if !there {
			t.Errorf("%s is not in the description", definition)
			continue
		}
		for field := range have {
			if _, there := want.Properties[field]; !there {
				t.Errorf("%s.%s is not in the description", definition, field)
			}
		}
		for field, p := range want.Properties {
			rule, there := have[field]
			if !there {
				t.Errorf("%s.%s is not in the table", definition, field)
				continue
			}
			if got, want := parseField(rule), fieldOf(doc, p, slices.Contains(want.Required, field)); !sameField(got, want) {
				t.Errorf("%s.%s is %+v in the table, %+v in the description", definition, field, got, want)
			}
		}
	}
	for call, definition := range bodies {
		method, path, _ := strings.Cut(call, " ")
		found := ""
		for _, p := range doc.Paths[path][strings.ToLower(method)].Parameters {
			if p.In == "body" {
				found = refName(p.Schema.Ref)
			}
		}
		if found != definition {
			t.Errorf("the body of %s is %s in the table, %q in the description", call, definition, found)
		}
	}
}

func fieldOf(doc swagger, p swaggerField, required bool) field {
	f := field{required: required, min: math.MinInt64, max: math.MaxInt64, enum: p.Enum}
	if p.Type == "array" {
		f = fieldOf(doc, *p.Items, required)
		f.list = true
		return f
	}
	f.kind = map[string]string{"object": "map"}[p.Type]
	if f.kind == "" {
		f.kind = p.Type
	}
	if p.Ref != "" {
		f.ref, f.kind = refName(p.Ref), ""
		switch d := doc.Definitions[f.ref]; {
		case d.Type == "string":
			f.ref, f.kind, f.enum = "", "string", d.Enum
		case definitions[f.ref] == nil:
			f.ref, f.kind = "", "map" // The driver makes none of these.
		}
	}
	if p.Minimum != nil {
		f.min = *p.Minimum
	}
	if p.Maximum != nil {
		f.max = *p.Maximum
	}
	return f
}

func sameField(a, b field) bool {
	return a.kind == b.kind && a.ref == b.ref && a.list == b.list && a.required == b.required &&
		slices.Equal(a.enum, b.enum) && a.min == b.min && a.max == b.max
}

func TestFieldsAreWritten(t *testing.T) {
	t.Parallel()
	syntax := regexp.MustCompile(`^(\[\])?(@[A-Z]\w+|string|boolean|integer|map)!?( .+)?$`)
	for definition, have := range definitions {
		for name, rule := range have {
			if ref := parseField(rule).ref; !syntax.MatchString(rule) || ref != "" && definitions[ref] == nil {
				t.Errorf("%s.%s is written %q", definition, name, rule)
			}
		}
	}
}
