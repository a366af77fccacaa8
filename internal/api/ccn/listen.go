package ccn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// historyMax and historyUsual are how many older messages who listens gets.
	historyMax, historyUsual = 199, 10
	// historyTimeout bounds the search for them.
	historyTimeout = 30 * time.Second
)

// liveWanted are the messages that somebody listens to.
type liveWanted struct {
	state.MessageQuery
	history int64
	format  message.ContentFormat
	brief   bool // Without the contents, live.
}

// readLive reads the query of somebody who listens to messages, and says what is
// wrong with it.
func readLive(r *http.Request) (want *liveWanted, wrong string) {
	p := readParams(r)
	q := &liveWanted{MessageQuery: p.filters(), format: p.format(), history: p.integer(historyUsual, 0, historyMax, "history")}
	if q.brief = q.format != message.ContentFull; q.brief {
		q.format = message.ContentNone // A socket knows no headers: what is older is like what is new.
	}
	p.oldestFirst() // Lists have these two, and who listens may not ask for what they do not know either.
	p.word("time", []string{"time", "tx-time"}, "sortBy", "sort_by")
	if len(p.wrong) == 0 {
		return q, ""
	}
	first := p.wrong[0]
	name := "query"
	if len(first.Loc) > 0 {
		name = fmt.Sprint(first.Loc[0])
	}
	return nil, name + ": " + first.Msg
}

// words is how many values the filters have.
func (q *liveWanted) words() int {
	if q == nil {
		return 0
	}
	return len(q.Statuses) + len(q.Types) + len(q.Chains) + len(q.Senders) + len(q.Owners) + len(q.Channels) + len(q.Refs) + len(q.Files) + len(q.Keys) +
		len(q.Kinds) + len(q.Tags) + len(q.Payments) + len(q.Hashes)
}

// matches reports whether a new message is wanted. As in lists, a V-PROGRAM is if
// the query says so.
func (q *liveWanted) matches(n *news) (bool, error) {
	if q.Types == nil && q.Hashes == nil && n.m.Envelope.Type == message.TypeVProgram {
		return false, nil
	}
	if q.FromHeight > 0 || q.ToHeight > 0 {
		height := int64(numberMax) // What is not confirmed comes after all that is.
		for _, c := range n.view.Confirmations {
			height = min(height, c.Height)
		}
		if height < q.FromHeight || q.ToHeight > 0 && height >= q.ToHeight {
			return false, nil
		}
	}
	return q.Matches(n.m)
}

// listenMessages answers those who listen to messages: with some older ones, then
// with each new one that they want.
func (s *Server) listenMessages(w http.ResponseWriter, r *http.Request) error {
	want, wrong := readLive(r)
	if wrong != "" {
		if k := s.newSocket(toMessages, nil); s.upgrade(w, r, k) {
			k.close(farewell{codeInvalid, wrong})
		}
		return nil
	}
	s.listen(w, r, s.newSocket(toMessages, want), s.live.history)
	return nil
}

// listenStatus answers those who listen to the numbers of the node.
func (s *Server) listenStatus(w http.ResponseWriter, r *http.Request) error {
	s.listen(w, r, s.newSocket(toStatus, nil), s.live.firstStatus)
	return nil
}

// listen enters a socket and makes it of the request. What it is to hear first is
// looked for before the client knows that it listens: all that is processed from
// then on, by the client's own doing perhaps, it hears. The request ends here, the
// socket goes on.
func (s *Server) listen(w http.ResponseWriter, r *http.Request, k *socket, begin func(context.Context, *socket) (rest func(context.Context) error, err error)) {
	refusal, ok := s.live.join(k)
	if !ok {
		if s.upgrade(w, r, k) {
			k.close(refusal)
		}
		return
	}
	rest, err := begin(r.Context(), k)
	if !s.upgrade(w, r, k) {
		s.live.leave(k)
		s.live.work.Add(-2)
		return
	}
	ctx := context.WithoutCancel(r.Context())
	go func() {
		defer s.live.work.Done()
		k.read(ctx)
		s.live.leave(k)
	}()
	go func() {
		defer s.live.work.Done()
		if err == nil {
			err = rest(ctx)
		}
		if err != nil {
			s.log.Error("socket failed", "err", err)
			k.drop(ctx, farewell{codeFailed, "internal error"})
		}
		k.drain(ctx)
	}()
}

// firstStatus sends the numbers of the node as they are.
func (h *hub) firstStatus(ctx context.Context, k *socket) (rest func(context.Context) error, err error) {
	numbers, err := h.numbers(ctx)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if k.told == nil {
		k.told = numbers
		k.push(ctx, numbers, 0)
	}
	return func(context.Context) error { return nil }, nil
}

// history finds the newest of the older messages; the rest sends them, oldest
// first. Which those are is told by one snapshot, and what is newer than it comes
// live: there is nothing between, and nothing comes twice.
func (h *hub) history(ctx context.Context, k *socket) (rest func(context.Context) error, err error) {
	ids, last, err := h.older(ctx, k.want)
	if err != nil {
		return nil, err
	}
	k.pass(last)
	return func(ctx context.Context) error {
		for _, id := range slices.Backward(ids) {
			raw, err := h.listed(ctx, id, k.want.format)
			switch {
			case errors.Is(err, errs.NotFound):
				continue // It was forgotten meanwhile.
			case err != nil:
				return err
			case k.ended() || !k.write(ctx, raw):
				return nil
			}
		}
		return nil
	}, nil
}

// older finds the newest messages of a query, and the last message of all there
// are. They are read one by one when they are sent: a client that is slow holds one
// of them, and nothing of the database.
func (h *hub) older(ctx context.Context, q *liveWanted) (ids []int64, last int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, historyTimeout)
	defer cancel()
	select {
	case h.histories <- struct{}{}:
		defer func() { <-h.histories }()
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	err = h.db.View(ctx, func(v *state.View) error {
		if last, err = v.LastMessage(ctx); err != nil || q.history == 0 {
			return err
		}
		query := q.MessageQuery
		hideUnknown(&query)
		return v.EachMessage(ctx, query, 0, q.history, func(m *state.Message) error {
			ids = append(ids, m.ID)
			return nil
		})
	})
	return ids, last, err
}

// listed is a message as lists show it, or errs.NotFound.
func (h *hub) listed(ctx context.Context, id int64, format message.ContentFormat) (json.RawMessage, error) {
	found, err := h.db.MessagesByID(ctx, []int64{id})
	if err != nil {
		return nil, err
	}
	if found[id] == nil {
		return nil, errs.New(errs.NotFound, "message %d is gone", id)
	}
	views, err := viewsOf(ctx, h.db, []*state.Message{found[id]})
	if err != nil {
		return nil, err
	}
	return views[0].AppendListed(nil, format)
}
