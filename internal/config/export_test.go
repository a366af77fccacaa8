package config

import "reflect"

// Setting is a value of a Config by its path ("chain.contracts.JobManager").
type Setting struct {
	Path  string
	Value reflect.Value
}

// Settings returns every setting of cfg that is not a table.
func Settings(cfg *Config) (out []Setting) {
	walk(reflect.ValueOf(cfg).Elem(), "", func(path, _ string, f reflect.Value) {
		if !isTable(f) {
			out = append(out, Setting{path, f})
		}
	})
	return out
}

// Label writes a path as a file has it.
func Label(path string) string { return label(path) }

// Text returns a value as a file has it.
func Text(v reflect.Value) string { return text(v) }
