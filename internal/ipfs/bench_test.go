package ipfs_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
)

// stream is bytes in which no chunk is another's.
type stream struct {
	chunk []byte
	left  int
	count uint64
	rest  []byte
}

func newStream(size int) *stream { return &stream{chunk: noise(42, chunk), left: size} }

func (s *stream) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		if s.left == 0 {
			return 0, io.EOF
		}
		s.count++
		binary.BigEndian.PutUint64(s.chunk, s.count)
		s.rest = s.chunk[:min(s.left, len(s.chunk))]
		s.left -= len(s.rest)
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// peak watches the heap until it is called, and returns the most it held.
func peak() func() float64 {
	runtime.GC()
	var most atomic.Uint64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapAlloc))
			select {
			case <-tick.C:
			case <-done:
				tick.Stop()
				return
			}
		}
	}()
	return func() float64 {
		close(done)
		<-ended
		return float64(most.Load()) / (1 << 20)
	}
}

// BenchmarkAdd compares adding with hashing the same bytes once.
func BenchmarkAdd(b *testing.B) {
	sizes := []int{64 << 20, 1 << 30}
	for _, size := range sizes {
		run := func(name string, fn func(b *testing.B)) {
			b.Run(fmt.Sprintf("%dMiB/%s", size>>20, name), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				fn(b)
			})
		}
		run("sha256", func(b *testing.B) {
			b.Helper()
			buf := make([]byte, chunk)
			for range b.N {
				h := sha256.New()
				if _, err := io.CopyBuffer(struct{ io.Writer }{h}, newStream(size), buf); err != nil {
					b.Fatal(err)
				}
			}
		})
		for _, v := range []ipfs.Version{ipfs.V0, ipfs.V1} {
			run(fmt.Sprintf("stream v%d", v), func(b *testing.B) {
				b.Helper()
				n := newNode(b)
				b.ResetTimer()
				most := peak()
				for range b.N {
					root, err := n.Add(b.Context(), newStream(size), v)
					if err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					n.remove(b, root)
					b.StartTimer()
				}
				b.ReportMetric(most(), "peak-MiB")
			})
		}
		run("blob v1", func(b *testing.B) {
			b.Helper()
			n := newNode(b)
			info, err := n.blobs.Put(b.Context(), newStream(size), "")
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			most := peak()
			for range b.N {
				root, err := n.AddBlob(b.Context(), info.Hash, ipfs.V1)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if _, err := n.Delete(root.CID); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(most(), "peak-MiB")
		})
		run("read", func(b *testing.B) {
			b.Helper()
			n := newNode(b)
			root, err := n.Add(b.Context(), newStream(size), ipfs.V1)
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			most := peak()
			for range b.N {
				f, err := n.Open(root.CID)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := f.WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
				f.Close()
			}
			b.ReportMetric(most(), "peak-MiB")
		})
		run("archive out and in", func(b *testing.B) {
			b.Helper()
			n, to := newNode(b), newNode(b)
			root, err := n.Add(b.Context(), newStream(size), ipfs.V1)
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			most := peak()
			for range b.N {
				in, out := io.Pipe()
				go func() { out.CloseWithError(n.Export(b.Context(), root.CID, out)) }()
				car, err := ipfs.OpenCAR(in)
				if err != nil {
					b.Fatal(err)
				}
				copied, err := to.AddCAR(b.Context(), car)
				if err != nil || copied != root {
					b.Fatal(copied, err)
				}
				b.StopTimer()
				to.remove(b, copied)
				b.StartTimer()
			}
			b.ReportMetric(most(), "peak-MiB")
		})
	}
}

// BenchmarkSmall adds files of 1 KiB, each acknowledged when it is on the disk.
// BenchmarkMatcher is what it costs to check a file that comes by its CID, beside the
// sha256 of its bytes; see BenchmarkAdd.
func BenchmarkMatcher(b *testing.B) {
	const size = 64 << 20
	id := newNode(b).add(b, noise(1, 1024), ipfs.V0).CID
	b.SetBytes(size)
	b.ReportAllocs()
	buf := make([]byte, chunk)
	for range b.N {
		m, err := ipfs.NewMatcher(id)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{m}, newStream(size), buf); err != nil {
			b.Fatal(err)
		}
		if ok, err := m.Matches(); ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkSmall(b *testing.B) {
	n := newNode(b)
	data := noise(1, 1024)
	b.ReportAllocs()
	for i := range b.N {
		binary.BigEndian.PutUint64(data, uint64(i))
		n.add(b, data, ipfs.V0)
	}
}
