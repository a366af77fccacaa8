package indexer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// multichainPage is how many events a page usually has.
	multichainPage = 1000
	// spansMax bounds the ranges of time that an indexer has processed, and those that
	// were read. It is usually one, and one for each of its restarts at most.
	spansMax = 10_000
)

// Multichain is the GraphQL indexer of several chains: messages that a contract sends, on
// those that have addresses of the EVM.
type Multichain struct {
	endpoint
	blockchain, account string
}

// NewMultichain reads from an indexer what a contract says on a chain, by the name that the
// indexer has for it ("bsc").
func NewMultichain(rawURL, blockchain, contract string) (*Multichain, error) {
	e, err := newEndpoint(rawURL)
	return &Multichain{e, blockchain, strings.ToLower(contract)}, err
}

// span is a range of time in Unix milliseconds, from its beginning until before its end.
type span [2]int64

// multichainCursor is which ranges were read: in order, and apart.
type multichainCursor struct {
	Done []span `json:"done"`
}

// Page reads the oldest events that were not read yet and have an age: by a clock that says
// now, and by the newest time that the indexer has processed. The indexer may work on old times
// and new ones at once: what counts is which ranges it has processed.
func (m *Multichain) Page(ctx context.Context, cursor json.RawMessage, now time.Time, age time.Duration) (Page, error) {
	c, err := cursorOf[multichainCursor](cursor)
	if err != nil {
		return Page{}, err
	}
	processed, err := m.processed(ctx)
	if err != nil {
		return Page{}, err
	}
	var newest time.Time
	if n := len(processed); n > 0 {
		newest = time.UnixMilli(processed[n-1][1])
	}
	missing := subtract(processed, c.Done, oldEnough(now, newest, age).UnixMilli())
	if len(missing) == 0 {
		return pageOf(nil, c, false)
	}
	next := missing[0]
	events, upTo, err := m.events(ctx, next)
	var missed error
	var crowded *noPageError
	if errors.As(err, &crowded) {
		upTo = next[0] + 1
		events, missed, err = m.crowd(ctx, next[0], crowded.known)
	}
	if err != nil {
		return Page{}, err
	}
	if c.Done = merge(append(c.Done, span{next[0], upTo})); len(c.Done) > spansMax {
		return Page{}, errs.New(errs.Unavailable, "%s has processed more than %d ranges", m.base.Host, spansMax)
	}
	page, err := pageOf(events, c, true)
	page.Missed = missed
	return page, err
}

// processed are the ranges that the indexer knows all events of.
func (m *Multichain) processed(ctx context.Context) ([]span, error) {
	var data multichainState
	query := fmt.Sprintf(`{ state: accountState(blockchain: %s, account: [%s], type: log) { blockchain account processed } }`, quote(m.blockchain), quote(m.account))
	if _, err := m.query(ctx, query, &data); err != nil {
		return nil, err
	}
	spans, err := data.spans()
	if err != nil {
		return nil, errs.New(errs.Unavailable, "state of %s at %s: %w", m.account, m.base.Host, err)
	}
	return spans, nil
}

type multichainState struct {
	State []struct {
		Processed []string
	}
}

// spans are those of the one account that was asked for. The end of a range counts, to the
// millisecond.
func (s *multichainState) spans() ([]span, error) {
	if len(s.State) != 1 {
		return nil, fmt.Errorf("there are %d states, want that of the contract", len(s.State))
	}
	all := s.State[0].Processed
	if len(all) > spansMax {
		return nil, fmt.Errorf("there are %d ranges, at most %d are read", len(all), spansMax)
	}
	out := make([]span, 0, len(all))
	for _, text := range all {
		from, to, _ := strings.Cut(text, "/")
		a, errA := time.Parse(time.RFC3339Nano, from)
		b, errB := time.Parse(time.RFC3339Nano, to)
		if err := errors.Join(errA, errB); err != nil || b.Before(a) || a.Unix() < 0 || b.Year() > 9999 {
			return nil, fmt.Errorf("%.80q is no range of time", text)
		}
		out = append(out, span{a.UnixMilli(), b.UnixMilli() + 1})
	}
	return merge(out), nil
}

// messageEvents is the question about the first events of a range of time.
func (m *Multichain) messageEvents(limit int, in span) string {
	return fmt.Sprintf(`{ messageEvents(blockchain: %s, limit: %d, reverse: false, startDate: %d, endDate: %d) { id timestamp address height transaction type content } }`,
		quote(m.blockchain), limit, in[0], in[1])
}

// events reads the first events of a range, and says up to where they are all of them. It
// returns noPageError if those of its first moment do not fit in a page.
func (m *Multichain) events(ctx context.Context, in span) (events []Event, upTo int64, err error) {
	for ask := (asking{limit: multichainPage, atMost: multichainPage << growths}); ; {
		var data multichainEvents
		if _, err := m.query(ctx, m.messageEvents(ask.limit, in), &data); err != nil {
			switch {
			case !errors.Is(err, errTooLong):
				return nil, 0, err
			case ask.fewer():
				continue
			case ask.short > 0:
				return nil, 0, &noPageError{ask.short}
			}
			return nil, 0, err
		}
		events, upTo, err = data.events(in, ask.limit)
		switch {
		case err != nil:
			return nil, 0, errs.New(errs.Unavailable, "events of %s at %s: %w", m.account, m.base.Host, err)
		case upTo > in[0]:
			return events, upTo, nil
		case !ask.more():
			return nil, 0, &noPageError{ask.short}
		}
	}
}

