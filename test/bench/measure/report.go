// Package measure has what the benches share: figures of what was measured several times,
// the files that hold them, plots, and what the system says of this process.
package measure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Result is a line of a table: what was measured N times.
type Result struct {
	Group  string  `json:"group"`
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Median float64 `json:"median"`
	High   float64 `json:"high,omitempty"` // The quantile of the report; 0 of one value.
	N      int     `json:"n"`
	// CPUUS is the processor time of one operation, in microseconds.
	CPUUS float64 `json:"cpu_us_per_op,omitempty"`
	Aim   float64 `json:"aim,omitempty"`
	// Peer is what Of took in the same run, and Ratio Median by it.
	Peer  float64 `json:"peer,omitempty"`
	Of    string  `json:"of,omitempty"`
	Ratio float64 `json:"ratio,omitempty"`
}

// Against sets what the result is compared with.
func (r *Result) Against(of string, peer float64) {
	r.Of, r.Peer = of, peer
	if peer != 0 {
		r.Ratio = r.Median / peer
	}
}

// Report is a run: its results, and how they are written.
type Report struct {
	Name     string  // Of the files, without an ending.
	Table    string  // File of the table; "" = that of Name.
	Title    string  // Of the table.
	Command  string  // That measures all.
	About    string  // What is said of all results.
	Quantile float64 // What is given beside the median, as 0.99.
	Say      func(format string, args ...any)

	results []*Result
	notes   map[string]string // By group.
	plots   []Plot
	before  *saved // What stays of another run; nil = nothing.
}

// saved is a report as its file of JSON has it.
type saved struct {
	At       string            `json:"at"`
	CPUs     int               `json:"cpus"`
	Go       string            `json:"go"`
	Quantile float64           `json:"quantile"`
	Results  []*Result         `json:"results"`
	Notes    map[string]string `json:"notes,omitempty"`   // By group.
	Earlier  map[string]string `json:"earlier,omitempty"` // By group that another run measured: when, and on what.
	Plots    []Plot            `json:"plots,omitempty"`
}

// Progress returns a function that tells how far a run is.
func Progress(out io.Writer, name string) func(format string, args ...any) {
	began := time.Now()
	return func(format string, args ...any) {
		fmt.Fprintf(out, name+": [%6.1fs] "+format+"\n", append([]any{time.Since(began).Seconds()}, args...)...)
	}
}

// Add keeps the summary of values. What else is known is set in the result.
func (r *Report) Add(group, name, unit string, values ...float64) *Result {
	one := &Result{Group: group, Name: name, Unit: unit, Median: Quantile(values, 0.5), N: len(values)} //nolint:mnd // the median
	if len(values) > 1 {
		one.High = Quantile(values, r.Quantile)
	}
	r.results = append(r.results, one)
	r.Say("%s: %s: median %s, %s %s of %d", group, name, Figure(one.Median, unit), r.quantile(), Figure(one.High, unit), one.N)
	return one
}

// Note says something of a group, above its table.
func (r *Report) Note(group, text string) {
	if r.notes == nil {
		r.notes = map[string]string{}
	}
	r.notes[group] = text
}

// Plot adds a plot, below all tables.
func (r *Report) Plot(p Plot) { r.plots = append(r.plots, p) }

func (r *Report) quantile() string { return fmt.Sprintf("p%.0f", 100*r.Quantile) } //nolint:mnd // percent

// Keep has Write leave what is in the report that is in dir, but for the groups and plots
// that this run has. If there is none, nothing is left.
func (r *Report) Keep(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, r.Name+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the report of before: %w", err)
	}
	r.before = new(saved)
	if err := json.Unmarshal(raw, r.before); err != nil {
		return fmt.Errorf("read the report of before, %s: %w", filepath.Join(dir, r.Name+".json"), err)
	}
	return nil
}

