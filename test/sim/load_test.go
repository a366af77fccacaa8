package sim_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// word is a message that somebody hands in.
type word struct {
	name  string
	hash  message.ItemHash
	raw   []byte
	files [][]byte // Which its sender brings first.
	tag   string   // Under which a file may be found.
	at    time.Duration
	where uint64 // By chance: the node.

	handed atomic.Bool // A node has taken it in.
}

const (
	owners = 6
	// handIn is after how long a client tries again at another node.
	handIn = 20 * time.Second
	// firstSecond is when the first message says it was made.
	firstSecond = 1_700_000_000
)

// author writes messages that touch one another, from a seed.
type author struct {
	t      *testing.T
	r      *rand.Rand
	keys   []*ecdsa.PrivateKey
	words  []*word
	second int64
	posts  [owners][]message.ItemHash // And those that may be amended or forgotten,
	files  [owners][]message.ItemHash
}

// write writes n messages, which are handed in within a time.
func write(t *testing.T, seed uint64, n int, within time.Duration) []*word {
	t.Helper()
	a := &author{t: t, r: rand.New(rand.NewPCG(seed, 1)), second: firstSecond}
	for i := range owners {
		k, err := crypto.ToECDSA(crypto.Keccak256(fmt.Appendf(nil, "owner %d of %d", i, seed)))
		if err != nil {
			t.Fatal(err)
		}
		a.keys = append(a.keys, k)
	}
	for len(a.words) < n {
		a.one()
	}
	for _, w := range a.words {
		w.at, w.where = time.Duration(a.r.Int64N(int64(within))), a.r.Uint64()
	}
	return a.words
}

func addressOf(k *ecdsa.PrivateKey) string { return crypto.PubkeyToAddress(k.PublicKey).Hex() }

type object = map[string]any

// one writes a message of a random kind.
func (a *author) one() {
	i := a.r.IntN(owners)
	owner, other := a.keys[i], (i+1+a.r.IntN(owners-1))%owners
	text := fmt.Sprintf("%d says %d", i, len(a.words))
	switch kind := a.r.IntN(20); {
	case kind < 6:
		a.posts[i] = append(a.posts[i], a.say("post", owner, message.TypePost, object{"type": "news", "content": object{"text": text}}))
	case kind < 8 && len(a.posts[i]) > 0:
		a.say("amend", owner, message.TypePost, object{"type": "amend", "ref": a.any(a.posts[i]), "content": object{"text": text}})
	case kind < 10 && len(a.posts[i]) > 0:
		// By who wrote it, in its own name: nobody else can tell those of the target who never had it.
		hash := a.any(a.posts[i])
		a.say("forget", owner, message.TypeForget, object{"hashes": []message.ItemHash{hash}})
	case kind < 13:
		a.say("aggregate", owner, message.TypeAggregate, object{"key": fmt.Sprint("key", a.r.IntN(2)), "content": object{fmt.Sprint("field", a.r.IntN(4)): text}})
	case kind < 14:
		to := []object{{"address": addressOf(a.keys[other]), "types": []string{"POST", "AGGREGATE"}}}
		if a.r.IntN(4) == 0 {
			to = nil
		}
		a.say("grant", owner, message.TypeAggregate, object{"key": "security", "content": object{"authorizations": to}})
	case kind < 16:
		a.say("delegated post", a.keys[other], message.TypePost, object{"type": "news", "address": addressOf(owner), "content": object{"text": text}})
	case kind < 18:
		a.store(i, owner, text)
	case kind < 19:
		a.apart(owner, text)
	case len(a.files[i]) > 0:
		hash := a.any(a.files[i])
		a.say("forget file", owner, message.TypeForget, object{"hashes": []message.ItemHash{hash}})
	}
}

func (a *author) any(of []message.ItemHash) message.ItemHash { return of[a.r.IntN(len(of))] }

// fileMax bounds the files, in bytes; some need several reads.
const fileMax = 600_000

func (a *author) bytes() []byte {
	size := 1 + a.r.IntN(2000)
	if a.r.IntN(8) == 0 {
		size = 1 + a.r.IntN(fileMax)
	}
	out := make([]byte, size)
	for i := range out {
		out[i] = byte(a.r.Uint32())
	}
	return out
}

