package p2p

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	// outboundQueue and validateQueue hold a burst of messages; with the
	// library's 32 a burst of a thousand loses half of them.
	outboundQueue, validateQueue = 1024, 4096
	// deliverQueue holds what was validated and waits for its handler. From
	// deliverHigh on nothing more is judged, so that bursts wait where they can be
	// dropped without being taken for known; the rest is room for what is on the way
	// between the two.
	deliverQueue, deliverHigh = 4096, 3072
	// deliverBytesMax is deliverHigh in bytes of payloads, with those that are being
	// handled: what the validator made of each is kept with it, and may be as large.
	deliverBytesMax = 64 << 20
	// handlersMax bounds the payloads of a topic that are handled at the same time: those
	// that come together can share a wait for the disk.
	handlersMax = 256
	// behindPoll is how often it is looked whether the handler has caught up.
	behindPoll = 5 * time.Millisecond
	// seenTTL is how long a message is known as seen: as long as the reference
	// network keeps it.
	seenTTL = 30 * time.Minute
	// validateMax bounds the judgement of one message.
	validateMax = 5 * time.Second
	// graylist is the standing below which a peer is not heard.
	graylist = -100
	// graftBelow is the standing of a mesh, by its middle peer, below which better peers
	// are taken into it: above what peers come to by time alone, who may be silent.
	graftBelow = 4
	// scoreInterval is how often scores are read for those who ask.
	scoreInterval = time.Second
	// meshWait is how old a stream to a listener is when a message of this node waits no
	// longer for a mesh, which forms within a heartbeat of a second. It is looked at as
	// often, so that a message waits for twice as long at most. What is published then
	// without a mesh is told by the next heartbeats.
	meshWait = 3 * time.Second
	// heldMax and heldBytesMax bound what this node has published and nobody has
	// heard, because nobody listened; heldFor is for how long it is news.
	heldMax, heldBytesMax, heldFor = 1024, 16 << 20, 10 * time.Minute
)

// Verdict is what a validator makes of gossip.
type Verdict int

// The verdicts.
const (
	Accept Verdict = iota // Deliver it and tell others.
	Ignore                // Of no use here and now: neither deliver nor tell.
	Reject                // Nobody honest sends this: the sender loses standing.
)

// Gossip is a payload and the peer that published it, which signed it.
type Gossip struct {
	From PeerID
	Data []byte
	Own  bool // This node publishes it.
	Read any  // What the validator made of Data, for the handler; nil if it leaves nothing.
}

// Validator judges gossip before it is delivered and forwarded. It must be
// quick and safe for concurrent use.
type Validator func(ctx context.Context, g *Gossip) Verdict

type subscription struct {
	name     string // ours
	topic    *pubsub.Topic
	sub      *pubsub.Subscription
	validate Validator
	handle   func(context.Context, Gossip)
	queue    chan Gossip  // judged, for the handler
	bytes    atomic.Int64 // of payloads that are queued or being handled
	held     held
}

func (h *Host) newGossip(ctx context.Context) (*pubsub.PubSub, error) {
	params, thresholds := h.scores()
	g, err := pubsub.NewGossipSub(ctx, h.host,
		pubsub.WithMessageSignaturePolicy(pubsub.StrictSign),
		pubsub.WithMessageIdFn(func(m *pb.Message) string { return messageID(m.GetData()) }),
		pubsub.WithMaxMessageSize(h.profile.rpcMax),
		pubsub.WithSeenMessagesTTL(seenTTL),
		pubsub.WithPeerOutboundQueueSize(outboundQueue),
		pubsub.WithValidateQueueSize(validateQueue),
		pubsub.WithValidateWorkers(runtime.GOMAXPROCS(0)),
		pubsub.WithFloodPublish(h.profile.flood),
		pubsub.WithGossipSubParams(h.profile.mesh),
		pubsub.WithPeerExchange(true),
		pubsub.WithPeerScore(params, thresholds),
		pubsub.WithPeerScoreInspect(func(scores map[peer.ID]float64) {
			h.scored.Store(&scores)
		}, scoreInterval),
		pubsub.WithAppSpecificRpcInspector(h.inspect),
		pubsub.WithRawTracer(tracer{h}),
		pubsub.WithLogger(h.log),
		pubsub.WithRPCLogger(slog.New(quiet{h.log.Handler()}).With("system", "pubsub/rpc")),
	)
	if err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	return g, nil
}