// all is this run, and what stays of another in the order that it had there.
func (r *Report) all() saved {
	out := saved{
		At: time.Now().UTC().Format(time.RFC3339), CPUs: runtime.NumCPU(), Go: runtime.Version(), Quantile: r.Quantile,
		Notes: maps.Clone(r.notes), Earlier: map[string]string{},
	}
	if out.Notes == nil {
		out.Notes = map[string]string{}
	}
	now := map[string][]*Result{}
	for _, one := range r.results {
		now[one.Group] = append(now[one.Group], one)
	}
	done := map[string]bool{}
	if b := r.before; b != nil {
		for _, one := range b.Results {
			group := one.Group
			if len(now[group]) > 0 {
				if !done[group] {
					out.Results = append(out.Results, now[group]...)
				}
				done[group] = true
				continue
			}
			out.Results = append(out.Results, one)
			out.Earlier[group] = b.Earlier[group]
			if out.Earlier[group] == "" {
				out.Earlier[group] = fmt.Sprintf("%s, on %d processors with %s", b.At, b.CPUs, b.Go)
			}
			if text := b.Notes[group]; text != "" {
				out.Notes[group] = text
			}
		}
		for _, p := range b.Plots {
			if !slices.ContainsFunc(r.plots, func(q Plot) bool { return q.Name == p.Name }) {
				out.Plots = append(out.Plots, p)
			}
		}
	}
	for _, one := range r.results {
		if !done[one.Group] {
			out.Results = append(out.Results, one)
		}
	}
	out.Plots = append(out.Plots, r.plots...)
	return out
}

// Write writes the results as JSON, the table and the plots.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory of results: %w", err)
	}
	all := r.all()
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	table := r.Table
	if table == "" {
		table = r.Name + ".md"
	}
	files := map[string][]byte{r.Name + ".json": append(raw, '\n'), table: r.markdown(all)}
	for _, p := range all.Plots {
		files[p.file(r.Name)] = []byte(p.SVG())
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
		r.Say("wrote %s", filepath.Join(dir, name))
	}
	return nil
}

// markdown writes the results for people.
func (r *Report) markdown(all saved) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "<!-- Code generated by %s. DO NOT EDIT. -->\n\n# %s\n\n", r.Command, r.Title)
	fmt.Fprintf(&out, "`%s` measured this on %d processors (%s/%s) with %s. Machines differ, so compare ratios and processor time, not seconds.\n%s\n",
		r.Command, all.CPUs, runtime.GOOS, runtime.GOARCH, all.Go, r.About)
	group := ""
	for _, one := range all.Results {
		if one.Group != group {
			group = one.Group
			fmt.Fprintf(&out, "\n## %s\n\n", group)
			if when := all.Earlier[group]; when != "" {
				fmt.Fprintf(&out, "Measured at %s.\n\n", when)
			}
			if text := all.Notes[group]; text != "" {
				out.WriteString(text + "\n\n")
			}
			fmt.Fprintf(&out, "| what | median | %s | n | CPU per operation | aim | compared with | ratio |\n|---|---:|---:|---:|---:|---:|---:|---:|\n", r.quantile())
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %d | %s | %s | %s | %s |\n", one.Name, Figure(one.Median, one.Unit), known(one.High, one.Unit), one.N,
			known(one.CPUUS, "us"), known(one.Aim, one.Unit), strings.TrimSpace(known(one.Peer, one.Unit)+" "+one.Of), known(one.Ratio, ""))
	}
	for _, p := range all.Plots {
		fmt.Fprintf(&out, "\n%s\n\n![%s](%s)\n", p.Text, p.Title, p.file(r.Name))
	}
	return out.Bytes()
}

func known(v float64, unit string) string {
	if v == 0 {
		return ""
	}
	return strings.TrimSpace(Figure(v, unit))
}

// Figure writes a value with its unit.
func Figure(v float64, unit string) string {
	const many = 1000 // From here on the digits behind the point say nothing.
	if v == float64(int64(v)) || v >= many {
		return Thousands(int(v+0.5)) + " " + unit //nolint:mnd // rounds
	}
	return fmt.Sprintf("%.2f %s", v, unit)
}

// Thousands writes a number with commas.
func Thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// Quantile returns the value below which the part q of the values lies, by the nearest
// rank, and 0 of none.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	const nearlyOne = 0.999999
	sorted := slices.Sorted(slices.Values(values))
	rank := int(q*float64(len(sorted)) + nearlyOne)
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Milliseconds are times as numbers.
func Milliseconds(times []time.Duration) []float64 {
	out := make([]float64, len(times))
	for i, t := range times {
		out[i] = float64(t.Microseconds()) / 1000
	}
	return out
}