// store writes a STORE, and the file that it names.
func (a *author) store(i int, owner *ecdsa.PrivateKey, text string) {
	file := a.bytes()
	content := object{"item_type": "storage", "item_hash": message.HashOf(file), "metadata": object{"name": text}}
	tag := ""
	switch {
	case a.r.IntN(3) == 0:
		content["ref"] = "app"
		tag = addressOf(owner) + "/app"
	case a.r.IntN(3) == 0 && len(a.files[i]) > 0:
		content["ref"] = a.any(a.files[i])
	}
	hash := a.say("store", owner, message.TypeStore, content)
	last := a.words[len(a.words)-1]
	last.files, last.tag = [][]byte{file}, tag
	if content["ref"] == nil {
		a.files[i] = append(a.files[i], hash)
	}
}

// apart writes a post whose content is in a file.
func (a *author) apart(owner *ecdsa.PrivateKey, text string) {
	a.second += 10
	raw, err := json.Marshal(object{"address": addressOf(owner), "time": a.second, "type": "news", "content": object{"text": text}})
	if err != nil {
		a.t.Fatal(err)
	}
	e := &message.Envelope{Chain: message.Ethereum, Type: message.TypePost, Time: time.Unix(a.second, 0).UTC(), ItemType: message.Storage, ItemHash: message.HashOf(raw)}
	a.sign("post in a file", owner, e).files = [][]byte{raw}
}

// say writes a message of the next second.
func (a *author) say(name string, k *ecdsa.PrivateKey, typ message.Type, content object) message.ItemHash {
	a.second += 10
	content["time"] = a.second
	if content["address"] == nil {
		content["address"] = addressOf(k)
	}
	raw, err := json.Marshal(content)
	if err != nil {
		a.t.Fatal(err)
	}
	e := &message.Envelope{
		Chain: message.Ethereum, Type: typ, Time: time.Unix(a.second, 0).UTC(), ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw),
	}
	a.sign(name, k, e)
	return e.ItemHash
}

func (a *author) sign(name string, k *ecdsa.PrivateKey, e *message.Envelope) *word {
	channel := "SIM"
	e.Channel = &channel
	if err := signature.SignEVM(k, e); err != nil {
		a.t.Fatal(err)
	}
	raw, err := json.Marshal(e)
	if err != nil {
		a.t.Fatal(err)
	}
	w := &word{name: fmt.Sprintf("%d %s", len(a.words), name), hash: e.ItemHash, raw: raw}
	a.words = append(a.words, w)
	return w
}

// take hands a message in at a node, as its client does: files first.
func (p *process) take(w *word) error {
	for _, file := range w.files {
		hash := message.HashOf(file)
		if err := p.pipe.Expect(p.life, hash, p.now()); err != nil {
			return err
		}
		info, err := p.blobs.Put(p.life, bytes.NewReader(file), hash)
		if err != nil {
			return err
		}
		if err := p.pipe.Uploaded(p.life, state.FileInfo{Hash: hash, SizeBytes: info.Size}, p.now()); err != nil {
			return err
		}
	}
	_, err := p.pipe.Submit(p.life, ingest.Submission{Raw: w.raw, At: p.now()})
	return err
}

// hand hands a message in at an honest node that runs, again and again until one has it.
func (n *network) hand(word *word, try uint64) {
	if word.handed.Load() {
		return
	}
	w := n.w
	for k := range uint64(len(w.nodes)) {
		p := w.nodes[(word.where+try+k)%uint64(len(w.nodes))].process
		if p == nil || p.lie != nil {
			continue
		}
		w.push(&happening{at: time.Now(), from: outside, to: p.node.index, kind: "hand in", digest: sha256.Sum256(word.raw), process: p, run: func() {
			switch err := p.take(word); {
			case err == nil:
				word.handed.Store(true)
			case errors.Is(err, errs.Exhausted):
				w.harms["full disk"].Add(1)
			}
		}})
		break
	}
	w.plan(handIn, "client", func() { n.hand(word, try+1) })
}
