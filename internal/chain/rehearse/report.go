package rehearse

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
)

// Report is what a rehearsal did and saw, as far as it got.
type Report struct {
	Deployed string           // Version that was upgraded.
	Release  string           // Version that it was upgraded to.
	Same     bool             // All code is that of the release; it was replaced all the same.
	Fixed    []string         // Contracts that are not as released and that no upgrade reaches.
	Changes  []Change         // By name.
	Readable bool             // The release can read what is stored.
	Grown    []string         // What storage has that it had not.
	Steps    []Step           // In their order.
	Before   []Comparison     // Of the state as it was copied.
	After    []Comparison     // Of the state before and after the upgrade.
	Unasked  []string         // Views that nothing in the state can be an argument of.
	Findings []deploy.Finding // Of what is deployed after the upgrade.
	Jobs     []string         // What they did, for people.
}

// Change is new code.
type Change struct {
	Contract string // The proxy's, or the extension's.
	Old, New deploy.Implementation
}

// Step is something that was done.
type Step struct {
	What string
	Gas  uint64 // 0: it took no transaction.
}

// Print writes the report for people.
func (p *Report) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "Upgrade of the contracts, release %s.\n", p.Deployed)
	if p.Same {
		fmt.Fprintln(w, "All code is that of this release already; the same code is put in its place.")
	}
	if p.Readable {
		fmt.Fprintln(w, "\nStorage")
		if len(p.Grown) == 0 {
			fmt.Fprintln(w, "All layouts are as they were.")
		}
		for _, g := range p.Grown {
			fmt.Fprintln(w, g)
		}
	}
	for i, c := range p.Changes {
		if i == 0 {
			fmt.Fprintln(w, "\nCode\twas\tis\tat")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Contract, c.Old.CodeHash, c.New.CodeHash, c.New.Address)
	}
	for _, f := range p.Fixed {
		fmt.Fprintf(w, "No upgrade reaches %s.\n", f)
	}
	for i, s := range p.Steps {
		if i == 0 {
			fmt.Fprintln(w, "\nStep\tgas")
		}
		fmt.Fprintf(w, "%s\t%d\n", s.What, s.Gas)
	}
	printComparison(w, "the state as it was copied", p.Before)
	printComparison(w, "before and after the upgrade", p.After)
	if len(p.Unasked) > 0 {
		fmt.Fprintf(w, "\nNot asked, because nothing in the state can be an argument: %s.\n", strings.Join(p.Unasked, ", "))
	}
	fmt.Fprintln(w)
	if bad := problems(p.Findings); len(p.Findings) > 0 {
		fmt.Fprintf(w, "After the upgrade %d of %d contracts are as released, %s.\n", len(p.Findings)-bad, len(p.Findings), p.Release)
	}
	for _, j := range p.Jobs {
		fmt.Fprintf(w, "%s.\n", strings.ToUpper(j[:1])+j[1:])
	}
	return w.Flush()
}

func printComparison(w io.Writer, when string, all []Comparison) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(w, "\nCompared: %s\tviews\tanswers\t\n", when)
	for _, c := range all {
		news := ""
		if len(c.New) > 0 {
			news = "new: " + strings.Join(c.New, ", ")
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", c.Contract, c.Views, c.Questions, news)
	}
}

func problems(found []deploy.Finding) (bad int) {
	for _, f := range found {
		if f.Problem != "" {
			bad++
		}
	}
	return bad
}
