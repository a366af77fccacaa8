package qemu

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
)

// record is machine.json: what a later daemon needs to know of a machine.
type record struct {
	ID          string          `json:"id"`
	Driver      string          `json:"driver"`
	Accelerator vmm.Accelerator `json:"accelerator"`
	Image       string          `json:"image"`
	Agent       bool            `json:"agent"`
	Function    bool            `json:"function,omitempty"`     // It has streams, and no agent.
	Guarded     bool            `json:"confidential,omitempty"` // It is confidential, and has no agent that is believed.
	StartedAt   time.Time       `json:"started_at"`
}

// writeRecord writes machine.json, on disk when it returns.
func writeRecord(spec vmm.Spec, acc vmm.Accelerator, now time.Time) error {
	raw, err := json.MarshalIndent(record{
		ID: spec.ID, Driver: Name, Accelerator: acc, Image: spec.Image.Name, Agent: spec.Image.Agent && !spec.Function && spec.Confidential == nil,
		Function: spec.Function, Guarded: spec.Confidential != nil, StartedAt: now.UTC(),
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode machine record: %w", err)
	}
	return process.ReplaceFile(filepath.Join(spec.Dir, machineFile), append(raw, '\n'))
}

// readRecord reads machine.json of the directory.
func readRecord(dir string) (record, error) {
	var r record
	raw, err := os.ReadFile(filepath.Join(dir, machineFile))
	if err != nil {
		return r, fmt.Errorf("read machine record: %w", err)
	}
	return parseRecord(raw)
}

func parseRecord(raw []byte) (record, error) {
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("decode machine record: %w", err)
	}
	if r.Driver != Name {
		return r, fmt.Errorf("machine record is of the driver %q, want %s", r.Driver, Name)
	}
	return r, nil
}
