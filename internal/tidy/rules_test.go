package tidy_test

import (
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	docs := map[string]int{}
	names := map[string]string{}
	for _, s := range everySource(t) {
		dir := s.dir()
		if s.isTest() {
			// A folder may hold nothing but tests, and then they say it.
			if _, known := names[dir]; !known {
				names[dir] = ""
			}
			if s.file.Doc != nil {
				docs[dir+" tests"]++
			}
			continue
		}
		names[dir] = s.file.Name.Name
		if s.file.Doc == nil {
			continue
		}
		docs[dir]++
		want := "Package " + s.file.Name.Name + " "
		if s.file.Name.Name == "main" {
			want = "Command " + path.Base(dir) + " "
		}
		if !strings.HasPrefix(strings.ReplaceAll(s.file.Doc.Text(), "\n", " "), want) {
			t.Errorf("%s: the package comment begins %.40q, want %q", s.name, s.file.Doc.Text(), want)
		}
	}
	for dir, name := range names {
		key := dir
		if name == "" {
			key = dir + " tests"
		}
		if docs[key] != 1 {
			t.Errorf("%s has %d package comments, want one that says what it is for", dir, docs[key])
		}
	}
}

// TestTodosNameAnIssue refuses debts that nobody can look up.
func TestTodosNameAnIssue(t *testing.T) {
	word := regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	good := regexp.MustCompile(`\bTODO\(#\d+\): \S`)
	for _, s := range everySource(t) {
		if under(s.dir(), "internal/tidy") {
			continue
		}
		for _, group := range s.file.Comments {
			for _, c := range group.List {
				if word.MatchString(c.Text) && !good.MatchString(c.Text) {
					t.Errorf("%s: %q, want the form TODO(#123): text", s.at(c), c.Text)
				}
			}
		}
	}
	err := walk(func(name string) error {
		code := []string{".sol", ".js", ".sh", ".mk", ".yaml", ".toml"} // .golangci.yml names the words.
		if !slices.Contains(code, path.Ext(name)) && path.Base(name) != "Makefile" {
			return nil
		}
		for i, line := range strings.Split(read(t, name), "\n") {
			if word.MatchString(line) && !good.MatchString(line) {
				t.Errorf("%s:%d: %q, want the form TODO(#123): text", name, i+1, strings.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNoInit: what happens at start is written in main and in node, where one
// can read it.
func TestNoInit(t *testing.T) {
	for _, s := range everySource(t) {
		for _, d := range s.file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init, want a call from who needs it", s.at(fn))
			}
		}
	}
}

// TestNoSleepInTests: a sleep is either too short or too long. Virtual time, in
// a synctest bubble, passes at once and is exempt.
func TestNoSleepInTests(t *testing.T) {
	for _, s := range everySource(t) {
		if !s.isTest() && !under(s.dir(), "test") {
			continue
		}
		if slices.Contains(s.imports(t), "testing/synctest") {
			continue
		}
		s.calls("time", "Sleep", func(at string) {
			t.Errorf("%s sleeps: wait for what is to happen, or use testing/synctest", at)
		})
	}
}

// TestNoBagPackages: a name that fits everything attracts everything.
func TestNoBagPackages(t *testing.T) {
	bags := []string{"pkg", "common", "util", "utils", "types", "helpers", "core", "shared", "base", "misc"}
	for _, s := range everySource(t) {
		for part := range strings.SplitSeq(s.dir(), "/") {
			if slices.Contains(bags, part) {
				t.Errorf("%s: a folder called %s says nothing about what is in it", s.name, part)
			}
		}
	}
}
