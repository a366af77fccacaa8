package ccn

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// grantsMax bounds a page of authorizations.
const grantsMax = 500

// grantsWanted says which authorizations. One that says nothing of something holds
// for all of it, so it is never left out for that.
type grantsWanted struct {
	channels, types, postTypes, chains, keys []string
	page
}

func (p *params) grants() *grantsWanted {
	return &grantsWanted{
		p.list("channels"), p.list("types"), p.list("postTypes", "post_types"), p.list("chains"), p.list("aggregateKeys", "aggregate_keys"),
		p.page(perPage, 1, grantsMax),
	}
}

// entry is an authorization: its fields as they are in the aggregate `security`, in
// their order, but for the address.
type entry struct {
	address string
	raw     []byte
	fields  map[string]json.RawMessage
}

// entriesOf reads the list of an aggregate `security`. What is no authorization is
// left out.
func entriesOf(list json.RawMessage) (out []entry) {
	var all []json.RawMessage
	if json.Unmarshal(list, &all) != nil {
		return nil
	}
	for _, raw := range all {
		e := entry{}
		if json.Unmarshal(raw, &e.fields) != nil || json.Unmarshal(e.fields["address"], &e.address) != nil || e.address == "" {
			continue
		}
		keys := make([]string, 0, len(e.fields))
		for key := range e.fields {
			if key != "address" {
				keys = append(keys, key)
			}
		}
		slices.Sort(keys)
		o := newObject(nil)
		for _, key := range keys {
			o.raw(key, e.fields[key])
		}
		e.raw = o.end()
		out = append(out, e)
	}
	return out
}

// matches reports whether an authorization is wanted.
func (q *grantsWanted) matches(e *entry) bool {
	for _, f := range []struct {
		field  string
		wanted []string
	}{{"channels", q.channels}, {"types", q.types}, {"post_types", q.postTypes}, {"aggregate_keys", q.keys}} {
		var list []string
		if f.wanted == nil || json.Unmarshal(e.fields[f.field], &list) != nil || len(list) == 0 {
			continue
		}
		if !slices.ContainsFunc(list, func(v string) bool { return slices.Contains(f.wanted, v) }) {
			return false
		}
	}
	var chain string
	if q.chains == nil || json.Unmarshal(e.fields["chain"], &chain) != nil || chain == "" {
		return true
	}
	return slices.Contains(q.chains, chain)
}

// party is another address with its authorizations, as they are shown.
type party struct {
	address string
	entries [][]byte
}

// parties groups authorizations that are wanted by the other address, in the order
// in which those come first.
func (q *grantsWanted) parties(dst []party, of string, entries []entry) []party {
	for i := range entries {
		e := &entries[i]
		if !q.matches(e) {
			continue
		}
		address := of
		if address == "" {
			address = e.address
		}
		at := slices.IndexFunc(dst, func(p party) bool { return p.address == address })
		if at < 0 {
			at, dst = len(dst), append(dst, party{address: address})
		}
		dst[at].entries = append(dst[at].entries, e.raw)
	}
	return dst
}

// granted answers with what an address allows others.
func (s *Server) granted(w http.ResponseWriter, r *http.Request) error {
	p := readParams(r)
	q := p.grants()
	grantee, _ := p.text("grantee")
	if err := p.errJSON(); err != nil {
		return err
	}
	content, err := s.parts.DB.Security(r.Context(), r.PathValue("address"))
	if err != nil {
		return err
	}
	var security struct {
		Authorizations json.RawMessage `json:"authorizations"`
	}
	if content != nil {
		if err := json.Unmarshal(content, &security); err != nil {
			return err
		}
	}
	entries := slices.DeleteFunc(entriesOf(security.Authorizations), func(e entry) bool { return grantee != "" && e.address != grantee })
	return s.answerParties(w, r, q, q.parties(nil, "", entries))
}

// received answers with what others allow an address.
func (s *Server) received(w http.ResponseWriter, r *http.Request) error {
	p := readParams(r)
	q := p.grants()
	granter, _ := p.text("granter")
	if err := p.errJSON(); err != nil {
		return err
	}
	address := r.PathValue("address")
	var all []party
	err := s.parts.DB.EachGranter(r.Context(), address, func(g state.Granter) error {
		if granter == "" || g.Owner == granter {
			entries := slices.DeleteFunc(entriesOf(g.Authorizations), func(e entry) bool { return e.address != address })
			all = q.parties(all, g.Owner, entries)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.answerParties(w, r, q, all)
}

func (s *Server) answerParties(w http.ResponseWriter, r *http.Request, q *grantsWanted, all []party) error {
	total := int64(len(all))
	all = all[min(q.offset(), total):]
	all = all[:min(q.per, int64(len(all)))]
	inner := newObject(nil)
	for _, p := range all {
		inner.key(p.address)
		inner.buf = append(inner.buf, '[')
		for i, raw := range p.entries {
			if i > 0 {
				inner.buf = append(inner.buf, ',')
			}
			inner.buf = append(inner.buf, raw...)
		}
		inner.buf = append(inner.buf, ']')
	}
	o := newObject(nil)
	o.raw("authorizations", inner.end())
	o.text("address", r.PathValue("address"))
	o.page("authorizations", q.page, total)
	return s.answerJSON(w, r, http.StatusOK, o.end())
}
