package indexer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/archive"
)

// Bounds of a moment whose events do not fit in a page. Anybody can make one, so it must
// neither stop a reader nor fill its memory: its answer is read event by event. They are
// above what a block of BSC has gas for, or a block of NULS2 has room for.
const (
	// crowdMax bounds its events.
	crowdMax = 1 << 17
	// crowdText bounds the bytes of their texts together, which are held in memory.
	crowdText = 64 << 20
	// crowdAnswer bounds the bytes of the answer, of which one event is held at a time.
	crowdAnswer = 512 << 20
	// crowdTime bounds the time of the answer.
	crowdTime = 10 * time.Minute
)

// errCrowded is of a moment that is beyond the bounds.
var errCrowded = errors.New("too much happened at once")

// crowd is the events of one moment, as they are read.
type crowd struct {
	events []Event
	seen   int // Of what an answer lists, events or not.
	bytes  int // Of the events' texts.
}

// add takes what an answer lists next: an event or none. A text that is longer than any that
// is used is not held.
func (c *crowd) add(events ...Event) error {
	if c.seen++; c.seen > crowdMax {
		return fmt.Errorf("%w: more than %d events", errCrowded, crowdMax)
	}
	for _, e := range events {
		if len(e.Text) > archive.MaxPayloadBytes {
			e.Bad, e.Text = fmt.Errorf("it has %d bytes, at most %d are read", len(e.Text), archive.MaxPayloadBytes), ""
		}
		if c.bytes += len(e.Text); c.bytes > crowdText {
			return fmt.Errorf("%w: texts of more than %d bytes", errCrowded, crowdText)
		}
		c.events = append(c.events, e)
	}
	return nil
}

// want is an error if an answer had less than is known to be: it was cut off, or is of
// something else.
func (c *crowd) want(known int) error {
	if c.seen < known {
		return fmt.Errorf("it has %d events of a moment that has %d at least", c.seen, known)
	}
	return nil
}

// errEnough ends the reading of a list before its end.
var errEnough = errors.New("enough")

// each reads the elements of a list in an answer one by one, and says of each when the server
// says that it answered. The path is the keys of the objects around the list. It ends when fn
// returns an error, and returns that one unless it is errEnough.
func (e endpoint) each(req *http.Request, path []string, fn func(raw json.RawMessage, said time.Time) error) error {
	patient := *e.client
	patient.Timeout = crowdTime
	res, err := e.open(&patient, req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // Only read from: nothing is lost.
	said := saidAt(res)
	return eachOf(res.Body, path, func(raw json.RawMessage) error { return fn(raw, said) })
}

// eachOf is each, of an answer's bytes.
func eachOf(from io.Reader, path []string, fn func(raw json.RawMessage) error) error {
	in := &bounded{from: from, all: crowdAnswer, one: answerMax}
	d := json.NewDecoder(in)
	for _, key := range path {
		if err := enter(d, key); err != nil {
			return err
		}
	}
	if err := want(d, '['); err != nil {
		return err
	}
	for d.More() {
		in.one = answerMax
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return fmt.Errorf("read an element: %w", err)
		}
		switch err := fn(raw); {
		case errors.Is(err, errEnough):
			return nil
		case err != nil:
			return err
		}
	}
	return want(d, ']') // An answer that breaks off has no end.
}

// enter goes into an object, up to the value of a key.
func enter(d *json.Decoder, key string) error {
	if err := want(d, '{'); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return fmt.Errorf("read a key: %w", err)
		}
		if name == key {
			return nil
		}
		var other json.RawMessage
		if err := d.Decode(&other); err != nil {
			return fmt.Errorf("read %.*q: %w", nameMax, name, err)
		}
		if text := string(other); name == "errors" && text != "null" && text != "[]" {
			return fmt.Errorf("it says %.*q", errorShown, other)
		}
	}
	return fmt.Errorf("it has no %q", key)
}

// want reads the beginning or the end of an object or a list.
func want(d *json.Decoder, delim json.Delim) error {
	switch got, err := d.Token(); {
	case err != nil:
		return fmt.Errorf("look for %q: %w", delim.String(), err)
	case got != delim:
		return fmt.Errorf("there is %.*q, want %q", nameMax, fmt.Sprint(got), delim.String())
	}
	return nil
}

// bounded is an answer that may not be longer than some bytes, all of it and each element
// of its list.
type bounded struct {
	from     io.Reader
	all, one int64 // Bytes that may come yet.
}

func (b *bounded) Read(p []byte) (int, error) {
	switch {
	case b.all <= 0:
		return 0, fmt.Errorf("%w: an answer of more than %d bytes", errCrowded, crowdAnswer)
	case b.one <= 0:
		return 0, fmt.Errorf("an event is %w: it has more than %d bytes", errTooLong, answerMax)
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.all, b.one)])
	b.all, b.one = b.all-int64(n), b.one-int64(n)
	return n, err
}
