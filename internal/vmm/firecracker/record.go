package firecracker

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
)

// The files of a machine's directory that are ours.
const (
	machineFile = "machine.json"
	processFile = "process" // The process's own /proc/PID/stat line.
	diskFile    = "disk.raw"
	seedFile    = "seed.iso"
	logFile     = "firecracker.log" // What the jailer says, and Firecracker before it has a logger.
	ownLogFile  = "vmm.log"         // Firecracker's own log, also in the jail.
	jailDir     = "jail"
)

// record is machine.json: what a later daemon needs to know of a machine.
type record struct {
	ID        string    `json:"id"`
	Driver    string    `json:"driver"`
	Exec      string    `json:"exec"` // Name of Firecracker's program in the jail.
	Image     string    `json:"image"`
	Agent     bool      `json:"agent"`
	Function  bool      `json:"function,omitempty"` // It has streams, and no agent.
	OwnTap    string    `json:"own_tap,omitempty"`  // TAP device that goes with the machine.
	ConsoleAt int64     `json:"console_at"`         // Size of the console's file at the start.
	StartedAt time.Time `json:"started_at"`
}

// root is the root directory of the machine's jail.
func (r record) root(dir string) string {
	return filepath.Join(dir, jailDir, r.Exec, r.ID, "root")
}

// writeRecord writes machine.json, on disk when it returns.
func writeRecord(dir string, r record) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode machine record: %w", err)
	}
	return process.ReplaceFile(filepath.Join(dir, machineFile), append(raw, '\n'))
}

// recordOf is the record of a machine that is started.
func recordOf(spec vmm.Spec, exec string, now time.Time) record {
	return record{
		ID: spec.ID, Driver: Name, Exec: exec, Image: spec.Image.Name, Agent: spec.Image.Agent && !spec.Function,
		Function: spec.Function, StartedAt: now.UTC(),
	}
}

// readRecord reads machine.json of the directory.
func readRecord(dir string) (record, error) {
	raw, err := os.ReadFile(filepath.Join(dir, machineFile))
	if err != nil {
		return record{}, fmt.Errorf("read machine record: %w", err)
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
	if filepath.Base(r.Exec) != r.Exec || filepath.Base(r.ID) != r.ID || r.ID == "" || r.Exec == "" {
		return r, fmt.Errorf("machine record has the id %q and the program %q, want names of files", r.ID, r.Exec)
	}
	return r, nil
}
