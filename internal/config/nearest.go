package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// unknown reports a key that a table does not have, and names the nearest that
// it has, or else where a key of that name is.
func unknown(path, key string, table reflect.Value) error {
	what, where := "key", "["+path+"] "+key
	if path == "" {
		what, where = "section", "["+key+"]"
	}
	keys := slices.Sorted(maps.Keys(fields(table)))
	if near := nearest(key, keys); near != "" {
		if path == "" {
			near = "[" + near + "]"
		}
		return errs.New(errs.Invalid, "unknown %s %s; did you mean %s?", what, where, near)
	}
	if place := elsewhere(key); place != "" {
		return errs.New(errs.Invalid, "unknown %s %s; it is %s", what, where, place)
	}
	return errs.New(errs.Invalid, "unknown %s %s; there are %s", what, where, strings.Join(keys, ", "))
}

// elsewhere returns the section that has the key, "" when none or several do.
func elsewhere(key string) string {
	cfg := Default()
	var found string
	for section, v := range fields(reflect.ValueOf(&cfg).Elem()) {
		if _, ok := fields(v)[key]; !ok {
			continue
		}
		if found != "" {
			return ""
		}
		found = "[" + section + "] " + key
	}
	return found
}

// nearest returns the word that differs least from key, "" when none is near
// enough to be meant: a third of its letters may differ.
func nearest(key string, words []string) string {
	best, limit := "", max(2, len(key)/3)
	for _, w := range words {
		if d := distance(strings.ToLower(key), w); d <= limit {
			best, limit = w, d-1
		}
	}
	return best
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
