package corechannel_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// What cannot be understood has a reason.
func TestPostsThatAreIgnored(t *testing.T) {
	tests := []struct {
		name    string
		kind    string
		ref     string
		content string
		want    string // a part of the reason; "" = it is taken
	}{
		{"another type", "blog", "", `{"tags":["mainnet"]}`, "another type"},
		{"no object", "corechan-operation", "", `[1]`, "not an object"},
		{"null", "corechan-operation", "", `null`, "not an object"},
		{"nothing", "corechan-operation", "", ``, "not an object"},
		{"no tags", "corechan-operation", "x", `{"action":"stake"}`, "tag"},
		{"tags of another network", "corechan-operation", "x", `{"action":"stake","tags":["stake","testnet"]}`, "tag"},
		{"tags that are numbers", "corechan-operation", "x", `{"action":"stake","tags":[1,null]}`, "tag"},
		{"no action", "corechan-operation", "x", `{"tags":["mainnet"]}`, "no action"},
		{"an action in capitals", "corechan-operation", "x", `{"action":"STAKE","tags":["mainnet"]}`, "no action"},
		{"a key in capitals", "corechan-operation", "x", `{"ACTION":"stake","tags":["mainnet"]}`, "no action"},
		{"an action that is a number", "corechan-operation", "x", `{"action":1,"tags":["mainnet"]}`, "no action"},
		{"details that are a list", "corechan-operation", "", `{"action":"create-node","tags":["mainnet"],"details":[]}`, "details"},
		{"details that are null", "corechan-operation", "", `{"action":"create-node","tags":["mainnet"],"details":null}`, ""},
		{"an amend", "amend", "x", `{"tags":["mainnet"],"details":{}}`, ""},
		{"an amend as an action", "corechan-operation", "x", `{"action":"amend","tags":["mainnet"]}`, ""},
		{"an amend without a tag", "amend", "x", `{"details":{}}`, "tag"},
		{"scores of a stranger", "aleph-scoring-scores", "", `{"tags":["mainnet"],"scores":{"ccn":[]}}`, "no say"},
	}
	for _, tt := range tests {
		_, err := corechannel.Read(post("a", alice, tt.kind, tt.ref, tt.content, 1), corechannel.DefaultSettings())
		got := ""
		if err != nil {
			got = reason(t, err)
		}
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: reason %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestScorePostsThatAreIgnored(t *testing.T) {
	tests := map[string]string{ // content and a part of the reason
		`{"scores":{"ccn":[],"crn":[]}}`:                                        "tag",
		`{"tags":["mainnet"]}`:                                                  "not an object",
		`{"tags":["mainnet"],"scores":[]}`:                                      "not an object",
		`{"tags":["mainnet"],"scores":{}}`:                                      "no scores",
		`{"tags":["mainnet"],"scores":{"ccn":[1,{},{"node_id":"x"}],"crn":{}}}`: "",
	}
	for content, want := range tests {
		e, err := corechannel.Read(post("a", scorer, corechannel.ScoresType, "", content, 1), corechannel.DefaultSettings())
		if want != "" {
			if err == nil || !strings.Contains(reason(t, err), want) {
				t.Errorf("%s: error %v, want %q", content, err, want)
			}
			continue
		}
		if s, ok := e.Body.(corechannel.Scores); err != nil || !ok || len(s.Nodes)+len(s.ResourceNodes) != 0 {
			t.Errorf("%s: %+v, %v; want no rows", content, e.Body, err)
		}
	}
}

// The network's tag is a setting.
func TestTagIsASetting(t *testing.T) {
	s := corechannel.DefaultSettings()
	s.Tag = "devnet"
	m := post("a", alice, corechannel.OperationType, "x", `{"action":"stake","tags":["stake","devnet"]}`, 1)
	if _, err := corechannel.Read(m, s); err != nil {
		t.Error(err)
	}
	if _, err := corechannel.Read(m, corechannel.DefaultSettings()); err == nil {
		t.Error("the public network takes an operation of another")
	}
}

// One hash that is not of 64 hex digits would hide all nodes from some clients.
func TestNodesNeedNamesThatClientsRead(t *testing.T) {
	for _, name := range []string{"QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC", strings.Repeat("A", 64), strings.Repeat("a", 63), ""} {
		for _, action := range []string{"create-node", "create-resource-node"} {
			m := post("a", alice, corechannel.OperationType, "", `{"action":"`+action+`","tags":["mainnet"],"details":{"type":"compute"}}`, 1)
			m.Hash = message.ItemHash(name)
			if _, err := corechannel.Read(m, corechannel.DefaultSettings()); err == nil {
				t.Errorf("%s of %q is taken", action, name)
			}
		}
	}
}

func TestValuesOfDetails(t *testing.T) {
	long := strings.Repeat("x", 1<<14)
	tests := []struct {
		details string
		want    string // the details as JSON hold this
	}{
		{`{"name":"` + long + `"}`, `"Name":"` + long + `"`},
		{`{"name":"` + long + `x"}`, `"Name":null`},
		{`{"name":null}`, `"Name":null`},
		{`{"name":["x"]}`, `"Name":null`},
		{`{"Name":"x"}`, `"Name":null`},
		{`{"locked":"yes"}`, `"Locked":true`},
		{`{"locked":""}`, `"Locked":false`},
		{`{"locked":0}`, `"Locked":false`},
		{`{"locked":[ ]}`, `"Locked":false`},
		{`{"locked":{"a":1}}`, `"Locked":true`},
		{`{"locked":null}`, `"Locked":null`},
		{`{"authorized":"a, b"}`, `"Authorized":["a","b"]`},
		{`{"authorized":""}`, `"Authorized":[]`},
		{`{"authorized":["a",null,1,"b"]}`, `"Authorized":["a","b"]`},
		{`{"authorized":{"a":1}}`, `"Authorized":null`},
		{`{"node_id":7}`, `"NodeID":7`},
		{`{"node_id":4294967295}`, `"NodeID":4294967295`},
		{`{"node_id":4294967296}`, `"NodeID":null`},
		{`{"node_id":0}`, `"NodeID":null`},
		{`{"node_id":1.5}`, `"NodeID":null`},
		{`{"node_id":"7"}`, `"NodeID":null`},
	}
	for _, tt := range tests {
		m := post("a", alice, corechannel.OperationType, "", `{"action":"create-node","tags":["mainnet"],"details":`+tt.details+`}`, 1)
		e, err := corechannel.Read(m, corechannel.DefaultSettings())
		if err != nil {
			t.Errorf("%.80s: %v", tt.details, err)
			continue
		}
		raw, err := json.Marshal(e.Body)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(raw), tt.want) {
			t.Errorf("%.80s reads as %.300s, want %.80s", tt.details, raw, tt.want)
		}
	}
}

func TestAmountsOfTokens(t *testing.T) {
	tests := map[string]string{
		"0": "0", "1": "1000000000000000000", "0.5": "500000000000000000", "1e6": "1000000000000000000000000",
		"1.5E-18": "1", "9e-19": "0", "12.000000000000000001": "12000000000000000001", "1e+2": "100000000000000000000", "007": "7000000000000000000",
		"": "", "-1": "", "+1": "", ".5": "", "1e": "", "1e65": "", "1e-65": "", "e5": "", "1.2.3": "", "0x1": "", "NaN": "", "1_0": "",
		strings.Repeat("1", 65): "", "1e999999999": "",
	}
	for tokens, want := range tests {
		got, err := corechannel.Wei(tokens)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is %s wei, want it refused", tokens, got)
		case want != "" && (err != nil || got.String() != want):
			t.Errorf("%q is %v wei (%v), want %s", tokens, got, err, want)
		}
	}
}

