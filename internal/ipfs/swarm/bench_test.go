package swarm_test

import (
	"log/slog"
	"testing"
)

// BenchmarkFetch fetches 64 MiB from another node of the mesh, over loopback and onto
// the disk.
func BenchmarkFetch(b *testing.B) {
	a := newNode(b, options{name: "a", log: slog.New(slog.DiscardHandler)})
	want := a.add(b, bytesOf(1, 256*chunk))
	b.SetBytes(want.Size)
	for b.Loop() {
		b.StopTimer()
		n := newNode(b, options{name: "b", log: slog.New(slog.DiscardHandler)})
		connect(b, n.mesh, a.mesh)
		b.StartTimer()
		if _, err := n.Fetch(b.Context(), want.CID); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		n.close()
		b.StartTimer()
	}
}
