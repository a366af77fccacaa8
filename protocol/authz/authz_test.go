package authz_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

type securityCase struct {
	Name     string
	Security json.RawMessage
	Owner    string
	Sender   string
	Message  struct {
		Chain        message.Chain
		Channel      *string
		Type         message.Type
		PostType     string  `json:"post_type"`
		AggregateKey *string `json:"aggregate_key"`
	}
	Allowed bool
}

func (c *securityCase) facts() authz.Facts {
	m := c.Message
	return authz.Facts{Chain: m.Chain, Channel: m.Channel, Type: m.Type, PostType: m.PostType, AggregateKey: m.AggregateKey}
}

func readCases(tb testing.TB) []securityCase {
	tb.Helper()
	raw, err := os.ReadFile("../testdata/vectors/security.json")
	if err != nil {
		tb.Fatal(err)
	}
	var file struct{ Cases []securityCase }
	if err := json.Unmarshal(raw, &file); err != nil {
		tb.Fatal(err)
	}
	if len(file.Cases) == 0 {
		tb.Fatal("no cases")
	}
	return file.Cases
}

func TestSecurityVectors(t *testing.T) {
	for _, tt := range readCases(t) {
		t.Run(tt.Name, func(t *testing.T) {
			s := authz.Parse(tt.Security)

			if got := authz.Allowed(s, tt.Owner, tt.Sender, tt.facts()); got != tt.Allowed {
				t.Errorf("allowed: %v, want %v", got, tt.Allowed)
			}
		})
	}
}

// Who amends must have been able to write the original, whatever type the
// amend itself has.
func TestAmendsAreJudgedByTheirOriginal(t *testing.T) {
	s := authz.Parse([]byte(`{"authorizations":[{"address":"0xD","types":["POST"],"post_types":["news"],"channels":["A"]}]}`))
	channel, other := "A", "B"
	news := authz.Facts{Chain: "ETH", Channel: &channel, Type: message.TypePost, PostType: "news"}
	blog := authz.Facts{Chain: "ETH", Channel: &channel, Type: message.TypePost, PostType: "blog"}
	elsewhere := authz.Facts{Chain: "ETH", Channel: &other, Type: message.TypePost, PostType: "news"}
	tests := []struct {
		name  string
		amend authz.Amend
		want  bool
	}{
		{"by the owner", authz.Amend{"0xO", "0xo", "0xO", blog}, true},
		{"by a delegate", authz.Amend{"0xO", "0xD", "0xO", news}, true},
		{"by a delegate, owner in another case", authz.Amend{"0xo", "0xD", "0xO", news}, true},
		{"of another type", authz.Amend{"0xO", "0xD", "0xO", blog}, false},
		{"of another channel", authz.Amend{"0xO", "0xD", "0xO", elsewhere}, false},
		{"for somebody else", authz.Amend{"0xX", "0xD", "0xO", news}, false},
		{"by a stranger", authz.Amend{"0xO", "0xX", "0xO", news}, false},
		{"by the owner of the original for somebody else", authz.Amend{"0xX", "0xO", "0xO", news}, false},
	}
	for _, tt := range tests {
		if got := authz.AllowedAmend(s, tt.amend); got != tt.want {
			t.Errorf("%s: allowed %v, want %v", tt.name, got, tt.want)
		}
	}
}

// A FORGET is judged per target, by the target's owner and facts.
func TestForgetsAreJudgedByTheirTargets(t *testing.T) {
	stores := authz.Parse([]byte(`{"authorizations":[{"address":"0xD1","types":["STORE"]},{"address":"0xD2","types":["STORE"]}]}`))
	file := authz.Facts{Chain: "ETH", Type: message.TypeStore}
	post := authz.Facts{Chain: "ETH", Type: message.TypePost, PostType: "t"}
	tests := []struct {
		name     string
		security authz.Security
		owner    string // of the target
		sender   string // of the FORGET
		target   authz.Facts
		want     bool
	}{
		{"own content", authz.Security{}, "0xO", "0xO", post, true},
		{"the owner, of what a delegate wrote", stores, "0xO", "0xO", file, true},
		{"a second delegate, of what the owner wrote", stores, "0xO", "0xD2", file, true},
		{"a delegate, of a type that is not theirs", stores, "0xO", "0xD1", post, false},
		{"a revoked delegate", authz.Security{}, "0xO", "0xD1", file, false},
		{"the owner, of what a delegate wrote for themselves", authz.Security{}, "0xD1", "0xO", file, false},
	}
	for _, tt := range tests {
		if got := authz.Allowed(tt.security, tt.owner, tt.sender, tt.target); got != tt.want {
			t.Errorf("%s: allowed %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestFactsOfMessages(t *testing.T) {
	channel, key := "C", "k"
	e := func(t message.Type) *message.Envelope {
		return &message.Envelope{Chain: "ETH", Channel: &channel, Type: t}
	}
	tests := []struct {
		content message.Content
		typ     message.Type
		want    authz.Facts
	}{
		{&message.Post{Type: "news"}, message.TypePost, authz.Facts{PostType: "news"}},
		{&message.Aggregate{Key: message.AggregateKey{Name: key}}, message.TypeAggregate, authz.Facts{AggregateKey: &key}},
		{&message.Aggregate{Key: message.AggregateKey{Name: key, Object: true}}, message.TypeAggregate, authz.Facts{}},
		{&message.Store{}, message.TypeStore, authz.Facts{}},
	}
	for _, tt := range tests {
		tt.want.Chain, tt.want.Channel, tt.want.Type = "ETH", &channel, tt.typ
		if diff := cmp.Diff(tt.want, authz.FactsOf(e(tt.typ), tt.content)); diff != "" {
			t.Errorf("facts (-want +got):\n%s", diff)
		}
	}
}

// FuzzSecurity: no aggregate stops a node, what is understood of one reads the
// same again, and it never lets in whom it does not name.
func FuzzSecurity(f *testing.F) {
	for _, tt := range readCases(f) {
		f.Add([]byte(tt.Security), tt.Sender)
	}
	f.Fuzz(func(t *testing.T, raw []byte, sender string) {
		s := authz.Parse(raw)
		own, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again := authz.Parse(own)
		twice, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if string(own) != string(twice) {
			t.Fatalf("own JSON reads differently:\n%s\n%s", own, twice)
		}
		named := false
		for _, g := range s.Grants {
			named = named || authz.Same(g.Address, sender)
		}
		channel := "TEST"
		m := authz.Facts{Chain: "ETH", Channel: &channel, Type: message.TypePost, PostType: "t"}
		if authz.Allowed(s, "0xOwner", sender, m) && !named && !authz.Same("0xOwner", sender) {
			t.Fatalf("%q lets in %q", raw, sender)
		}
	})
}
