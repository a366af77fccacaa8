package config

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// fileMax bounds a configuration file; a full one has a few KiB.
const fileMax = 1 << 20

// envPrefix begins the variables of the environment that are settings.
const envPrefix = "ALEPH_"

// Apply puts the settings of a file over those of cfg.
func Apply(cfg *Config, raw []byte) error {
	var file map[string]any
	if err := toml.Unmarshal(raw, &file); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, col := at.Position()
			return errs.New(errs.Invalid, "line %d, column %d: %s", row, col, strings.TrimPrefix(at.Error(), "toml: "))
		}
		return errs.New(errs.Invalid, "%w", err)
	}
	return setTable(reflect.ValueOf(cfg).Elem(), "", file)
}

// setTable sets the fields of a struct from a table of the file, in a fixed
// order: of several mistakes the same one is reported each time.
func setTable(v reflect.Value, path string, table map[string]any) error {
	known := fields(v)
	for _, key := range slices.Sorted(maps.Keys(table)) {
		f, ok := known[key]
		if !ok {
			return unknown(path, key, v)
		}
		if err := setValue(f, join(path, key), table[key]); err != nil {
			return err
		}
	}
	return nil
}

// fields returns the settings of a struct by key; those of an embedded struct
// are its own.
func fields(v reflect.Value) map[string]reflect.Value {
	out := map[string]reflect.Value{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key := f.Tag.Get("toml")
		switch {
		case f.Anonymous:
			for k, inner := range fields(v.Field(i)) {
				out[k] = inner
			}
		case key != "" && key != "-":
			out[key] = v.Field(i)
		}
	}
	return out
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// label writes a path as a file has it: "[executor] interval".
func label(path string) string {
	section, key, found := strings.Cut(path, ".")
	if !found {
		return "[" + section + "]"
	}
	if before, last, nested := strings.Cut(key, "."); nested {
		return "[" + section + "." + before + "] " + last
	}
	return "[" + section + "] " + key
}

// isDuration reports a time.
func isDuration(v reflect.Value) bool { return v.Type() == reflect.TypeFor[time.Duration]() }

// hasText reports a value that reads its own text.
func hasText(v reflect.Value) bool {
	return v.Addr().Type().Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// isTable reports a struct that is a table of the file, not a single value.
func isTable(v reflect.Value) bool {
	return v.Kind() == reflect.Struct && !hasText(v)
}

func setValue(v reflect.Value, path string, value any) error {
	if isTable(v) {
		table, ok := value.(map[string]any)
		if !ok {
			return errs.New(errs.Invalid, "%s is a section of its own, write [%s]", label(path), path)
		}
		return setTable(v, path, table)
	}
	switch x := value.(type) {
	case string:
		if isNumber(v) || v.Kind() == reflect.Bool || v.Kind() == reflect.Slice {
			return wrong(v, path, strconv.Quote(x))
		}
		return setText(v, path, x)
	case int64:
		if !isNumber(v) {
			return wrong(v, path, strconv.FormatInt(x, 10))
		}
		return setText(v, path, strconv.FormatInt(x, 10))
	case float64:
		text := strconv.FormatFloat(x, 'g', -1, 64)
		if v.Kind() != reflect.Float64 {
			return wrong(v, path, text)
		}
		return setText(v, path, text)
	case bool:
		if v.Kind() != reflect.Bool {
			return wrong(v, path, strconv.FormatBool(x))
		}
		v.SetBool(x)
		return nil
	case []any:
		return setList(v, path, x)
	default:
		return wrong(v, path, fmt.Sprintf("a %T", value))
	}
}

func isNumber(v reflect.Value) bool {
	if isDuration(v) {
		return false
	}
	switch v.Kind() {
	case reflect.Int, reflect.Int64, reflect.Uint64, reflect.Float64:
		return true
	default:
		return false
	}
}

// setText sets a value from its text, as a file or the environment has it.
func setText(v reflect.Value, path, text string) error {
	if hasText(v) {
		u, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
		if !ok {
			return errs.New(errs.Internal, "BUG: %s has no text form", path)
		}
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return errs.New(errs.Invalid, "%s is %q: %w", label(path), text, err)
		}
		return nil
	}
	switch {
	case isDuration(v):
		d, err := time.ParseDuration(text)
		if err != nil {
			return wrong(v, path, strconv.Quote(text))
		}
		v.SetInt(int64(d))
		return nil
	case v.Kind() == reflect.String:
		v.SetString(text)
		return nil
	case v.Kind() == reflect.Slice:
		return setWords(v, text)
	}
	var err error
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		var n int64
		n, err = strconv.ParseInt(text, 10, 64)
		v.SetInt(n)
	case reflect.Uint64:
		var n uint64
		n, err = strconv.ParseUint(text, 10, 64)
		v.SetUint(n)
	case reflect.Float64:
		var n float64
		n, err = strconv.ParseFloat(text, 64)
		if math.IsNaN(n) || math.IsInf(n, 0) {
			return wrong(v, path, text)
		}
		v.SetFloat(n)
	case reflect.Bool:
		var b bool
		b, err = strconv.ParseBool(text)
		v.SetBool(b)
	default:
		return errs.New(errs.Internal, "BUG: %s is a %s, which no setting is", path, v.Type())
	}
	if err != nil {
		return wrong(v, path, strconv.Quote(text))
	}
	return nil
}

