package p2p

import "testing"

// The reference network's names for three payloads: the default hasher of Rust,
// as rustc 1.95 computes it.
func TestMessageIDIsTheReferenceNetworks(t *testing.T) {
	for data, want := range map[string]string{
		"": "13646096770106105413", "a": "13743199064115861684", "hello aleph": "15650167022998874507",
	} {
		if got := messageID([]byte(data)); got != want {
			t.Errorf("messageID(%q) = %s, want %s", data, got, want)
		}
	}
}

func FuzzMessageID(f *testing.F) {
	f.Add([]byte("12345678"), []byte("1234567"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if (string(a) == string(b)) != (messageID(a) == messageID(b)) {
			t.Errorf("names of %x and %x do not tell them apart", a, b)
		}
	})
}
