//go:build e2e

package mesh_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// perPage is how many rows of a list are asked for at once.
const perPage = 500

// picture is what a node tells of its set of messages and of what they made.
type picture map[string]string

// look reads all that a node tells: the messages that count, with their contents, posts as they
// are now, aggregates, balances, credits and files.
func (n *node) look(ctx context.Context, authors []*author) (picture, error) {
	out := picture{}
	lists := []struct{ path, field, key string }{
		{"/api/v0/messages.json?msgStatuses=processed,removing", "messages", "item_hash"},
		{"/api/v0/posts.json?", "posts", "original_item_hash"},
		{"/api/v0/balances?", "balances", "address"},
		{"/api/v0/credit_balances?", "credit_balances", "address"},
	}
	for _, l := range lists {
		for page := 1; ; page++ {
			var answer map[string]json.RawMessage
			if err := n.get(ctx, fmt.Sprintf("%s&pagination=%d&page=%d", l.path, perPage, page), &answer); err != nil {
				return nil, err
			}
			var rows []json.RawMessage
			if err := json.Unmarshal(answer[l.field], &rows); err != nil {
				return nil, fmt.Errorf("%s: %s has no list of %s: %w", n.name, l.path, l.field, err)
			}
			for _, row := range rows {
				if err := out.add(l.field, l.key, row); err != nil {
					return nil, err
				}
			}
			if len(rows) < perPage {
				break
			}
		}
	}
	for _, a := range authors {
		for _, path := range []string{"/api/v0/aggregates/" + a.address + ".json?with_info=true&limit=1000", "/api/v0/addresses/" + a.address + "/files?pagination=0"} {
			code, body, err := n.request(ctx, http.MethodGet, path, "", nil)
			switch {
			case err != nil:
				return nil, err
			case code == http.StatusNotFound: // It has none.
			case code != http.StatusOK:
				return nil, fmt.Errorf("%s: GET %s = %d %.300s", n.name, path, code, body)
			default:
				out[path] = string(body)
			}
		}
	}
	return out, nil
}

// add adds a row of a list under its name.
func (p picture) add(list, key string, row json.RawMessage) error {
	var fields map[string]any
	if err := json.Unmarshal(row, &fields); err != nil {
		return err
	}
	name := fmt.Sprint(list, " ", fields[key], " ", fields["chain"])
	if _, twice := p[name]; twice {
		return fmt.Errorf("%s is listed twice", name)
	}
	p[name] = string(row)
	return nil
}

// differs tells a difference between two pictures; "" if there is none.
func (p picture) differs(q picture) string {
	names := slices.Sorted(maps.Keys(p))
	for name := range q {
		if _, ok := p[name]; !ok {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if p[name] != q[name] {
			return fmt.Sprintf("%s: %.600q and %.600q", name, p[name], q[name])
		}
	}
	return ""
}

// has reports whether a message is in the picture.
func (p picture) has(hash message.ItemHash) bool {
	_, ok := p[fmt.Sprint("messages ", hash, " ", message.Ethereum)]
	return ok
}

// converge waits until all nodes give the same picture, with every message in it that was
// acknowledged and that nobody forgot, and none that somebody did.
func (w *world) converge(t *testing.T, nodes []*node) {
	t.Helper()
	eventually(t, "all nodes have the same messages and made the same of them", func(ctx context.Context) error {
		first, err := nodes[0].look(ctx, w.authors)
		if err != nil {
			return err
		}
		for _, s := range w.said {
			if has := first.has(s.hash); s.lasts() && !has {
				status, err := nodes[0].statusOf(ctx, s.hash)
				return errors.Join(fmt.Errorf("%s lacks %s %s, which is acknowledged; it is %q there", nodes[0].name, s.typ, s.hash, status), err)
			} else if s.ended && has {
				return fmt.Errorf("%s has %s %s, which is forgotten", nodes[0].name, s.typ, s.hash)
			}
		}
		for _, n := range nodes[1:] {
			other, err := n.look(ctx, w.authors)
			if err != nil {
				return err
			}
			if d := first.differs(other); d != "" {
				return fmt.Errorf("%s and %s differ in %s", nodes[0].name, n.name, d)
			}
		}
		return nil
	})
	w.haveFiles(t, nodes)
}

// haveFiles waits until every node gives every file that must be there.
func (w *world) haveFiles(t *testing.T, nodes []*node) {
	t.Helper()
	for _, s := range w.said {
		if s.typ != message.TypeStore || !s.lasts() {
			continue
		}
		for _, n := range nodes {
			eventually(t, fmt.Sprintf("%s has file %s", n.name, s.file), func(ctx context.Context) error {
				code, body, err := n.request(ctx, http.MethodGet, "/api/v0/storage/raw/"+string(s.file), "", nil)
				if err == nil && (code != http.StatusOK || !bytes.Equal(body, s.bytes)) {
					err = fmt.Errorf("GET = %d with %d bytes, want %d", code, len(body), len(s.bytes))
				}
				return err
			})
		}
	}
}

// check stops nodes, and checks that what each has agrees with itself.
func check(t *testing.T, nodes []*node) {
	t.Helper()
	for _, n := range nodes {
		n.stop(t)
		checked, err := state.CheckAt(t.Context(), state.Options{Dir: n.dir})
		if err != nil {
			t.Errorf("%s: %v", n.name, err)
			continue
		}
		for _, d := range checked.Differences {
			t.Errorf("%s: %s", n.name, d)
		}
	}
}
