// Command cover says how many statements the Go tests execute, by package and in all,
// from profiles of `go test -coverprofile`. Generated files do not count, as
// their generator is what has tests, nor does test/, which only tests.
//
//	go run ./test/cover -min 80 build/cover/*.out
//
// Run it in the module's root. It exits with 1 when the total is below -min.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	if err := run(os.Args[1:], ".", os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cover:", err)
		os.Exit(1)
	}
}

func run(args []string, root string, out io.Writer) error {
	flags := flag.NewFlagSet("cover", flag.ContinueOnError)
	least := flags.Float64("min", 0, "least `percentage` of statements in all")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return fmt.Errorf("no profiles named; make one with 'go test -coverpkg=./... -coverprofile=FILE ./...'")
	}
	module, err := moduleOf(root)
	if err != nil {
		return err
	}
	p := profile{}
	for _, name := range flags.Args() {
		if err := p.merge(name); err != nil {
			return err
		}
	}
	packages, err := p.sum(root, module)
	if err != nil {
		return err
	}
	return report(out, packages, *least)
}

// moduleOf returns the path that the module in root has.
func moduleOf(root string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("read module: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		if name, ok := strings.CutPrefix(line, "module "); ok {
			return strings.TrimSpace(name), nil
		}
	}
	return "", fmt.Errorf("go.mod in %s names no module", root)
}

// block is a run of statements in a file, "12.3,14.5" in its profile.
type block struct {
	file, span string
}

// profile has for each block its statements and whether a test executed it.
type profile map[block]count

type count struct {
	statements int
	executed   bool
}

// merge adds what a file has. With -coverpkg each package's test lists every
// block, so a block is executed when any of its lines says so.
func (p profile) merge(name string) error {
	raw, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read profile: %w", err)
	}
	sc := bufio.NewScanner(bytes.NewReader(raw))
	for n := 1; sc.Scan(); n++ {
		// Profiles joined with cat have the mode more than once.
		if strings.HasPrefix(sc.Text(), "mode: ") {
			continue
		}
		b, c, err := parse(sc.Text())
		if err != nil {
			return fmt.Errorf("%s:%d: %w", name, n, err)
		}
		c.executed = c.executed || p[b].executed
		p[b] = c
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// parse reads "path/file.go:12.3,14.5 2 1": statements, then executions.
func parse(line string) (block, count, error) {
	fields := strings.Fields(line)
	file, span, ok := strings.Cut(line, ":")
	if !ok || len(fields) != 3 {
		return block{}, count{}, fmt.Errorf("%.80q is no line of a profile", line)
	}
	statements, err1 := strconv.ParseUint(fields[1], 10, 31)
	executed, err2 := strconv.ParseUint(fields[2], 10, 64)
	if err := cmp.Or(err1, err2); err != nil {
		return block{}, count{}, fmt.Errorf("%.80q is no line of a profile: %w", line, err)
	}
	span, _, _ = strings.Cut(span, " ")
	return block{file, span}, count{int(statements), executed > 0}, nil
}

// tally is what one package has.
type tally struct {
	name            string
	executed, total int
}

func (t tally) percent() float64 { return 100 * float64(t.executed) / float64(t.total) }

// sum adds up the blocks of files that people wrote, least covered first.
func (p profile) sum(root, module string) ([]tally, error) {
	generated, packages := map[string]bool{}, map[string]tally{}
	for b, c := range p {
		rel, ok := strings.CutPrefix(b.file, module+"/")
		if !ok || strings.HasPrefix(rel, "test/") {
			continue // -coverpkg=all lists what others wrote too
		}
		if _, known := generated[rel]; !known {
			is, err := isGenerated(filepath.Join(root, filepath.FromSlash(rel)))
			if err != nil {
				return nil, err
			}
			generated[rel] = is
		}
		if generated[rel] || c.statements == 0 {
			continue
		}
		t := packages[path.Dir(rel)]
		t.name = path.Dir(rel)
		t.total += c.statements
		if c.executed {
			t.executed += c.statements
		}
		packages[t.name] = t
	}
	all := make([]tally, 0, len(packages))
	for _, t := range packages {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b tally) int {
		return cmp.Or(cmp.Compare(a.percent(), b.percent()), cmp.Compare(a.name, b.name))
	})
	return all, nil
}

// generatedLine is the form that Go has agreed on, https://go.dev/s/generatedcode.
var generatedLine = regexp.MustCompile(`^// Code generated .* DO NOT EDIT\.$`)

// isGenerated reports whether the first line of a file says so.
func isGenerated(name string) (bool, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return false, fmt.Errorf("read source of a profile, which may be older than the tree: %w", err)
	}
	first, _, _ := bytes.Cut(raw, []byte("\n"))
	return generatedLine.Match(bytes.TrimSuffix(first, []byte("\r"))), nil
}

// report prints the packages and the total, and fails below the least.
func report(out io.Writer, packages []tally, least float64) error {
	all := tally{name: "in all"}
	for _, t := range packages {
		fmt.Fprintf(out, "%5.1f %%  %5d of %5d  %s\n", t.percent(), t.executed, t.total, t.name)
		all.executed += t.executed
		all.total += t.total
	}
	if all.total == 0 {
		return fmt.Errorf("the profiles have no statement of this module")
	}
	fmt.Fprintf(out, "%5.1f %%  %5d of %5d  %s\n", all.percent(), all.executed, all.total, all.name)
	if all.percent() < least {
		return fmt.Errorf("the tests execute %.1f %% of the statements, want at least %g %%", all.percent(), least)
	}
	return nil
}
