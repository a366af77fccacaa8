package ccn

import (
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// listMax bounds the values of a parameter that is a list: each is a look into an
// index. The reference takes no more of them than fit into a line of 8 KiB.
const listMax = 1024

// params reads the parameters of a query, and notes what is wrong with them. A
// name may be written in two ways, like sortOrder and sort_order; the first that is
// there counts, and of a key that comes twice the first value.
type params struct {
	values map[string][]string
	wrong  []wrong
}

// wrong is one thing that is wrong with a query or a body, in the form that the
// reference answers.
type wrong struct {
	Type  string `json:"type"`
	Loc   []any  `json:"loc"`
	Msg   string `json:"msg"`
	Input any    `json:"input"`
	URL   string `json:"url,omitempty"`
}

// invalidAnswer refuses with the list of what is wrong. Some endpoints say that it
// is JSON, others that it is text.
func invalidAnswer(all []wrong, isJSON bool) error {
	for i := range all {
		all[i].URL = "https://errors.pydantic.dev/2.11/v/" + all[i].Type
	}
	raw, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return &refusal{status: http.StatusUnprocessableEntity, text: string(raw), json: isJSON}
}

// readParams reads the query of a request. What is not well written stands for
// itself, as with the reference.
func readParams(r *http.Request) *params {
	p := &params{values: map[string][]string{}}
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		if pair == "" {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		key = unescape(key, true)
		p.values[key] = append(p.values[key], unescape(value, true))
	}
	return p
}

// unescape reads a part of a URL, and leaves what no database can hold out of it.
func unescape(s string, query bool) string {
	read := url.PathUnescape
	if query {
		read = url.QueryUnescape
	}
	if plain, err := read(s); err == nil {
		s = plain
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// err is the refusal of a query with which something is wrong, nil if nothing is.
func (p *params) err() error {
	if len(p.wrong) == 0 {
		return nil
	}
	return invalidAnswer(p.wrong, false)
}

// errJSON is err for the endpoints that say that it is JSON.
func (p *params) errJSON() error {
	if len(p.wrong) == 0 {
		return nil
	}
	return invalidAnswer(p.wrong, true)
}

func (p *params) fail(kind, msg string, input any, loc ...any) {
	// What is wrong with the whole has an empty place, and not none.
	p.wrong = append(p.wrong, wrong{Type: kind, Loc: append([]any{}, loc...), Msg: msg, Input: input})
}

// text is the value under one of the names.
func (p *params) text(names ...string) (string, bool) {
	for _, name := range names {
		if values := p.values[name]; len(values) > 0 {
			return values[0], true
		}
	}
	return "", false
}

// list is the values of a list, nil if it is not there. An empty text is a list of
// one, which is empty.
func (p *params) list(names ...string) []string {
	raw, ok := p.text(names...)
	if !ok {
		return nil
	}
	list := strings.Split(raw, ",")
	if len(list) > listMax {
		p.fail("too_long", "List should have at most "+strconv.Itoa(listMax)+" items", len(list), names[0])
		return []string{}
	}
	return list
}

// words is a list whose values must be known.
func (p *params) words(what string, known func(string) bool, names ...string) []string {
	list := p.list(names...)
	for i, word := range list {
		if !known(word) {
			p.fail("enum", "Input should be "+what, word, names[0], i)
		}
	}
	return list
}

// word is one value that must be known, or def.
func (p *params) word(def string, known []string, names ...string) string {
	raw, ok := p.text(names...)
	if !ok {
		return def
	}
	if !slices.Contains(known, raw) {
		p.fail("enum", "Input should be '"+strings.Join(known, "' or '")+"'", raw, names[0])
	}
	return raw
}

// hashes is a list of item hashes.
func (p *params) hashes(names ...string) []message.ItemHash {
	list := p.list(names...)
	if list == nil {
		return nil
	}
	out := make([]message.ItemHash, 0, len(list))
	for i, raw := range list {
		hash, err := message.ParseItemHash(raw)
		if err != nil {
			p.fail("value_error", "Value error, Could not determine hash type: '"+raw+"'", raw, names[0], i)
			continue
		}
		out = append(out, hash)
	}
	return out
}

// integer is a number from low to high, or def.
func (p *params) integer(def, low, high int64, names ...string) int64 {
	raw, ok := p.text(names...)
	if !ok {
		return def
	}
	text, _ := strings.CutSuffix(strings.TrimSpace(raw), ".0")
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		p.fail("int_parsing", "Input should be a valid integer, unable to parse string as an integer", raw, names[0])
	case n < low:
		p.fail("greater_than_equal", "Input should be greater than or equal to "+strconv.FormatInt(low, 10), raw, names[0])
	case n > high:
		p.fail("less_than_equal", "Input should be less than or equal to "+strconv.FormatInt(high, 10), raw, names[0])
	default:
		return n
	}
	return def
}

// boolean is a yes or a no, or def.
func (p *params) boolean(def bool, names ...string) bool {
	raw, ok := p.text(names...)
	if !ok {
		return def
	}
	switch strings.ToLower(raw) {
	case "true", "1", "yes", "on", "t", "y":
		return true
	case "false", "0", "no", "off", "f", "n":
		return false
	}
	p.fail("bool_parsing", "Input should be a valid boolean, unable to interpret input", raw, names[0])
	return def
}

// secondsMax bounds the times of queries: no message is as late.
const secondsMax = 1 << 33

// seconds is a time, the zero one if it is not there or 0.
func (p *params) seconds(names ...string) time.Time {
	raw, ok := p.text(names...)
	if !ok {
		return time.Time{}
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(raw), 64)
	switch {
	case err != nil:
		p.fail("float_parsing", "Input should be a valid number, unable to parse string as a number", raw, names[0])
		return time.Time{}
	case math.IsNaN(f) || math.IsInf(f, 0):
		p.fail("finite_number", "Input should be a finite number", raw, names[0])
		return time.Time{}
	case f < 0:
		p.fail("greater_than_equal", "Input should be greater than or equal to 0", raw, names[0])
		return time.Time{}
	case f == 0:
		return time.Time{}
	}
	whole, fraction := math.Modf(min(f, secondsMax))
	return time.Unix(int64(whole), int64(math.RoundToEven(fraction*1e6))*1000).UTC()
}

// span is the two times that bound a list.
func (p *params) span() (from, to time.Time) {
	from, to = p.seconds("startDate", "start_date"), p.seconds("endDate", "end_date")
	if !from.IsZero() && !to.IsZero() && to.Before(from) {
		p.fail("value_error", "Value error, end date cannot be lower than start date.", nil)
	}
	return from, to
}

// oldestFirst is the order of a list.
func (p *params) oldestFirst() bool {
	return p.word("-1", []string{"-1", "1"}, "sortOrder", "sort_order") == "1"
}

// cursorMax bounds what a page has in cursor mode.
const cursorMax = 200

// page is which part of a list is wanted.
type page struct {
	number, per int64
	cursor      *string // nil if pages have numbers; "" is the first.
}

// page reads which part of a list is wanted; pages have def items unless the query
// says otherwise, and from low to high.
func (p *params) page(def, low, high int64) page {
	out := page{per: p.integer(def, low, high, "pagination"), number: p.integer(1, 1, numberMax, "page")}
	if raw, ok := p.text("cursor"); ok {
		out.cursor = &raw
	}
	return out
}

// inPath takes the number of a page from the path, if the path has one.
func (pg *page) inPath(r *http.Request) error {
	raw := r.PathValue("page")
	if raw == "" {
		return nil
	}
	n, err := strconv.ParseInt(raw, 10, 64)
	switch {
	case err != nil:
		return refuseText(http.StatusBadRequest, "Invalid page value in path: "+raw)
	case n < 1:
		return refuseText(http.StatusUnprocessableEntity, "Page number must be greater than 1.")
	}
	pg.number = n
	return nil
}

// bound applies the rules of cursor mode.
func (pg *page) bound() error {
	if pg.cursor == nil {
		return nil
	}
	if pg.per == 0 {
		return refuseText(http.StatusUnprocessableEntity, "pagination=0 is not allowed with cursor-based pagination")
	}
	pg.number, pg.per = 1, min(pg.per, cursorMax)
	return nil
}

// numberMax bounds the numbers of queries: greater ones are no numbers to all
// clients.
const numberMax = 1 << 53

// offset is how many items come before the page; what no list has is as good as any
// other number that none has.
func (pg *page) offset() int64 {
	const beyond = 1 << 60
	if pg.per > 0 && pg.number-1 > beyond/pg.per {
		return beyond
	}
	return (pg.number - 1) * pg.per
}
