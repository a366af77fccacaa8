//go:build e2e

package messages_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// sent is a message that a client has sent, and what it was told of it.
type sent struct {
	hash  message.ItemHash
	typ   message.Type
	acked bool
	// forgetting: a FORGET of it was sent; forgotten: that one was acknowledged.
	forgetting, forgotten bool
	amends                []*sent // Of an original, in the order in which they were made.
	file                  message.ItemHash
	bytes                 []byte
	text                  string // Of a post.
}

// client is one sender that sends one message after another.
type client struct {
	key     *ecdsa.PrivateKey
	address string
	r       *rand.Rand
	last    time.Time
	n       int

	all       []*sent
	originals []*sent
	stores    []*sent
	// values are what a name of an aggregate may have: what was acknowledged last,
	// and all that was sent after.
	values map[string][]string
	acked  map[string]bool // Names that must have a value.
	errs   []string        // Answers that should not be.
	broken int             // Requests without an answer, or with 5xx.
	// refused are the answers with 5xx, by what they say.
	refused map[string]int
}

func newClient(key *ecdsa.PrivateKey, seed uint64) *client {
	return &client{
		key: key, address: crypto.PubkeyToAddress(key.PublicKey).Hex(), r: rand.New(rand.NewPCG(seed, 1)),
		values: map[string][]string{}, acked: map[string]bool{}, refused: map[string]int{},
	}
}

// request sends one request on a connection of its own.
func request(ctx context.Context, method, url, kind string, body []byte) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	res, err := wire.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	return res.StatusCode, raw, err
}

// wire keeps no connection: it would be one to a process that was killed.
var wire = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// run sends messages to one of the URLs after the other until stop.
func (c *client) run(ctx context.Context, stop *atomic.Bool, urls []string) {
	for !stop.Load() {
		c.once(ctx, urls[c.r.IntN(len(urls))])
	}
}

// once sends one message.
func (c *client) once(ctx context.Context, url string) {
	switch n := c.r.IntN(100); {
	case n < 45:
		c.post(ctx, url)
	case n < 60:
		c.amend(ctx, url)
	case n < 80:
		c.aggregate(ctx, url)
	case n < 90:
		c.store(ctx, url)
	default:
		c.forget(ctx, url)
	}
}

// send signs a content, sends it, and notes whether it was acknowledged.
func (c *client) send(ctx context.Context, url string, typ message.Type, content map[string]any, s *sent) {
	c.n++
	now := time.Now().UTC().Truncate(time.Microsecond)
	if !now.After(c.last) {
		now = c.last.Add(time.Microsecond)
	}
	c.last = now
	content["address"], content["time"] = c.address, json.Number(message.FormatTime(now))
	raw, err := json.Marshal(content)
	if err != nil {
		c.errs = append(c.errs, err.Error())
		return
	}
	channel := "FAULTS"
	e := &message.Envelope{Chain: message.Ethereum, Type: typ, Channel: &channel, Time: now, ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw)}
	s.hash, s.typ = e.ItemHash, typ
	if err := signature.SignEVM(c.key, e); err != nil {
		c.errs = append(c.errs, err.Error())
		return
	}
	body, err := json.Marshal(map[string]any{"sync": c.r.IntN(2) == 0 && typ != message.TypeStore, "message": e})
	if err != nil {
		c.errs = append(c.errs, err.Error())
		return
	}
	c.all = append(c.all, s)
	code, answer, err := request(ctx, http.MethodPost, url+"/api/v0/messages", "application/json", body)
	switch {
	case err != nil || code >= 500:
		c.fail(code, answer)
	case code == http.StatusOK || code == http.StatusAccepted:
		s.acked = true
	default:
		c.errs = append(c.errs, fmt.Sprintf("%s %s: %d %s", typ, s.hash, code, answer))
	}
}

// fail notes a request that was not done, or of which that is not known.
func (c *client) fail(code int, answer []byte) {
	c.broken++
	if code >= 500 {
		c.refused[fmt.Sprint(code, " ", string(answer[:min(len(answer), 200)]))]++
	}
}

func (c *client) post(ctx context.Context, url string) {
	s := &sent{text: fmt.Sprint("post ", c.n)}
	c.send(ctx, url, message.TypePost, map[string]any{"type": "note", "ref": fmt.Sprint(c.n % 3), "content": map[string]any{"body": s.text, "tags": []string{"t"}}}, s)
	c.originals = append(c.originals, s)
}

// pick is one of the messages that are there for sure; nil if none is.
func (c *client) pick(of []*sent) *sent {
	able := slices.DeleteFunc(slices.Clone(of), func(s *sent) bool { return !s.acked || s.forgetting })
	if len(able) == 0 {
		return nil
	}
	return able[c.r.IntN(len(able))]
}

func (c *client) amend(ctx context.Context, url string) {
	original := c.pick(c.originals)
	if original == nil {
		return
	}
	s := &sent{text: fmt.Sprint("amend ", c.n)}
	original.amends = append(original.amends, s)
	c.send(ctx, url, message.TypePost, map[string]any{"type": "amend", "ref": original.hash, "content": map[string]any{"body": s.text, "tags": []string{"a"}}}, s)
}

func (c *client) aggregate(ctx context.Context, url string) {
	key, value := fmt.Sprint("k", c.r.IntN(3)), fmt.Sprint("v", c.n)
	content := map[string]any{}
	var names []string
	for range 1 + c.r.IntN(2) {
		name := fmt.Sprint("n", c.r.IntN(4))
		if content[name] == nil {
			names = append(names, key+"/"+name)
		}
		content[name] = value
	}
	for _, name := range names {
		c.values[name] = append(c.values[name], value)
	}
	s := &sent{}
	c.send(ctx, url, message.TypeAggregate, map[string]any{"key": key, "content": content}, s)
	if !s.acked {
		return
	}
	for _, name := range names {
		c.values[name], c.acked[name] = []string{value}, true
	}
}

// store uploads a file and sends the message that keeps it.
func (c *client) store(ctx context.Context, url string) {
	s := &sent{bytes: []byte(strings.Repeat(fmt.Sprint(c.address, c.n, " "), 1+c.r.IntN(2000)))}
	s.file = message.HashOf(s.bytes)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "f")
	if err == nil {
		_, err = part.Write(s.bytes)
	}
	if err != nil || form.Close() != nil {
		c.errs = append(c.errs, "form not written")
		return
	}
	code, answer, err := request(ctx, http.MethodPost, url+"/api/v0/storage/add_file", form.FormDataContentType(), body.Bytes())
	switch {
	case err != nil || code >= 500:
		c.fail(code, answer)
		return
	case code != http.StatusOK || !bytes.Contains(answer, []byte(s.file)):
		c.errs = append(c.errs, fmt.Sprintf("upload: %d %s", code, answer))
		return
	}
	c.send(ctx, url, message.TypeStore, map[string]any{"item_type": "storage", "item_hash": s.file}, s)
	c.stores = append(c.stores, s)
}

// forget forgets a post. A file may still be waited for, so it stays.
func (c *client) forget(ctx context.Context, url string) {
	target := c.pick(c.originals)
	if target == nil {
		return
	}
	target.forgetting = true
	s := &sent{}
	c.send(ctx, url, message.TypeForget, map[string]any{"hashes": []message.ItemHash{target.hash}}, s)
	target.forgotten = s.acked
}
