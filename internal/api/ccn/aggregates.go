package ccn

import (
	"net/http"
	"slices"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// ownAggregatesMax bounds the aggregates of an address that one answer has.
const ownAggregatesMax = 10_000

// addressAggregates answers with what an address keeps under its keys.
func (s *Server) addressAggregates(w http.ResponseWriter, r *http.Request) error {
	p := readParams(r)
	keys := p.list("keys")
	p.integer(1000, -numberMax, numberMax, "limit") // Read, and without effect, as with the reference.
	info, bare := p.boolean(false, "with_info"), p.boolean(false, "value_only")
	if err := p.errJSON(); err != nil {
		return err
	}
	address := r.PathValue("address")
	if len(keys) == 1 && !info && !bare {
		if done, err := s.answerOne(w, r, address, keys[0]); done || err != nil {
			return err
		}
	}
	q := state.AggregateQuery{Owners: []string{address}, Keys: keys, ByCreated: true, Oldest: true}
	ctx := r.Context()
	var found []state.Aggregate
	err := s.parts.DB.View(ctx, func(v *state.View) (err error) {
		if found, _, err = v.Aggregates(ctx, q, 0, ownAggregatesMax); err != nil {
			return err
		}
		own, err := v.OwnAggregates(ctx, address)
		found = overlay(found, own, keys)
		return err
	})
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return refuseText(http.StatusNotFound, "No aggregate found for this address")
	}
	if bare && len(keys) == 1 {
		return s.answerJSON(w, r, http.StatusOK, found[0].Content)
	}
	return s.answerJSON(w, r, http.StatusOK, showAggregates(address, found, info))
}

// overlay puts the aggregates that this node makes in the place of those that were
// published.
func overlay(found, own []state.Aggregate, keys []string) []state.Aggregate {
	for _, a := range own {
		if keys != nil && !slices.Contains(keys, a.Key) {
			continue
		}
		found = slices.DeleteFunc(found, func(f state.Aggregate) bool { return f.Key == a.Key })
		found = append(found, a)
	}
	return found
}

// showAggregates is the answer with the aggregates of an address.
func showAggregates(address string, found []state.Aggregate, info bool) []byte {
	data, about := newObject(nil), newObject(nil)
	for i := range found {
		a := &found[i]
		data.raw(a.Key, a.Content)
		if info {
			about.raw(a.Key, aboutAggregate(a))
		}
	}
	o := newObject(nil)
	o.text("address", address)
	o.raw("data", data.end())
	o.raw("info", about.end())
	return o.end()
}

// aboutAggregate says which messages made an aggregate. The reference names the
// newest twice, and so does this.
func aboutAggregate(a *state.Aggregate) []byte {
	o := newObject(nil)
	o.text("created", isoTime(a.Created))
	o.text("last_updated", isoTime(a.Updated))
	o.text("original_item_hash", string(a.Last))
	o.text("last_update_item_hash", string(a.Last))
	return o.end()
}

// aggregatesMax bounds a page of aggregates, which may be large.
const aggregatesMax = 500

// listAggregates answers with aggregates of any address.
func (s *Server) listAggregates(w http.ResponseWriter, r *http.Request) error {
	p := readParams(r)
	q := state.AggregateQuery{Keys: p.list("keys"), Owners: p.list("addresses")}
	q.ByCreated = p.word("last_modified", []string{"last_modified", "creation_time"}, "sortBy", "sort_by") == "creation_time"
	q.Oldest = p.oldestFirst()
	pg := p.page(perPage, 1, aggregatesMax)
	if err := p.errJSON(); err != nil {
		return err
	}
	if err := pg.bound(); err != nil {
		return err
	}
	var err error
	if q.After, err = pg.aggregate(); err != nil {
		return err
	}
	return s.list(w, r, false, func(v *state.View, st *stream) error {
		limit := pg.per
		if pg.cursor != nil {
			limit++
		}
		found, total, err := v.Aggregates(r.Context(), q, pg.offset(), limit)
		if err != nil {
			return err
		}
		more := int64(len(found)) > pg.per
		found = found[:min(int64(len(found)), pg.per)]
		if err := st.aggregates(found); err != nil {
			return err
		}
		if pg.cursor == nil {
			return st.endPage("aggregates", pg, total)
		}
		return st.endCursor(pg, more, func() any {
			last := found[len(found)-1]
			at := last.Updated
			if q.ByCreated {
				at = last.Created
			}
			return aggregateCursor{last.Key, last.Owner, isoTime(at)}
		})
	})
}

// aggregate is where a list of aggregates goes on, nil if it begins.
func (pg *page) aggregate() (*state.AggregatePlace, error) {
	if pg.cursor == nil || *pg.cursor == "" {
		return nil, nil
	}
	var c aggregateCursor
	if err := decodeCursor(*pg.cursor, &c, "k", "o", "t"); err != nil {
		return nil, err
	}
	at, err := parseISO(c.At)
	if err != nil {
		return nil, err
	}
	return &state.AggregatePlace{At: at, Owner: plain(c.Owner), Key: plain(c.Key)}, nil
}

// aggregates writes a page of them.
func (st *stream) aggregates(found []state.Aggregate) error {
	if err := st.text(`{"aggregates":[`); err != nil {
		return err
	}
	for i := range found {
		a := &found[i]
		err := st.grow(func(dst []byte) ([]byte, error) {
			if i > 0 {
				dst = append(dst, ',')
			}
			o := newObject(dst)
			o.text("address", a.Owner)
			o.text("key", a.Key)
			o.raw("content", a.Content)
			o.text("created", isoTime(a.Created))
			o.text("last_updated", isoTime(a.Updated))
			return o.end(), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
