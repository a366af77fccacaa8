package ccn

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// A cursor is the place of the last item of a page: base64 of a JSON object whose
// keys are sorted. Clients hand back what they got, those of other nodes too.

// placeCursor is the cursor of lists that are in the order of times.
type placeCursor struct {
	Hash string `json:"h"`
	At   string `json:"t"`
}

// aggregateCursor is the cursor of the list of aggregates.
type aggregateCursor struct {
	Key   string `json:"k"`
	Owner string `json:"o"`
	At    string `json:"t"`
}

// countCursor is the cursor of the list of addresses.
type countCursor struct {
	Address string      `json:"a"`
	Count   json.Number `json:"v"`
}

// cursorBytesMax bounds a cursor; the longest names a key of an aggregate.
const cursorBytesMax = 8 << 10

func encodeCursor(c any) (string, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(c); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString([]byte(strings.TrimSuffix(b.String(), "\n"))), nil
}

func invalidCursor(reason string) error {
	return refuseText(http.StatusUnprocessableEntity, "Invalid cursor: "+reason)
}

// decodeCursor reads a cursor that has the keys.
func decodeCursor(raw string, into any, keys ...string) error {
	if len(raw) > cursorBytesMax {
		return invalidCursor("too long")
	}
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(raw, "="))
	if err != nil {
		return invalidCursor("not base64")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil || fields == nil {
		return invalidCursor("payload is not a dict")
	}
	for _, key := range keys {
		if value, ok := fields[key]; !ok || string(value) == "null" {
			return invalidCursor("missing required fields")
		}
	}
	if err := json.Unmarshal(text, into); err != nil {
		return invalidCursor("fields of the wrong type")
	}
	return nil
}

// isoTime writes a time as the reference does in posts, aggregates and cursors.
func isoTime(t time.Time) string {
	if t = t.UTC(); t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02T15:04:05+00:00")
	}
	return t.Format("2006-01-02T15:04:05.000000+00:00")
}

// parseISO reads a time of a cursor; one without an offset is UTC.
func parseISO(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00"} {
		// Times of which a database cannot say how many microseconds they are do not
		// count as times.
		if t, err := time.Parse(layout, text); err == nil && t.Year() < 10_000 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, invalidCursor("Invalid isoformat string")
}

// place is where a list goes on, nil if it begins.
func (pg *page) place() (*state.MessagePlace, error) {
	if pg.cursor == nil || *pg.cursor == "" {
		return nil, nil
	}
	var c placeCursor
	if err := decodeCursor(*pg.cursor, &c, "h", "t"); err != nil {
		return nil, err
	}
	at, err := parseISO(c.At)
	if err != nil {
		return nil, err
	}
	return &state.MessagePlace{At: at, Hash: message.ItemHash(plain(c.Hash))}, nil
}

// plain is a text without what no database can hold.
func plain(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }
