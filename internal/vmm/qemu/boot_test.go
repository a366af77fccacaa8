package qemu_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
)

// BenchmarkBoot measures the time from Start to a guest that says that its
// services are up, and where it goes: milliseconds of each stage's end, the
// median and the 90th percentile.
func BenchmarkBoot(b *testing.B) {
	d := open(b)
	img := vmmtest.GuestImage(b)
	if _, err := d.Probe(b.Context(), img); err != nil {
		b.Fatal(err)
	}
	stages := map[string][]time.Duration{}
	for b.Loop() {
		spec := vmmtest.NewSpec(b, img)
		begin := time.Now()
		m, err := d.Start(b.Context(), spec)
		if err != nil {
			b.Fatal(err)
		}
		stages["0-process"] = append(stages["0-process"], time.Since(begin))
		if err := m.Ready(b.Context()); err != nil {
			b.Fatal(err)
		}
		stages["9-total"] = append(stages["9-total"], time.Since(begin))
		info, err := m.Info(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for name, ms := range info.Timings {
			stages[name] = append(stages[name], time.Duration(ms)*time.Millisecond)
		}
		if err := m.Kill(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	for name, all := range stages {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Milliseconds()), fmt.Sprintf("p50-%s-ms", name))
		b.ReportMetric(float64(all[len(all)*9/10].Milliseconds()), fmt.Sprintf("p90-%s-ms", name))
	}
}
