package tidy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/aleph-onchain/aleph-onchain/"

// root is the top of the module, seen from this package.
var root = filepath.Join("..", "..")

// source is one Go file of the module. The name is relative to root and has
// slashes.
type source struct {
	name string
	file *ast.File
	fset *token.FileSet
}

func (s *source) dir() string  { return path.Dir(s.name) }
func (s *source) isTest() bool { return strings.HasSuffix(s.name, "_test.go") }

// at names the line of a node, for messages.
func (s *source) at(n ast.Node) string {
	return s.name + ":" + strconv.Itoa(s.fset.Position(n.Pos()).Line)
}

// imports returns the paths that the file imports.
func (s *source) imports(t *testing.T) []string {
	t.Helper()
	paths := make([]string, len(s.file.Imports))
	for i, spec := range s.file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatalf("%s: %v", s.at(spec), err)
		}
		paths[i] = imported
	}
	return paths
}

// calls reports each use of pkg.name, where pkg is a package of the standard
// library imported under its own name.
func (s *source) calls(pkg, name string, report func(at string)) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == name {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == pkg {
				report(s.at(sel))
			}
		}
		return true
	})
}

// sources parses every Go file of the module once. Files are read as they are,
// so build tags hide nothing.
var sources = sync.OnceValues(func() ([]*source, error) {
	var all []*source
	err := walk(func(name string) error {
		if path.Ext(name) != ".go" {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, filepath.Join(root, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		all = append(all, &source{name: name, file: file, fset: fset})
		return nil
	})
	return all, err
})

func everySource(t *testing.T) []*source {
	t.Helper()
	all, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// walk calls fn with the slashed name of every file that people write: not
// those that tools make or fetch, and not other modules.
func walk(fn func(name string) error) error {
	return filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if !d.IsDir() {
			return fn(name)
		}
		if name == "." {
			return nil
		}
		made := []string{"bin", "build", "contracts/out", "contracts/cache"}
		if strings.HasPrefix(d.Name(), ".") && name != ".ci" || d.Name() == "node_modules" || d.Name() == "testdata" ||
			slices.Contains(made, name) {
			return filepath.SkipDir
		}
		if _, err := os.Stat(filepath.Join(file, "go.mod")); err == nil {
			return filepath.SkipDir
		}
		return nil
	})
}

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
