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
	return openImage(t, GuestImageFile(t))
}

// FunctionImage returns the image of functions, built when it is not there yet:
// the first time that takes a minute and a Debian mirror.
func FunctionImage(t testing.TB) vmm.Image {
	t.Helper()
	return openImage(t, buildImage(t, "function.aleph", "-function"))
}

func openImage(t testing.TB, path string) vmm.Image {
	t.Helper()
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
	return buildImage(t, "debian.aleph")
}

// built is one attempt per process and image: to find out that the image is up to
// date takes the go tool half a second, and every test asks.
var built struct { //nolint:gochecknoglobals // See above.
	mu  sync.Mutex
	err map[string]error
}

func buildImage(t testing.TB, name string, args ...string) string {
	t.Helper()
	root := moduleRoot(t)
	path := filepath.Join(root, "build", "images", name)
	built.mu.Lock()
	defer built.mu.Unlock()
	err, tried := built.err[name]
	if !tried {
		cmd := exec.Command("go", append([]string{"run", "./packaging/image", "-o", path}, args...)...) //nolint:noctx // Other tests wait for it too.
		cmd.Dir = root
		out, failed := cmd.CombinedOutput()
		if failed != nil {
			err = fmt.Errorf("build guest image: %w\n%s", failed, out)
		}
		if built.err == nil {
			built.err = map[string]error{}
		}
		built.err[name] = err
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
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