// inspect keeps a peer from sending more than it may, before anything is spent on it,
// and keeps to the limits of the network. It never refuses a frame, whose other parts
// keep the mesh together.
func (h *Host) inspect(from peer.ID, rpc *pubsub.RPC) error {
	if n := len(rpc.Publish); n > 0 {
		may := h.standings.carry(from, n, time.Now())
		for _, m := range rpc.Publish[may:] {
			h.metrics.dropped.WithLabelValues(h.label(m.GetTopic()), dropFlood).Inc()
		}
		rpc.Publish = rpc.Publish[:may]
	}
	if h.profile.rpcMessagesMax > 0 {
		// What is asked for at once is answered in one frame, of which the rest would be
		// lost on the way.
		left := h.profile.rpcMessagesMax
		for _, want := range rpc.GetControl().GetIwant() {
			want.MessageIDs = want.MessageIDs[:min(len(want.MessageIDs), left)]
			left -= len(want.MessageIDs)
		}
	}
	return nil
}

// label returns our own name of a topic of the network's, so that peers cannot invent
// metrics.
func (h *Host) label(topic string) string {
	if name, ok := h.byTopic.Load(topic); ok {
		return name.(string) //nolint:errcheck,forcetypeassert // nothing else is put there
	}
	return "other"
}

// gossipOverhead is room for the signature, key and topic around a payload of
// full size.
const gossipOverhead = 4096

