package ccn

import (
	"context"
	"encoding/json"
	"math"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Purse knows what a wallet lets the payment contract take; ingest.Pipeline is one.
type Purse interface {
	// Runway returns the credits that stand for it: machines run as long on either.
	Runway(ctx context.Context, owner string) (*big.Rat, error)
}

// balancesPerPage is how many balances a page has unless the query says otherwise.
const balancesPerPage = 100

// balance answers with what an address has, and what is bound by what it keeps.
func (s *Server) balance(w http.ResponseWriter, r *http.Request) error {
	p := readParams(r)
	chain, one := p.text("chain")
	if one && !message.Chain(chain).Known() {
		p.fail("enum", "Input should be a chain", chain, "chain")
	}
	detailed := p.boolean(false, "include_credit_details")
	if err := p.err(); err != nil {
		return err
	}
	address, at := r.PathValue("address"), time.Now()
	ctx := r.Context()
	runway := s.runway(ctx, address)
	var o *object
	err := s.parts.DB.View(ctx, func(v *state.View) (err error) {
		o, err = s.balanceOf(ctx, v, address, message.Chain(chain), at, runway)
		if err != nil || !detailed {
			return err
		}
		parts, err := v.CreditParts(ctx, address, at)
		o.creditParts(parts)
		return err
	})
	if err != nil {
		return err
	}
	if !detailed {
		o.raw("credit_balance_details", nil)
	}
	return s.answerJSON(w, r, http.StatusOK, o.end())
}

// runway is what a wallet adds to the credits of its owner. When the chain cannot be
// asked the ledger alone is told.
func (s *Server) runway(ctx context.Context, address string) int64 {
	if s.parts.Purse == nil {
		return 0
	}
	credits, err := s.parts.Purse.Runway(ctx, address)
	if err != nil {
		s.log.Warn("funds on chain not known", "address", address, "err", err)
		return 0
	}
	whole := new(big.Int).Quo(credits.Num(), credits.Denom())
	if !whole.IsInt64() {
		return math.MaxInt64
	}
	return whole.Int64()
}

func (s *Server) balanceOf(ctx context.Context, v *state.View, address string, chain message.Chain, at time.Time, runway int64) (*object, error) {
	total, chains, err := v.BalancesOf(ctx, address)
	if err != nil {
		return nil, err
	}
	if chain != "" {
		total, chains = chains[chain], nil
	}
	costs, err := v.CostsOf(ctx, address, message.PayHold)
	if err != nil {
		return nil, err
	}
	locked := new(big.Rat)
	for _, c := range costs {
		if one, ok := new(big.Rat).SetString(c.Hold); ok {
			locked.Add(locked, one)
		}
	}
	credits, err := v.CreditBalance(ctx, address, at)
	if err != nil {
		return nil, err
	}
	o := newObject(nil)
	o.text("address", address)
	o.decimal("balance", total)
	details := newObject(nil)
	names := make([]message.Chain, 0, len(chains))
	for name := range chains {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		details.decimal(string(name), chains[name])
	}
	o.raw("details", details.end())
	held, _ := locked.Float64()
	o.float("locked_amount", held)
	o.integer("credit_balance", saturate(credits, runway))
	return o, nil
}

// saturate adds two numbers that are not negative.
func saturate(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

func (o *object) creditParts(parts []state.CreditPart) {
	list := []byte{'['}
	for i, part := range parts {
		if i > 0 {
			list = append(list, ',')
		}
		in := newObject(list)
		if part.ExpiresAt.IsZero() {
			in.raw("expiration_date", nil)
		} else {
			in.text("expiration_date", message.FormatISO(part.ExpiresAt))
		}
		in.integer("amount", part.Amount)
		list = in.end()
	}
	o.raw("credit_balance_details", append(list, ']'))
}

// decimal writes a decimal number as the reference does, as a float.
func (o *object) decimal(key string, d credit.Decimal) { o.float(key, d.Float64()) }

// float writes a float with a fraction, as the reference's serialisers do.
func (o *object) float(key string, f float64) {
	o.key(key)
	o.buf = appendFloat(o.buf, f)
}

func appendFloat(dst []byte, f float64) []byte {
	text := strconv.FormatFloat(f, 'f', -1, 64)
	const whole, tiny = 1e16, 1e-5
	if abs := math.Abs(f); abs >= whole || abs != 0 && abs < tiny {
		text = strconv.FormatFloat(f, 'e', -1, 64)
	}
	if !slices.ContainsFunc([]byte(text), func(c byte) bool { return c == '.' || c == 'e' }) {
		text += ".0"
	}
	return append(dst, text...)
}

// balanceCursor is the cursor of lists of balances: their key.
type balanceCursor struct {
	Address string `json:"a"`
	Chain   string `json:"c,omitempty"`
	Dapp    string `json:"d,omitempty"`
}

// balances answers with the tokens of all addresses.
func (s *Server) balances(w http.ResponseWriter, r *http.Request) error {
	p := readParams(r)
	chains := p.words("a chain", func(c string) bool { return message.Chain(c).Known() }, "chains")
	q := state.BalancesQuery{Min: p.integer(0, 1, numberMax, "min_balance", "minBalance")}
	for _, c := range chains {
		q.Chains = append(q.Chains, message.Chain(c))
	}
	pg := p.page(balancesPerPage, 0, numberMax)
	if err := p.err(); err != nil {
		return err
	}
	after, err := pg.balance()
	if err != nil {
		return err
	}
	if after != nil {
		q.After = &state.TokenBalance{Address: after.Address, Chain: message.Chain(after.Chain), Dapp: after.Dapp}
	}
	return s.list(w, r, false, func(v *state.View, st *stream) error {
		q.Offset, q.Limit = pg.limits()
		found, err := v.Balances(r.Context(), q)
		if err != nil {
			return err
		}
		found, more := shown(&pg, found)
		err = st.items(`{"balances":[`, len(found), func(i int, o *object) {
			o.text("address", found[i].Address)
			o.decimal("balance", found[i].Tokens)
			o.text("chain", string(found[i].Chain))
		})
		if err != nil {
			return err
		}
		if pg.cursor != nil {
			return st.endCursor(pg, more, func() any {
				last := found[len(found)-1]
				return balanceCursor{last.Address, string(last.Chain), last.Dapp}
			})
		}
		total, err := v.CountBalances(r.Context(), q)
		if err != nil {
			return err
		}
		return st.endPage("balances", pg, int64(total))
	})
}

// creditBalances answers with the credits of all addresses.
func (s *Server) creditBalances(w http.ResponseWriter, r *http.Request) error {
	p := readParams(r)
	q := state.CreditsQuery{Now: time.Now(), Min: p.integer(0, 1, numberMax, "min_balance", "minBalance")}
	pg := p.page(balancesPerPage, 0, numberMax)
	if err := p.err(); err != nil {
		return err
	}
	after, err := pg.balance()
	if err != nil {
		return err
	}
	if after != nil {
		q.After = after.Address
	}
	return s.list(w, r, false, func(v *state.View, st *stream) error {
		q.Offset, q.Limit = pg.limits()
		found, err := v.CreditBalances(r.Context(), q)
		if err != nil {
			return err
		}
		found, more := shown(&pg, found)
		err = st.items(`{"credit_balances":[`, len(found), func(i int, o *object) {
			o.text("address", found[i].Address)
			o.integer("credits", found[i].Credits)
		})
		if err != nil {
			return err
		}
		if pg.cursor != nil {
			return st.endCursor(pg, more, func() any { return balanceCursor{Address: found[len(found)-1].Address} })
		}
		total, err := v.CountCreditBalances(r.Context(), q)
		if err != nil {
			return err
		}
		return st.endPage("credit_balances", pg, int64(total))
	})
}

// balance is where a list of balances goes on, nil if it begins.
func (pg *page) balance() (*balanceCursor, error) {
	if err := pg.bound(); err != nil {
		return nil, err
	}
	if pg.cursor == nil || *pg.cursor == "" {
		return nil, nil
	}
	var c balanceCursor
	if err := decodeCursor(*pg.cursor, &c, "a"); err != nil {
		return nil, err
	}
	return &balanceCursor{plain(c.Address), plain(c.Chain), plain(c.Dapp)}, nil
}

// limits are the offset and the limit of a page; a limit of 0 is none. In cursor mode
// one more is read, to know whether there is.
func (pg *page) limits() (offset, limit int) {
	if pg.cursor != nil {
		return 0, int(pg.per) + 1
	}
	return int(min(pg.offset(), math.MaxInt)), int(pg.per)
}

// creditCursor is the cursor of a history: its order, the value that it is sorted by,
// and the key of the entry. Older ones have a time in place of order and value.
type creditCursor struct {
	Index int             `json:"i"`
	Order int             `json:"o,omitempty"` // -1 or 1.
	Hash  string          `json:"r"`
	Sort  string          `json:"s,omitempty"`
	Time  json.RawMessage `json:"t,omitempty"`
	Value json.RawMessage `json:"v"`
}

// byTime reports whether a history is sorted by a time, which cursors have as text.
func byTime(s state.CreditSort) bool { return s == state.CreditByTime || s == state.CreditByExpiration }

// creditPlace is the cursor of the page after an entry.
func creditPlace(q *state.CreditQuery, last credit.Entry) creditCursor {
	after := q.Sort.After(last)
	c := creditCursor{Index: after.Index, Order: -1, Hash: string(after.Hash), Sort: string(q.Sort)}
	if q.Ascending {
		c.Order = 1
	}
	switch {
	case after.Text != nil:
		c.Value = appendText(nil, *after.Text)
	case after.Number != nil && byTime(q.Sort):
		c.Value = appendText(nil, isoTime(time.UnixMicro(*after.Number)))
	case after.Number != nil:
		c.Value = strconv.AppendInt(nil, *after.Number, 10)
	}
	return c
}

// after is where a cursor says that a history goes on.
func (c *creditCursor) after(q *state.CreditQuery) (*state.CreditAfter, error) {
	out := &state.CreditAfter{Hash: message.ItemHash(plain(c.Hash)), Index: c.Index}
	if string(c.Value) == "null" && q.Sort != state.CreditByTime && q.Sort != state.CreditByAmount {
		return out, nil // What has no value is last.
	}
	var number int64
	var text *string
	switch {
	case q.Sort == state.CreditByAmount:
		if json.Unmarshal(c.Value, &number) != nil {
			return nil, invalidCursor("fields of the wrong type")
		}
	case json.Unmarshal(c.Value, &text) != nil || text == nil:
		return nil, invalidCursor("fields of the wrong type")
	case byTime(q.Sort):
		at, err := parseISO(*text)
		if err != nil {
			return nil, err
		}
		number = at.UnixMicro()
	default:
		*text = plain(*text)
		out.Text = text
		return out, nil
	}
	out.Number = &number
	return out, nil
}

// creditFilter reads which entries of an address's history are wanted.
func (p *params) creditFilter(address string) state.CreditFilter {
	f := state.CreditFilter{Address: address}
	for name, into := range map[string]**string{
		"tx_hash": &f.TxHash, "token": &f.Token, "chain": &f.Chain, "provider": &f.Provider, "origin": &f.Origin, "origin_ref": &f.OriginRef,
		"payment_method": &f.Method, "resource": &f.Resource,
	} {
		if value, ok := p.text(name, camel(name)); ok {
			*into = &value
		}
	}
	if _, ok := p.text("has_expiration", "hasExpiration"); ok {
		has := p.boolean(false, "has_expiration", "hasExpiration")
		f.HasExpiration = &has
	}
	f.ExcludeMethods = p.list("exclude_payment_method", "excludePaymentMethod")
	f.Since, f.Until = p.span()
	f.Direction = state.CreditDirection(p.word("", []string{"incoming", "outgoing"}, "direction"))
	for _, t := range p.words("a type of messages", func(t string) bool { return message.Type(t).Known() }, "resourceTypes", "resource_types") {
		f.ResourceTypes = append(f.ResourceTypes, message.Type(t))
	}
	return f
}

// camel is the other way to write the name of a parameter.
func camel(snake string) string {
	out := make([]byte, 0, len(snake))
	for i := 0; i < len(snake); i++ {
		if snake[i] == '_' && i+1 < len(snake) {
			i++
			out = append(out, snake[i]-'a'+'A')
			continue
		}
		out = append(out, snake[i])
	}
	return string(out)
}

// creditHistory answers with what an address was given and what was taken from it.
func (s *Server) creditHistory(w http.ResponseWriter, r *http.Request) error {
	p := readParams(r)
	q := state.CreditQuery{CreditFilter: p.creditFilter(r.PathValue("address"))}
	q.Sort = state.CreditSort(p.word("message_timestamp", []string{
		"message_timestamp", "expiration_date", "payment_method", "amount", "origin", "tx_hash", "provider",
	}, "sort_by", "sortBy"))
	q.Ascending = p.oldestFirst()
	pg := p.page(0, 0, numberMax)
	if pg.cursor != nil {
		if _, ok := p.text("pagination"); !ok {
			pg.per = perPage
		}
	}
	if err := p.err(); err != nil {
		return err
	}
	if err := pg.bound(); err != nil {
		return err
	}
	var err error
	if q.After, err = pg.credit(q); err != nil {
		return err
	}
	return s.list(w, r, false, func(v *state.View, st *stream) error { return fillHistory(r.Context(), v, st, q, pg) })
}

// credit is where a history goes on, nil if it begins.
func (pg *page) credit(q state.CreditQuery) (*state.CreditAfter, error) {
	if pg.cursor == nil || *pg.cursor == "" {
		return nil, nil
	}
	var c creditCursor
	if err := decodeCursor(*pg.cursor, &c, "i", "r"); err != nil {
		return nil, err
	}
	if c.Sort == "" {
		if c.Time == nil {
			return nil, invalidCursor("missing required fields")
		}
		c.Sort, c.Order, c.Value = string(state.CreditByTime), -1, c.Time
	}
	if c.Sort != string(q.Sort) || (c.Order == 1) != q.Ascending {
		return nil, invalidCursor("it is of a list with another order")
	}
	return c.after(&q)
}

// entriesMax is how many entries of a history are read at once.
const entriesMax = 2000

func fillHistory(ctx context.Context, v *state.View, st *stream, q state.CreditQuery, pg page) error {
	sum, err := v.CreditSummary(ctx, q.CreditFilter)
	if err != nil {
		return err
	}
	head := newObject(nil)
	head.text("address", q.Address)
	head.key("credit_history")
	if err := st.text(string(head.buf) + "["); err != nil {
		return err
	}
	last, more, err := st.entries(ctx, v, q, &pg)
	if err != nil {
		return err
	}
	if last.Hash == "" { // Of the page, not of the history: so clients find its end.
		return refuseText(http.StatusNotFound, "No credit history found for this address")
	}
	if pg.cursor != nil {
		return st.endCursor(pg, more, func() any { return creditPlace(&q, last) })
	}
	end := &object{buf: []byte("]"), begun: true}
	end.integer("pagination_page", pg.number)
	end.integer("pagination_total", sum.Entries)
	end.integer("pagination_per_page", pg.per)
	return st.text(string(end.end()))
}

// entries writes those of a page, and returns the last and whether there are more.
func (st *stream) entries(ctx context.Context, v *state.View, q state.CreditQuery, pg *page) (last credit.Entry, more bool, err error) {
	var wanted int
	q.Offset, wanted = pg.limits()
	for n := 0; ; {
		if q.Limit = entriesMax; wanted > 0 {
			q.Limit = min(entriesMax, wanted-n)
		}
		found, err := v.CreditHistory(ctx, q)
		if err != nil {
			return last, false, err
		}
		read := len(found)
		if pg.cursor != nil && int64(n+read) > pg.per {
			found, more = found[:pg.per-int64(n)], true
		}
		for i := range found {
			err := st.grow(func(dst []byte) ([]byte, error) {
				if n+i > 0 {
					dst = append(dst, ',')
				}
				o := newObject(dst)
				o.entry(&found[i], pg.cursor != nil)
				return o.end(), nil
			})
			if err != nil {
				return last, false, err
			}
			last = found[i]
		}
		if n += read; read < q.Limit || n == wanted {
			return last, more, nil
		}
		after := q.Sort.After(last)
		q.After, q.Offset = &after, 0
	}
}

// entry writes an entry of a history. The reference writes its price as a text, and
// as a number in cursor mode.
func (o *object) entry(e *credit.Entry, numbers bool) {
	text := func(key, value string) {
		if value == "" {
			o.raw(key, nil)
			return
		}
		o.text(key, value)
	}
	o.integer("amount", e.Amount)
	switch {
	case e.Price == nil:
		o.raw("price", nil)
	case numbers:
		o.decimal("price", *e.Price)
	default:
		o.text("price", e.Price.String())
	}
	o.integerOrNull("bonus_amount", e.Bonus)
	text("tx_hash", e.TxHash)
	text("token", e.Token)
	text("chain", e.Chain)
	text("provider", e.Provider)
	text("origin", e.Origin)
	text("origin_ref", e.OriginRef)
	text("payment_method", e.Method)
	o.text("credit_ref", string(e.Hash))
	o.integer("credit_index", int64(e.Index))
	if e.ExpiresAt.IsZero() {
		o.raw("expiration_date", nil)
	} else {
		o.text("expiration_date", message.FormatISO(e.ExpiresAt))
	}
	o.text("message_timestamp", message.FormatISO(e.At))
	o.integerOrNull("expense_count", e.Count)
	if e.SizeMiB == nil {
		o.raw("expense_size_mib", nil)
	} else {
		o.decimal("expense_size_mib", *e.SizeMiB)
	}
}

// creditSummary answers with the sums of a history.
func (s *Server) creditSummary(w http.ResponseWriter, r *http.Request) error {
	p := readParams(r)
	f := p.creditFilter(r.PathValue("address"))
	if err := p.err(); err != nil {
		return err
	}
	sum, err := s.parts.DB.CreditSummary(r.Context(), f)
	if err != nil {
		return err
	}
	o := newObject(nil)
	o.text("address", f.Address)
	o.integer("entry_count", sum.Entries)
	o.integer("total_amount", sum.Total)
	o.integer("total_incoming", sum.Incoming)
	o.integer("total_outgoing", sum.Outgoing)
	return s.answerJSON(w, r, http.StatusOK, o.end())
}

// programsOnMessage answers with the programs that messages start.
func (s *Server) programsOnMessage(w http.ResponseWriter, r *http.Request) error {
	p := readParams(r)
	for name := range p.values {
		if name != "sort_order" && name != "sortOrder" {
			return refuseText(http.StatusBadRequest, "unknown parameter "+strconv.Quote(name))
		}
	}
	q := state.MessageQuery{Types: []string{string(message.TypeProgram)}, Oldest: p.oldestFirst()}
	if err := p.err(); err != nil {
		return err
	}
	return s.list(w, r, true, func(v *state.View, st *stream) error {
		n := 0
		if err := st.text("["); err != nil {
			return err
		}
		err := v.EachMessage(r.Context(), q, 0, 0, func(m *state.Message) error {
			body, err := m.Body()
			if err != nil {
				return err
			}
			program, ok := body.(*message.Program)
			if !ok || len(program.On.Message) == 0 {
				return nil
			}
			n++
			return st.grow(func(dst []byte) ([]byte, error) { return appendSubscription(dst, n == 1, m, program) })
		})
		if err != nil {
			return err
		}
		return st.text("]")
	})
}

func appendSubscription(dst []byte, first bool, m *state.Message, p *message.Program) ([]byte, error) {
	if !first {
		dst = append(dst, ',')
	}
	filters, err := json.Marshal(p.On.Message)
	if err != nil {
		return dst, err
	}
	on, content := newObject(nil), newObject(nil)
	on.raw("message", filters)
	content.raw("on", on.end())
	o := newObject(dst)
	o.text("item_hash", string(m.Envelope.ItemHash))
	o.raw("content", content.end())
	return o.end(), nil
}

// shown are the items of a page, without the one that is read only to know whether
// there are more.
func shown[T any](pg *page, found []T) ([]T, bool) {
	if pg.cursor == nil || int64(len(found)) <= pg.per {
		return found, false
	}
	return found[:pg.per], true
}

// items writes a list of objects.
func (st *stream) items(head string, n int, fill func(i int, o *object)) error {
	if err := st.text(head); err != nil {
		return err
	}
	for i := range n {
		err := st.grow(func(dst []byte) ([]byte, error) {
			if i > 0 {
				dst = append(dst, ',')
			}
			o := newObject(dst)
			fill(i, o)
			return o.end(), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
