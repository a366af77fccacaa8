package indexer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// tezosPage is how many events a page usually has.
const tezosPage = 100

// Tezos is the GraphQL indexer of contracts on Tezos: messages that a contract sends.
type Tezos struct {
	endpoint
	contract string
}

// NewTezos reads from an indexer what a contract says.
func NewTezos(rawURL, contract string) (*Tezos, error) {
	e, err := newEndpoint(rawURL)
	return &Tezos{e, contract}, err
}

// tezosCursor is how many events were read. The indexer lists them in an order that does
// not change, the oldest first.
type tezosCursor struct {
	Count int64 `json:"count"`
}

// Page reads the next events that have an age, by a clock that says now and by that of the
// indexer.
func (t *Tezos) Page(ctx context.Context, cursor json.RawMessage, now time.Time, age time.Duration) (Page, error) {
	c, err := cursorOf[tezosCursor](cursor)
	if err != nil {
		return Page{}, err
	}
	for ask := (asking{limit: tezosPage, atMost: tezosPage}); ; {
		page, err := t.page(ctx, c, ask.limit, now, age)
		if errors.Is(err, errTooLong) && ask.fewer() {
			continue
		}
		return page, err
	}
}

// page reads up to limit of the next events.
func (t *Tezos) page(ctx context.Context, c tezosCursor, limit int, now time.Time, age time.Duration) (Page, error) {
	query := fmt.Sprintf(`{ indexStatus { oldestBlock recentBlock status } stats(address: %[1]s) { totalEvents } `+
		`events(limit: %[2]d, skip: %[3]d, source: %[1]s, type: "MessageEvent") { _id source timestamp blockLevel operationHash type payload } }`,
		quote(t.contract), limit, c.Count)
	var data tezosEvents
	said, err := t.query(ctx, query, &data)
	if err != nil {
		return Page{}, err
	}
	events, err := data.events(t.contract, c.Count, limit)
	if err != nil {
		return Page{}, errs.New(errs.Unavailable, "events of %s at %s: %w", t.contract, t.base.Host, err)
	}
	until, full := oldEnough(now, said, age), len(events) == limit
	for i := range events {
		if events[i].At.After(until) {
			events, full = events[:i], false
			break
		}
	}
	return pageOf(events, tezosCursor{c.Count + int64(len(events))}, full)
}

type tezosEvents struct {
	IndexStatus struct {
		Status string
	} `json:"indexStatus"`
	Stats struct {
		TotalEvents number `json:"totalEvents"`
	}
	Events *[]tezosEvent
}

type tezosEvent struct {
	ID            string `json:"_id"`
	Source        string
	Timestamp     moment
	BlockLevel    number `json:"blockLevel"`
	OperationHash string `json:"operationHash"`
	Type          string
	Payload       json.RawMessage
}

// events are those of a page. Who calls the contract chooses the payload, so one that says
// nothing is passed over; what else is wrong is the indexer's fault.
func (d *tezosEvents) events(contract string, skip int64, limit int) ([]Event, error) {
	switch {
	case d.IndexStatus.Status != "synced":
		return nil, fmt.Errorf("the indexer is %.40q, not synced", d.IndexStatus.Status)
	case d.Events == nil:
		return nil, fmt.Errorf("there is no list of events")
	case len(*d.Events) > limit:
		return nil, fmt.Errorf("there are %d events, want %d at most", len(*d.Events), limit)
	case int64(d.Stats.TotalEvents) < skip:
		return nil, fmt.Errorf("the indexer has %d events, and %d were read: it begins anew", int64(d.Stats.TotalEvents), skip)
	}
	out := make([]Event, 0, len(*d.Events))
	for i := range *d.Events {
		e := &(*d.Events)[i]
		if e.Source != contract || e.Type != "MessageEvent" {
			return nil, fmt.Errorf("one is a %.40q of %.80q", e.Type, e.Source)
		}
		event := Event{ID: e.ID, Tx: e.OperationHash, Height: uint64(e.BlockLevel), At: time.Time(e.Timestamp), Publisher: e.Source}
		if err := event.check(); err != nil {
			return nil, err
		}
		event.read(e.Payload)
		out = append(out, event)
	}
	return out, nil
}

// read takes what an event says out of its payload.
func (e *Event) read(raw json.RawMessage) {
	var p struct {
		Timestamp  *number
		Addr       string
		Msgtype    string
		Msgcontent *string
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		e.Bad = fmt.Errorf("its payload is none: %w", err)
		return
	}
	if err := checkTezos(p.Addr); err != nil {
		e.Bad = err
		return
	}
	if p.Timestamp == nil || p.Msgcontent == nil {
		e.Bad = fmt.Errorf("its payload has no timestamp and msgcontent")
		return
	}
	if err := checkType(p.Msgtype); err != nil {
		e.Bad = err
		return
	}
	e.Sender, e.Type, e.Stamp, e.Text = p.Addr, p.Msgtype, p.Timestamp.seconds(), *p.Msgcontent
}

// moment is a time as a text of ISO 8601, of UTC where it does not say, or in Unix
// seconds.
type moment time.Time

// zoneless is a time without a zone.
const zoneless = "2006-01-02T15:04:05.999999999"

func (m *moment) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		text = string(raw)
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t, err = time.Parse(zoneless, text)
	}
	if err != nil {
		var n number
		if n.UnmarshalJSON([]byte(strconv.Quote(text))) != nil {
			return fmt.Errorf("%.40q is no time", raw)
		}
		t = n.seconds()
	}
	if t.Unix() < 0 {
		return fmt.Errorf("%.40q is before all times", raw)
	}
	*m = moment(t.UTC())
	return nil
}
