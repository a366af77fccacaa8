package indexer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/archive"
)

const (
	// answerMax bounds the bytes of an answer.
	answerMax = 32 << 20
	// askMax bounds the time of a question.
	askMax = time.Minute
	// errorShown cuts the text of a server's error.
	errorShown = 300
	// nameMax bounds names: of events, transactions and accounts.
	nameMax = 128
	// growths is how often a page is asked for at twice the length, when all of its
	// events are of one moment: 16 times the usual length.
	growths = 4
)

// errTooLong is of an answer beyond answerMax. Who makes events chooses how long they are,
// so that fewer are asked for then.
var errTooLong = errors.New("too long")

// noPageError is of a moment whose events do not fit in a page: those that are known.
type noPageError struct{ known int }

func (e *noPageError) Error() string {
	return fmt.Sprintf("more than %d events happened at once", e.known)
}

// asking is how many events a page is asked for.
type asking struct {
	limit  int
	atMost int // The greatest limit; the usual one where a page need not be longer.
	short  int // The greatest limit that was too small; 0 if none was.
	long   int // The least limit whose answer was too long; 0 if none was.
}

// fewer makes the limit smaller after an answer that was too long, and reports whether it
// did: half, but more than what was too small.
func (a *asking) fewer() bool {
	a.long = a.limit
	a.limit = (a.short + a.long) / 2
	return a.limit > a.short
}

// more makes the limit greater after a page of one moment only, and reports whether it
// did: double, but less than what was too long.
func (a *asking) more() bool {
	a.short = a.limit
	if a.limit = min(2*a.limit, a.atMost); a.long > 0 {
		a.limit = (a.short + a.long) / 2
	}
	return a.limit > a.short
}

// Event is an event of a contract, as an indexer tells of it.
type Event struct {
	ID        string // What the indexer calls it; no other event of its is called so.
	Tx        string // Hash of the transaction, in the text form of its chain.
	Height    uint64
	At        time.Time // Of the block.
	Publisher string    // Who the transaction is of.
	Sender    string    // Of an event that is a message, who sends it.
	Type      string    // Of an event that is a message, at most archive.MaxTypeBytes; else "", and Text is a payload.
	Stamp     time.Time // When the event says that it happened.
	Text      string
	Bad       error // Why it says nothing; only its transaction is known then.
}

// Page is some events that come after a cursor.
type Page struct {
	Events []Event
	Next   json.RawMessage // The cursor after them.
	More   bool            // There may be more already.
	Missed error           // Why Next passes over others of a moment, which nobody reads any more; nil if it does not.
}

// oldEnough is the time up to which events are read that are to have an age: by this node's
// clock, or by what the server has, if that is earlier, as a clock that is fast would make
// all events old.
func oldEnough(now, said time.Time, age time.Duration) time.Time {
	if !said.IsZero() && said.Before(now) {
		now = said
	}
	return now.Add(-age)
}

// endpoint is a server that answers questions.
type endpoint struct {
	base   *url.URL
	client *http.Client
}

// newEndpoint checks the URL of a server. It may not send who asks elsewhere: that one
// stands in a network of its own.
func newEndpoint(rawURL string) (endpoint, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return endpoint{}, errs.New(errs.Invalid, "%q is no URL of an indexer, want https://...", rawURL)
	}
	return endpoint{u, &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: askMax, IdleConnTimeout: askMax},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       askMax,
	}}, nil
}

// query asks a GraphQL server and decodes the data of its answer. It returns when the
// server says that it answered.
func (e endpoint) query(ctx context.Context, query string, data any) (said time.Time, err error) {
	req, err := e.graph(ctx, query)
	if err != nil {
		return said, err
	}
	raw, said, err := e.do(req)
	if err != nil {
		return said, err
	}
	if err := decodeGraph(raw, data); err != nil {
		return said, errs.New(errs.Unavailable, "answer of %s: %w", e.base.Host, err)
	}
	return said, nil
}

// graph is the request of a question to a GraphQL server.
func (e endpoint) graph(ctx context.Context, query string) (*http.Request, error) {
	body, err := json.Marshal(map[string]string{"query": query})
	if err != nil {
		return nil, fmt.Errorf("encode query: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.base.JoinPath("/").String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", e.base.Host, err)
	}
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// decodeGraph reads the data of an answer of a GraphQL server.
func decodeGraph(raw []byte, data any) error {
	var answer struct {
		Data   json.RawMessage
		Errors []struct{ Message string }
	}
	if err := decode(raw, &answer); err != nil {
		return err
	}
	if len(answer.Errors) > 0 {
		return fmt.Errorf("it says %.*q", errorShown, answer.Errors[0].Message)
	}
	if len(answer.Data) == 0 || string(answer.Data) == "null" {
		return fmt.Errorf("it has no data")
	}
	return decode(answer.Data, data)
}

// decode reads JSON that nests no deeper than messages do.
func decode(raw []byte, into any) error {
	if err := archive.CheckDepth(raw); err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("it is not what was asked for: %w", err)
	}
	return nil
}

