package corenode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Post hands a signed message in at the first server that takes it. errs.Invalid means
// that one has refused it for what it is, every other error that nobody is known to
// have taken it; a server that was cut off may have. Messages are known by their hash:
// one that comes twice is one.
func (c *Client) Post(ctx context.Context, envelope json.RawMessage) error {
	body, err := json.Marshal(map[string]any{"sync": false, "message": envelope})
	if err != nil {
		return errs.New(errs.Invalid, "encode message: %w", err)
	}
	var failed []error
	for _, s := range c.inOrder(time.Now()) {
		err := c.post(ctx, s, body)
		if err == nil || errors.Is(err, errs.Invalid) {
			return err
		}
		if ctx.Err() != nil {
			return errs.New(errs.Unavailable, "hand in message: %w", context.Cause(ctx))
		}
		failed = append(failed, err)
	}
	return errs.Placed(errs.New(errs.Unavailable, "hand in message at core channel nodes: %w", errors.Join(failed...)), public)
}

// post hands a message in at one server.
func (c *Client) post(ctx context.Context, s *server, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base.JoinPath("api/v0/messages").String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask %s: %w", s.base.Host, plain(err))
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		c.requests.WithLabelValues("away").Inc()
		s.rest(time.Now().Add(c.cfg.Rest))
		return fmt.Errorf("ask %s: %w", s.base.Host, plain(err))
	}
	defer func() { _ = res.Body.Close() }() // Only read from: nothing is lost.
	if res.StatusCode == http.StatusUnprocessableEntity {
		c.requests.WithLabelValues("answered").Inc()
		raw, _ := io.ReadAll(io.LimitReader(res.Body, errorShown)) // Its status says enough.
		return errs.New(errs.Invalid, "%s refuses it: %.*q", s.base.Host, errorShown, raw)
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusAccepted {
		c.requests.WithLabelValues("failed").Inc()
		return refusal(res, s.base.Host)
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, c.cfg.AnswerMaxBytes))
	if err != nil {
		c.requests.WithLabelValues("failed").Inc()
		return fmt.Errorf("read the answer of %s: %w", s.base.Host, err)
	}
	var a struct {
		Publication struct {
			Status string `json:"status"`
		} `json:"publication_status"`
		Status string `json:"message_status"`
	}
	if err := decode(raw, &a); err != nil {
		c.requests.WithLabelValues("failed").Inc()
		return fmt.Errorf("the answer of %s: %w", s.base.Host, err)
	}
	c.requests.WithLabelValues("answered").Inc()
	switch {
	case a.Status == rejected:
		return errs.New(errs.Invalid, "%s has rejected it", s.base.Host)
	case a.Publication.Status != "success" && a.Publication.Status != "warning":
		// A warning is of one of the networks of the server.
		return fmt.Errorf("%s says that publishing it ended with %.40q", s.base.Host, a.Publication.Status)
	default:
		return nil
	}
}
