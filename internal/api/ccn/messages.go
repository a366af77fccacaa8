package ccn

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// perPage is how many messages or posts a page has unless the query says more.
const perPage = 20

// batchMax is how many messages of a list are held at once, with the transactions
// that confirm them.
const batchMax = 100

// messagesWanted is the query for a list of messages.
type messagesWanted struct {
	state.MessageQuery
	page
	format message.ContentFormat
}

func known[T interface {
	~string
	Known() bool
}](s string) bool {
	return T(s).Known()
}

func isStatus(s string) bool {
	return slices.Contains([]state.MessageStatus{
		state.MessagePending, state.MessageProcessed, state.MessageRejected, state.MessageForgotten, state.MessageRemoving, state.MessageRemoved,
	}, state.MessageStatus(s))
}

func isPayment(s string) bool { return slices.Contains([]string{"hold", "superfluid", "credit"}, s) }

// filters reads the parameters that say which messages, which lists and who listens
// live share.
func (p *params) filters() state.MessageQuery {
	q := state.MessageQuery{
		Types:    p.types(),
		Chains:   p.words("a known chain", known[message.Chain], "chains"),
		Senders:  p.list("addresses"),
		Owners:   p.list("owners"),
		Channels: p.list("channels"),
		Refs:     p.list("refs"),
		Keys:     p.list("contentKeys", "content_keys"),
		Kinds:    p.list("contentTypes", "content_types"),
		Tags:     p.list("tags"),
		Payments: p.words("'hold', 'superfluid' or 'credit'", isPayment, "paymentTypes", "payment_types"),
		Hashes:   p.hashes("hashes"),
	}
	for _, hash := range p.hashes("contentHashes", "content_hashes") {
		q.Files = append(q.Files, string(hash))
	}
	for _, status := range p.words("a status of messages", isStatus, "msgStatuses", "message_statuses") {
		q.Statuses = append(q.Statuses, state.MessageStatus(status))
	}
	q.From, q.To = p.span()
	q.FromHeight, q.ToHeight = p.integer(0, 0, numberMax, "startBlock", "start_block"), p.integer(0, 0, numberMax, "endBlock", "end_block")
	if q.ToHeight > 0 && q.ToHeight < q.FromHeight {
		p.fail("value_error", "Value error, end block cannot be lower than start block.", nil)
	}
	return q
}

// types are the types that messages must have: of msgTypes, and of msgType, which
// is the older one.
func (p *params) types() []string {
	list := p.words("a type of messages", known[message.Type], "msgTypes", "message_types")
	one, ok := p.text("msgType", "message_type")
	if !ok {
		return list
	}
	if !known[message.Type](one) {
		p.fail("enum", "Input should be a type of messages", one, "msgType")
	}
	if list != nil && !slices.Contains(list, one) {
		return []string{}
	}
	return []string{one}
}

// format reads how much of the contents is wanted.
func (p *params) format() message.ContentFormat {
	def := string(message.ContentFull)
	if p.boolean(false, "excludeContent", "exclude_content") {
		def = string(message.ContentNone)
	}
	formats := []string{string(message.ContentFull), string(message.ContentHeaders), string(message.ContentNone)}
	return message.ContentFormat(p.word(def, formats, "contentFormat", "content_format"))
}

