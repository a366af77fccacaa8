package vmnet_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

// BenchmarkOneMoreMachine measures what the network of a machine costs that
// comes to others and goes again: two Applies.
func BenchmarkOneMoreMachine(b *testing.B) {
	for _, others := range []int{0, 100, 1000} {
		b.Run(fmt.Sprint(others), func(b *testing.B) {
			cfg := vmnet.DefaultConfig()
			cfg.Mode, cfg.Name, cfg.IPv6Pool, cfg.Bind = vmnet.Tap, "bench", pool6, "0.0.0.0"
			n, err := vmnet.Open(cfg, slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			defer func() {
				if err := n.Purge(); err != nil {
					b.Error(err)
				}
			}()
			var leases []vmnet.Lease
			for i := range others {
				leases = append(leases, web(fmt.Sprint("other", i), i, 24000+i))
			}
			if err := n.Apply(b.Context(), leases); err != nil {
				b.Fatal(err)
			}
			more := append(leases[:len(leases):len(leases)], web("more", others, 24000+others))
			before := cpu(b)
			b.ResetTimer()
			for b.Loop() {
				for _, l := range [][]vmnet.Lease{more, leases} {
					if err := n.Apply(b.Context(), l); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// cpu returns what this process has used, in the kernel too.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
