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
	"strconv"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	// outboundQueue and validateQueue hold a burst of messages; with the
	// library's 32 a burst of a thousand loses half of them.
	outboundQueue, validateQueue = 1024, 4096
	// deliverQueue holds what was validated and waits for its handler.
	deliverQueue = 4096
	// seenTTL is how long a message is known as seen: as long as the reference
	// network keeps it.
	seenTTL = 30 * time.Minute
	// validateMax bounds the judgement of one message.
	validateMax = 5 * time.Second
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
}

// Validator judges gossip before it is delivered and forwarded. It must be
// quick and safe for concurrent use.
type Validator func(ctx context.Context, g Gossip) Verdict

type subscription struct {
	topic  *pubsub.Topic
	sub    *pubsub.Subscription
	handle func(context.Context, Gossip)
}

func newGossip(ctx context.Context, h host.Host, log *slog.Logger) (*pubsub.PubSub, error) {
	params, thresholds := scores()
	g, err := pubsub.NewGossipSub(ctx, h,
		pubsub.WithMessageSignaturePolicy(pubsub.StrictSign),
		pubsub.WithMessageIdFn(func(m *pb.Message) string { return messageID(m.GetData()) }),
		pubsub.WithMaxMessageSize(wire.MaxGossip+gossipOverhead),
		pubsub.WithSeenMessagesTTL(seenTTL),
		pubsub.WithPeerOutboundQueueSize(outboundQueue),
		pubsub.WithValidateQueueSize(validateQueue),
		pubsub.WithValidateWorkers(runtime.GOMAXPROCS(0)),
		// Publish to every listener that is connected and not only to the mesh,
		// which takes a second to form: the first message of a node counts.
		pubsub.WithFloodPublish(true),
		pubsub.WithPeerExchange(true),
		pubsub.WithPeerScore(params, thresholds),
		pubsub.WithLogger(log),
	)
	if err != nil {
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	return g, nil
}

// gossipOverhead is room for the signature, key and topic around a payload of
// full size.
const gossipOverhead = 4096

// scores makes peers that send what nobody honest sends lose standing until
// nobody listens to them. Peers of one machine are not held against each other.
func scores() (*pubsub.PeerScoreParams, *pubsub.PeerScoreThresholds) {
	loopback := []*net.IPNet{
		{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
		{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
	}
	params := &pubsub.PeerScoreParams{
		AppSpecificScore:            func(peer.ID) float64 { return 0 },
		IPColocationFactorWeight:    -1,
		IPColocationFactorThreshold: 16, // nodes behind one address
		IPColocationFactorWhitelist: loopback,
		BehaviourPenaltyWeight:      -1,
		BehaviourPenaltyThreshold:   6,
		BehaviourPenaltyDecay:       pubsub.ScoreParameterDecay(10 * time.Minute),
		DecayInterval:               pubsub.DefaultDecayInterval,
		DecayToZero:                 pubsub.DefaultDecayToZero,
		RetainScore:                 time.Hour,
		Topics:                      map[string]*pubsub.TopicScoreParams{},
	}
	return params, &pubsub.PeerScoreThresholds{
		GossipThreshold: -10, PublishThreshold: -50, GraylistThreshold: -100,
		AcceptPXThreshold: 0, OpportunisticGraftThreshold: 1,
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

// Subscribe joins a topic: validate judges each payload, and handle, called one
// at a time, gets those that others published and that were accepted. A topic
// is subscribed to once, before Run.
func (h *Host) Subscribe(topic string, validate Validator, handle func(context.Context, Gossip)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.topics[topic]; ok || h.running {
		return errs.New(errs.Internal, "BUG: subscribe to %s twice or after Run", topic)
	}
	check := func(ctx context.Context, _ peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		if len(m.Data) > wire.MaxGossip {
			return pubsub.ValidationReject
		}
		v := validate(ctx, Gossip{From: PeerID(m.GetFrom().String()), Data: m.Data})
		h.metrics.gossip.WithLabelValues(topic, v.String()).Inc()
		return v.result()
	}
	if err := h.gossip.RegisterTopicValidator(topic, check, pubsub.WithValidatorTimeout(validateMax)); err != nil {
		return fmt.Errorf("register validator of %s: %w", topic, err)
	}
	t, err := h.gossip.Join(topic)
	if err != nil {
		return fmt.Errorf("join %s: %w", topic, err)
	}
	if err := t.SetScoreParams(topicScore()); err != nil {
		return fmt.Errorf("set scores of %s: %w", topic, err)
	}
	sub, err := t.Subscribe(pubsub.WithBufferSize(deliverQueue))
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", topic, err)
	}
	h.topics[topic] = &subscription{topic: t, sub: sub, handle: handle}
	return nil
}

// deliver hands what arrives to the handler until ctx ends.
func (h *Host) deliver(ctx context.Context, s *subscription) {
	for {
		m, err := s.sub.Next(ctx)
		if err != nil {
			return // ctx or the host ended; there is nothing else
		}
		if m.GetFrom() == h.host.ID() {
			continue
		}
		s.handle(ctx, Gossip{From: PeerID(m.GetFrom().String()), Data: m.Data})
	}
}

// Publish tells the peers that listen to a topic, which must be subscribed to.
// It returns before anybody has received it. A payload that this node's own
// validator rejects gives errs.Invalid, one that it ignores errs.Unavailable.
func (h *Host) Publish(ctx context.Context, topic string, data []byte) error {
	if len(data) > wire.MaxGossip {
		return errs.New(errs.Invalid, "gossip has %d bytes, at most %d are allowed", len(data), wire.MaxGossip)
	}
	h.mu.Lock()
	s, ok := h.topics[topic]
	h.mu.Unlock()
	if !ok {
		return errs.New(errs.Internal, "BUG: publish to %s without a subscription", topic)
	}
	err := s.topic.Publish(ctx, data)
	var refused pubsub.ValidationError
	if errors.As(err, &refused) && refused.Reason == pubsub.RejectValidationIgnored {
		return errs.New(errs.Unavailable, "publish to %s: not of use yet", topic)
	}
	if errors.As(err, &refused) {
		return errs.New(errs.Invalid, "publish to %s: %w", topic, err)
	}
	if err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// Listeners returns the peers that are known to listen to a topic.
func (h *Host) Listeners(topic string) []PeerID {
	var out []PeerID
	for _, id := range h.gossip.ListPeers(topic) {
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
func messageID(data []byte) string {
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
	return strconv.FormatUint(h.sum(), 10)
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