// readMessages reads the query for a list of messages.
func readMessages(r *http.Request) (*messagesWanted, error) {
	p := readParams(r)
	q := &messagesWanted{MessageQuery: p.filters(), format: p.format(), page: p.page(perPage, 0, numberMax)}
	q.Oldest = p.oldestFirst()
	q.ByTx = p.word("time", []string{"time", "tx-time"}, "sortBy", "sort_by") == "tx-time"
	if q.ByTx && q.cursor != nil && *q.cursor != "" {
		p.fail("value_error", "Value error, Cursor pagination is not supported with tx-time sort order.", nil)
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return q, q.inPath(r)
}

// listMessages answers messages.json.
func (s *Server) listMessages(w http.ResponseWriter, r *http.Request) error {
	q, err := readMessages(r)
	if err != nil {
		return err
	}
	if slices.Contains(q.Statuses, state.MessageForgotten) || slices.Contains(q.Statuses, state.MessageRemoved) {
		return s.listEnded(w, r, q)
	}
	if err := q.bound(); err != nil {
		return err
	}
	if q.After, err = q.place(); err != nil {
		return err
	}
	if q.cursor != nil && (q.ByTx || q.FromHeight > 0 || q.ToHeight > 0) {
		return refuseText(http.StatusUnprocessableEntity, "Cursor pagination is not supported with tx-time sort order or block filters")
	}
	return s.list(w, r, false, func(v *state.View, st *stream) error {
		if err := hideUnknown(r.Context(), v, &q.MessageQuery); err != nil {
			return err
		}
		return s.fillMessages(r.Context(), v, st, q)
	})
}

// hideUnknown leaves V-PROGRAM messages out of a list that does not ask for them:
// clients that do not know the type cannot read a page that has one.
func hideUnknown(ctx context.Context, v *state.View, q *state.MessageQuery) error {
	if q.Types != nil || q.Hashes != nil {
		return nil
	}
	n, err := v.CountMessages(ctx, state.MessageQuery{Types: []string{string(message.TypeVProgram)}})
	if err != nil || n == 0 {
		return err
	}
	q.Types = []string{
		string(message.TypePost), string(message.TypeAggregate), string(message.TypeStore), string(message.TypeProgram), string(message.TypeInstance),
		string(message.TypeForget),
	}
	return nil
}

// fillMessages writes a list.
func (s *Server) fillMessages(ctx context.Context, v *state.View, st *stream, q *messagesWanted) error {
	if err := st.text(`{"messages":[`); err != nil {
		return err
	}
	limit := q.per
	if q.cursor != nil {
		limit++ // Is there a next page?
	}
	l := &messageList{v: v, st: st, format: q.format}
	var last *state.Message
	var n int64
	err := v.EachMessage(ctx, q.MessageQuery, q.offset(), limit, func(m *state.Message) error {
		if n++; q.cursor != nil && n > q.per {
			return nil
		}
		last = m
		return l.add(ctx, m)
	})
	if err != nil {
		return err
	}
	if err := l.flush(ctx); err != nil {
		return err
	}
	if q.cursor != nil {
		return st.endCursor(q.page, n > q.per, func() any { return placeCursor{string(last.Envelope.ItemHash), isoTime(last.Envelope.Time)} })
	}
	total := q.offset() + n
	if q.per > 0 && n >= q.per {
		if total, err = v.CountMessages(ctx, q.MessageQuery); err != nil {
			return err
		}
	}
	return st.endPage("messages", q.page, total)
}

// messageList writes messages as lists show them, a batch at a time, so that their
// confirmations are read together.
type messageList struct {
	v      *state.View
	st     *stream
	format message.ContentFormat
	batch  []*state.Message
	begun  bool
}

func (l *messageList) add(ctx context.Context, m *state.Message) error {
	if l.batch = append(l.batch, m); len(l.batch) < batchMax {
		return nil
	}
	return l.flush(ctx)
}

func (l *messageList) flush(ctx context.Context) error {
	views, err := viewsOf(ctx, l.v, l.batch)
	if err != nil {
		return err
	}
	for i := range views {
		err := l.st.grow(func(dst []byte) ([]byte, error) {
			if l.begun {
				dst = append(dst, ',')
			}
			l.begun = true
			return views[i].AppendListed(dst, l.format)
		})
		if err != nil {
			return err
		}
	}
	l.batch = l.batch[:0]
	return nil
}

// confirmer reads the transactions that name messages; state.DB and state.View do.
type confirmer interface {
	Confirmations(ctx context.Context, hashes []message.ItemHash) (map[message.ItemHash][]state.Transaction, error)
}

// viewsOf are messages with their confirmations.
func viewsOf(ctx context.Context, r confirmer, all []*state.Message) ([]message.View, error) {
	hashes := make([]message.ItemHash, len(all))
	for i, m := range all {
		hashes[i] = m.Envelope.ItemHash
	}
	found, err := r.Confirmations(ctx, hashes)
	if err != nil {
		return nil, err
	}
	out := make([]message.View, len(all))
	for i, m := range all {
		out[i] = m.View()
		out[i].Confirmations = confirmationsOf(found[m.Envelope.ItemHash])
	}
	return out, nil
}

func confirmationsOf(all []state.Transaction) []message.Confirmation {
	out := make([]message.Confirmation, len(all))
	for i, t := range all {
		out[i] = message.Confirmation{Chain: t.Chain, Height: t.Height, Hash: t.Hash}
	}
	return out
}

// endPage closes a list whose pages have numbers.
func (st *stream) endPage(item string, pg page, total int64) error {
	return st.grow(func(dst []byte) ([]byte, error) {
		o := &object{buf: append(dst, ']'), begun: true}
		o.page(item, pg, total)
		return o.end(), nil
	})
}

// endCursor closes a list in cursor mode.
func (st *stream) endCursor(pg page, more bool, last func() any) error {
	var next *string
	if more {
		text, err := encodeCursor(last())
		if err != nil {
			return err
		}
		next = &text
	}
	return st.grow(func(dst []byte) ([]byte, error) {
		o := &object{buf: append(dst, ']'), begun: true}
		o.next(pg, next)
		return o.end(), nil
	})
}

// unsupported are the filters of a query that messages which ended do not have.
func unsupported(q *state.MessageQuery) string {
	var out []string
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"refs", q.Refs != nil},
		{"contentTypes", q.Kinds != nil},
		{"contentHashes", q.Files != nil},
		{"contentKeys", q.Keys != nil},
		{"tags", q.Tags != nil},
		{"startBlock", q.FromHeight > 0},
		{"endBlock", q.ToHeight > 0},
	} {
		if f.set {
			out = append(out, f.name)
		}
	}
	return strings.Join(out, ", ")
}

