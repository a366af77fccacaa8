package config

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// unknown reports a key that a table does not have, and names where there is
// one of that name, or the nearest that there is.
func unknown(path, key string, table reflect.Value) error {
	what := "unknown key [" + path + "] " + key
	if path == "" {
		what = "unknown section [" + key + "]"
	}
	elsewhere := places(key)
	if len(elsewhere) == 1 {
		return errs.New(errs.Invalid, "%s; it is %s", what, elsewhere[0])
	}
	keys := slices.Sorted(maps.Keys(fields(table)))
	if near := nearest(key, keys); near != "" {
		if path == "" || isTable(fields(table)[near]) {
			near = "[" + join(path, near) + "]"
		}
		return errs.New(errs.Invalid, "%s; did you mean %s?", what, near)
	}
	if len(elsewhere) > 0 {
		return errs.New(errs.Invalid, "%s; it is %s", what, strings.Join(elsewhere, " or "))
	}
	if found := places(nearest(key, names())); len(found) > 0 {
		return errs.New(errs.Invalid, "%s; did you mean %s?", what, strings.Join(found, " or "))
	}
	return errs.New(errs.Invalid, "%s; there are %s", what, strings.Join(keys, ", "))
}

// walk calls fn with the path of every setting, tables included.
func walk(v reflect.Value, path string, fn func(path, key string, f reflect.Value)) {
	all := fields(v)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		fn(join(path, key), key, all[key])
		if isTable(all[key]) {
			walk(all[key], join(path, key), fn)
		}
	}
}

// places returns every setting that has the name, as a file has it; case does
// not count.
func places(name string) (out []string) {
	cfg := Default()
	walk(reflect.ValueOf(&cfg).Elem(), "", func(path, key string, f reflect.Value) {
		switch {
		case !strings.EqualFold(key, name):
		case isTable(f):
			out = append(out, "["+path+"]")
		default:
			out = append(out, label(path))
		}
	})
	return out
}

// names returns the names of all settings.
func names() (out []string) {
	cfg := Default()
	walk(reflect.ValueOf(&cfg).Elem(), "", func(_, key string, _ reflect.Value) { out = append(out, key) })
	return out
}

// nearest returns the word that differs least from key, "" when none is near
// enough to be meant: a third of its letters may differ, or it goes on after
// key, as max_size_gb does after max_size.
func nearest(key string, words []string) string {
	key = strings.ToLower(key)
	best, limit, longer := "", max(1, len(key)/3), ""
	for _, w := range words {
		if d := distance(key, strings.ToLower(w)); d <= limit {
			best, limit = w, d-1
		}
		if strings.HasPrefix(w, key+"_") {
			longer = w
		}
	}
	return cmp.Or(best, longer)
}

// distance is the number of letters to insert, delete, replace or swap with
// their neighbour to make b of a (Damerau-Levenshtein, restricted).
func distance(a, b string) int {
	var before []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