// do sends a request and returns the bytes of a good answer, and the time of the server if
// it says one.
func (e endpoint) do(req *http.Request) (raw []byte, said time.Time, err error) {
	res, err := e.open(e.client, req)
	if err != nil {
		return nil, said, err
	}
	defer func() { _ = res.Body.Close() }() // Only read from: nothing is lost.
	raw, err = io.ReadAll(io.LimitReader(res.Body, answerMax+1))
	switch {
	case err != nil:
		return nil, said, errs.New(errs.Unavailable, "read the answer of %s: %w", e.base.Host, err)
	case len(raw) > answerMax:
		return nil, said, errs.New(errs.Unavailable, "the answer of %s is %w: it has more than %d bytes", e.base.Host, errTooLong, answerMax)
	}
	return raw, saidAt(res), nil
}

// saidAt is when a server says that it answered, if it does.
func saidAt(res *http.Response) time.Time {
	at, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return at
}

// open sends a request and returns a good answer, whose body the caller closes.
func (e endpoint) open(client *http.Client, req *http.Request) (*http.Response, error) {
	req.Header.Set("Accept", "application/json")
	res, err := client.Do(req) //nolint:gosec // G704: the operator names the server.
	if err != nil {
		return nil, errs.New(errs.Unavailable, "ask %s: %w", e.base.Host, plain(err))
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	text, _ := io.ReadAll(io.LimitReader(res.Body, errorShown)) // Its status says enough.
	_ = res.Body.Close()
	return nil, errs.New(errs.Unavailable, "%s answered %d: %.*q", e.base.Host, res.StatusCode, errorShown, text)
}

// plain takes the URL out of an error, as there may be a key in it.
func plain(err error) error {
	if u, ok := err.(*url.Error); ok { //nolint:errorlint // http.Client says it bare
		return u.Err
	}
	return err
}

// quote writes a text into a GraphQL query, whose texts are those of JSON.
func quote(text string) string { return strconv.Quote(text) }

// checkName wants a name that is not empty, not long, and printable ASCII.
func checkName(what, name string) error {
	if name == "" || len(name) > nameMax || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%s is %.*q", what, nameMax, name)
	}
	return nil
}

// checkType wants the type of a message. Who calls the contract chooses it.
func checkType(name string) error {
	if len(name) > archive.MaxTypeBytes {
		return fmt.Errorf("its type has %d bytes, at most %d are read", len(name), archive.MaxTypeBytes)
	}
	return checkName("its type", name)
}

// check looks whether an event may be one.
func (e *Event) check() error {
	for _, name := range [][2]string{{"id of an event", e.ID}, {"its transaction", e.Tx}, {"its publisher", e.Publisher}} {
		if err := checkName(name[0], name[1]); err != nil {
			return err
		}
	}
	if e.Height > math.MaxInt64 {
		return fmt.Errorf("height of an event is %d", e.Height)
	}
	if e.At.Unix() < 0 {
		return fmt.Errorf("an event has no time")
	}
	return nil
}

// number is a number of JSON, or a text of one, as loose servers and readers have it. It
// is finite, and not negative.
type number float64

// numberMax is the greatest number that is read: beyond, floats have gaps.
const numberMax = 1 << 53

func (n *number) UnmarshalJSON(raw []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(raw), `"`), 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > numberMax {
		return fmt.Errorf("%.40q is no number that can be", raw)
	}
	*n = number(f)
	return nil
}

// seconds is a time of Unix seconds, to the microsecond.
func (n number) seconds() time.Time {
	whole, part := math.Modf(float64(n))
	return time.Unix(int64(whole), 0).Add(time.Duration(math.Round(part*1e6)) * time.Microsecond).UTC()
}

// cursorOf reads a cursor; none is the beginning.
func cursorOf[T any](raw json.RawMessage) (c T, err error) {
	if len(raw) == 0 {
		return c, nil
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("decode cursor: %w", err)
	}
	return c, nil
}

func pageOf[T any](events []Event, next T, more bool) (Page, error) {
	raw, err := json.Marshal(next)
	if err != nil {
		return Page{}, fmt.Errorf("encode cursor: %w", err)
	}
	return Page{Events: events, Next: raw, More: more}, nil
}
