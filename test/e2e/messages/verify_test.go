//go:build e2e

package messages_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// ask reads a document of a node.
func ask(ctx context.Context, url string, into any) error {
	code, body, err := request(ctx, http.MethodGet, url, "", nil)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("GET %s = %d %.200s", url, code, body)
	}
	return json.Unmarshal(body, into)
}

// statusOf is what became of a message, "" if it is not known.
func statusOf(ctx context.Context, url string, hash message.ItemHash) (state.MessageStatus, error) {
	code, body, err := request(ctx, http.MethodGet, url+"/api/v0/messages/"+string(hash)+"/status", "", nil)
	if err != nil || code == http.StatusNotFound {
		return "", err
	}
	var answer struct {
		Status state.MessageStatus `json:"status"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status == "" {
		return "", fmt.Errorf("status of %s: %d %s: %w", hash, code, body, err)
	}
	return answer.Status, nil
}

// verify checks that all that was acknowledged is there with what it made. It
// returns how many messages are lost.
func (w *world) verify(t *testing.T, url string) (lost int) {
	t.Helper()
	for _, c := range w.clients {
		for _, e := range c.errs {
			t.Error(e)
		}
		c.errs = nil
		lost += c.verify(t, url)
	}
	w.verifyList(t, url)
	checked, err := state.CheckAt(t.Context(), w.options)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range checked.Differences {
		t.Error(d)
	}
	return lost
}

func (c *client) verify(t *testing.T, url string) (lost int) {
	t.Helper()
	for _, s := range c.all {
		if !s.acked || s.typ == message.TypePost && s.text == "" {
			continue
		}
		want := state.MessageProcessed
		either := false
		for _, o := range c.originals {
			if o == s || slices.Contains(o.amends, s) {
				either = o.forgetting
				if o.forgotten {
					want, either = state.MessageForgotten, false
				}
			}
		}
		var got state.MessageStatus
		eventually(t, "it is known what became of a message", func(ctx context.Context) (err error) {
			got, err = statusOf(ctx, url, s.hash)
			if err == nil && got == state.MessagePending {
				err = fmt.Errorf("%s %s is pending", s.typ, s.hash) // A file is looked at soon.
			}
			return err
		})
		if got != want && (!either || got != state.MessageForgotten) {
			t.Errorf("%s %s was acknowledged and is %q, want %s", s.typ, s.hash, got, want)
		}
		if got == "" {
			lost++
		}
	}
	c.verifyPosts(t, url)
	c.verifyAggregates(t, url)
	c.verifyFiles(t, url)
	return lost
}

// verifyPosts checks which posts are listed, and with which content.
func (c *client) verifyPosts(t *testing.T, url string) {
	t.Helper()
	type row struct {
		Hash    message.ItemHash `json:"original_item_hash"`
		Content struct {
			Body string `json:"body"`
		} `json:"content"`
	}
	var answer struct {
		Posts []row `json:"posts"`
		Total int   `json:"pagination_total"`
	}
	eventually(t, "posts are listed", func(ctx context.Context) error {
		return ask(ctx, url+"/api/v0/posts.json?pagination=0&addresses="+c.address, &answer)
	})
	// Preset posts are of others.
	if len(answer.Posts) != answer.Total {
		t.Errorf("%s has %d posts, and %d are counted", c.address, len(answer.Posts), answer.Total)
	}
	shown := map[message.ItemHash]string{}
	for _, p := range answer.Posts {
		if _, twice := shown[p.Hash]; twice {
			t.Errorf("post %s is listed twice", p.Hash)
		}
		shown[p.Hash] = p.Content.Body
	}
	for _, o := range c.originals {
		got, there := shown[o.hash]
		delete(shown, o.hash)
		if there == o.forgotten && (o.forgotten || o.acked && !o.forgetting) {
			t.Errorf("post %s is listed: %v, though acknowledged %v and forgotten %v", o.hash, there, o.acked, o.forgotten)
		}
		may := []string{o.text}
		for _, a := range o.amends {
			if a.acked {
				may = nil
			}
			may = append(may, a.text)
		}
		if there && !slices.Contains(may, got) {
			t.Errorf("post %s shows %q, want one of %q", o.hash, got, may)
		}
	}
	for hash := range shown {
		t.Errorf("post %s is listed, and nobody sent it", hash)
	}
}

func (c *client) verifyAggregates(t *testing.T, url string) {
	t.Helper()
	if len(c.acked) == 0 {
		return
	}
	var answer struct {
		Data map[string]map[string]string `json:"data"`
	}
	eventually(t, "aggregates are there", func(ctx context.Context) error {
		return ask(ctx, url+"/api/v0/aggregates/"+c.address+".json?limit=1000", &answer)
	})
	for key, fields := range answer.Data {
		for name, value := range fields {
			if may := c.values[key+"/"+name]; !slices.Contains(may, value) {
				t.Errorf("aggregate %s of %s has %s = %q, want one of %q", key, c.address, name, value, may)
			}
		}
	}
	for name := range c.acked {
		key, field := name[:2], name[3:]
		if _, ok := answer.Data[key][field]; !ok {
			t.Errorf("aggregate %s of %s has lost %s", key, c.address, field)
		}
	}
}

func (c *client) verifyFiles(t *testing.T, url string) {
	t.Helper()
	for _, s := range c.stores {
		if !s.acked {
			continue
		}
		code, body, err := request(t.Context(), http.MethodGet, url+"/api/v0/storage/raw/"+string(s.file), "", nil)
		if err != nil || code != http.StatusOK || !bytes.Equal(body, s.bytes) {
			t.Errorf("file %s of STORE %s is %d with %d bytes, %v, want its %d bytes", s.file, s.hash, code, len(body), err, len(s.bytes))
		}
	}
}

// verifyList checks that all messages are listed once, as many as are counted, and
// none that nobody sent.
func (w *world) verifyList(t *testing.T, url string) {
	t.Helper()
	type page struct {
		Messages []struct {
			Hash message.ItemHash `json:"item_hash"`
		} `json:"messages"`
		Total int `json:"pagination_total"`
	}
	seen := map[message.ItemHash]bool{}
	var total, listed int
	for number := 1; ; number++ {
		var p page
		eventually(t, "messages are listed", func(ctx context.Context) error {
			return ask(ctx, fmt.Sprintf("%s/api/v0/messages.json?channels=FAULTS&pagination=500&page=%d", url, number), &p)
		})
		for _, m := range p.Messages {
			listed++
			seen[m.Hash] = true
		}
		if len(p.Messages) == 0 {
			break // A page behind the last counts wrong, as with the reference.
		}
		total = p.Total
	}
	if listed != total || len(seen) != total {
		t.Errorf("%d messages are listed, %d different ones, and %d are counted", listed, len(seen), total)
	}
	for _, c := range w.clients {
		for _, s := range c.all {
			delete(seen, s.hash)
		}
	}
	for hash := range seen {
		t.Errorf("message %s is listed, and nobody sent it", hash)
	}
}