// FuzzRead: no content of a post stops a node, and what is read of it leads to
// a state that clients can read.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`{"action":"create-node","tags":["mainnet"],"details":{"name":"n","multiaddress":"/ip4/1.2.3.4/tcp/1","locked":1,"authorized":"a"}}`,
		`{"action":"create-resource-node","tags":["mainnet"],"details":{"type":"compute","address":"https://[::1]/"}}`,
		`{"tags":["mainnet"],"scores":{"ccn":[{"node_id":"x","total_score":1e308}],"crn":[]}}`,
	} {
		f.Add([]byte(seed), corechannel.OperationType, hash("a"))
		f.Add([]byte(seed), corechannel.ScoresType, "")
		f.Add([]byte(seed), message.PostAmend, corechannel.ChainHash(1))
	}
	f.Fuzz(func(t *testing.T, content []byte, kind, ref string) {
		set := corechannel.DefaultSettings()
		fold := corechannel.New(set)
		if err := fold.Apply(corechannel.Event{Height: 1, Body: corechannel.Balance{Address: scorer, Wei: mustWei("200000")}}); err != nil {
			t.Fatal(err)
		}
		for i, letter := range []string{"a", "b"} {
			e, err := corechannel.Read(post(letter, scorer, kind, ref, string(content), uint64(i+2)), set)
			if err != nil {
				reason(t, err)
				continue
			}
			if err := fold.Apply(e); err != nil {
				reason(t, err)
			}
		}
		raw, err := fold.State().Content()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := corechannel.ParseState(raw); err != nil {
			t.Fatalf("%v: %s", err, raw)
		}
	})
}

// FuzzParseState: an aggregate that is read and written reads the same again.
func FuzzParseState(f *testing.F) {
	f.Add(readVector(f, "corechannel_snapshot.json"))
	f.Add([]byte(`{"nodes":[{"hash":"a","inactive_since":3}],"resource_nodes":[{"locked":"","authorized":"a b","parent":null}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := corechannel.ParseState(raw)
		if err != nil {
			return
		}
		once, err := s.Content()
		if err != nil {
			t.Fatal(err)
		}
		again, err := corechannel.ParseState(once)
		if err != nil {
			t.Fatalf("%v: %s", err, once)
		}
		if twice, err := again.Content(); err != nil || string(twice) != string(once) {
			t.Errorf("%s reads as %s (%v)", once, twice, err)
		}
	})
}

// FuzzWei: an amount is exact to the float64 that it is written as.
func FuzzWei(f *testing.F) {
	f.Add("1.5e3")
	f.Add("0.000000000000000001")
	f.Fuzz(func(t *testing.T, tokens string) {
		wei, err := corechannel.Wei(tokens)
		if err != nil {
			reason(t, err)
			return
		}
		if wei.Sign() < 0 {
			t.Errorf("%q is %s wei", tokens, wei)
		}
		var asNumber float64
		if json.Unmarshal([]byte(tokens), &asNumber) != nil {
			return
		}
		got, _ := wei.Float64()
		if want := asNumber * 1e18; math.Abs(got-want) > math.Max(1, want*1e-12) {
			t.Errorf("%q is %g wei, want %g", tokens, got, want)
		}
	})
}
