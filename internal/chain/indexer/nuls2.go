package indexer

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// nuls2Page is how many transactions a page usually has.
	nuls2Page = 500
	// nuls2TimeMax is the greatest time that is one in seconds.
	nuls2TimeMax = 1e11
	// nuls2Ahead is how far ahead of all clocks the time of a transaction may be. Who makes
	// it chooses its time, which would hold back all later heights.
	nuls2Ahead = time.Hour
)

// NULS2 is an explorer of NULS2: payloads that transactions to an address carry.
type NULS2 struct {
	endpoint
	address, remark string
}

// NewNULS2 reads from an explorer the transactions to an address with a remark.
func NewNULS2(rawURL, address, remark string) (*NULS2, error) {
	e, err := newEndpoint(rawURL)
	return &NULS2{e, address, remark}, err
}

// nuls2Cursor is up to which height all was read.
type nuls2Cursor struct {
	Height int64 `json:"height"`
}

// Page reads the next transactions that have an age, by a clock that says now and by that
// of the explorer.
func (n *NULS2) Page(ctx context.Context, cursor json.RawMessage, now time.Time, age time.Duration) (Page, error) {
	c, err := cursorOf[nuls2Cursor](cursor)
	if err != nil {
		return Page{}, err
	}
	block := int64(0) // That whose transactions fill a page.
	for ask := (asking{limit: nuls2Page, atMost: nuls2Page << growths}); ; {
		all, said, err := n.transactions(ctx, c.Height+1, ask.limit)
		switch {
		case errors.Is(err, errTooLong) && ask.fewer():
			continue
		case errors.Is(err, errTooLong) && ask.short > 0:
			return n.crowd(ctx, c, block, ask.short, now, age)
		case err != nil:
			return Page{}, err
		}
		until, latest := nuls2Times(now, said, age)
		full := len(all) == ask.limit
		whole := nuls2Whole(all, full, until, latest)
		switch {
		case len(whole) > 0:
			events, err := n.events(whole)
			if err != nil {
				return Page{}, errs.New(errs.Unavailable, "transactions to %s at %s: %w", n.address, n.base.Host, err)
			}
			return pageOf(events, nuls2Cursor{int64(whole[len(whole)-1].Height)}, full)
		case !full || nuls2Young(all, until, latest) < len(all):
			return pageOf(nil, c, false)
		}
		if block = int64(all[0].Height); !ask.more() {
			return n.crowd(ctx, c, block, ask.short, now, age)
		}
	}
}

// nuls2Times are the time up to which transactions are old enough, and the latest that one
// can be of, by a clock that says now and by what the explorer said.
func nuls2Times(now, said time.Time, age time.Duration) (until, latest time.Time) {
	latest = now.Add(nuls2Ahead)
	if said.After(now) {
		latest = said.Add(nuls2Ahead)
	}
	return oldEnough(now, said, age), latest
}

// crowd reads the transactions of a block that do not fit in a page, the first after a
// cursor.
func (n *NULS2) crowd(ctx context.Context, before nuls2Cursor, block int64, known int, now time.Time, age time.Duration) (Page, error) {
	req, err := n.request(ctx, block, crowdMax+1)
	if err != nil {
		return Page{}, err
	}
	c, young, later := crowd{}, false, 0
	err = n.each(req, []string{"transactions"}, func(raw json.RawMessage, said time.Time) error {
		var t [1]nuls2Tx
		if err := decode(raw, &t[0]); err != nil {
			return err
		}
		if err := t[0].check(block); err != nil {
			return err
		}
		until, latest := nuls2Times(now, said, age)
		if int64(t[0].Height) > block {
			if later++; later > nuls2Page {
				return errEnough // Where they are not in order, it is by a few.
			}
			return nil
		}
		if young = nuls2Young(t[:], until, latest) == 0; young {
			return errEnough
		}
		events, err := n.events(t[:])
		if err != nil {
			return err
		}
		return c.add(events...)
	})
	if err == nil && !young {
		err = c.want(known)
	}
	var missed error
	switch {
	case errors.Is(err, errCrowded):
		missed = fmt.Errorf("%s has of height %d: %w", n.base.Host, block, err)
	case err != nil:
		return Page{}, errs.New(errs.Unavailable, "transactions to %s at %s: %w", n.address, n.base.Host, err)
	case young:
		return pageOf(nil, before, false)
	}
	page, err := pageOf(c.events, nuls2Cursor{block}, true)
	page.Missed = missed
	return page, err
}

