package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// The plot's measures, in pixels.
const (
	plotWidth, plotHeight, plotMargin = 720, 420, 60
	plotLines                         = 8 // The slowest kinds of reads have a line each.
)

// plot draws p99 of reads against the number of stored messages, both by powers of
// ten.
func (b *bench) plot() string {
	series := map[string][]result{}
	for _, r := range b.results {
		if r.Size > 0 {
			series[r.Name] = append(series[r.Name], r)
		}
	}
	var names []string
	low, high := math.Inf(1), 10.0
	for name, all := range series {
		names = append(names, name)
		for _, r := range all {
			low, high = min(low, r.High), max(high, r.High)
		}
	}
	slices.SortFunc(names, func(x, y string) int {
		last := func(name string) float64 { return series[name][len(series[name])-1].High }
		return cmp.Or(cmp.Compare(last(y), last(x)), cmp.Compare(x, y))
	})
	names = names[:min(len(names), plotLines)]
	least, most := float64(b.sizes[0]), float64(b.sizes[len(b.sizes)-1])
	scale := func(v, from, to float64, pixels float64) float64 {
		if from == to {
			return pixels / 2
		}
		return (math.Log10(v) - math.Log10(from)) / (math.Log10(to) - math.Log10(from)) * pixels
	}
	x := func(n int) float64 { return plotMargin + scale(float64(n), least, most, plotWidth-4*plotMargin) }
	y := func(ms float64) float64 {
		return plotHeight - plotMargin - scale(max(ms, low), low, high, plotHeight-2*plotMargin)
	}
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&s, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="20">p99 of reads in ms, by stored messages; both axes are logarithmic</text>`+"\n", plotMargin)
	fmt.Fprintf(&s, `<line x1="%d" y1="%.0f" x2="%d" y2="%.0f" stroke="#999" stroke-dasharray="4"/><text x="4" y="%.0f">10 ms</text>`+"\n",
		plotMargin, y(10), plotWidth-3*plotMargin, y(10), y(10)+4)
	for _, n := range b.sizes {
		fmt.Fprintf(&s, `<text x="%.0f" y="%d" text-anchor="middle">%s</text>`+"\n", x(n), plotHeight-plotMargin/2, thousands(n))
	}
	for i, name := range names {
		hue := 360 * i / len(names)
		var points strings.Builder
		for _, r := range series[name] {
			fmt.Fprintf(&points, "%.1f,%.1f ", x(r.Size), y(r.High))
		}
		fmt.Fprintf(&s, `<polyline fill="none" stroke="hsl(%d,70%%,40%%)" stroke-width="2" points="%s"/>`+"\n", hue, strings.TrimSpace(points.String()))
		fmt.Fprintf(&s, `<text x="%d" y="%d" fill="hsl(%d,70%%,40%%)">%s</text>`+"\n", plotWidth-3*plotMargin+8, plotMargin+18*i, hue, name)
	}
	s.WriteString("</svg>\n")
	return s.String()
}
