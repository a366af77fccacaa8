package ccn

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

const (
	// largeBytes is how large an answer is that is kept. The list of nodes has
	// megabytes, and nothing is asked for more often.
	largeBytes = 64 << 10
	// largeMax bounds the answers that are kept.
	largeMax = 4
)

// large are answers that are made once for each change of an aggregate. It is ready
// when zero.
type large struct {
	mu  sync.Mutex
	all map[largeKey]*largeAnswer // guarded by mu
}

type largeKey struct{ owner, key string }

// largeAnswer is an answer with one aggregate, plain and compressed.
type largeAnswer struct {
	version    state.AggregateVersion
	plain, zip []byte
}

// find returns an answer of a version; nil if there is none.
func (l *large) find(k largeKey, v state.AggregateVersion) *largeAnswer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.all[k]; a != nil && a.version == v {
		return a
	}
	return nil
}

func (l *large) put(k largeKey, a *largeAnswer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[k] == nil && len(l.all) >= largeMax {
		for other := range l.all { // Any: there are few of them.
			delete(l.all, other)
			break
		}
	}
	if l.all == nil {
		l.all = map[largeKey]*largeAnswer{}
	}
	l.all[k] = a
}

// answerOne answers with one aggregate, if there is one: a large one from what is
// kept, as long as it is as it was then.
func (s *Server) answerOne(w http.ResponseWriter, r *http.Request, owner, key string) (done bool, err error) {
	ctx := r.Context()
	k := largeKey{owner, key}
	version, err := s.parts.DB.AggregateVersion(ctx, owner, key)
	if errors.Is(err, errs.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	a := s.large.find(k, version)
	if a == nil {
		if a, err = s.makeOne(ctx, k); a == nil || err != nil {
			return false, err
		}
		if len(a.plain) < largeBytes {
			return true, s.answerJSON(w, r, http.StatusOK, a.plain)
		}
		if err := a.compress(); err != nil {
			return false, err
		}
		s.large.put(k, a)
	}
	body := a.plain
	w.Header().Add("Vary", "Accept-Encoding")
	if acceptsGzip(r) {
		w.Header().Set("Content-Encoding", "gzip")
		body = a.zip
	}
	return true, s.answerJSON(w, r, http.StatusOK, body)
}

// makeOne makes the answer with one aggregate; nil if it is not here.
func (s *Server) makeOne(ctx context.Context, k largeKey) (*largeAnswer, error) {
	a := new(largeAnswer)
	var found []state.Aggregate
	err := s.parts.DB.View(ctx, func(v *state.View) (err error) {
		if a.version, err = v.AggregateVersion(ctx, k.owner, k.key); errors.Is(err, errs.NotFound) {
			return nil // It went just now.
		}
		if err != nil {
			return err
		}
		own, err := v.OwnAggregates(ctx, k.owner)
		if err != nil {
			return err
		}
		if found = overlay(nil, own, []string{k.key}); len(found) > 0 {
			return nil
		}
		one, err := v.Aggregate(ctx, k.owner, k.key)
		if err == nil {
			found = append(found, *one)
		}
		return err
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	a.plain = showAggregates(k.owner, found, false)
	return a, nil
}

func (a *largeAnswer) compress() error {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	if _, err := zip.Write(a.plain); err != nil {
		return fmt.Errorf("compress aggregate: %w", err)
	}
	if err := zip.Close(); err != nil {
		return fmt.Errorf("compress aggregate: %w", err)
	}
	a.zip = b.Bytes()
	return nil
}