type nuls2Tx struct {
	Hash       string
	Height     number
	CreateTime number
	Remark     *string
	TxDataHex  *string
	CoinFroms  []struct{ Address string }
}

// transactions are up to limit of those from a height on, in order, and when the explorer
// says that it answered.
func (n *NULS2) transactions(ctx context.Context, from int64, limit int) (all []nuls2Tx, said time.Time, err error) {
	req, err := n.request(ctx, from, limit)
	if err != nil {
		return nil, said, err
	}
	raw, said, err := n.do(req)
	if err != nil {
		return nil, said, err
	}
	all, err = parseNULS2(raw, from, limit)
	if err != nil {
		return nil, said, errs.New(errs.Unavailable, "answer of %s: %w", n.base.Host, err)
	}
	return all, said, nil
}

// request asks for up to limit transactions from a height on, in order.
func (n *NULS2) request(ctx context.Context, from int64, limit int) (*http.Request, error) {
	u := n.base.JoinPath("transactions.json")
	u.RawQuery = url.Values{
		"address": {n.address}, "sort_order": {"1"}, "startHeight": {strconv.FormatInt(from, 10)}, "pagination": {strconv.Itoa(limit)},
	}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", n.base.Host, err)
	}
	return req, nil
}

// parseNULS2 reads an answer. Who sends a transaction chooses its remark and its data; what
// else is wrong is the explorer's fault.
func parseNULS2(raw []byte, from int64, limit int) ([]nuls2Tx, error) {
	var answer struct {
		Transactions *[]nuls2Tx
	}
	if err := decode(raw, &answer); err != nil {
		return nil, err
	}
	if answer.Transactions == nil {
		return nil, fmt.Errorf("there is no list of transactions")
	}
	all := *answer.Transactions
	if len(all) > limit {
		return nil, fmt.Errorf("there are %d transactions, want %d at most", len(all), limit)
	}
	ordered := slices.IsSortedFunc(all, nuls2Order)
	if !ordered && len(all) == limit {
		return nil, fmt.Errorf("transactions are not in order")
	}
	slices.SortStableFunc(all, nuls2Order)
	for i := range all {
		if err := all[i].check(from); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// check looks whether a transaction may be of an answer from a height on.
func (t *nuls2Tx) check(from int64) error {
	if int64(t.Height) < from || t.CreateTime > nuls2TimeMax {
		return fmt.Errorf("one is of height %d and time %d, want heights from %d, and seconds", int64(t.Height), int64(t.CreateTime), from)
	}
	return nil
}

func nuls2Order(a, b nuls2Tx) int { return cmp.Compare(a.Height, b.Height) }

// nuls2Whole are the transactions of blocks that are here whole and old enough.
func nuls2Whole(all []nuls2Tx, full bool, until, latest time.Time) []nuls2Tx {
	end := len(all)
	if full {
		end = beginning(all, end-1)
	}
	if i := nuls2Young(all[:end], until, latest); i < end {
		end = beginning(all, i)
	}
	return all[:end]
}

// nuls2Young is the first transaction that is not old enough, or how many there are. A time
// after the latest one that can be says nothing.
func nuls2Young(all []nuls2Tx, until, latest time.Time) int {
	for i := range all {
		if at := time.Unix(int64(all[i].CreateTime), 0); at.After(until) && !at.After(latest) {
			return i
		}
	}
	return len(all)
}

// beginning is where the block of a transaction begins.
func beginning(all []nuls2Tx, i int) int {
	for i > 0 && all[i-1].Height == all[i].Height {
		i--
	}
	return i
}

// events are the transactions with the remark.
func (n *NULS2) events(all []nuls2Tx) (out []Event, err error) {
	for i := range all {
		t := &all[i]
		if t.Remark == nil || *t.Remark != n.remark || len(t.CoinFroms) == 0 {
			continue
		}
		at := time.Unix(int64(t.CreateTime), 0).UTC()
		e := Event{ID: t.Hash, Tx: t.Hash, Height: uint64(t.Height), At: at, Stamp: at, Publisher: t.CoinFroms[0].Address}
		if err := e.check(); err != nil {
			return nil, err
		}
		if t.TxDataHex != nil {
			data, err := hex.DecodeString(*t.TxDataHex)
			if err != nil || !utf8.Valid(data) {
				e.Bad = fmt.Errorf("its data is no text in hex")
			}
			e.Text = string(data)
		}
		out = append(out, e)
	}
	return out, nil
}
