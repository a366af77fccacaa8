//go:build e2e

package mesh_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"

	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

const (
	authorsMax = 4
	// credits of each author keep its files for long.
	credits = 1_000_000_000
	channel = "FAULTS"
)

// author is who signs messages, one after another. The first one of a world gives credits, too.
type author struct {
	key     *ecdsa.PrivateKey
	address string
	last    time.Time
	n       int
}

func newAuthors(t *testing.T) []*author {
	t.Helper()
	out := make([]*author, authorsMax)
	for i := range out {
		key, err := crypto.ToECDSA(crypto.Keccak256(fmt.Appendf(nil, "mesh author %d", i)))
		if err != nil {
			t.Fatal(err)
		}
		out[i] = &author{key: key, address: crypto.PubkeyToAddress(key.PublicKey).Hex()}
	}
	return out
}

// said is a message that was handed in, and what became of that.
type said struct {
	hash     message.ItemHash
	typ      message.Type
	by       *author
	code     int    // Of the answer, 0 if there was none,
	answer   string // and what it says.
	acked    bool
	original *said // Of an amend.
	ends     bool  // A FORGET of it was handed in,
	ended    bool  // and acknowledged.
	file     message.ItemHash
	bytes    []byte
}

// lasts reports whether the message must stay.
func (s *said) lasts() bool { return s.acked && !s.ends && (s.original == nil || !s.original.ends) }

// sign makes a message of a content. Its time is later than that of any before.
func (a *author) sign(t *testing.T, typ message.Type, in string, content map[string]any) *message.Envelope {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	if !now.After(a.last) {
		now = a.last.Add(time.Microsecond)
	}
	a.last = now
	content["address"], content["time"] = a.address, json.Number(message.FormatTime(now))
	raw := mustJSON(t, content)
	e := &message.Envelope{Chain: message.Ethereum, Type: typ, Channel: &in, Time: now, ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw)}
	if err := signature.SignEVM(a.key, e); err != nil {
		t.Fatal(err)
	}
	return e
}

// hand hands a message in at a node. A node that does not answer may have taken it all the
// same.
func (w *world) hand(t *testing.T, at *node, a *author, s *said, in string, content map[string]any) *said {
	t.Helper()
	e := a.sign(t, s.typ, in, content)
	s.hash, s.by = e.ItemHash, a
	w.said = append(w.said, s)
	code, answer, err := at.request(t.Context(), http.MethodPost, "/api/v0/messages", "application/json", mustJSON(t, map[string]any{"sync": false, "message": e}))
	s.code, s.answer = code, string(answer)
	switch {
	case err != nil || code >= http.StatusInternalServerError:
		t.Logf("%s did not take %s %s: %d %.200s %v", at.name, s.typ, s.hash, code, answer, err)
	case code == http.StatusOK || code == http.StatusAccepted:
		s.acked = true
	default:
		t.Errorf("%s refused %s %s: %d %s", at.name, s.typ, s.hash, code, answer)
	}
	return s
}

// fund gives every author what files cost.
func (w *world) fund(t *testing.T) {
	t.Helper()
	given, tokens := []map[string]any{}, map[string]int64{}
	for _, a := range w.authors {
		given = append(given, map[string]any{"address": a.address, "amount": credits, "price": "0", "tx_hash": "test", "provider": "TEST"})
		tokens[a.address] = credits
	}
	at, treasurer := w.nodes[0], w.authors[0]
	w.hand(t, at, treasurer, &said{typ: message.TypePost}, credit.Network().Channel, map[string]any{
		"type": credit.TypeDistribution, "content": map[string]any{"distribution": map[string]any{"token": "ALEPH", "chain": "ETH", "credits": given}},
	})
	w.hand(t, at, treasurer, &said{typ: message.TypePost}, channel, map[string]any{
		"type": credit.TypeBalances, "content": map[string]any{"chain": "ETH", "main_height": 1, "balances": tokens},
	})
	w.converge(t, w.nodes)
}

func (w *world) post(t *testing.T, at *node, a *author) *said {
	t.Helper()
	a.n++
	return w.hand(t, at, a, &said{typ: message.TypePost}, channel, map[string]any{
		"type": "note", "ref": fmt.Sprint(a.n % 3), "content": map[string]any{"body": fmt.Sprint("post ", a.n), "at": at.name},
	})
}

func (w *world) amend(t *testing.T, at *node, original *said) *said {
	t.Helper()
	a := original.by
	a.n++
	return w.hand(t, at, a, &said{typ: message.TypePost, original: original}, channel, map[string]any{
		"type": "amend", "ref": original.hash, "content": map[string]any{"body": fmt.Sprint("amend ", a.n), "at": at.name},
	})
}

func (w *world) aggregate(t *testing.T, at *node, a *author, key string) *said {
	t.Helper()
	a.n++
	return w.hand(t, at, a, &said{typ: message.TypeAggregate}, channel, map[string]any{
		"key": key, "content": map[string]any{"last": fmt.Sprint(a.n, " at ", at.name), fmt.Sprint("n", a.n%4): a.n},
	})
}

func (w *world) forget(t *testing.T, at *node, target *said) *said {
	t.Helper()
	target.ends = true
	s := w.hand(t, at, target.by, &said{typ: message.TypeForget}, channel, map[string]any{"hashes": []message.ItemHash{target.hash}})
	target.ended = target.ended || s.acked
	return s
}

// content is bytes that nobody has stored before.
func (a *author) content(size int) []byte {
	a.n++
	line := fmt.Sprintln(a.address, a.n)
	return []byte(strings.Repeat(line, size/len(line)+1))
}

