package guestapi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// expiryBytes is the length of the time before a value: Unix seconds, big
	// endian.
	expiryBytes = 8
	// sweepEvery is how often entries whose time is over are removed.
	sweepEvery = 10 * time.Minute
	// indexBytes and tableBytes bound the memory of the store, beside the names
	// of entries, which are all in memory.
	indexBytes = 8 << 20
	tableBytes = 4 << 20
)

// Cache keeps the entries of programs on disk, each program's apart. It is safe
// for concurrent use. An entry that was just written may be lost when the host
// dies, not when the node does.
type Cache struct {
	cfg Config
	db  *pebble.DB

	ballast ballast

	mu       sync.Mutex
	programs map[message.ItemHash]*shelf // guarded by mu
	bytes    int64                       // Of all programs; guarded by mu
}

// shelf is what is known of the entries of a program.
type shelf struct {
	entries map[string]slot
	bytes   int64
}

type slot struct {
	bytes   int64 // Of value and name.
	expires time.Time
}

// OpenCache opens the cache in dir, which is made when it is absent.
func OpenCache(dir string, cfg Config, now time.Time) (*Cache, error) {
	spare := ballastIn(dir)
	if err := spare.fill(); err != nil {
		return nil, err
	}
	blocks := pebble.NewCache(indexBytes)
	defer blocks.Unref()
	db, err := pebble.Open(dir, &pebble.Options{
		FS: vfs.OnDiskFull(vfs.Default, spare.drop), Logger: quiet{}, FormatMajorVersion: pebble.FormatNewest, Cache: blocks, MemTableSize: tableBytes, MaxOpenFiles: 64,
	})
	if err != nil {
		return nil, fmt.Errorf("open the cache of programs in %s: %w", dir, err)
	}
	c := &Cache{cfg: cfg, db: db, ballast: spare, programs: map[message.ItemHash]*shelf{}}
	if err := c.load(now); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return c, nil
}

// quiet is a logger of the store: what goes wrong comes back as an error.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf("the cache of programs: "+format, args...)) // The store must not go on, and is whole when it is opened again.
}

// Close closes the cache.
func (c *Cache) Close() error {
	if err := c.db.Close(); err != nil {
		return fmt.Errorf("close the cache of programs: %w", err)
	}
	return nil
}

// Run removes entries whose time is over, until ctx ends.
func (c *Cache) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if err := errors.Join(c.Sweep(now), c.ballast.fill()); err != nil {
				return err
			}
		}
	}
}

