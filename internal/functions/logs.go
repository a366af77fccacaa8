package functions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// keptLogMax bounds each of the two files in which the consoles of a program's
// machines outlive these, in bytes.
const keptLogMax = 4 << 20

// forgetEvery is how often logs are looked at whether they are old enough.
const forgetEvery = time.Hour

// logDir is where the consoles of a program's machines that are gone are kept,
// under the names of a machine's own.
func (s *Service) logDir(spec message.ItemHash) string {
	return filepath.Join(s.dir, "logs", string(spec))
}

// ownerFile is beside them: who may read them.
const ownerFile = "owner"

// keepLog appends what a machine has written that has ended to the log of its
// program. After a crash it may stand there twice, but is not lost.
func (s *Service) keepLog(spec message.ItemHash) error {
	from, to := filepath.Join(s.programDir(spec), machineDir), s.logDir(spec)
	n, err := s.readNote(spec)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // No machine was begun.
	}
	if err != nil {
		return err
	}
	r, err := vmm.Console(s.ctx, from, 0, false)
	if err != nil {
		return fmt.Errorf("keep console: %w", err)
	}
	defer r.Close()
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("keep console: %w", err)
	}
	if err := os.WriteFile(filepath.Join(to, ownerFile), []byte(n.Owner), 0o600); err != nil {
		return fmt.Errorf("keep console: %w", err)
	}
	name := filepath.Join(to, vmm.ConsoleFile)
	if info, err := os.Stat(name); err == nil && info.Size() > keptLogMax {
		if err := os.Rename(name, filepath.Join(to, vmm.ConsoleOldFile)); err != nil {
			return fmt.Errorf("keep console: %w", err)
		}
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("keep console: %w", err)
	}
	_, err = io.Copy(f, r) // A machine's console is bounded by package vmm.
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keep console: %w", err)
	}
	s.trimLogs(time.Now()) // Strangers call programs as often as they like.
	return nil
}

// LogOwner returns whose program it was of which a log is kept, or errs.NotFound.
func (s *Service) LogOwner(spec message.ItemHash) (string, error) {
	raw, err := os.ReadFile(filepath.Join(s.logDir(spec), ownerFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(raw) == 0 {
		return "", errs.New(errs.NotFound, "no log of program %s is kept", spec)
	}
	if err != nil {
		return "", fmt.Errorf("read whose log it is: %w", err)
	}
	return string(raw), nil
}

// Console returns what the machines of a program have written that are gone, as
// long as that is kept, then what the one has that runs, and with follow what
// comes, until ctx or the machine ends. A program that has neither gives
// errs.NotFound.
func (s *Service) Console(ctx context.Context, spec message.ItemHash, follow bool) (io.ReadCloser, error) {
	out := &log{}
	for _, name := range []string{vmm.ConsoleOldFile, vmm.ConsoleFile} {
		f, err := os.Open(filepath.Join(s.logDir(spec), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open log of program %s: %w", spec, err), out.Close())
		}
		out.add(f)
	}
	dir := filepath.Join(s.programDir(spec), machineDir)
	if _, err := os.Stat(dir); err == nil {
		r, err := vmm.Console(ctx, dir, 0, follow)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open console of program %s: %w", spec, err), out.Close())
		}
		out.add(r)
	}
	if len(out.parts) == 0 {
		return nil, errs.New(errs.NotFound, "program %s has no machine now, and no log is kept", spec)
	}
	return out, nil
}

// log reads one after the other.
type log struct {
	io.Reader
	parts []io.Closer
}

func (l *log) add(r io.ReadCloser) {
	l.parts = append(l.parts, r)
	if l.Reader == nil {
		l.Reader = r
		return
	}
	l.Reader = io.MultiReader(l.Reader, r)
}

// Close implements io.Closer.
func (l *log) Close() error {
	var all error
	for _, p := range l.parts {
		all = errors.Join(all, p.Close())
	}
	return all
}

// forgetLogs removes logs that were kept for long enough, until ctx ends.
func (s *Service) forgetLogs(ctx context.Context) {
	every := time.NewTicker(forgetEvery)
	defer every.Stop()
	for {
		s.trimLogs(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// trimLogs removes the logs of programs that were kept for long enough, and those of
// which the last machine ended first until the others take no more than they may.
func (s *Service) trimLogs(now time.Time) {
	s.trimming.Lock()
	defer s.trimming.Unlock()
	if err := s.trimLogsOf(now); err != nil {
		s.log.Warn("old logs of programs stayed", "err", err)
	}
}

func (s *Service) trimLogsOf(now time.Time) error {
	owners, err := filepath.Glob(filepath.Join(s.dir, "logs", "*", ownerFile))
	if err != nil {
		return fmt.Errorf("list logs: %w", err)
	}
	type one struct {
		dir   string
		at    time.Time
		bytes int64
	}
	var all []one
	for _, name := range owners {
		info, err := os.Stat(name)
		if err != nil {
			continue // It has just gone.
		}
		o := one{filepath.Dir(name), info.ModTime(), 0} // The file is written anew with each machine that ends.
		for _, part := range []string{vmm.ConsoleOldFile, vmm.ConsoleFile} {
			if info, err := os.Stat(filepath.Join(o.dir, part)); err == nil {
				o.bytes += info.Size()
			}
		}
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b one) int { return b.at.Compare(a.at) }) // The newest first.
	var failed error
	var total int64
	for _, o := range all {
		total += o.bytes
		if total > s.cfg.LogMiB<<20 || now.Sub(o.at) > s.cfg.LogRetention {
			failed = errors.Join(failed, os.RemoveAll(o.dir))
		}
	}
	return failed
}
