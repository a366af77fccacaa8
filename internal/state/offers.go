package state

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// OfferStatus is what became of an offer on this coordinator.
type OfferStatus string

// The statuses of an offer. It leaves offered once, and decided only to become
// opened or refused.
const (
	OfferOffered OfferStatus = "offered" // Waits for a node.
	OfferDecided OfferStatus = "decided" // A node accepted; the transaction is on its way.
	OfferOpened  OfferStatus = "opened"  // The chain has the job.
	OfferRefused OfferStatus = "refused" // It will never become a job; Reason says why.
)

// Offer is a payer's signed request to run a message, up to a price.
type Offer struct {
	Spec       message.ItemHash `json:"spec"`
	Payer      common.Address   `json:"payer"`
	Token      uint8            `json:"token"`
	MaxRateQ32 *big.Int         `json:"max_rate_q32"`
	NodeHint   uint32           `json:"node_hint"` // 0 = the coordinator chooses.
	MaxUntil   uint64           `json:"max_until"` // Chain time; 0 = until stopped.
	Deadline   uint64           `json:"deadline"`  // Chain time.
	Nonce      *big.Int         `json:"nonce"`
	Signature  []byte           `json:"signature"`
	Status     OfferStatus      `json:"status"`
	Reason     string           `json:"reason,omitempty"`
	Attempts   int              `json:"attempts,omitempty"`
	Seed       common.Hash      `json:"seed,omitzero"`        // Of the choice among nodes; set when it is first looked at.
	Candidates []Candidate      `json:"candidates,omitempty"` // Why no node has it yet, as of the last look.
	ReceivedAt time.Time        `json:"received_at"`
}

func offers() table[Offer] {
	return table[Offer]{
		name: "offers", noun: "offer",
		key: func(o *Offer) string { return string(o.Spec) },
		cols: []column[Offer]{
			{"payer", func(o *Offer) any { return o.Payer.Hex() }},
			{"status", func(o *Offer) any { return string(o.Status) }},
			{"received_at", func(o *Offer) any { return o.ReceivedAt.UnixMicro() }},
		},
	}
}

// PutOffer writes an offer's row.
func (tx *Tx) PutOffer(ctx context.Context, o Offer) error { return offers().put(ctx, tx, &o) }

// Offer returns the offer for the spec, or errs.NotFound.
func (r reader) Offer(ctx context.Context, spec message.ItemHash) (*Offer, error) {
	return offers().one(ctx, r, string(spec))
}

// OffersWith returns up to limit offers with the status, oldest first.
func (r reader) OffersWith(ctx context.Context, status OfferStatus, limit int) ([]Offer, error) {
	return offers().list(ctx, r, "status = ? ORDER BY received_at, pk LIMIT ?", string(status), limit)
}

// OffersAfter returns up to limit offers with the status, oldest first, beginning
// after the given one; nil for the oldest.
func (r reader) OffersAfter(ctx context.Context, status OfferStatus, last *Offer, limit int) ([]Offer, error) {
	if last == nil {
		return r.OffersWith(ctx, status, limit)
	}
	return offers().list(ctx, r, "status = ? AND (received_at, pk) > (?, ?) ORDER BY received_at, pk LIMIT ?",
		string(status), last.ReceivedAt.UnixMicro(), string(last.Spec), limit)
}

// OffersOfPayerWith returns up to limit offers of the payer with one of the
// statuses, oldest first.
func (r reader) OffersOfPayerWith(ctx context.Context, payer common.Address, limit int, statuses ...OfferStatus) ([]Offer, error) {
	clause, args := in(statuses)
	args = append([]any{payer.Hex()}, args...)
	return offers().list(ctx, r, "payer = ? AND status IN "+clause+" ORDER BY received_at, pk LIMIT ?", append(args, limit)...)
}

// OffersOfPayer returns up to limit offers of the payer, newest first.
func (r reader) OffersOfPayer(ctx context.Context, payer common.Address, limit int) ([]Offer, error) {
	return offers().list(ctx, r, "payer = ? ORDER BY received_at DESC, pk LIMIT ?", payer.Hex(), limit)
}

// Candidate is a node that was looked at for a job, and why it was chosen or
// not.
type Candidate struct {
	NodeID   uint32 `json:"node_id"`
	Eligible bool   `json:"eligible"`
	Chosen   bool   `json:"chosen"`
	Score    string `json:"score,omitempty"`     // The race key; the smallest wins.
	ScoreBps int    `json:"score_bps,omitempty"` // The weight that the key was made with.
	Reason   string `json:"reason"`
}

