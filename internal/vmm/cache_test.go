package vmm_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// store writes the bytes to a file with the name that they hash to.
func store(t testing.TB, raw []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), string(message.HashOf(raw)))
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// rot changes a byte in the middle of a file, which then looks as before
// unless seen is set.
func rot(t *testing.T, name string, seen bool) {
	t.Helper()
	fi, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	at := fi.ModTime()
	if seen {
		at = at.Add(time.Second)
	}
	if err := os.Chtimes(name, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestAnUnpackedImageThatRottedIsUnpackedAgain(t *testing.T) {
	for _, member := range []string{"kernel", "initrd", "rootfs", "manifest.json", "sums.json"} {
		t.Run(member, func(t *testing.T) {
			path, dir := store(t, pack(t, goodParts())), t.TempDir()
			img, err := vmm.NewCache(dir).Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(filepath.Dir(img.Rootfs), member)
			good, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			rot(t, name, false)

			again, err := vmm.NewCache(dir).Open(t.Context(), path) // As after a restart.

			if err != nil || again != img {
				t.Fatalf("Open = %+v, %v, want %+v", again, err, img)
			}
			if raw, err := os.ReadFile(name); err != nil || !bytes.Equal(raw, good) {
				t.Errorf("%s is not as it was unpacked (%v)", member, err)
			}
		})
	}
}

func TestAnImageIsReadAgainWhenItLooksChangedOrAfterHours(t *testing.T) {
	for _, tt := range []struct {
		name  string
		wait  time.Duration
		seen  bool
		fresh bool
	}{
		{"just verified", 0, false, false},
		{"changed", 0, true, true},
		{"long ago", 6 * time.Hour, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path, dir := store(t, pack(t, goodParts())), t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				cache := vmm.NewCache(dir)
				img, err := cache.Open(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				good, err := os.ReadFile(img.Rootfs)
				if err != nil {
					t.Fatal(err)
				}
				rot(t, img.Rootfs, tt.seen)
				time.Sleep(tt.wait)

				if _, err := cache.Open(t.Context(), path); err != nil {
					t.Fatal(err)
				}

				raw, err := os.ReadFile(img.Rootfs)
				if err != nil || bytes.Equal(raw, good) != tt.fresh {
					t.Errorf("unpacked anew: %v (%v), want %v", bytes.Equal(raw, good), err, tt.fresh)
				}
			})
		})
	}
}

func TestAnImageFileThatRottedIsNotOpened(t *testing.T) {
	disk := bytes.Repeat([]byte("disk"), 1<<10)
	for name, raw := range map[string][]byte{"tar": pack(t, goodParts()), "disk": disk} {
		t.Run(name, func(t *testing.T) {
			path, dir := store(t, raw), t.TempDir()
			rot(t, path, false)

			_, err := vmm.NewCache(dir).Open(t.Context(), path)

			if !errors.Is(err, vmm.ErrRotten) || errs.KindOf(err) != errs.Unavailable {
				t.Errorf("Open: %v, want ErrRotten", err)
			}
			if left, err := filepath.Glob(filepath.Join(dir, "*", "rootfs")); err != nil || len(left) > 0 {
				t.Errorf("left: %v (%v)", left, err)
			}
		})
	}
	cache, path := vmm.NewCache(t.TempDir()), store(t, disk)
	if _, err := cache.Open(t.Context(), path); err != nil {
		t.Errorf("Open of a sound disk: %v", err)
	}
	rot(t, path, true)
	if _, err := cache.Open(t.Context(), path); !errors.Is(err, vmm.ErrRotten) {
		t.Errorf("Open of a disk that was verified and changed: %v, want ErrRotten", err)
	}
}

// Rot that makes an image look invalid is no fault of who made it.
func TestARottenManifestIsRotAndNoBadImage(t *testing.T) {
	raw := pack(t, goodParts())
	path := store(t, raw)
	raw[600] = 0 // In the manifest.
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}

	_, err := vmm.NewCache(t.TempDir()).Open(t.Context(), path)

	if !errors.Is(err, vmm.ErrRotten) {
		t.Errorf("Open: %v, want ErrRotten", err)
	}
	bad := goodParts()
	bad[1].data = "no kernel"
	if _, err := vmm.NewCache(t.TempDir()).Open(t.Context(), store(t, pack(t, bad))); errs.KindOf(err) != errs.Invalid {
		t.Errorf("Open of an image without a kernel: %v, want errs.Invalid", err)
	}
}

func TestPruneRemovesWhatNobodyUses(t *testing.T) {
	dir := t.TempDir()
	cache := vmm.NewCache(dir)
	var names []string
	for i := range 4 {
		parts := goodParts()
		parts[2].data = strings.Repeat("initrd", i+1)
		path := store(t, pack(t, parts))
		if _, err := cache.Open(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		names = append(names, filepath.Base(path))
	}
	if err := os.Mkdir(filepath.Join(dir, ".trash-"+names[0]), 0o700); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	for _, name := range names[:3] {
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}

	removed, err := cache.Prune(time.Now().Add(-time.Hour), func() (func(string) bool, error) {
		// Meanwhile somebody boots the third.
		if err := os.Chtimes(filepath.Join(dir, names[2]), time.Now(), time.Now()); err != nil {
			return nil, err
		}
		return func(name string) bool { return name == names[1] }, nil
	})

	if err != nil || !slices.Equal(removed, names[:1]) {
		t.Errorf("Prune = %v, %v, want %v", removed, err, names[:1])
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	want := append([]string{".unpack"}, names[1:]...)
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("left: %v, want %v", left, want)
	}
	broken := errors.New("the database is away")
	if _, err := cache.Prune(time.Now(), func() (func(string) bool, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("Prune without an answer: %v, want its error", err)
	}
}

// BenchmarkOpen tells what verifying costs a boot, for an image of 100 MB.
func BenchmarkOpen(b *testing.B) {
	parts := goodParts()
	parts[3].data = strings.Repeat("0123456789abcdef", 100<<20/16)
	path, dir := store(b, pack(b, parts)), b.TempDir()
	cache := vmm.NewCache(dir)
	if _, err := cache.Open(b.Context(), path); err != nil {
		b.Fatal(err)
	}
	b.Run("after a restart", func(b *testing.B) {
		for b.Loop() {
			if _, err := vmm.NewCache(dir).Open(b.Context(), path); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verified before", func(b *testing.B) {
		for b.Loop() {
			if _, err := cache.Open(b.Context(), path); err != nil {
				b.Fatal(err)
			}
		}
	})
}