// scores makes peers that send what nobody honest sends lose standing until
// nobody listens to them, and gain it back. Peers of one machine are not held against
// each other.
func (h *Host) scores() (*pubsub.PeerScoreParams, *pubsub.PeerScoreThresholds) {
	loopback := []*net.IPNet{
		{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
		{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
	}
	params := &pubsub.PeerScoreParams{
		AppSpecificScore:            h.standings.score,
		AppSpecificWeight:           1,
		IPColocationFactorWeight:    -1,
		IPColocationFactorThreshold: 16, // nodes behind one address
		IPColocationFactorWhitelist: loopback,
		BehaviourPenaltyWeight:      -1,
		BehaviourPenaltyThreshold:   6,
		BehaviourPenaltyDecay:       pubsub.ScoreParameterDecay(10 * time.Minute),
		DecayInterval:               pubsub.DefaultDecayInterval,
		DecayToZero:                 pubsub.DefaultDecayToZero,
		RetainScore:                 time.Hour,
		SeenMsgTTL:                  seenTTL,
		Topics:                      map[string]*pubsub.TopicScoreParams{},
	}
	return params, &pubsub.PeerScoreThresholds{
		GossipThreshold: -10, PublishThreshold: -50, GraylistThreshold: graylist,
		AcceptPXThreshold: 0, OpportunisticGraftThreshold: graftBelow,
	}
}

func topicScore() *pubsub.TopicScoreParams {
	return &pubsub.TopicScoreParams{
		TopicWeight:      1,
		TimeInMeshWeight: 0.001, TimeInMeshQuantum: time.Second, TimeInMeshCap: 3600,
		FirstMessageDeliveriesWeight: 0.01, FirstMessageDeliveriesCap: 500,
		FirstMessageDeliveriesDecay: pubsub.ScoreParameterDecay(10 * time.Minute),
		// Four bad messages within minutes and a peer is not heard any more.
		InvalidMessageDeliveriesWeight: -10,
		InvalidMessageDeliveriesDecay:  pubsub.ScoreParameterDecay(30 * time.Minute),
	}
}

// Subscribe joins a topic: validate judges each payload, and handle, which is called
// for up to handlersMax at the same time, gets those that others published and that were
// accepted. While handle is too slow nothing more is judged, and what then comes is dropped and counted. A topic
// is subscribed to once, before Run.
func (h *Host) Subscribe(topic string, validate Validator, handle func(context.Context, Gossip)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.topics[topic]; ok || h.running {
		return errs.New(errs.Internal, "BUG: subscribe to %s twice or after Run", topic)
	}
	name := h.profile.topic(topic)
	h.byTopic.Store(name, topic)
	s := &subscription{name: topic, validate: validate, handle: handle, queue: make(chan Gossip, deliverQueue)}
	check := func(ctx context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		v := h.judge(ctx, s, from, m)
		h.metrics.gossip.WithLabelValues(topic, v.String()).Inc()
		return v.result()
	}
	// Inline: what waits for a worker is not known as seen yet and can come again.
	if err := h.gossip.RegisterTopicValidator(name, check, pubsub.WithValidatorTimeout(validateMax), pubsub.WithValidatorInline(true)); err != nil {
		return fmt.Errorf("register validator of %s: %w", name, err)
	}
	var err error
	if s.topic, err = h.gossip.Join(name); err != nil {
		return fmt.Errorf("join %s: %w", name, err)
	}
	if err := s.topic.SetScoreParams(topicScore()); err != nil {
		return fmt.Errorf("set scores of %s: %w", name, err)
	}
	if s.sub, err = s.topic.Subscribe(pubsub.WithBufferSize(deliverQueue)); err != nil {
		return fmt.Errorf("subscribe to %s: %w", name, err)
	}
	h.topics[topic] = s
	return nil
}

// judge says what becomes of a message. It leaves the payload that was accepted with
// the message, for deliver.
func (h *Host) judge(ctx context.Context, s *subscription, from peer.ID, m *pubsub.Message) Verdict {
	if len(m.Data) > h.profile.dataMax {
		return Reject
	}
	author := m.GetFrom()
	if author != h.self {
		if !h.standings.publish(author, from, time.Now()) {
			h.metrics.dropped.WithLabelValues(s.name, dropFlood).Inc()
			return Ignore
		}
		if !s.hasRoom(ctx) {
			h.metrics.dropped.WithLabelValues(s.name, dropBehind).Inc()
			return Ignore
		}
	}
	g := Gossip{From: PeerID(author.String()), Data: m.Data, Own: author == h.self}
	if h.quotes(s.name) {
		g.Data = wire.Unquote(m.Data)
	}
	v := s.validate(ctx, &g)
	if v != Accept && len(g.Data) != len(m.Data) {
		// An author who did not know of it meant what stands there.
		g.Data = m.Data
		v = s.validate(ctx, &g)
	}
	if v == Accept {
		m.ValidatorData = g
	}
	return v
}

// quotes reports whether payloads of the topic are decoded before they are read.
func (h *Host) quotes(topic string) bool { return h.profile.quoted && topic == wire.TopicMessages }

// hasRoom waits until the handler has caught up, and returns false if it does not
// before ctx ends.
func (s *subscription) hasRoom(ctx context.Context) bool {
	if !s.isBehind() {
		return true
	}
	tick := time.NewTicker(behindPoll)
	defer tick.Stop()
	for s.isBehind() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// isBehind reports whether as much waits for the handler as may.
func (s *subscription) isBehind() bool {
	return len(s.queue) >= deliverHigh || s.bytes.Load() >= deliverBytesMax
}

// receive queues what was accepted until ctx ends.
func (h *Host) receive(ctx context.Context, s *subscription) {
	for {
		m, err := s.sub.Next(ctx)
		if err != nil {
			return // ctx or the host ended; there is nothing else
		}
		g, ok := m.ValidatorData.(Gossip)
		if m.GetFrom() == h.self || !ok {
			continue
		}
		s.bytes.Add(int64(len(g.Data)))
		select {
		case s.queue <- g:
		case <-ctx.Done():
			return
		}
	}
}

// deliver hands what is queued to the handler until ctx ends, and waits for it.
func deliver(ctx context.Context, s *subscription) {
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, handlersMax)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		select {
		case g := <-s.queue:
			wg.Go(func() {
				s.handle(ctx, g)
				s.bytes.Add(-int64(len(g.Data)))
				<-free
			})
		case <-ctx.Done():
			return
		}
	}
}

// Publish tells the peers that listen to a topic, which must be subscribed to.
// It returns before anybody has received it; while nobody listens, or the mesh is still
// to form, it is held for who comes. A payload that this node's own validator rejects gives errs.Invalid,
// one that it ignores errs.Unavailable.
func (h *Host) Publish(ctx context.Context, topic string, data []byte) error {
	if h.quotes(topic) {
		data = wire.Quote(data)
	}
	if len(data) > h.profile.dataMax {
		return errs.New(errs.Invalid, "gossip has %d bytes, at most %d are allowed", len(data), h.profile.dataMax)
	}
	h.mu.Lock()
	s, ok := h.topics[topic]
	h.mu.Unlock()
	if !ok {
		return errs.New(errs.Internal, "BUG: publish to %s without a subscription", topic)
	}
	if h.isHeard(s) {
		return s.publish(ctx, data)
	}
	switch s.validate(ctx, &Gossip{From: h.ID(), Data: data, Own: true}) {
	case Accept:
	case Reject:
		return errs.New(errs.Invalid, "publish to %s: nobody would accept it", topic)
	case Ignore:
		return notYet(topic)
	default:
		return notYet(topic)
	}
	lost := s.held.put(data, time.Now())
	h.metrics.dropped.WithLabelValues(topic, dropUnheard).Add(float64(lost))
	h.meshes.poke() // Somebody may have come in between.
	return nil
}

func notYet(topic string) error {
	return errs.New(errs.Unavailable, "publish to %s: not of use yet", topic)
}

func (s *subscription) publish(ctx context.Context, data []byte) error {
	err := s.topic.Publish(ctx, data)
	var refused pubsub.ValidationError
	if errors.As(err, &refused) && refused.Reason == pubsub.RejectValidationIgnored {
		return notYet(s.name)
	}
	if errors.As(err, &refused) {
		return errs.New(errs.Invalid, "publish to %s: %w", s.name, err)
	}
	if err != nil {
		return fmt.Errorf("publish to %s: %w", s.name, err)
	}
	return nil
}

// held are payloads of this node that nobody has heard.
type held struct {
	mu    sync.Mutex
	all   []heldOne // oldest first; guarded by mu
	bytes int       // guarded by mu
}

type heldOne struct {
	data []byte
	at   time.Time
}

// put adds a payload and returns how many had to go for it.
func (q *held) put(data []byte, now time.Time) (lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = append(q.all, heldOne{data, now})
	q.bytes += len(data)
	for len(q.all) > heldMax || q.bytes > heldBytesMax || now.Sub(q.all[0].at) > heldFor {
		q.bytes -= len(q.all[0].data)
		q.all = q.all[1:]
		lost++
	}
	return lost
}

// take empties it and returns what is still news, and how many are not.
func (q *held) take(now time.Time) (out [][]byte, lost int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, one := range q.all {
		if now.Sub(one.at) > heldFor {
			lost++
			continue
		}
		out = append(out, one.data)
	}
	q.all, q.bytes = nil, 0
	return out, lost
}

// tellHeld publishes what was held.
func (h *Host) tellHeld(ctx context.Context, s *subscription) {
	all, lost := s.held.take(time.Now())
	h.metrics.dropped.WithLabelValues(s.name, dropUnheard).Add(float64(lost))
	for _, data := range all {
		if err := s.publish(ctx, data); err != nil && ctx.Err() == nil {
			h.log.Warn("held gossip not published", "topic", s.name, "err", err)
		}
	}
}

// watch notes who comes to listen, until ctx ends.
func (h *Host) watch(ctx context.Context, events *pubsub.TopicEventHandler) {
	defer events.Cancel()
	for {
		if _, err := events.NextPeerEvent(ctx); err != nil {
			return // ctx ended
		}
		h.meshes.poke()
	}
}

// retell publishes what was held when somebody can hear it, until ctx ends.
func (h *Host) retell(ctx context.Context, topics []*subscription) {
	tick := time.NewTicker(meshWait)
	defer tick.Stop()
	for {
		for _, s := range topics {
			if h.isHeard(s) {
				h.tellHeld(ctx, s)
			}
		}
		select {
		case <-h.meshes.changed:
		case <-tick.C: // Somebody may have waited for a mesh in vain.
		case <-ctx.Done():
			return
		}
	}
}

// isHeard reports whether anybody listens to whom this node has a stream, and that is of
// the mesh if only that is published to: what is published to others is lost.
func (h *Host) isHeard(s *subscription) bool {
	wait := meshWait
	if h.profile.flood || h.meshes.size(s.name) > 0 {
		wait = 0
	}
	now := time.Now()
	return slices.ContainsFunc(s.topic.ListPeers(), func(id peer.ID) bool {
		at, isOpen := h.meshes.openSince(id)
		return isOpen && now.Sub(at) >= wait
	})
}

// Listeners returns the peers that are known to listen to a topic.
func (h *Host) Listeners(topic string) []PeerID {
	var out []PeerID
	for _, id := range h.gossip.ListPeers(h.profile.topic(topic)) {
		out = append(out, PeerID(id.String()))
	}
	return out
}

// String returns the verdict as a metric's label.
func (v Verdict) String() string {
	switch v {
	case Accept:
		return "accepted"
	case Ignore:
		return "ignored"
	case Reject:
		return "rejected"
	default:
		return "verdict " + strconv.Itoa(int(v))
	}
}

func (v Verdict) result() pubsub.ValidationResult {
	switch v {
	case Accept:
		return pubsub.ValidationAccept
	case Ignore:
		return pubsub.ValidationIgnore
	case Reject:
		return pubsub.ValidationReject
	default:
		return pubsub.ValidationIgnore
	}
}

// messageID names a gossip payload as the reference network does, so that both
// recognise what they have: the decimal form of SipHash-1-3, with a key of
// zeros, over the length (64 bits, little-endian) and the bytes.
func messageID(data []byte) string { return strconv.FormatUint(messageSum(data), 10) }

func messageSum(data []byte) uint64 {
	h := sip{0x736f6d6570736575, 0x646f72616e646f6d, 0x6c7967656e657261, 0x7465646279746573}
	const wordSize = 8
	h.word(uint64(len(data)))
	rest := data
	for ; len(rest) >= wordSize; rest = rest[wordSize:] {
		h.word(binary.LittleEndian.Uint64(rest))
	}
	var tail [wordSize]byte
	copy(tail[:], rest)
	tail[wordSize-1] = byte(len(data) + wordSize)
	h.word(binary.LittleEndian.Uint64(tail[:]))
	return h.sum()
}

// sip is the state of SipHash.
type sip [4]uint64

// word takes in one word with one round, the 1 of SipHash-1-3.
func (s *sip) word(m uint64) {
	s[3] ^= m
	s.round()
	s[0] ^= m
}

// sum ends with three rounds, the 3 of SipHash-1-3.
func (s *sip) sum() uint64 {
	s[2] ^= 0xff
	for range 3 {
		s.round()
	}
	return s[0] ^ s[1] ^ s[2] ^ s[3]
}

func (s *sip) round() {
	s[0] += s[1]
	s[2] += s[3]
	s[1] = bits.RotateLeft64(s[1], 13) ^ s[0]
	s[3] = bits.RotateLeft64(s[3], 16) ^ s[2]
	s[0] = bits.RotateLeft64(s[0], 32)
	s[2] += s[1]
	s[0] += s[3]
	s[1] = bits.RotateLeft64(s[1], 17) ^ s[2]
	s[3] = bits.RotateLeft64(s[3], 21) ^ s[0]
	s[2] = bits.RotateLeft64(s[2], 32)
}
