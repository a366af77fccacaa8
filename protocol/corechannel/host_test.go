package corechannel_test

import (
	"encoding/json"
	"testing"
)

// The hosts are those that the reference's language finds in each URL.
func TestHostsOfURLs(t *testing.T) {
	tests := []struct{ url, host string }{
		{"https://a.example", "a.example"},
		{"HTTPS://A.Example:443/x?y#z", "a.example"},
		{"//a.example/x", "a.example"},
		{" \x00https://a.example", "a.example"},
		{"ht\ntps://a.exa\tmple/", "a.example"},
		{"http://user:pw@a.example:80", "a.example"},
		{"http://u@v@a.example", "a.example"},
		{"http://a.example?q=http://b/", "a.example"},
		{"http://a.example#@b/", "a.example"},
		{"http://[2001:DB8::1]:8080/", "2001:db8::1"},
		{"x+y-1.z://a.example", "a.example"},
		{"a.example", ""},
		{"a.example/x", ""},
		{"http:a.example", ""},
		{"http:/a.example", ""},
		{"1http://a.example", ""},
		{"https://", ""},
		{"https:///x", ""},
		{"https://:80/", ""},
		{"", ""},
	}
	for _, tt := range tests {
		w := newWorld(t)
		create := func(letter, url string) string {
			raw, err := json.Marshal(map[string]string{"type": "compute", "address": url})
			if err != nil {
				t.Fatal(err)
			}
			w.must(letter, bob, "create-resource-node", "", string(raw))
			return w.crn(letter).Address
		}
		first := "no host"
		if tt.host != "" {
			first = "http://" + tt.host + "/"
		}
		if tt.host == "2001:db8::1" {
			first = "http://[" + tt.host + "]/"
		}
		create("1", first)
		create("2", "http://other.example/")
		if got := create("3", tt.url); got != "" {
			t.Errorf("%q is taken though its host %q is another's", tt.url, tt.host)
		}
		if got := create("4", "http://third.example/"); got == "" {
			t.Error("a URL of its own is refused")
		}
	}
}