// listEnded answers with what is left of messages that were forgotten or removed.
func (s *Server) listEnded(w http.ResponseWriter, r *http.Request, q *messagesWanted) error {
	slices.Sort(q.Statuses)
	q.Statuses = slices.Compact(q.Statuses)
	if len(q.Statuses) > 1 {
		return refuseText(http.StatusBadRequest, "msgStatuses=forgotten/removed cannot be combined with other statuses")
	}
	status := q.Statuses[0]
	if q.cursor != nil {
		return refuseText(http.StatusBadRequest, "Cursor pagination is not supported for "+string(status)+" message queries")
	}
	if names := unsupported(&q.MessageQuery); names != "" {
		return refuseText(http.StatusBadRequest, "Filters not supported for "+string(status)+" message queries: "+names)
	}
	ended := state.SkeletonQuery{
		Status: status, Types: q.Types, Chains: q.Chains, Senders: q.Senders, Owners: q.Owners, Channels: q.Channels, Payments: q.Payments,
		Hashes: q.Hashes, From: q.From, To: q.To, Oldest: q.Oldest,
	}
	return s.list(w, r, false, func(v *state.View, st *stream) error { return fillEnded(r.Context(), v, st, ended, q.page) })
}

// fillEnded writes a list of skeletons, a batch at a time.
func fillEnded(ctx context.Context, v *state.View, st *stream, q state.SkeletonQuery, pg page) error {
	if err := st.text(`{"messages":[`); err != nil {
		return err
	}
	var n int64
	for {
		limit := int64(batchMax)
		if pg.per > 0 {
			limit = min(limit, pg.per-n)
		}
		found, total, err := v.Skeletons(ctx, q, pg.offset()+n, limit)
		if err != nil {
			return err
		}
		for i := range found {
			err := st.grow(func(dst []byte) ([]byte, error) {
				if n > 0 {
					dst = append(dst, ',')
				}
				return appendEnded(dst, &found[i]), nil
			})
			if err != nil {
				return err
			}
			n++
		}
		if int64(len(found)) < limit || n == pg.per {
			if n < pg.per {
				total = pg.offset() + n
			}
			return st.endPage("messages", pg, total)
		}
	}
}

// appendEnded writes what is left of a message as lists show it, keys sorted.
func appendEnded(dst []byte, s *state.Skeleton) []byte {
	e, o := &s.Envelope, newObject(dst)
	o.text("chain", string(e.Chain))
	o.textOrNull("channel", e.Channel)
	if s.Status == state.MessageForgotten {
		o.seconds("forgotten_at", s.EndedAt)
		o.texts("forgotten_by", texts(s.ForgottenBy))
	}
	o.text("item_hash", string(e.ItemHash))
	o.text("item_type", string(e.ItemType))
	o.text("owner", s.Owner)
	o.textOrNull("payment_type", (*string)(s.PaymentType))
	if s.Status == state.MessageRemoved {
		o.seconds("removed_at", s.EndedAt)
	}
	o.text("sender", e.Sender)
	o.signature(e.Signature)
	o.integerOrNull("size", s.SizeBytes)
	o.text("status", string(s.Status))
	o.seconds("time", e.Time)
	o.text("type", string(e.Type))
	return o.end()
}

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, t := range list {
		out[i] = string(t)
	}
	return out
}
