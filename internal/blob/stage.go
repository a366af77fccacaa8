package blob

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// stagesMax bounds the blobs that are begun and wait to be gone on with; of
	// more, those go that waited longest. stageAge is how long one may wait.
	stagesMax = 256
	stageAge  = 24 * time.Hour
)

// stageName is what a staged blob may be called; it is the name of a file.
var stageName = regexp.MustCompile(`^[a-z0-9]{1,250}$`)

// Stage starts a blob that may outlive the process, or goes on with the one that
// Suspend, or the end of the process, left under the name. check reads what is
// there and says how many of its first bytes are good; the rest is cut off. What is
// there counts as used, is dropped when room is needed, and after a day. A name
// that somebody writes to now gives errs.Conflict.
func (s *Store) Stage(name string, check func(r io.Reader) (good int64, err error)) (_ *Writer, err error) {
	if !stageName.MatchString(name) {
		return nil, errs.New(errs.Internal, "BUG: %.80q cannot be the name of a staged blob", name)
	}
	if err := s.claim(name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.unclaim(name)
		}
	}()
	if err := s.dropStages(func(n int, age time.Duration) bool { return n >= stagesMax || age > stageAge }); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(s.staged, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, diskError("open staged blob", err)
	}
	w := &Writer{s: s, f: f, sum: newSum(), stage: name}
	if err := w.resume(check); err != nil {
		return nil, errors.Join(fmt.Errorf("go on with staged blob %s: %w", name, err), f.Close())
	}
	return w, nil
}

// claim lets nobody else write to a staged blob until unclaim is called.
func (s *Store) claim(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing[name] {
		return errs.New(errs.Conflict, "somebody writes to staged blob %s already; try again", name)
	}
	s.writing[name] = true
	return nil
}

func (s *Store) unclaim(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.writing, name)
}

// resume takes over what is in the file, whose bytes count as used already.
func (w *Writer) resume(check func(r io.Reader) (int64, error)) error {
	fi, err := w.f.Stat()
	if err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	good, err := check(io.NewSectionReader(w.f, 0, fi.Size()))
	if err != nil {
		return err
	}
	if good < 0 || good > fi.Size() {
		return errs.New(errs.Internal, "BUG: %d bytes are said to be good of %d", good, fi.Size())
	}
	if err := w.f.Truncate(good); err != nil {
		return fmt.Errorf("cut it off: %w", err)
	}
	w.s.release(fi.Size() - good)
	w.size = good
	if _, err := io.CopyBuffer(struct{ io.Writer }{w.sum}, io.NewSectionReader(w.f, 0, good), make([]byte, copyBuffer)); err != nil {
		return fmt.Errorf("read it: %w", err)
	}
	if _, err := w.f.Seek(good, io.SeekStart); err != nil {
		return fmt.Errorf("go to its end: %w", err)
	}
	return nil
}

// ReadAt implements io.ReaderAt for what was written.
func (w *Writer) ReadAt(p []byte, offset int64) (int, error) { return w.f.ReadAt(p, offset) }

// Suspend ends the writing of a staged blob and leaves its bytes for a later Stage.
// It does nothing after a Commit or an Abort.
func (w *Writer) Suspend() error {
	if w.done {
		return nil
	}
	if w.stage == "" {
		return errs.New(errs.Internal, "BUG: a blob that is not staged cannot be gone on with")
	}
	w.done = true
	defer w.s.unclaim(w.stage)
	if err := w.f.Close(); err != nil {
		return diskError("close staged blob", err)
	}
	return nil
}

// idleStage is a staged blob that nobody writes to.
type idleStage struct {
	path string
	size int64
	at   time.Time // of its last byte
}

// idleStages returns the staged blobs that nobody writes to, those first that
// waited longest. The caller holds mu.
func (s *Store) idleStages() ([]idleStage, error) {
	entries, err := os.ReadDir(s.staged)
	if err != nil {
		return nil, fmt.Errorf("list staged blobs: %w", err)
	}
	var out []idleStage
	for _, e := range entries {
		if s.writing[e.Name()] {
			continue
		}
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at staged blob %s: %w", e.Name(), err)
		}
		out = append(out, idleStage{path: filepath.Join(s.staged, e.Name()), size: fi.Size(), at: fi.ModTime()})
	}
	slices.SortFunc(out, func(a, b idleStage) int { return a.at.Compare(b.at) })
	return out, nil
}

// dropStages deletes staged blobs that nobody writes to, those first that waited
// longest, as long as drop says so of how many there are and of their age.
func (s *Store) dropStages(drop func(n int, age time.Duration) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle, err := s.idleStages()
	if err != nil {
		return err
	}
	for i, st := range idle {
		if !drop(len(idle)-i, time.Since(st.at)) {
			return nil
		}
		if err := os.Remove(st.path); err != nil {
			return fmt.Errorf("drop staged blob: %w", err)
		}
		s.used -= st.size
		s.log.Info("dropped unfinished blob", "path", filepath.Base(st.path), "bytes", st.size)
	}
	return nil
}

// openStages counts what earlier processes left.
func (s *Store) openStages() error {
	if err := os.MkdirAll(s.staged, 0o700); err != nil {
		return fmt.Errorf("create %s: %w", s.staged, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	idle, err := s.idleStages()
	for _, st := range idle {
		s.used += st.size
	}
	return err
}
