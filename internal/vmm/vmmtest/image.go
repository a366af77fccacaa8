package vmmtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
)

// GuestImage returns the guest image of packaging/image, built when it is not
// there yet: the first time that takes some 20 seconds and a Debian mirror.
func GuestImage(t testing.TB) vmm.Image {
	t.Helper()
	path := GuestImageFile(t)
	img, err := vmm.OpenImage(t.Context(), path, filepath.Join(filepath.Dir(path), "unpacked", stamp(t, path)))
	if err != nil {
		t.Fatalf("open guest image: %v", err)
	}
	return img
}

// GuestImageFile returns the path of the guest image, built when it is not
// there yet.
func GuestImageFile(t testing.TB) string {
	t.Helper()
	root := moduleRoot(t)
	path := filepath.Join(root, "build", "images", "debian.aleph")
	if err := buildGuestImage(root, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// built is one attempt per process: to find out that the image is up to date
// takes the go tool half a second, and every test asks.
var built struct { //nolint:gochecknoglobals // See above.
	once sync.Once
	err  error
}

func buildGuestImage(root, path string) error {
	built.once.Do(func() {
		cmd := exec.Command("go", "run", "./packaging/image", "-o", path) //nolint:noctx // Other tests wait for it too.
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build guest image: %w\n%s", err, out)
		}
	})
	return built.err
}

// stamp names the content of the image, as its item hash would: the builder
// wrote the hash beside it.
func stamp(t testing.TB, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path + ".inputs")
	if err != nil {
		t.Fatal(err)
	}
	const digits = 16
	return string(raw[:digits])
}

func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test's directory")
		}
		dir = parent
	}
}
