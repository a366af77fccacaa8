package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// keptLogs is where the console of a machine is that is gone.
func (s *Supervisor) keptLogs(spec message.ItemHash) string {
	return filepath.Join(s.self.Logs, string(spec))
}

// keepLogs moves the console of a machine to where it outlives the machine. It
// can be repeated after a crash.
func (s *Supervisor) keepLogs(vm state.VM) error {
	to := s.keptLogs(vm.Spec)
	for _, name := range []string{vmm.ConsoleOldFile, vmm.ConsoleFile} {
		from := filepath.Join(vm.Dir, name)
		if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.MkdirAll(to, 0o700); err != nil {
			return fmt.Errorf("keep console: %w", err)
		}
		if err := os.Rename(from, filepath.Join(to, name)); err != nil {
			return fmt.Errorf("keep console: %w", err)
		}
	}
	now := time.Now() // The directory's time is when the machine was removed.
	if err := os.Chtimes(to, now, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep console: %w", err)
	}
	return nil
}

// forgetLogs removes consoles that were kept for long enough.
func (s *Supervisor) forgetLogs(now time.Time) error {
	entries, err := os.ReadDir(s.self.Logs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list kept consoles: %w", err)
	}
	var failed error
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || now.Sub(info.ModTime()) < s.cfg.LogRetention {
			continue
		}
		failed = errors.Join(failed, os.RemoveAll(filepath.Join(s.self.Logs, e.Name())))
	}
	return failed
}
