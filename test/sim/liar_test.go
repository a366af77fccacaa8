package sim_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/reconcile"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// lie is a node that says what no honest one does, at every protocol.
type lie struct {
	p     *process
	r     *rand.Rand
	words []*word // Which it makes something else of.
}

// lieEvery is how often a liar says something that nobody asked for.
const lieEvery = 10 * time.Second

func newLie(p *process) *lie {
	return &lie{p: p, r: rand.New(rand.NewPCG(p.node.w.chance("liar", p.node.index, p.node.lives), 2))}
}

func (l *lie) bytes(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(l.r.Uint32())
	}
	return out
}

// forged is a message with another signature, content, hash or sender.
func (l *lie) forged() []byte {
	w := l.words[l.r.IntN(len(l.words))]
	var fields map[string]any
	if json.Unmarshal(w.raw, &fields) != nil {
		return nil
	}
	other := l.words[l.r.IntN(len(l.words))]
	switch l.r.IntN(5) {
	case 0:
		fields["signature"] = "0x" + string(bytes.Repeat([]byte("ab"), 65))
	case 1:
		fields["item_content"] = `{"address":"0x0","time":1,"type":"lie","content":{}}`
	case 2:
		fields["item_hash"] = other.hash
	case 3:
		fields["sender"] = "0x0000000000000000000000000000000000000001"
	default:
		fields["time"] = "never"
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		return nil
	}
	return raw
}

// speak says something to all neighbours.
func (l *lie) speak() {
	topic, data := wire.TopicMessages, l.forged()
	switch l.r.IntN(8) {
	case 0:
		data = l.bytes(1 + l.r.IntN(1000))
	case 1:
		data = []byte(`{"type":"POST"}`)
	case 2:
		data = bytes.Repeat([]byte("["), wire.MaxGossip)
	case 3:
		topic, data = wire.TopicCapacity, []byte(`{"node_id":1}`)
	case 4:
		data = l.words[l.r.IntN(len(l.words))].raw // True, and perhaps nobody has handed it in yet.
	}
	l.p.pass(gossip{author: l.p.id, topic: topic, data: data, name: sha256.Sum256(data)}, outside)
	l.question()
}

// question asks what no honest node asks, and does not care for the answer.
func (l *lie) question() {
	ask := job.Ask{Kind: job.AskReconcile, Ranges: l.bytes(l.r.IntN(300))}
	switch l.r.IntN(4) {
	case 0:
		q := reconcile.Question{}
		var last reconcile.Point
		for i := range 1 + l.r.IntN(60) {
			next := reconcile.Point{At: int64(firstSecond+i*7) * 1e6, Hash: message.HashOf(l.bytes(8))}
			q = append(q, reconcile.Asked{Range: reconcile.Range{From: last, To: next}, N: 1 + l.r.Int64N(9), Print: reconcile.Print(l.bytes(16))})
			last = next
		}
		ask.Ranges = q.Encode()
	case 1:
		ask = job.Ask{Kind: job.AskMessages}
		for range l.r.IntN(2 * job.MessagesMax) {
			ask.ItemHashes = append(ask.ItemHashes, message.HashOf(l.bytes(8)))
		}
	case 2:
		ask = job.Ask{Kind: "nonsense"}
	}
	raw, err := json.Marshal(ask)
	if err != nil {
		return
	}
	for _, to := range l.p.neighbours() {
		l.p.send(to, kindAsk, raw, sha256.Sum256(raw), func(at *process) {
			if at.lie == nil {
				at.reply(l.p, &asking{}, at.answer(l.p.id, raw))
			}
		})
	}
}

// answer answers a question of an honest node, or does not.
func (l *lie) answer(to *process, a *asking, raw []byte) {
	var ask struct {
		Kind   string
		Ranges []byte
		Hashes []message.ItemHash `json:"item_hashes"`
	}
	if json.Unmarshal(raw, &ask) != nil {
		return
	}
	var reply any
	switch ask.Kind {
	case string(job.AskReconcile):
		reply = l.compare(ask.Ranges)
	case string(job.AskMessages):
		reply = l.messages(ask.Hashes)
	case "has":
		reply = map[string]any{"has": true, "size": 1 + l.r.Int64N(1<<40)}
	default:
		reply = json.RawMessage(`{"message":` + string(l.forged()) + `}`)
	}
	out, err := json.Marshal(reply)
	switch l.r.IntN(8) {
	case 0:
		return // Silence.
	case 1:
		out = l.bytes(100)
	case 2:
		out = append([]byte(`{"ranges":"`), bytes.Repeat([]byte("A"), wire.MaxFrame)...)
	case 3:
		out = []byte(`{}`)
	default:
		if err != nil {
			return
		}
	}
	l.p.reply(to, a, out)
}

