package config

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

//go:generate go test . -run ^TestDocumentsSayWhatTheCommentsSay$ -update

// Write returns every setting of cfg in the form of a configuration file.
// comments, by path ("executor.interval"), are written above their settings;
// nil for none.
func Write(cfg Config, comments map[string]string) []byte {
	var b bytes.Buffer
	v := reflect.ValueOf(&cfg).Elem()
	for i := range v.NumField() {
		if i > 0 {
			b.WriteString("\n")
		}
		writeTable(&b, v.Field(i), v.Type().Field(i).Tag.Get("toml"), comments)
	}
	return b.Bytes()
}

func writeTable(b *bytes.Buffer, v reflect.Value, path string, comments map[string]string) {
	writeComment(b, comments[path])
	fmt.Fprintf(b, "[%s]\n", path)
	var tables []int
	writeKeys(b, v, path, comments, &tables)
	for _, i := range tables {
		b.WriteString("\n")
		writeTable(b, v.Field(i), join(path, v.Type().Field(i).Tag.Get("toml")), comments)
	}
}

// writeKeys writes the single values of a table, in the order of the struct,
// and collects the tables in it, which a file has last.
func writeKeys(b *bytes.Buffer, v reflect.Value, path string, comments map[string]string, tables *[]int) {
	for i := range v.NumField() {
		f, key := v.Type().Field(i), v.Type().Field(i).Tag.Get("toml")
		switch {
		case f.Anonymous:
			writeKeys(b, v.Field(i), path, comments, tables)
		case key == "" || key == "-":
		case isTable(v.Field(i)):
			*tables = append(*tables, i)
		default:
			writeComment(b, comments[join(path, key)])
			fmt.Fprintf(b, "%s = %s\n", key, text(v.Field(i)))
		}
	}
}

func writeComment(b *bytes.Buffer, comment string) {
	for line := range strings.Lines(comment) {
		fmt.Fprintf(b, "# %s\n", strings.TrimSpace(line))
	}
}

// text returns a value as a file has it.
func text(v reflect.Value) string {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		if raw, err := m.MarshalText(); err == nil {
			return quote(string(raw))
		}
	}
	switch x := v.Interface().(type) {
	case time.Duration:
		return quote(duration(x))
	case []string:
		words := make([]string, len(x))
		for i, w := range x {
			words[i] = quote(w)
		}
		return "[" + strings.Join(words, ", ") + "]"
	case float64:
		s := strconv.FormatFloat(x, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	if v.Kind() == reflect.String {
		return quote(v.String())
	}
	return fmt.Sprint(v.Interface())
}

// duration writes a time without the zeros at its end: "24h", not "24h0m0s".
func duration(d time.Duration) string {
	s := d.String()
	for _, tail := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, tail) {
			s = strings.TrimSuffix(s, tail[1:])
		}
	}
	return s
}

// quote returns a text as TOML has it. Its escapes are those of JSON; the one
// control character that JSON lets through is DEL.
func quote(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic("BUG: a text has no JSON form: " + err.Error())
	}
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\x7f", `\u007f`)
}

// Masked returns the settings without secrets: a key or a password in the URL
// of an RPC, of a gateway or of the database.
func (c Config) Masked() Config {
	c.Chain.RPCURL, c.Sync.RPCURL = maskURLs(c.Chain.RPCURL), maskURLs(c.Sync.RPCURL)
	c.State.URL = state.MaskURL(c.State.URL)
	c.IPFS.KuboRPC = chain.MaskURL(c.IPFS.KuboRPC)
	var gateways []string
	for _, one := range c.IPFS.Gateways {
		gateways = append(gateways, chain.MaskURL(one))
	}
	c.IPFS.Gateways = gateways
	var servers []string
	for _, one := range c.CoreNode.Servers {
		servers = append(servers, chain.MaskURL(one))
	}
	c.CoreNode.Servers = servers
	c.CoreNode.Avalanche.RPCURL, c.CoreNode.Base.RPCURL = maskURLs(c.CoreNode.Avalanche.RPCURL), maskURLs(c.CoreNode.Base.RPCURL)
	return c
}

func maskURLs(list string) string {
	var urls []string
	for one := range strings.SplitSeq(list, ",") {
		urls = append(urls, chain.MaskURL(strings.TrimSpace(one)))
	}
	return strings.Join(urls, ",")
}
