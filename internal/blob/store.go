package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	bytesPerGB = 1_000_000_000
	maxSizeGB  = 1_000_000 // a petabyte; more is a slip of the finger
	// shardLen is how many digits of a hash name its folder, so that no folder
	// grows too long to list.
	shardLen = 2
	// copyBuffer is how much is hashed and written at a time.
	copyBuffer = 256 << 10
)

// Config bounds the store.
type Config struct {
	MaxSizeGB float64 `toml:"max_size_gb"` // Most that blobs may take on disk, in gigabytes (10^9 bytes).
}

// DefaultConfig allows 100 GB.
func DefaultConfig() Config { return Config{MaxSizeGB: 100} }

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if !(c.MaxSizeGB > 0 && c.MaxSizeGB <= maxSizeGB) {
		return fmt.Errorf("max_size_gb is %g, want more than 0 and at most %d", c.MaxSizeGB, maxSizeGB)
	}
	return nil
}

// Info names a blob and its length.
type Info struct {
	Hash message.ItemHash
	Size int64 // bytes
}

// Store is a folder of blobs. Use Open. It is safe for concurrent use; only one
// process may have it open, which the database beside it sees to.
type Store struct {
	objects, tmp, staged string
	maxBytes             int64
	log                  *slog.Logger
	reg                  prometheus.Registerer
	gauges               []prometheus.Collector
	free                 func(dir string) (int64, error) // bytes that the disk has room for

	mu      sync.Mutex
	used    int64           // bytes of blobs and of unfinished writes; guarded by mu
	writing map[string]bool // staged blobs that somebody writes to; guarded by mu
}

// Open opens the store in dir, creating it as needed, and sweeps what
// unfinished writes left there.
func Open(dir string, cfg Config, reg prometheus.Registerer, log *slog.Logger) (*Store, error) {
	s := &Store{
		objects: filepath.Join(dir, "objects"), tmp: filepath.Join(dir, "tmp"), staged: filepath.Join(dir, "staged"), writing: map[string]bool{},
		maxBytes: int64(cfg.MaxSizeGB * bytesPerGB), log: log, reg: reg, free: freeBytes,
	}
	if err := s.sweep(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.objects, 0o700); err != nil {
		return nil, fmt.Errorf("create %s: %w", s.objects, err)
	}
	blobs, err := s.List()
	if err != nil {
		return nil, err
	}
	for _, b := range blobs {
		s.used += b.Size
	}
	if err := s.openStages(); err != nil {
		return nil, err
	}
	if err := s.register(); err != nil {
		return nil, err
	}
	return s, nil
}

// sweep empties the folder of unfinished writes.
func (s *Store) sweep() error {
	left, err := os.ReadDir(s.tmp)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list unfinished blobs: %w", err)
	}
	if err := os.RemoveAll(s.tmp); err != nil {
		return fmt.Errorf("sweep unfinished blobs: %w", err)
	}
	if err := os.MkdirAll(s.tmp, 0o700); err != nil {
		return fmt.Errorf("create %s: %w", s.tmp, err)
	}
	if len(left) > 0 {
		s.log.Info("swept unfinished blobs", "count", len(left))
	}
	return nil
}

func (s *Store) register() error {
	gauge := func(name, help string, of func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, of)
	}
	all := []prometheus.Collector{
		gauge("aleph_blob_used_bytes", "Bytes of blobs and of writes in progress.", func() float64 { return float64(s.Used()) }),
		gauge("aleph_blob_max_bytes", "Bytes that blobs may take.", func() float64 { return float64(s.maxBytes) }),
	}
	for _, c := range all {
		if err := s.reg.Register(c); err != nil {
			return errors.Join(fmt.Errorf("register metrics: %w", err), s.Close())
		}
		s.gauges = append(s.gauges, c)
	}
	return nil
}

// Close takes the store's metrics back. Blobs are on disk already.
func (s *Store) Close() error {
	for _, c := range s.gauges {
		s.reg.Unregister(c)
	}
	s.gauges = nil
	return nil
}

