package vmmtest

import (
	"os"
	"os/exec"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
)

// Occupy starts a process that works in a machine's directory and holds its lock, as
// those of the drivers do, and ends it with the test.
func Occupy(t *testing.T, dir string) {
	t.Helper()
	lock, err := vmm.LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	cmd := exec.CommandContext(t.Context(), "sleep", "600")
	cmd.Dir, cmd.ExtraFiles = dir, []*os.File{lock}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // It may have been killed.
}
