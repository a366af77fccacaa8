package blob

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// SetFree makes the disk have room for so many bytes.
func (s *Store) SetFree(free func() int64) {
	s.free = func(string) (int64, error) { return free(), nil }
}

// AgeStage makes a staged blob so old.
func (s *Store) AgeStage(t *testing.T, name string, age time.Duration) {
	t.Helper()
	at := time.Now().Add(-age)
	if err := os.Chtimes(filepath.Join(s.staged, name), at, at); err != nil {
		t.Fatal(err)
	}
}
