package functions

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// subscription reads one as a message has it.
func subscription(t testing.TB, raw string) message.Metadata {
	t.Helper()
	var s message.Metadata
	if err := json.Unmarshal([]byte(raw), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func object(t testing.TB, raw string) map[string]any {
	t.Helper()
	v, err := parseJSON([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)
}

func TestPatternsMatchAnyJSON(t *testing.T) {
	t.Parallel()
	msg := `{"sender":"0x1","type":"POST","channel":null,"time":1700000000.50,"confirmed":false,
		"content":{"ref":"r","type":"t","content":{"n":1e2,"list":[1,{"a":"b"}],"deep":{"er":true}}}}`
	for want, matches := range map[string]bool{
		`{}`:                          true,
		`{"sender":"0x1"}`:            true,
		`{"sender":"0x2"}`:            false,
		`{"sender":1}`:                false,
		`{"sender":"0x1","type":"P"}`: false,
		`{"absent":"x"}`:              false,
		`{"absent":null}`:             false,
		`{"channel":null}`:            true,
		`{"channel":"c"}`:             false,
		`{"confirmed":false}`:         true,
		`{"confirmed":true}`:          false,
		`{"time":1700000000.5}`:       true,
		`{"time":"1700000000.5"}`:     false,
		`{"content":{"ref":"r"}}`:     true,
		`{"content":{"ref":"x"}}`:     false,
		`{"content":"r"}`:             false,
		`{"sender":{"ref":"x"}}`:      false,
		`{"content":{"content":{"n":100,"deep":{"er":true}}}}`:   true,
		`{"content":{"content":{"list":[1.0,{"a":"b"}]}}}`:       true,
		`{"content":{"content":{"list":[1]}}}`:                   false,
		`{"content":{"content":{"list":[1,{"a":"b","c":"d"}]}}}`: false,
		`{"content":{"content":{"list":{"0":1}}}}`:               false,
		`{"time":1e999999999999}`:                                false,
	} {
		got := false
		for _, p := range parsePatterns([]message.Metadata{subscription(t, want)}) {
			got = p.matches(object(t, msg))
		}
		if got != matches {
			t.Errorf("%s matches: %v, want %v", want, got, matches)
		}
	}
}

// TestAnIndexFindsWhatMatches: the same programs as if all patterns were tried.
func TestAnIndexFindsWhatMatches(t *testing.T) {
	t.Parallel()
	of := map[message.ItemHash][]pattern{}
	for spec, raw := range map[message.ItemHash][]string{
		"a": {`{"sender":"0x1"}`, `{"type":"POST"}`},
		"b": {`{"type":"POST","content":{"ref":"r"}}`},
		"c": {`{"content":{"ref":"r"}}`},
		"d": {`{"type":"STORE"}`},
		"e": {`{"confirmed":true}`},
	} {
		for _, r := range raw {
			of[spec] = append(of[spec], parsePatterns([]message.Metadata{subscription(t, r)})...)
		}
	}
	x := newIndex(of)
	got := x.find(object(t, `{"sender":"0x1","type":"POST","content":{"ref":"r"},"confirmed":false}`))
	if want := []message.ItemHash{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
}

func FuzzPatterns(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,null,{"c":1.5}]}}`), []byte(`{"a":{"b":[1,null,{"c":15e-1}]},"d":"e"}`))
	f.Fuzz(func(t *testing.T, want, have []byte) {
		var s message.Metadata
		v, err := parseJSON(have)
		msg, ok := v.(map[string]any)
		if json.Unmarshal(want, &s) != nil || err != nil || !ok {
			return
		}
		for _, p := range parsePatterns([]message.Metadata{s}) {
			found := newIndex(map[message.ItemHash][]pattern{"x": {p}}).find(msg)
			if p.matches(msg) != (len(found) == 1) {
				t.Fatalf("%s and %s: the index says %v", want, have, found)
			}
		}
	})
}

func TestClocksOfPrograms(t *testing.T) {
	t.Parallel()
	p := &message.Program{}
	at := time.Date(2026, 3, 4, 5, 10, 0, 0, time.UTC) // A Wednesday.
	for raw, due := range map[string]string{
		`["*/10 * * * *"]`:                 "*/10 * * * *",
		`["10 5 * * 3"]`:                   "10 5 * * 3",
		`["0 0 * * *","10 5 4 3 *"]`:       "10 5 4 3 *",
		`["11 * * * *"]`:                   "",
		`["CRON_TZ=Asia/Tokyo * * * * *"]`: "",
		`["* * * * * *"]`:                  "",
		`["@hourly"]`:                      "",
		`["61 * * * *"]`:                   "",
		`"*/10 * * * *"`:                   "",
		`[1]`:                              "",
	} {
		p.Metadata = message.Metadata{"cron": json.RawMessage(raw)}
		if got, _ := dueOf(clocksOf(p), at); got != due {
			t.Errorf("%s at %v: %q is due, want %q", raw, at, got, due)
		}
	}
}
