package tidy_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestMapIsTrue keeps ARCHITECTURE.md honest: every package is on the map, and
// every path on the map exists.
func TestMapIsTrue(t *testing.T) {
	text := read(t, "ARCHITECTURE.md")
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z]+/[a-z0-9/_.-]+|[a-z]+/)`").FindAllStringSubmatch(text, -1) {
		name := strings.TrimSuffix(m[1], "/")
		if named[name] {
			continue
		}
		named[name] = true
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Errorf("ARCHITECTURE.md names %s, which is not there", name)
		}
	}
	for _, s := range everySource(t) {
		if dir := s.dir(); !named[dir] {
			t.Errorf("ARCHITECTURE.md does not name %s", dir)
			named[dir] = true
		}
	}
	const linesMax = 400
	if n := strings.Count(text, "\n"); n > linesMax {
		t.Errorf("ARCHITECTURE.md has %d lines, want at most %d: move detail into the package comments", n, linesMax)
	}
}

// TestPictureOfStrata holds the picture in ARCHITECTURE.md to the rule that
// TestImportsPointDown checks.
func TestPictureOfStrata(t *testing.T) {
	text := read(t, "ARCHITECTURE.md")
	for level, families := range strata {
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^ *%d  .*(\n {4,}.*)*`, level)).FindString(text)
		if row == "" {
			t.Errorf("ARCHITECTURE.md has no row %d in its picture of strata", level)
			continue
		}
		for _, family := range families {
			name := strings.TrimPrefix(family, "internal/")
			if !regexp.MustCompile(`(^|[\s(])` + regexp.QuoteMeta(name) + `(/|\s|\)|$)`).MatchString(row) {
				t.Errorf("row %d of ARCHITECTURE.md's picture does not name %s", level, family)
			}
		}
	}
}

// TestDecisionsHaveOneForm: one sequence of numbers, and the same three
// headings, so that a reader finds the reason at once.
func TestDecisionsHaveOneForm(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs", "adr", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range files {
		name := filepath.Base(file)
		number := fmt.Sprintf("%04d", i+1)
		if !strings.HasPrefix(name, number+"-") {
			t.Errorf("docs/adr/%s is decision %s by its place: numbers have no gaps and no doubles", name, number)
		}
		text := read(t, path.Join("docs/adr", name))
		if !strings.HasPrefix(text, "# "+name[:4]+". ") {
			t.Errorf("docs/adr/%s begins %.20q, want \"# %s. \" and a title", name, text, name[:4])
		}
		at := 0
		for _, heading := range []string{"\nStatus: ", "\n## Context\n", "\n## Decision\n", "\n## Consequences\n"} {
			found := strings.Index(text[at:], heading)
			if found < 0 {
				t.Errorf("docs/adr/%s has no %q in its place", name, strings.TrimSpace(heading))
				break
			}
			at += found
		}
	}
}

// TestLinksLeadSomewhere follows the relative links of every document.
func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s#]+)(#[^)\s]*)?\)`)
	err := walk(func(name string) error {
		if path.Ext(name) != ".md" {
			return nil
		}
		for _, m := range link.FindAllStringSubmatch(read(t, name), -1) {
			if strings.Contains(m[1], ":") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, path.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
