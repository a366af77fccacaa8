package telemetry_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/telemetry"
)

func TestValidateNamesTheBadValue(t *testing.T) {
	tests := []struct {
		name string
		cfg  telemetry.Config
		want string
	}{
		{"default", telemetry.DefaultConfig(), ""},
		{"level", telemetry.Config{Level: "loud", Format: "text"}, `level is "loud"`},
		{"format", telemetry.Config{Level: "warn", Format: "xml"}, `format is "xml"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.cfg.Validate()
			if tt.want == "" && err != nil {
				t.Fatalf("Validate: %v", err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Validate: %v, want it to say %q", err, tt.want)
			}
		})
	}
}

func TestLoggerObeysLevelAndFormat(t *testing.T) {
	var out bytes.Buffer
	log := telemetry.NewLogger(telemetry.Config{Level: "warn", Format: "json"}, &out)

	log.Info("hidden")
	log.Warn("shown", "part", "test")

	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("output %q is not one JSON line: %v", out.String(), err)
	}
	if line["msg"] != "shown" || line["part"] != "test" {
		t.Errorf("line %v, want the warning with its part", line)
	}
}

func TestRegistryTellsTheBuild(t *testing.T) {
	families, err := telemetry.NewRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "aleph_build_info" {
			return
		}
	}
	t.Error("no aleph_build_info among the metrics")
}
