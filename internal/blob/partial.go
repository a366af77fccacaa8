package blob

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
)

const (
	// partialsMax bounds the files that come in pieces at the same time, and
	// partialAge how long one may take. Each takes its length of the quota.
	partialsMax = 128
	partialAge  = 24 * time.Hour
	// noteMax bounds what is kept beside a file.
	noteMax = 64 << 10
	// expireEvery is the time between two looks for those that took too long.
	expireEvery = 10 * time.Minute

	noteSuffix = ".json"
)

// Partial is a file that comes in pieces.
type Partial struct {
	ID        string
	SizeBytes int64
	Offset    int64 // How many bytes are here.
	Note      []byte
	CreatedAt time.Time
}

// Partials are files that come in pieces, over any number of connections and
// restarts. None is a blob: who has all of one stores its bytes as any others. Use
// OpenPartials. It is safe for concurrent use.
type Partials struct {
	s   *Store
	dir string
	log *slog.Logger

	mu   sync.Mutex
	all  map[string]*Partial // guarded by mu
	busy map[string]bool     // Somebody uses it; guarded by mu.
}

// OpenPartials opens the files beside a store, whose quota they take from.
func OpenPartials(s *Store, log *slog.Logger) (*Partials, error) {
	p := &Partials{s: s, dir: filepath.Join(filepath.Dir(s.objects), "partial"), log: log, all: map[string]*Partial{}, busy: map[string]bool{}}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, fmt.Errorf("create %s: %w", p.dir, err)
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, fmt.Errorf("list unfinished files: %w", err)
	}
	for _, e := range entries {
		id, isNote := strings.CutSuffix(e.Name(), noteSuffix)
		if !isNote {
			continue
		}
		if err := p.load(id); err != nil {
			log.Warn("unfinished file cannot be gone on with", "path", e.Name(), "err", err)
		}
	}
	return p, p.sweep(entries)
}

// noteRow is what is kept beside a file.
type noteRow struct {
	SizeBytes int64     `json:"size"`
	CreatedAt time.Time `json:"created_at"`
	Note      []byte    `json:"note"`
}

func (p *Partials) path(id string) string { return filepath.Join(p.dir, id) }

// load reads what an earlier process left.
func (p *Partials) load(id string) error {
	raw, err := os.ReadFile(p.path(id) + noteSuffix)
	if err != nil {
		return fmt.Errorf("read note: %w", err)
	}
	var row noteRow
	if err := json.Unmarshal(raw, &row); err != nil {
		return fmt.Errorf("decode note: %w", err)
	}
	fi, err := os.Stat(p.path(id))
	if err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	if fi.Size() > row.SizeBytes {
		return fmt.Errorf("it has %d bytes of %d", fi.Size(), row.SizeBytes)
	}
	if err := p.s.reserve(row.SizeBytes); err != nil {
		return err
	}
	p.all[id] = &Partial{ID: id, SizeBytes: row.SizeBytes, Offset: fi.Size(), Note: row.Note, CreatedAt: row.CreatedAt}
	return nil
}

// sweep deletes what cannot be gone on with.
func (p *Partials) sweep(entries []fs.DirEntry) error {
	for _, e := range entries {
		id := strings.TrimSuffix(e.Name(), noteSuffix)
		if p.all[id] != nil {
			continue
		}
		if err := os.Remove(filepath.Join(p.dir, e.Name())); err != nil {
			return fmt.Errorf("sweep unfinished file: %w", err)
		}
	}
	return nil
}

// Begin takes room for a file of the size, of which nothing is here yet. It gives
// errs.Exhausted when there is none, or when too many have begun.
func (p *Partials) Begin(sizeBytes int64, note []byte, now time.Time) (Partial, error) {
	if sizeBytes < 0 || len(note) > noteMax {
		return Partial{}, errs.New(errs.Invalid, "file of %d bytes with a note of %d, want at least 0 and at most %d", sizeBytes, len(note), noteMax)
	}
	p.Expire(now)
	part := &Partial{ID: strings.ToLower(rand.Text()), SizeBytes: sizeBytes, Note: note, CreatedAt: now}
	if err := p.admit(part); err != nil {
		return Partial{}, err
	}
	if err := p.create(part); err != nil {
		return Partial{}, errors.Join(err, p.Drop(part.ID))
	}
	return *part, nil
}

// admit counts a file among those that have begun.
func (p *Partials) admit(part *Partial) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.all) >= partialsMax {
		return errs.New(errs.Exhausted, "%d files come in pieces already; try again later", partialsMax)
	}
	if err := p.s.reserve(part.SizeBytes); err != nil {
		return err
	}
	p.all[part.ID] = part
	return nil
}

