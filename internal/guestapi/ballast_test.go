package guestapi

import (
	"errors"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"golang.org/x/sys/unix"
)

// TestAFullDiskTakesTheBallastFirst writes where there is room for as long as the
// ballast is gone.
func TestAFullDiskTakesTheBallastFirst(t *testing.T) {
	dir := t.TempDir()
	b := ballastIn(dir)
	for range 2 { // The second finds it there.
		if err := b.fill(); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(string(b)); err != nil || info.Size() != ballastBytes {
		t.Fatalf("ballast is %v, %v, want %d bytes", info, err, ballastBytes)
	}
	full := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if _, err := os.Stat(string(b)); err == nil && op.Kind == errorfs.OpFileWrite {
			return unix.ENOSPC
		}
		return nil
	}))

	f, err := vfs.OnDiskFull(full, b.drop).Create(dir+"/MANIFEST", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("x")); err != nil {
		t.Errorf("write to a full disk: %v, want it to work without the ballast", err)
	}
	if _, err := os.Stat(string(b)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the ballast is still there: %v", err)
	}
	if err := b.fill(); err != nil {
		t.Errorf("fill anew: %v", err)
	}
	if err := ballastIn("/dev/null/cache").fill(); err == nil {
		t.Error("a ballast where none can be gives no error")
	}
}
