package message_test

import (
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// TestNumbersAreReadAsTheReferenceReadsThem holds each form of a whole number,
// of a strict one and of a truth value. 0 means refused.
func TestNumbersAreReadAsTheReferenceReadsThem(t *testing.T) {
	tests := []struct {
		literal string
		whole   int  // memory, MiB
		strict  bool // a size of a volume
		truth   bool // a truth value that is true
	}{
		{`1`, 1, true, true},
		{`1.0`, 1, false, true},
		{`1e0`, 1, false, true},
		{`20e-1`, 2, false, false},
		{`2`, 2, true, false},
		{`1.5`, 0, false, false},
		{`"1"`, 1, false, true},
		{`" 1 "`, 1, false, false},
		{`"+1"`, 1, false, false},
		{`"01"`, 1, false, false},
		{`"1.0"`, 1, false, false},
		{`"1e0"`, 0, false, false},
		{`"1_0"`, 10, false, false},
		{`"_1"`, 0, false, false},
		{`"1__0"`, 0, false, false},
		{`"0x1"`, 0, false, false},
		{`""`, 0, false, false},
		{`"\u0031"`, 1, false, true},
		{`true`, 1, false, true},
		{`false`, 0, false, false},
		{`null`, 0, false, false},
		{`[]`, 0, false, false},
		{`{}`, 0, false, false},
		{`-1`, 0, false, false},
		{`9223372036854775808`, 0, false, false},
		{`1e300`, 0, false, false},
		{`"Yes"`, 0, false, true},
		{`"ON"`, 0, false, true},
	}
	for _, tt := range tests {
		whole := 0
		if c, err := parseAs(message.TypeInstance, content(message.TypeInstance, resource(`"memory":`+tt.literal))); err == nil {
			whole = c.(*message.Instance).Resources.MemoryMiB
		}
		_, err := parseAs(message.TypeInstance, content(message.TypeInstance, `"volumes":[{"name":"n","size_mib":`+tt.literal+`}]`))
		truth := false
		if c, err := parseAs(message.TypeInstance, content(message.TypeInstance, `"allow_amend":`+tt.literal)); err == nil {
			truth = c.(*message.Instance).AllowAmend
		}
		if whole != tt.whole || (err == nil) != tt.strict || truth != tt.truth {
			t.Errorf("%s reads as %d, strict %v, true %v; want %d, %v, %v", tt.literal, whole, err == nil, truth, tt.whole, tt.strict, tt.truth)
		}
	}
}
