package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
)

// record is machine.json: what a later daemon needs to know of a machine.
type record struct {
	ID          string          `json:"id"`
	Driver      string          `json:"driver"`
	Accelerator vmm.Accelerator `json:"accelerator"`
	Image       string          `json:"image"`
	Agent       bool            `json:"agent"`
	Function    bool            `json:"function,omitempty"` // It has streams, and no agent.
	StartedAt   time.Time       `json:"started_at"`
}

// writeRecord writes machine.json, on disk when it returns.
func writeRecord(spec vmm.Spec, acc vmm.Accelerator, now time.Time) error {
	raw, err := json.MarshalIndent(record{
		ID: spec.ID, Driver: Name, Accelerator: acc, Image: spec.Image.Name, Agent: spec.Image.Agent && !spec.Function,
		Function: spec.Function, StartedAt: now.UTC(),
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode machine record: %w", err)
	}
	return replaceFile(filepath.Join(spec.Dir, machineFile), append(raw, '\n'))
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

// replaceFile writes a file that is there whole, old or new, at any time.
func replaceFile(name string, raw []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return fmt.Errorf("make %s: %w", filepath.Base(name), err)
	}
	defer func() {
		f.Close()
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(raw); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(name), err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", filepath.Base(name), err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return fmt.Errorf("put %s in place: %w", filepath.Base(name), err)
	}
	return nil
}