// Used returns the bytes that blobs and unfinished writes take.
func (s *Store) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// Put stores what r has. With a hash the bytes must have it, or nothing is
// stored and the error is errs.Invalid. Bytes that are here already are no
// error.
func (s *Store) Put(ctx context.Context, r io.Reader, want message.ItemHash) (_ Info, err error) {
	w, err := s.Create()
	if err != nil {
		return Info{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Abort())
		}
	}()
	// The wrappers hide ReadFrom and WriteTo: each piece must pass the quota.
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, contextReader{ctx, r}, make([]byte, copyBuffer)); err != nil {
		return Info{}, err
	}
	return w.Commit(want)
}

// contextReader ends when ctx does, between two reads.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives for one call of Put
	r   io.Reader
}

// Read implements io.Reader.
func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// Has reports whether the blob is here.
func (s *Store) Has(hash message.ItemHash) bool {
	_, err := s.Stat(hash)
	return err == nil
}

// Stat returns the blob's length, or errs.NotFound.
func (s *Store) Stat(hash message.ItemHash) (Info, error) {
	path, err := s.Path(hash)
	if err != nil {
		return Info{}, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return Info{}, notHere(hash, err)
	}
	return Info{Hash: hash, Size: fi.Size()}, nil
}

// Path returns where the blob is, or would be, for what needs a file by name.
// The file must not be written to.
func (s *Store) Path(hash message.ItemHash) (string, error) {
	if _, ok := hash.Digest(); !ok {
		return "", errs.New(errs.Invalid, "blob name %.80q is not 64 lower-case hex digits", string(hash))
	}
	return filepath.Join(s.objects, string(hash[:shardLen]), string(hash)), nil
}

// Reader reads a blob: in order, at offsets, or after a seek.
type Reader struct {
	*os.File
	Info Info
}

// Open opens a blob for reading, or returns errs.NotFound. The caller closes
// it; deleting the blob meanwhile does not disturb it.
func (s *Store) Open(hash message.ItemHash) (*Reader, error) {
	path, err := s.Path(hash)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, notHere(hash, err)
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stat blob %s: %w", hash, err), f.Close())
	}
	return &Reader{File: f, Info: Info{Hash: hash, Size: fi.Size()}}, nil
}

func notHere(hash message.ItemHash, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errs.New(errs.NotFound, "no blob %s", hash)
	}
	return fmt.Errorf("open blob %s: %w", hash, err)
}

// Delete removes a blob; one that is not here is no error.
func (s *Store) Delete(hash message.ItemHash) error {
	path, err := s.Path(hash)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stat blob %s: %w", hash, err)
	}
	return s.deleteLocked(hash, path, fi)
}

// deleteLocked removes the file of a blob; the caller holds mu.
func (s *Store) deleteLocked(hash message.ItemHash, path string, fi fs.FileInfo) error {
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("delete blob %s: %w", hash, err)
	}
	s.used -= fi.Size()
	return syncDir(filepath.Dir(path))
}

// List returns every blob, by hash.
func (s *Store) List() ([]Info, error) {
	var out []Info
	err := filepath.WalkDir(s.objects, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		hash := message.ItemHash(d.Name())
		if _, ok := hash.Digest(); !ok {
			return nil // not ours
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		out = append(out, Info{Hash: hash, Size: fi.Size()})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	slices.SortFunc(out, func(a, b Info) int {
		if a.Hash < b.Hash {
			return -1
		}
		return 1
	})
	return out, nil
}

// Verify reads the whole blob and compares it with its name. A blob that rotted
// gives errs.Internal and is left for the caller to judge.
func (s *Store) Verify(ctx context.Context, hash message.ItemHash) error {
	r, err := s.Open(hash)
	if err != nil {
		return err
	}
	defer r.Close()
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, struct{ io.Reader }{contextReader{ctx, r}}, make([]byte, copyBuffer)); err != nil {
		return fmt.Errorf("read blob %s: %w", hash, err)
	}
	if got := message.ItemHashOf([sha256.Size]byte(sum.Sum(nil))); got != hash {
		return errs.New(errs.Internal, "blob %s has rotted: its bytes hash to %s", hash, got)
	}
	return nil
}