// crowd reads the events of a moment that do not fit in a page, of which some are known to
// be, and says why some were missed.
func (m *Multichain) crowd(ctx context.Context, at int64, known int) (events []Event, missed, err error) {
	in := span{at, at + 1}
	req, err := m.graph(ctx, m.messageEvents(crowdMax+1, in))
	if err != nil {
		return nil, nil, err
	}
	c := crowd{}
	err = m.each(req, []string{"data", "messageEvents"}, func(raw json.RawMessage, _ time.Time) error { return c.multichain(raw, in) })
	switch {
	case errors.Is(err, errCrowded):
		return c.events, fmt.Errorf("%s has of %v: %w", m.base.Host, time.UnixMilli(at).UTC(), err), nil
	case err == nil:
		err = c.want(known)
	}
	if err != nil {
		return nil, nil, errs.New(errs.Unavailable, "events of %s at %s: %w", m.account, m.base.Host, err)
	}
	return c.events, nil, nil
}

// multichain takes an event of the first moment of a range. What the indexer thinks of the
// end of the range is its own affair.
func (c *crowd) multichain(raw json.RawMessage, in span) error {
	var e multichainEvent
	if err := decode(raw, &e); err != nil {
		return err
	}
	at, err := e.moment(in)
	if err != nil || at > in[0] {
		return err
	}
	event, err := e.event(at)
	if err != nil {
		return err
	}
	return c.add(event)
}

type multichainEvents struct {
	MessageEvents *[]multichainEvent `json:"messageEvents"`
}

type multichainEvent struct {
	ID            string
	Timestamp     number
	Address       string
	Height        number
	Transaction   string
	Type, Content string
}

// moment is when an event happened, in Unix milliseconds, which must be in a range.
func (e *multichainEvent) moment(in span) (int64, error) {
	at := int64(math.Floor(float64(e.Timestamp)))
	if at < in[0] || at > in[1] {
		return 0, fmt.Errorf("one is of %v, which is not in the range that was asked for", time.UnixMilli(at).UTC())
	}
	return at, nil
}

// event is the event of a moment.
func (e *multichainEvent) event(at int64) (Event, error) {
	out := Event{
		ID: e.ID, Tx: e.Transaction, Height: uint64(e.Height), At: time.UnixMilli(at).UTC(), Publisher: e.Address, Sender: e.Address,
		Stamp: (e.Timestamp / 1000).seconds(), Text: e.Content,
	}
	if err := out.check(); err != nil {
		return Event{}, err
	}
	if out.Bad = checkEVM(out.Sender); out.Bad == nil {
		out.Bad = checkType(e.Type)
	}
	if out.Bad == nil {
		out.Type = e.Type
	}
	return out, nil
}

// events are those of a range, whatever the indexer thinks of its end. A full page may lack
// some of the moment that it ends in: it counts up to before that.
func (d *multichainEvents) events(in span, limit int) (out []Event, upTo int64, err error) {
	if d.MessageEvents == nil {
		return nil, 0, fmt.Errorf("there is no list of events")
	}
	all := *d.MessageEvents
	if len(all) > limit {
		return nil, 0, fmt.Errorf("there are %d events, want %d at most", len(all), limit)
	}
	last := in[0]
	moments := make([]int64, len(all))
	for i := range all {
		at, err := all[i].moment(in)
		if err != nil {
			return nil, 0, err
		}
		if at < last && len(all) == limit {
			return nil, 0, fmt.Errorf("they are not in order at %v", time.UnixMilli(at).UTC())
		}
		last, moments[i] = max(last, at), at
	}
	upTo = in[1]
	if len(all) == limit {
		upTo = last
	}
	for i := range all {
		if moments[i] >= upTo {
			continue
		}
		event, err := all[i].event(moments[i])
		if err != nil {
			return nil, 0, err
		}
		out = append(out, event)
	}
	slices.SortStableFunc(out, func(a, b Event) int { return a.At.Compare(b.At) })
	return out, upTo, nil
}

// merge puts ranges in order, and joins those that touch.
func merge(all []span) (out []span) {
	slices.SortFunc(all, func(a, b span) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	for _, s := range all {
		if n := len(out); n > 0 && s[0] <= out[n-1][1] {
			out[n-1][1] = max(out[n-1][1], s[1])
			continue
		}
		out = append(out, s)
	}
	return out
}

// subtract is what of the ranges is in none of the others and before a time. Both are in
// order, and apart.
func subtract(all, others []span, before int64) (out []span) {
	for _, s := range all {
		s[1] = min(s[1], before)
		for _, o := range others {
			if o[1] <= s[0] {
				continue
			}
			if o[0] >= s[1] {
				break
			}
			if s[0] < o[0] {
				out = append(out, span{s[0], o[0]})
			}
			s[0] = o[1]
		}
		if s[0] < s[1] {
			out = append(out, s)
		}
	}
	return out
}
