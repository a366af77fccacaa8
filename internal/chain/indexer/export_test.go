package indexer

import (
	"bytes"
	"encoding/json"
	"time"
)

// Bounds, for tests that are about them.
const (
	AnswerMax = answerMax
	CrowdMax  = crowdMax
	CrowdText = crowdText
)

// EachMultichain reads the events of an answer one by one, as of a moment.
func EachMultichain(raw []byte, at int64) ([]Event, error) {
	var c crowd
	err := eachOf(bytes.NewReader(raw), []string{"data", "messageEvents"}, func(raw json.RawMessage) error { return c.multichain(raw, span{at, at + 1}) })
	return c.events, err
}

// ParseMultichain reads the events of an answer about a range.
func ParseMultichain(raw []byte, from, to int64, limit int) ([]Event, int64, error) {
	var d multichainEvents
	if err := decodeGraph(raw, &d); err != nil {
		return nil, 0, err
	}
	return d.events(span{from, to}, limit)
}

// ParseState reads the processed ranges of an answer; none if it is bad.
func ParseState(raw []byte) [][2]int64 {
	var d multichainState
	if err := decodeGraph(raw, &d); err != nil {
		return nil
	}
	all, err := d.spans()
	if err != nil {
		return nil
	}
	out := make([][2]int64, len(all))
	for i, s := range all {
		out[i] = s
	}
	return out
}

// ParseTezos reads the events of an answer.
func ParseTezos(raw []byte, contract string) ([]Event, error) {
	var d tezosEvents
	if err := decodeGraph(raw, &d); err != nil {
		return nil, err
	}
	return d.events(contract, 0, tezosPage)
}

// ParseNULS2 reads the events of an answer, as far as they are whole and old enough. Times
// after the latest are ignored.
func ParseNULS2(raw []byte, remark string, from int64, limit int, until, latest time.Time) ([]Event, error) {
	all, err := parseNULS2(raw, from, limit)
	if err != nil {
		return nil, err
	}
	return (&NULS2{remark: remark}).events(nuls2Whole(all, len(all) == limit, until, latest))
}