// setWords sets a list of texts from one text with commas.
func setWords(v reflect.Value, text string) error {
	var words []string
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			words = append(words, word)
		}
	}
	v.Set(reflect.ValueOf(words))
	return nil
}

func setList(v reflect.Value, path string, list []any) error {
	if v.Kind() != reflect.Slice {
		return wrong(v, path, "a list")
	}
	var words []string
	for _, x := range list {
		word, ok := x.(string)
		if !ok {
			return wrong(v, path, fmt.Sprintf("a list with %v", x))
		}
		words = append(words, word)
	}
	v.Set(reflect.ValueOf(words))
	return nil
}

// wrong reports a value of the wrong form.
func wrong(v reflect.Value, path, got string) error {
	want := "a whole number"
	switch {
	case isDuration(v):
		want = `a time such as "1m30s"`
	case v.Kind() == reflect.Uint64:
		want = "a whole number that is not negative"
	case v.Kind() == reflect.Float64:
		want = "a number"
	case v.Kind() == reflect.Bool:
		want = "true or false"
	case v.Kind() == reflect.Slice:
		want = `a list of texts such as ["a", "b"]`
	case v.Kind() == reflect.String, hasText(v):
		want = "a text in quotes"
	}
	return errs.New(errs.Invalid, "%s is %s, want %s", label(path), got, want)
}

// applyEnviron puts the settings of the environment over those of cfg. A
// variable that would be missed silently is an error: one that names no key of
// its section, and one that names a key of a section that is misspelt. Others
// are not ours: the command line has variables of its own.
func applyEnviron(cfg *Config, environ []string) error {
	root := reflect.ValueOf(cfg).Elem()
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		rest, ours := strings.CutPrefix(name, envPrefix)
		section, key, found := strings.Cut(strings.ToLower(rest), "_")
		if !ours || !found {
			continue
		}
		if err := setVariable(root, section, key, value); err != nil {
			return fmt.Errorf("environment variable %s: %w", name, err)
		}
	}
	return nil
}

func setVariable(root reflect.Value, section, key, value string) error {
	sections := fields(root)
	v, known := sections[section]
	if !known {
		near := nearest(section, slices.Sorted(maps.Keys(sections)))
		if near == "" {
			return nil
		}
		if target, _ := lookUp(sections[near], near, key); !target.IsValid() {
			return nil
		}
		return unknown("", section, root)
	}
	target, path := lookUp(v, section, key)
	if !target.IsValid() {
		return unknown(section, key, v)
	}
	return setText(target, path, value)
}

// lookUp finds a setting by its name in the environment, where a table and its
// key are joined by an underscore and case does not count.
func lookUp(v reflect.Value, path, name string) (reflect.Value, string) {
	for key, f := range fields(v) {
		lower := strings.ToLower(key)
		if isTable(f) {
			if rest, ok := strings.CutPrefix(name, lower+"_"); ok {
				return lookUp(f, join(path, key), rest)
			}
			continue
		}
		if lower == name {
			return f, join(path, key)
		}
	}
	return reflect.Value{}, ""
}
