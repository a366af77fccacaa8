package signature

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// The texts are what Python 3 writes.
func TestPythonBytes(t *testing.T) {
	for in, want := range map[string]string{
		"":               `b''`,
		"nNULS\nx":       `b'nNULS\nx'`,
		"\\NULS":         `b'\\NULS'`,
		"'":              `b"'"`,
		`"`:              `b'"'`,
		`'"`:             `b'\'"'`,
		"\t\r\n\x00\x7f": `b'\t\r\n\x00\x7f'`,
		" ~\xff\x1f":     `b' ~\xff\x1f'`,
	} {
		if got := pythonBytes([]byte(in)); got != want {
			t.Errorf("pythonBytes(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestLengthsInCompactForm(t *testing.T) {
	for n, want := range map[int]string{
		0: "00", 252: "fc", 253: "fdfd00", 0xffff: "fdffff", 0x10000: "fe00000100",
	} {
		text := bytes.Repeat([]byte{'x'}, n)
		got := nulsText(text)
		if head := hex.EncodeToString(got[:len(got)-n]); head != want {
			t.Errorf("%d: %s, want %s", n, head, want)
		}
	}
}

func TestDERIsStrict(t *testing.T) {
	good := "3006020101020102"
	if b, err := hex.DecodeString(good); err != nil || !derHolds(b) {
		t.Fatalf("%s is refused", good)
	}
	long := "3026" + "0221" + "01" + strings.Repeat("00", 32) + "020101"
	for name, text := range map[string]string{
		"empty": "", "no sequence": "0206020101020102", "one number": "3003020101", "three numbers": "3009020101020102020103",
		"negative": "3006020181020102", "zero in front": "300702020001020102", "bytes behind": good + "00",
		"long form of the length": "308106020101020102", "33 bytes": long,
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if derHolds(b) {
			t.Errorf("%s: %s is taken", name, text)
		}
	}
}

func derHolds(b []byte) bool {
	sig, err := parseDER(b)
	return err == nil && len(sig) == compactLen
}
