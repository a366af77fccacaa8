package main

import (
	"bytes"
	"testing"
)

func TestTablesHoldNoControlCharacters(t *testing.T) {
	var out bytes.Buffer
	table := newTable(&out)
	table.row("a", "red \x1b[31m\nnext\tcell\u009b", "\u00e9")
	table.flush()
	if got := out.String(); got != "a  red  [31m next cell   \u00e9\n" {
		t.Errorf("row is %q, want one line without control characters", got)
	}
}