// Decision is which node a job goes to, and why. There is one per job and
// attempt, and it never changes: a transaction rests on it.
type Decision struct {
	Spec       message.ItemHash `json:"spec"`
	Attempt    uint8            `json:"attempt"`
	NodeID     uint32           `json:"node_id"`
	CoordID    uint32           `json:"coord_id"`
	RateQ32    *big.Int         `json:"rate_q32"`
	Deadline   uint64           `json:"deadline"`      // Chain time of the acceptance's end.
	Seed       common.Hash      `json:"seed,omitzero"` // Of the choice: with it anybody can repeat the race.
	Reason     string           `json:"reason"`
	Candidates []Candidate      `json:"candidates"`
	AcceptSig  []byte           `json:"accept_signature"`
	DecidedAt  time.Time        `json:"decided_at"`
}

func decisions() table[Decision] {
	return table[Decision]{
		name: "decisions", noun: "decision",
		key: func(d *Decision) string { return decisionKey(d.Spec, d.Attempt) },
	}
}

func decisionKey(spec message.ItemHash, attempt uint8) string {
	return fmt.Sprintf("%s/%d", spec, attempt)
}

// PutDecision writes a decision's row.
func (tx *Tx) PutDecision(ctx context.Context, d Decision) error { return decisions().put(ctx, tx, &d) }

// Decision returns the decision about the spec's attempt, or errs.NotFound.
func (r reader) Decision(ctx context.Context, spec message.ItemHash, attempt uint8) (*Decision, error) {
	return decisions().one(ctx, r, decisionKey(spec, attempt))
}

// Capacity is the last advertisement that a compute node signed.
type Capacity struct {
	NodeID     uint32          `json:"node_id"`
	PeerID     string          `json:"peer_id"`
	Ad         json.RawMessage `json:"ad"` // A wire.CapacityAd, verified.
	ReceivedAt time.Time       `json:"received_at"`
}

func capacities() table[Capacity] {
	return table[Capacity]{
		name: "capacities", noun: "capacity",
		key:  func(c *Capacity) string { return nodeKey(c.NodeID) },
		cols: []column[Capacity]{{"received_at", func(c *Capacity) any { return c.ReceivedAt.UnixMicro() }}},
	}
}

// PutCapacity writes a capacity's row.
func (tx *Tx) PutCapacity(ctx context.Context, c Capacity) error {
	return capacities().put(ctx, tx, &c)
}

// Capacities returns every node's last advertisement, by node id.
func (r reader) Capacities(ctx context.Context) ([]Capacity, error) {
	return capacities().list(ctx, r, "TRUE ORDER BY CAST(pk AS BIGINT)")
}

// Capacity returns the node's last advertisement, or errs.NotFound.
func (r reader) Capacity(ctx context.Context, nodeID uint32) (*Capacity, error) {
	return capacities().one(ctx, r, nodeKey(nodeID))
}

// Peer is another node that was met, so that it can be found after a restart.
type Peer struct {
	ID     string    `json:"id"`
	Addrs  []string  `json:"addrs"` // Multiaddresses without the /p2p part.
	SeenAt time.Time `json:"seen_at"`
}

func peers() table[Peer] {
	return table[Peer]{
		name: "peers", noun: "peer",
		key:  func(p *Peer) string { return p.ID },
		cols: []column[Peer]{{"seen_at", func(p *Peer) any { return p.SeenAt.UnixMicro() }}},
	}
}

// PutPeer writes a peer's row.
func (tx *Tx) PutPeer(ctx context.Context, p Peer) error { return peers().put(ctx, tx, &p) }

// KeepPeers forgets all but the limit peers that were seen last: whoever comes by is met,
// and names cost nothing.
func (tx *Tx) KeepPeers(ctx context.Context, limit int) error {
	_, err := tx.tx.ExecContext(ctx, "DELETE FROM peers WHERE pk NOT IN (SELECT pk FROM peers ORDER BY seen_at DESC, pk LIMIT ?)", limit)
	if err != nil {
		return fmt.Errorf("forget peers: %w", err)
	}
	return nil
}

// Peers returns up to limit peers, last seen first.
func (r reader) Peers(ctx context.Context, limit int) ([]Peer, error) {
	return peers().list(ctx, r, "TRUE ORDER BY seen_at DESC, pk LIMIT ?", limit)
}
