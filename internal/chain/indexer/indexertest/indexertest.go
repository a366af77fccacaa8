// Package indexertest has indexers in the process, for tests: they answer in the form that
// is documented for those of the network, from events that a test gives them.
package indexertest

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Event is an event of any indexer.
type Event struct {
	ID, Tx    string
	Height    int64
	At        time.Time
	Publisher string
	Sender    string // of Tezos
	Type      string
	Text      string
	Remark    string // of NULS2
}

// Server answers questions about its events, which are in order.
type Server struct {
	URL string

	t         testing.TB
	mu        sync.Mutex
	events    []Event
	processed [][2]time.Time
	status    string
	asked     int
	most      int                         // Who asks for more gets nothing; 0 is no bound.
	answer    func(w http.ResponseWriter) // Instead of what is documented.
}

func start(t testing.TB, handle func(s *Server, r *http.Request) (any, error)) *Server {
	t.Helper()
	s := &Server{t: t, status: "synced"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked++
		if s.answer != nil {
			s.answer(w)
			return
		}
		body, err := handle(s, r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		raw, err := json.Marshal(body)
		if err != nil {
			t.Errorf("answer: %v", err)
		}
		_, _ = w.Write(raw) // Who asks may have heard enough.
	}))
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Add gives the server more events.
func (s *Server) Add(events ...Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, events...)
}

// Process says which ranges of time a multichain indexer has processed.
func (s *Server) Process(ranges ...[2]time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.processed = ranges
}

// SetStatus says how an indexer of Tezos does.
func (s *Server) SetStatus(status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

// Answer makes the server say something else than what is documented; nil ends that.
func (s *Server) Answer(fn func(w http.ResponseWriter)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = fn
}

// Refuse makes the server answer nothing to who asks for more than most events.
func (s *Server) Refuse(most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = most
}

// room is how many events are told to who asks for limit.
func (s *Server) room(limit int64) int {
	if s.most > 0 && limit > int64(s.most) {
		return 0
	}
	return int(limit)
}

// Asked is how many questions were asked.
func (s *Server) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// query reads the question that a client of GraphQL asks.
func query(r *http.Request) (string, error) {
	if r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("Content-Type") != "application/json" {
		return "", fmt.Errorf("want POST / with JSON, got %s %s", r.Method, r.URL.Path)
	}
	var q struct{ Query string }
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		return "", fmt.Errorf("question: %w", err)
	}
	return q.Query, nil
}

// argument is a whole number among the arguments of a question.
func argument(q, name string) (int64, error) {
	found := regexp.MustCompile(`\b` + name + `: (-?[0-9]+)\b`).FindStringSubmatch(q)
	if found == nil {
		return 0, fmt.Errorf("no argument %s in %s", name, q)
	}
	return strconv.ParseInt(found[1], 10, 64)
}

// Multichain starts an indexer of several chains.
func Multichain(t testing.TB, blockchain, account string) *Server {
	t.Helper()
	return start(t, func(s *Server, r *http.Request) (any, error) {
		q, err := query(r)
		if err != nil {
			return nil, err
		}
		if regexp.MustCompile(`accountState\(blockchain: "` + blockchain + `", account: \["` + account + `"\], type: log\)`).MatchString(q) {
			processed := []string{}
			for _, p := range s.processed {
				processed = append(processed, p[0].Format("2006-01-02T15:04:05.000Z")+"/"+p[1].Format("2006-01-02T15:04:05.000Z"))
			}
			state := map[string]any{"blockchain": blockchain, "account": account, "processed": processed}
			return map[string]any{"data": map[string]any{"state": []any{state}}}, nil
		}
		if !regexp.MustCompile(`messageEvents\(blockchain: "` + blockchain + `", limit: [0-9]+, reverse: false, `).MatchString(q) {
			return nil, fmt.Errorf("unknown question %s", q)
		}
		var n [3]int64
		for i, name := range []string{"limit", "startDate", "endDate"} {
			if n[i], err = argument(q, name); err != nil {
				return nil, err
			}
		}
		out := []map[string]any{}
		for _, e := range s.events {
			if at := e.At.UnixMilli(); at >= n[1] && at <= n[2] && len(out) < s.room(n[0]) {
				out = append(out, map[string]any{
					"id": e.ID, "timestamp": at, "address": e.Publisher, "height": e.Height, "transaction": e.Tx, "type": e.Type, "content": e.Text,
				})
			}
		}
		return map[string]any{"data": map[string]any{"messageEvents": out}}, nil
	})
}

// Tezos starts an indexer of contracts on Tezos.
func Tezos(t testing.TB, contract string) *Server {
	t.Helper()
	return start(t, func(s *Server, r *http.Request) (any, error) {
		q, err := query(r)
		if err != nil {
			return nil, err
		}
		if !regexp.MustCompile(`events\(limit: [0-9]+, skip: [0-9]+, source: "` + contract + `", type: "MessageEvent"\)`).MatchString(q) {
			return nil, fmt.Errorf("unknown question %s", q)
		}
		limit, err := argument(q, "limit")
		if err != nil {
			return nil, err
		}
		skip, err := argument(q, "skip")
		if err != nil {
			return nil, err
		}
		out := []map[string]any{}
		for _, e := range s.events[min(skip, int64(len(s.events))):min(skip+limit, int64(len(s.events)))] {
			out = append(out, map[string]any{
				"_id": e.ID, "source": contract, "timestamp": e.At.UTC().Format(time.RFC3339), "blockLevel": e.Height, "operationHash": e.Tx, "type": "MessageEvent",
				"payload": map[string]any{"timestamp": e.At.Unix(), "addr": e.Sender, "msgtype": e.Type, "msgcontent": e.Text},
			})
		}
		return map[string]any{"data": map[string]any{
			"indexStatus": map[string]any{"oldestBlock": "BLa", "recentBlock": "BLb", "status": s.status},
			"stats":       map[string]any{"totalEvents": len(s.events)},
			"events":      out,
		}}, nil
	})
}

// NULS2 starts an explorer of NULS2.
func NULS2(t testing.TB, address string) *Server {
	t.Helper()
	return start(t, func(s *Server, r *http.Request) (any, error) {
		q := r.URL.Query()
		from, errFrom := strconv.ParseInt(q.Get("startHeight"), 10, 64)
		limit, errLimit := strconv.ParseInt(q.Get("pagination"), 10, 64)
		if errFrom != nil || errLimit != nil || r.Method != http.MethodGet || r.URL.Path != "/transactions.json" || q.Get("address") != address || q.Get("sort_order") != "1" {
			return nil, fmt.Errorf("unknown question %s", r.URL)
		}
		out := []map[string]any{}
		for _, e := range s.events {
			if e.Height >= from && len(out) < s.room(limit) {
				out = append(out, map[string]any{
					"hash": e.Tx, "height": e.Height, "createTime": e.At.Unix(), "remark": e.Remark, "txDataHex": hex.EncodeToString([]byte(e.Text)),
					"coinFroms": []any{map[string]any{"address": e.Publisher}},
				})
			}
		}
		return map[string]any{"transactions": slices.Clip(out)}, nil
	})
}
