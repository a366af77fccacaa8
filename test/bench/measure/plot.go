package measure

import (
	"fmt"
	"math"
	"strings"
)

// The plot's measures, in pixels.
const (
	plotWidth, plotHeight, plotMargin = 760, 420, 60
	// plotLegend is the room for the names of lines, and plotLine that of each.
	plotLegend, plotLine = 200, 18
)

// Plot has lines over logarithmic axes.
type Plot struct {
	Name   string   `json:"name"` // Follows that of the report in the name of the file.
	Title  string   `json:"title"`
	Text   string   `json:"text"` // Stands above it in the table.
	Series []Series `json:"series"`
	// Aim is drawn across, unless it is 0, with its text.
	Aim     float64 `json:"aim,omitempty"`
	AimText string  `json:"aim_text,omitempty"`
}

// Series is a line. Values are positive, X ascends, and all lines have the same.
type Series struct {
	Name string    `json:"name"`
	X    []float64 `json:"x"`
	Y    []float64 `json:"y"`
}

func (p Plot) file(report string) string {
	if p.Name == "" {
		return report + ".svg"
	}
	return report + "-" + p.Name + ".svg"
}

// frame is where values are in the picture.
type frame struct{ left, right, low, high float64 }

func (p Plot) frame() frame {
	f := frame{math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)}
	if p.Aim > 0 {
		f.low, f.high = p.Aim, p.Aim
	}
	for _, s := range p.Series {
		for i := range s.X {
			f.left, f.right = min(f.left, s.X[i]), max(f.right, s.X[i])
			f.low, f.high = min(f.low, s.Y[i]), max(f.high, s.Y[i])
		}
	}
	return f
}

func scale(v, from, to, pixels float64) float64 {
	if from >= to {
		return pixels / 2 //nolint:mnd // the middle
	}
	return (math.Log10(v) - math.Log10(from)) / (math.Log10(to) - math.Log10(from)) * pixels
}

func (f frame) x(v float64) float64 {
	return plotMargin + scale(v, f.left, f.right, plotWidth-2*plotMargin-plotLegend)
}

func (f frame) y(v float64) float64 {
	return plotHeight - plotMargin - scale(v, f.low, f.high, plotHeight-2*plotMargin)
}

// SVG draws the plot.
func (p Plot) SVG() string {
	const end = plotWidth - plotMargin - plotLegend
	f := p.frame()
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&s, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="20">%s; both axes are logarithmic</text>`+"\n", plotMargin, p.Title)
	across := func(v float64, text, dash string) {
		fmt.Fprintf(&s, `<line x1="%d" y1="%.0f" x2="%d" y2="%.0f" stroke="#bbb"%s/><text x="4" y="%.0f">%s</text>`+"\n", plotMargin, f.y(v), end, f.y(v), dash, f.y(v)+4, text)
	}
	for v := math.Pow10(int(math.Ceil(math.Log10(f.low)))); v <= f.high; v *= 10 {
		across(v, strings.TrimSpace(Figure(v, "")), "")
	}
	if p.Aim > 0 {
		across(p.Aim, p.AimText, ` stroke-dasharray="4"`)
	}
	if len(p.Series) > 0 {
		for _, v := range p.Series[0].X {
			fmt.Fprintf(&s, `<text x="%.0f" y="%d" text-anchor="middle">%s</text>`+"\n", f.x(v), plotHeight-plotMargin/2, Thousands(int(v)))
		}
	}
	for i, line := range p.Series {
		hue := 360 * i / len(p.Series)
		points := make([]string, len(line.X))
		for k := range line.X {
			points[k] = fmt.Sprintf("%.1f,%.1f", f.x(line.X[k]), f.y(line.Y[k]))
		}
		fmt.Fprintf(&s, `<polyline fill="none" stroke="hsl(%d,70%%,40%%)" stroke-width="2" points="%s"/>`+"\n", hue, strings.Join(points, " "))
		fmt.Fprintf(&s, `<text x="%d" y="%d" fill="hsl(%d,70%%,40%%)">%s</text>`+"\n", end+8, plotMargin+plotLine*i, hue, line.Name)
	}
	s.WriteString("</svg>\n")
	return s.String()
}