// compare tells of ranges what comes to its mind.
func (l *lie) compare(raw []byte) job.Reply {
	q, err := reconcile.ParseQuestion(raw)
	if err != nil || l.r.IntN(4) == 0 {
		return job.Reply{Ranges: l.bytes(l.r.IntN(200))}
	}
	a, err := reconcile.Reply(inventions{l}, q, func() bool { return false })
	if err != nil {
		return job.Reply{}
	}
	return job.Reply{Ranges: a.Encode(q)}
}

// inventions are a set that is never twice the same.
type inventions struct{ l *lie }

// Sums implements reconcile.Set.
func (i inventions) Sums(bounds []reconcile.Point) (out []reconcile.Sum, err error) {
	for range bounds[1:] {
		sum := reconcile.Of(message.HashOf(i.l.bytes(8)))
		for range i.l.r.IntN(60) {
			sum.Add(reconcile.Of(message.HashOf(i.l.bytes(8))))
		}
		out = append(out, sum)
	}
	return out, nil
}

// List implements reconcile.Set.
func (i inventions) List(r reconcile.Range, limit int) (out []reconcile.Point, err error) {
	for range min(limit, i.l.r.IntN(24)) {
		p := reconcile.Point{At: int64(firstSecond+i.l.r.IntN(5000)) * 1e6, Hash: message.HashOf(i.l.bytes(8))}
		if i.l.r.IntN(3) == 0 {
			p.Hash = i.l.words[i.l.r.IntN(len(i.l.words))].hash
		}
		if p.Compare(r.From) >= 0 && p.Compare(r.To) < 0 {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, reconcile.Point.Compare)
	return slices.CompactFunc(out, func(a, b reconcile.Point) bool { return a == b }), nil
}

// Parts implements reconcile.Source.
func (i inventions) Parts(r reconcile.Range, _ int) (out []reconcile.Part, err error) {
	middle := reconcile.Point{At: int64(firstSecond+i.l.r.IntN(5000)) * 1e6, Hash: message.HashOf(i.l.bytes(8))}
	if middle.Compare(r.From) <= 0 || middle.Compare(r.To) >= 0 {
		return []reconcile.Part{{To: r.To, Sum: reconcile.Of(message.HashOf(i.l.bytes(8)))}}, nil
	}
	sums, err := i.Sums([]reconcile.Point{r.From, middle, r.To})
	if err != nil {
		return nil, err
	}
	return []reconcile.Part{{To: middle, Sum: sums[0]}, {To: r.To, Sum: sums[1]}}, nil
}

// messages gives messages that are none, or others than those that were asked for.
func (l *lie) messages(asked []message.ItemHash) job.Reply {
	m := &job.Messages{Done: l.r.IntN(len(asked) + 2)}
	for range asked {
		raw := l.forged()
		if l.r.IntN(2) == 0 {
			raw = l.words[l.r.IntN(len(l.words))].raw
		}
		if l.r.IntN(2) == 0 {
			m.Messages = append(m.Messages, raw)
		}
	}
	return job.Reply{Messages: m}
}

// endless are bytes without an end.
type endless struct{ n uint64 }

// Read implements io.Reader.
func (e *endless) Read(buf []byte) (int, error) {
	e.n++
	binary.BigEndian.PutUint64(buf[:8], e.n)
	return len(buf), nil
}

// send sends bytes that are not those of the blob.
func (l *lie) send(to *process, a *asking) {
	body, size := io.Reader(&endless{}), int64(1<<62)
	switch l.r.IntN(5) {
	case 0:
		return
	case 1:
		size = 3 << 20
	case 2:
		size = -1
	case 3:
		junk := l.bytes(5000)
		body, size = bytes.NewReader(junk), int64(len(junk))
	}
	l.p.send(to.node.index, kindAnswer, nil, digest{byte(size)}, func(at *process) {
		a.body, a.size = body, size
		at.finish(a, nil, nil)
	})
}