// load reads which entries there are.
func (c *Cache) load(now time.Time) (err error) {
	it, err := c.db.NewIter(nil)
	if err != nil {
		return fmt.Errorf("list the cache of programs: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		spec, key, ok := strings.Cut(string(it.Key()), "\x00")
		value, verr := it.ValueAndErr()
		if verr != nil {
			return fmt.Errorf("read the cache of programs: %w", verr)
		}
		if !ok || len(value) < expiryBytes {
			continue
		}
		c.set(message.ItemHash(spec), key, slot{int64(len(key) + len(value)), expiryOf(value)})
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("list the cache of programs: %w", err)
	}
	return c.Sweep(now)
}

func expiryOf(value []byte) time.Time {
	return time.Unix(int64(binary.BigEndian.Uint64(value)), 0)
}

func place(spec message.ItemHash, key string) []byte { return []byte(string(spec) + "\x00" + key) }

// set notes an entry. The caller holds mu, or is alone.
func (c *Cache) set(spec message.ItemHash, key string, s slot) {
	c.unset(spec, key)
	sh := c.programs[spec]
	if sh == nil {
		sh = &shelf{entries: map[string]slot{}}
		c.programs[spec] = sh
	}
	sh.entries[key] = s
	sh.bytes += s.bytes
	c.bytes += s.bytes
}

// unset forgets an entry. The caller holds mu, or is alone.
func (c *Cache) unset(spec message.ItemHash, key string) {
	sh := c.programs[spec]
	if sh == nil {
		return
	}
	s := sh.entries[key]
	delete(sh.entries, key)
	sh.bytes -= s.bytes
	c.bytes -= s.bytes
	if len(sh.entries) == 0 {
		delete(c.programs, spec)
	}
}

// Get returns an entry, or errs.NotFound.
func (c *Cache) Get(spec message.ItemHash, key string, now time.Time) ([]byte, error) {
	raw, closer, err := c.db.Get(place(spec, key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, errs.New(errs.NotFound, "no entry %q", key)
	}
	if err != nil {
		return nil, fmt.Errorf("read cache: %w", err)
	}
	defer closer.Close()
	if len(raw) < expiryBytes || !expiryOf(raw).After(now) {
		return nil, errs.New(errs.NotFound, "no entry %q", key)
	}
	return slices.Clone(raw[expiryBytes:]), nil
}

// Put writes an entry. One that is too large gives errs.Invalid, a cache that
// is full errs.Exhausted.
func (c *Cache) Put(spec message.ItemHash, key string, value []byte, now time.Time) error {
	if int64(len(value)) > c.cfg.ValueKiB<<10 {
		return errs.New(errs.Invalid, "entry has %d bytes, at most %d are kept", len(value), c.cfg.ValueKiB<<10)
	}
	expires := now.Add(c.cfg.CacheTTL)
	raw := binary.BigEndian.AppendUint64(make([]byte, 0, expiryBytes+len(value)), uint64(expires.Unix()))
	raw = append(raw, value...)
	s := slot{int64(len(key) + len(raw)), time.Unix(expires.Unix(), 0)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.fits(spec, key, s) {
		if err := c.sweep(now); err != nil {
			return err
		}
		if !c.fits(spec, key, s) {
			return errs.New(errs.Exhausted, "the cache is full: at most %d entries of %d KiB in all", c.cfg.CacheKeys, c.cfg.CacheKiB)
		}
	}
	// Not forced to disk: it is a cache.
	if err := c.db.Set(place(spec, key), raw, pebble.NoSync); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	c.set(spec, key, s)
	return nil
}

// fits reports whether an entry has room, in place of the one with its key. The
// caller holds mu.
func (c *Cache) fits(spec message.ItemHash, key string, s slot) bool {
	entries, bytes, old := 0, int64(0), slot{}
	if sh := c.programs[spec]; sh != nil {
		var known bool
		if old, known = sh.entries[key]; known {
			entries--
		}
		entries += len(sh.entries)
		bytes = sh.bytes
	}
	grow := s.bytes - old.bytes
	return entries < c.cfg.CacheKeys && bytes+grow <= c.cfg.CacheKiB<<10 && c.bytes+grow <= c.cfg.CacheTotalMiB<<20
}

// Delete removes an entry, and reports whether there was one.
func (c *Cache) Delete(spec message.ItemHash, key string, now time.Time) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := false
	if sh := c.programs[spec]; sh != nil {
		s, ok := sh.entries[key]
		was = ok && s.expires.After(now)
	}
	if err := c.db.Delete(place(spec, key), pebble.NoSync); err != nil {
		return false, fmt.Errorf("delete from cache: %w", err)
	}
	c.unset(spec, key)
	return was, nil
}

// Keys returns the names of a program's entries that match a pattern, in which
// * stands for any text and ? for any character.
func (c *Cache) Keys(spec message.ItemHash, pattern string, now time.Time) []string {
	out := []string{}
	c.mu.Lock()
	if sh := c.programs[spec]; sh != nil {
		for key, s := range sh.entries {
			if s.expires.After(now) {
				out = append(out, key)
			}
		}
	}
	c.mu.Unlock()
	out = slices.DeleteFunc(out, func(key string) bool { return !glob([]rune(pattern), []rune(key)) })
	slices.Sort(out)
	return out
}

// glob matches without going back further than to the last star.
func glob(pattern, text []rune) bool {
	p, t, star, mark := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// Sweep removes entries whose time is over.
func (c *Cache) Sweep(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sweep(now)
}

func (c *Cache) sweep(now time.Time) error {
	b := c.db.NewBatch()
	type name struct {
		spec message.ItemHash
		key  string
	}
	var gone []name
	for spec, sh := range c.programs {
		for key, s := range sh.entries {
			if s.expires.After(now) {
				continue
			}
			if err := b.Delete(place(spec, key), nil); err != nil {
				return errors.Join(fmt.Errorf("sweep cache: %w", err), b.Close())
			}
			gone = append(gone, name{spec, key})
		}
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("sweep cache: %w", err)
	}
	for _, n := range gone {
		c.unset(n.spec, n.key)
	}
	return nil
}

// Forget removes all entries of a program.
func (c *Cache) Forget(spec message.ItemHash) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.db.DeleteRange(place(spec, ""), []byte(string(spec)+"\x01"), pebble.NoSync); err != nil {
		return fmt.Errorf("forget cache: %w", err)
	}
	if sh := c.programs[spec]; sh != nil {
		c.bytes -= sh.bytes
		delete(c.programs, spec)
	}
	return nil
}