// create writes an empty file, and then its note, without which it does not count.
func (p *Partials) create(part *Partial) error {
	raw, err := json.Marshal(noteRow{part.SizeBytes, part.CreatedAt, part.Note})
	if err != nil {
		return fmt.Errorf("encode note: %w", err)
	}
	for _, f := range []struct {
		path string
		data []byte
	}{{p.path(part.ID), nil}, {p.path(part.ID) + noteSuffix, raw}} {
		if err := writeSynced(f.path, f.data); err != nil {
			return err
		}
	}
	return syncDir(p.dir)
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return diskError("create unfinished file", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return diskError("write unfinished file", err)
	}
	return nil
}

// use gives a file to one caller until done is called.
func (p *Partials) use(id string) (part *Partial, done func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	part = p.all[id]
	if part == nil {
		return nil, nil, errs.New(errs.NotFound, "no unfinished file %.80q", id)
	}
	if p.busy[id] {
		return nil, nil, errs.New(errs.Conflict, "another request uses the file; try again")
	}
	p.busy[id] = true
	return part, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.busy, id)
	}, nil
}

// Look returns how far a file has come.
func (p *Partials) Look(id string) (Partial, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	part := p.all[id]
	if part == nil {
		return Partial{}, errs.New(errs.NotFound, "no unfinished file %.80q", id)
	}
	return *part, nil
}

// Append adds what r has at the offset, which must be where the file ends; else, and
// while somebody else does so, the error is errs.Conflict. What came before an error
// of r stays. Bytes beyond the file's size are errs.Invalid.
func (p *Partials) Append(id string, offset int64, r io.Reader) (_ Partial, err error) {
	part, done, err := p.use(id)
	if err != nil {
		return Partial{}, err
	}
	defer done()
	if offset != part.Offset {
		return *part, errs.New(errs.Conflict, "the file has %d bytes, and more were sent for position %d", part.Offset, offset)
	}
	f, err := os.OpenFile(p.path(id), os.O_WRONLY, 0)
	if err != nil {
		return *part, diskError("open unfinished file", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	left := part.SizeBytes - offset
	n, readErr := io.CopyBuffer(struct{ io.Writer }{io.NewOffsetWriter(f, offset)}, io.LimitReader(r, left), make([]byte, copyBuffer))
	if err := f.Sync(); err != nil {
		return *part, diskError("sync unfinished file", err)
	}
	p.mu.Lock()
	part.Offset += n
	out := *part
	p.mu.Unlock()
	if readErr != nil {
		return out, diskError("write unfinished file", readErr)
	}
	if n == left {
		if extra, _ := io.ReadFull(r, make([]byte, 1)); extra > 0 {
			return out, errs.New(errs.Invalid, "more bytes came than the %d of the file", out.SizeBytes)
		}
	}
	return out, nil
}

// Read calls fn with all bytes of a file, and nobody else uses it meanwhile.
func (p *Partials) Read(id string, fn func(part Partial, r io.Reader) error) (err error) {
	part, done, err := p.use(id)
	if err != nil {
		return err
	}
	defer done()
	f, err := os.Open(p.path(id))
	if err != nil {
		return fmt.Errorf("open unfinished file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return fn(*part, f)
}

// Drop deletes a file. One that is not here is no error.
func (p *Partials) Drop(id string) error {
	p.mu.Lock()
	part := p.all[id]
	delete(p.all, id)
	p.mu.Unlock()
	if part == nil {
		return nil
	}
	p.s.release(part.SizeBytes)
	// The note first: a file without one does not count.
	for _, path := range []string{p.path(id) + noteSuffix, p.path(id)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete unfinished file: %w", err)
		}
	}
	return nil
}

// Expire deletes files that took too long and that nobody is using.
func (p *Partials) Expire(now time.Time) {
	p.mu.Lock()
	var over []string
	for id, part := range p.all {
		if now.Sub(part.CreatedAt) > partialAge && !p.busy[id] {
			over = append(over, id)
		}
	}
	p.mu.Unlock()
	for _, id := range over {
		if err := p.Drop(id); err != nil {
			p.log.Warn("unfinished file stays", "path", id, "err", err)
		}
	}
}

// Run deletes files that took too long, until ctx ends; it returns ctx's cause.
func (p *Partials) Run(ctx context.Context) error {
	return loop.Every(ctx, p.log, expireEvery, expireEvery, nil, func(context.Context) error {
		p.Expire(time.Now())
		return nil
	})
}
