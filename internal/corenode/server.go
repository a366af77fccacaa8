package corenode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// errorShown cuts the text of a server's error.
	errorShown = 300
	// busyWait is how long a server is left alone that is busy and does not say for how long.
	busyWait = time.Second
)

// server is a core channel node.
type server struct {
	base *url.URL

	mu    sync.Mutex
	until time.Time // When it is asked in its turn again; guarded by mu
}

func (s *server) rest(until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = until
}

func (s *server) rests(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Before(s.until)
}

// absentError is of a server that does not know what it is asked for.
type absentError struct{ text string }

func (e *absentError) Error() string { return e.text }

// absent returns what a reader returns when an answer says that there is nothing.
func absent(format string, args ...any) error { return &absentError{fmt.Sprintf(format, args...)} }

func isAbsent(err error) bool {
	var e *absentError
	return errors.As(err, &e)
}

// busyError is of a server that wants to be left alone for a time.
type busyError struct {
	host string
	wait time.Duration
}

func (e *busyError) Error() string { return fmt.Sprintf("%s is busy for %v", e.host, e.wait) }

// awayError is of a server that could not be reached.
type awayError struct{ err error }

func (e *awayError) Error() string { return e.err.Error() }
func (e *awayError) Unwrap() error { return e.err }

// get asks one server once and returns the bytes of a good answer.
func (c *Client) get(ctx context.Context, s *server, q question) ([]byte, error) {
	u := s.base.JoinPath(q.path...)
	u.RawQuery = q.query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", s.base.Host, plain(err))
	}
	if !q.plain {
		req.Header.Set("Accept", "application/json")
	}
	return c.do(req, s.base.Host, q.plain)
}

// do sends a request and returns the bytes of a good answer. Errors name the server by
// name, as URLs may have keys in them.
func (c *Client) do(req *http.Request, name string, anyKind bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(req.Context(), c.cfg.Timeout)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("ask %s: wait for other requests: %w", name, ctx.Err())
	}
	res, err := c.http.Do(req.WithContext(ctx))
	if err != nil {
		return nil, &awayError{fmt.Errorf("ask %s: %w", name, plain(err))}
	}
	defer func() { _ = res.Body.Close() }() // Only read from: nothing is lost.
	if res.StatusCode != http.StatusOK {
		return nil, refusal(res, name)
	}
	kind := kindOf(res)
	if !anyKind && kind != "application/json" {
		return nil, fmt.Errorf("%s answered with %.80q, not JSON", name, kind)
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, c.cfg.AnswerMaxBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer of %s: %w", name, err)
	case int64(len(raw)) > c.cfg.AnswerMaxBytes:
		return nil, fmt.Errorf("the answer of %s has more than %d bytes", name, c.cfg.AnswerMaxBytes)
	}
	return raw, nil
}

// refusal is what an answer other than 200 means.
func refusal(res *http.Response, name string) error {
	raw, _ := io.ReadAll(io.LimitReader(res.Body, errorShown)) // Its status says enough.
	switch status := res.StatusCode; {
	case status == http.StatusTooManyRequests:
		return &busyError{name, waitOf(res.Header, time.Now())}
	case (status == http.StatusNotFound || status == http.StatusGone) && kindOf(res) != "text/html":
		return absent("%s answered %d: %.*q", name, status, errorShown, raw)
	case status >= 300 && status < 400:
		return fmt.Errorf("%s redirects (%d), which is not followed: name the URL to which it does", name, status)
	default:
		// A page for people is of a proxy that has no such server, and says nothing.
		return fmt.Errorf("%s answered %d: %.*q", name, status, errorShown, raw)
	}
}

// kindOf is the media type of an answer; "" for none.
func kindOf(res *http.Response) string {
	kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return kind
}

// waitOf is how long a server wants to be left alone, as it says in one of the ways that
// core channel nodes and the proxies before them do.
func waitOf(h http.Header, now time.Time) time.Duration {
	if d, ok := parseWait(h.Get("X-Retry-In")); ok {
		return d
	}
	after := h.Get("Retry-After")
	if d, ok := parseWait(after); ok {
		return d
	}
	if at, err := http.ParseTime(after); err == nil {
		return max(0, at.Sub(now))
	}
	return busyWait
}

// parseWait reads a time such as 105.8ms, 2s or 2.
func parseWait(s string) (time.Duration, bool) {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, false
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		s += "s"
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d >= 0
}

// decode reads JSON.
func decode(raw []byte, into any) error {
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("it is not what was asked for: %w", err)
	}
	return nil
}

// plain takes the URL out of an error, as there may be a password in it.
func plain(err error) error {
	if u, ok := err.(*url.Error); ok { //nolint:errorlint // http.Client says it bare
		return u.Err
	}
	return err
}