// upload gives a node a file, and reports whether it took it.
func (w *world) upload(t *testing.T, at *node, path string, raw []byte, name message.ItemHash) bool {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "f")
	if err == nil {
		_, err = part.Write(raw)
	}
	if err != nil || form.Close() != nil {
		t.Fatalf("form not written: %v", err)
	}
	code, answer, err := at.request(t.Context(), http.MethodPost, path, form.FormDataContentType(), body.Bytes())
	if err != nil || code != http.StatusOK || !bytes.Contains(answer, []byte(name)) {
		t.Logf("%s did not take file %s: %d %.200s %v", at.name, name, code, answer, err)
		return false
	}
	return true
}

// keep hands in the message that keeps a file.
func (w *world) keep(t *testing.T, at *node, a *author, engine message.ItemType, name message.ItemHash, raw []byte) *said {
	t.Helper()
	return w.hand(t, at, a, &said{typ: message.TypeStore, file: name, bytes: raw}, channel, map[string]any{
		"item_type": engine, "item_hash": name, "payment": map[string]any{"chain": "ETH", "type": "credit"},
	})
}

// store uploads a file, and hands in the message that keeps it if that could be done.
func (w *world) store(t *testing.T, at *node, a *author, size int) {
	t.Helper()
	raw := a.content(size)
	if name := message.HashOf(raw); w.upload(t, at, "/api/v0/storage/add_file", raw, name) {
		w.keep(t, at, a, message.Storage, name, raw)
	}
}

// pin is store for a file of one block of IPFS.
func (w *world) pin(t *testing.T, at *node, a *author) {
	t.Helper()
	name, raw := a.block()
	if w.upload(t, at, addBlock, raw, name) {
		w.keep(t, at, a, message.IPFS, name, raw)
	}
}

const (
	// addBlock is where a file becomes content of IPFS, as Kubo makes it.
	addBlock = "/api/v0/add"
	// blockBytes is less than IPFS cuts files into, in bytes.
	blockBytes = 200_000
)

// block is a file and its CID.
func (a *author) block() (message.ItemHash, []byte) {
	raw := a.content(blockBytes)
	node := merkledag.NodeWithData(unixfs.FilePBData(raw, uint64(len(raw))))
	return message.ItemHash(node.Cid().String()), raw
}

// pick is one of the posts that are there for sure; nil if none is.
func (w *world) pick() *said {
	able := slices.DeleteFunc(slices.Clone(w.said), func(s *said) bool {
		return s.typ != message.TypePost || s.original != nil || !s.lasts() || s.by == w.authors[0]
	})
	if len(able) == 0 {
		return nil
	}
	return able[w.r.IntN(len(able))]
}

// talk has authors hand in some messages of every kind at each of the nodes.
func (w *world) talk(t *testing.T, nodes []*node, each int) {
	t.Helper()
	for range each {
		for _, at := range nodes {
			a := w.authors[1+w.r.IntN(len(w.authors)-1)]
			switch n, old := w.r.IntN(100), w.pick(); {
			case n < 20 && old != nil:
				w.amend(t, at, old)
			case n < 30 && old != nil:
				w.forget(t, at, old)
			case n < 50:
				w.aggregate(t, at, a, fmt.Sprint("k", w.r.IntN(2)))
			case n < 60:
				w.store(t, at, a, 1+w.r.IntN(20_000))
			default:
				w.post(t, at, a)
			}
		}
	}
}

// quarrel has one author say what contradicts itself at nodes that do not hear of each other:
// two amends of one post, a post that is forgotten here and amended there, values of one field
// of an aggregate, and the same forgotten twice. The posts must be on all nodes already.
func (w *world) quarrel(t *testing.T, here, there *node, posts [3]*said) {
	t.Helper()
	w.amend(t, here, posts[0])
	w.amend(t, there, posts[0])
	w.amend(t, there, posts[1])
	w.forget(t, here, posts[1])
	w.forget(t, there, posts[2])
	w.forget(t, here, posts[2])
	a := posts[0].by
	w.aggregate(t, here, a, "quarrel")
	w.aggregate(t, there, a, "quarrel")
}

// subjects are posts to quarrel about.
func (w *world) subjects(t *testing.T) (out [3]*said) {
	t.Helper()
	a := w.authors[1+w.r.IntN(len(w.authors)-1)]
	for i := range out {
		out[i] = w.post(t, w.nodes[w.r.IntN(len(w.nodes))], a)
	}
	w.converge(t, w.nodes)
	return out
}

// unknown checks that nodes have not heard of a message.
func unknown(t *testing.T, s *said, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		if status, err := n.statusOf(t.Context(), s.hash); err != nil || status != "" {
			t.Errorf("%s has %s %s (%v), which should not have come through", n.name, s.hash, status, err)
		}
	}
}

// known waits until nodes have processed a message.
func known(t *testing.T, s *said, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, fmt.Sprintf("%s has %s", n.name, s.hash), func(ctx context.Context) error {
			status, err := n.statusOf(ctx, s.hash)
			if err == nil && status != "processed" {
				err = fmt.Errorf("it is %q", status)
			}
			return err
		})
	}
}

// statusOf is what became of a message, "" if it is not known.
func (n *node) statusOf(ctx context.Context, hash message.ItemHash) (string, error) {
	code, body, err := n.request(ctx, http.MethodGet, "/api/v0/messages/"+string(hash)+"/status", "", nil)
	if err != nil || code == http.StatusNotFound {
		return "", err
	}
	var answer struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status == "" {
		return "", fmt.Errorf("status of %s: %d %s: %w", hash, code, body, err)
	}
	return answer.Status, nil
}
