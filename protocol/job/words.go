package job

import (
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// The EIP-712 types of the words, letter by letter as the contracts have them.
const (
	OfferType      = "JobOffer(bytes32 spec,address payer,uint8 token,uint128 maxRateQ32,uint32 slaClass,uint32 imageSeq,uint32 nodeHint,bytes32 reqHash,uint40 maxUntil,uint40 deadline,uint256 nonce)"
	AcceptType     = "Accept(bytes32 spec,uint32 nodeId,uint128 rateQ32,uint8 attempt,uint32 coordId,uint32 statsEpoch,bytes32 reqHash,uint40 deadline)"
	AssignmentType = "Assignment(bytes32 spec,uint32 nodeId,uint128 rateQ32,uint8 attempt,uint32 coordId,uint32 statsEpoch,bytes32 reqHash,uint40 deadline)"
	StopType       = "Stop(bytes32 spec,uint40 deadline)"
	ResizeType     = "Resize(bytes32 offer,uint32 nodeId,uint128 rateQ32)"
	DeclineType    = "Decline(bytes32 spec,uint32 nodeId,uint8 attempt,uint8 reason)"
	SilenceType    = "Silence(bytes32 spec,uint32 nodeId,uint8 attempt)"
	PermitType     = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
)

// TokenALEPH is the index of the ALEPH token; 0 is no token.
const TokenALEPH = 1

// Offer is the payer's word: run this spec, at this rate at most.
type Offer struct {
	Spec       message.ItemHash // item hash of the INSTANCE message
	Payer      common.Address
	Token      uint8
	MaxRateQ32 *big.Int    // token wei per second times 2^32, the image's part included
	SLAClass   uint32      // class of service; 0 for none
	ImageSeq   uint32      // image of the marketplace; 0 for none
	NodeHint   uint32      // node to run on; 0 leaves the choice to the coordinator
	ReqHash    common.Hash // hash of what the job needs, see Requirements; zero leaves the choice unchecked
	MaxUntil   uint64      // Unix seconds of chain time at which the job ends; 0 means open end
	Deadline   uint64      // Unix seconds of chain time until which the offer may be opened
	Nonce      *big.Int    // a group of offers that the payer can call off together; a spec is used once whatever its nonce
}

// StructHash implements Signable.
func (o *Offer) StructHash() common.Hash {
	return structHash(OfferType, specWord(o.Spec), addressWord(o.Payer), numberWord(uint64(o.Token)), bigWord(o.MaxRateQ32),
		numberWord(uint64(o.SLAClass)), numberWord(uint64(o.ImageSeq)), numberWord(uint64(o.NodeHint)), o.ReqHash[:],
		numberWord(o.MaxUntil), numberWord(o.Deadline), bigWord(o.Nonce))
}

// Check implements Signable.
func (o *Offer) Check() error {
	if err := checkSpec("offer", o.Spec); err != nil {
		return err
	}
	if err := checkBig("offer: max_rate_q32", o.MaxRateQ32, bitsRate); err != nil {
		return err
	}
	if err := checkBig("offer: nonce", o.Nonce, bitsWord); err != nil {
		return err
	}
	if err := checkTime("offer: max_until", o.MaxUntil); err != nil {
		return err
	}
	return checkTime("offer: deadline", o.Deadline)
}

// OfferSecondsMax is how far an offer's deadline may lie ahead. Until then the
// offer may be opened by whoever has it, and takes a place among those that wait
// for a node; a payer who wants to wait longer signs again.
const OfferSecondsMax = 7 * 24 * 3600

// CheckDeadline checks that the offer may be opened at the chain time now, and
// for OfferSecondsMax at most.
func (o *Offer) CheckDeadline(now uint64) error {
	switch {
	case o.Deadline <= now:
		return fmt.Errorf("offer: deadline %d is over: the chain's time is %d", o.Deadline, now)
	case o.Deadline-now > OfferSecondsMax:
		return fmt.Errorf("offer: deadline %d is more than %d s ahead: the chain's time is %d", o.Deadline, OfferSecondsMax, now)
	}
	return nil
}

type offerJSON struct {
	Spec       message.ItemHash `json:"spec"`
	Payer      common.Address   `json:"payer"`
	Token      uint8            `json:"token"`
	MaxRateQ32 amount           `json:"max_rate_q32"`
	SLAClass   uint32           `json:"sla_class,omitempty"`
	ImageSeq   uint32           `json:"image_seq,omitempty"`
	NodeHint   uint32           `json:"node_hint"`
	ReqHash    common.Hash      `json:"req_hash,omitzero"`
	MaxUntil   uint64           `json:"max_until"`
	Deadline   uint64           `json:"deadline"`
	Nonce      amount           `json:"nonce"`
}

// MarshalJSON implements json.Marshaler; big numbers are decimal texts.
func (o Offer) MarshalJSON() ([]byte, error) {
	return json.Marshal(offerJSON{
		o.Spec, o.Payer, o.Token, amount{o.MaxRateQ32}, o.SLAClass, o.ImageSeq, o.NodeHint, o.ReqHash, o.MaxUntil, o.Deadline, amount{o.Nonce},
	})
}

// UnmarshalJSON implements json.Unmarshaler and checks every bound.
func (o *Offer) UnmarshalJSON(raw []byte) error {
	var in offerJSON
	if err := json.Unmarshal(raw, &in); err != nil {
		return fmt.Errorf("offer: %w", err)
	}
	read := Offer{
		in.Spec, in.Payer, in.Token, in.MaxRateQ32.Int, in.SLAClass, in.ImageSeq, in.NodeHint, in.ReqHash, in.MaxUntil, in.Deadline, in.Nonce.Int,
	}
	if err := read.Check(); err != nil {
		return err
	}
	*o = read
	return nil
}

// Terms are the values that node and coordinators agree on; Accept and
// Assignment sign the same terms under different types.
type Terms struct {
	Spec       message.ItemHash
	NodeID     uint32
	RateQ32    *big.Int // token wei per second times 2^32
	Attempt    uint8
	CoordID    uint32      // node id of the coordinator that decided
	StatsEpoch uint32      // hour of the numbers the node was chosen by; 0 when nobody can check the choice
	ReqHash    common.Hash // the offer's
	Deadline   uint64      // Unix seconds of chain time
}

// Accept is the node's word: I run this job on these terms.
type Accept Terms

// Assignment is a coordinator's word: this job goes to this node.
type Assignment Terms

// StructHash implements Signable.
func (a *Accept) StructHash() common.Hash { return (*Terms)(a).structHash(AcceptType) }

// StructHash implements Signable.
func (a *Assignment) StructHash() common.Hash { return (*Terms)(a).structHash(AssignmentType) }

// Check implements Signable.
func (a *Accept) Check() error { return (*Terms)(a).check("accept") }

// Check implements Signable.
func (a *Assignment) Check() error { return (*Terms)(a).check("assignment") }

// MarshalJSON implements json.Marshaler; big numbers are decimal texts.
func (a Accept) MarshalJSON() ([]byte, error) { return Terms(a).encode() }

// MarshalJSON implements json.Marshaler; big numbers are decimal texts.
func (a Assignment) MarshalJSON() ([]byte, error) { return Terms(a).encode() }

// UnmarshalJSON implements json.Unmarshaler and checks every bound.
func (a *Accept) UnmarshalJSON(raw []byte) error { return (*Terms)(a).decode("accept", raw) }

// UnmarshalJSON implements json.Unmarshaler and checks every bound.
func (a *Assignment) UnmarshalJSON(raw []byte) error { return (*Terms)(a).decode("assignment", raw) }

func (t *Terms) structHash(typ string) common.Hash {
	return structHash(typ, specWord(t.Spec), numberWord(uint64(t.NodeID)), bigWord(t.RateQ32),
		numberWord(uint64(t.Attempt)), numberWord(uint64(t.CoordID)), numberWord(uint64(t.StatsEpoch)), t.ReqHash[:], numberWord(t.Deadline))
}

func (t *Terms) check(what string) error {
	if err := checkSpec(what, t.Spec); err != nil {
		return err
	}
	if err := checkBig(what+": rate_q32", t.RateQ32, bitsRate); err != nil {
		return err
	}
	return checkTime(what+": deadline", t.Deadline)
}

type termsJSON struct {
	Spec       message.ItemHash `json:"spec"`
	NodeID     uint32           `json:"node_id"`
	RateQ32    amount           `json:"rate_q32"`
	Attempt    uint8            `json:"attempt"`
	CoordID    uint32           `json:"coord_id"`
	StatsEpoch uint32           `json:"stats_epoch,omitempty"`
	ReqHash    common.Hash      `json:"req_hash,omitzero"`
	Deadline   uint64           `json:"deadline"`
}

func (t Terms) encode() ([]byte, error) {
	return json.Marshal(termsJSON{t.Spec, t.NodeID, amount{t.RateQ32}, t.Attempt, t.CoordID, t.StatsEpoch, t.ReqHash, t.Deadline})
}

func (t *Terms) decode(what string, raw []byte) error {
	var in termsJSON
	if err := json.Unmarshal(raw, &in); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	read := Terms{in.Spec, in.NodeID, in.RateQ32.Int, in.Attempt, in.CoordID, in.StatsEpoch, in.ReqHash, in.Deadline}
	if err := read.check(what); err != nil {
		return err
	}
	*t = read
	return nil
}

// Stop is the payer's word: end this job.
type Stop struct {
	Spec     message.ItemHash `json:"spec"`
	Deadline uint64           `json:"deadline"` // Unix seconds of chain time
}

// StructHash implements Signable.
func (s *Stop) StructHash() common.Hash {
	return structHash(StopType, specWord(s.Spec), numberWord(s.Deadline))
}

// Check implements Signable.
func (s *Stop) Check() error {
	if err := checkSpec("stop", s.Spec); err != nil {
		return err
	}
	return checkTime("stop: deadline", s.Deadline)
}

// Resize is the node's word: from now on at this rate, as the payer offers.
type Resize struct {
	Offer   common.Hash // struct hash of the payer's new offer
	NodeID  uint32
	RateQ32 *big.Int // token wei per second times 2^32
}

// StructHash implements Signable.
func (r *Resize) StructHash() common.Hash {
	return structHash(ResizeType, r.Offer[:], numberWord(uint64(r.NodeID)), bigWord(r.RateQ32))
}

// Check implements Signable.
func (r *Resize) Check() error { return checkBig("resize: rate_q32", r.RateQ32, bitsRate) }

// Decline is a node's word: I do not take this job. With it a coordinator shows
// why the first in the race did not get it.
type Decline struct {
	Spec    message.ItemHash `json:"spec"`
	NodeID  uint32           `json:"node_id"`
	Attempt uint8            `json:"attempt"`
	Reason  uint8            `json:"reason"`
}

// StructHash implements Signable.
func (d *Decline) StructHash() common.Hash {
	return structHash(DeclineType, specWord(d.Spec), numberWord(uint64(d.NodeID)), numberWord(uint64(d.Attempt)), numberWord(uint64(d.Reason)))
}

// Check implements Signable.
func (d *Decline) Check() error { return checkSpec("decline", d.Spec) }

// Silence is a coordinator's word: this node did not answer about this job.
type Silence struct {
	Spec    message.ItemHash `json:"spec"`
	NodeID  uint32           `json:"node_id"`
	Attempt uint8            `json:"attempt"`
}

// StructHash implements Signable.
func (s *Silence) StructHash() common.Hash {
	return structHash(SilenceType, specWord(s.Spec), numberWord(uint64(s.NodeID)), numberWord(uint64(s.Attempt)))
}

// Check implements Signable.
func (s *Silence) Check() error { return checkSpec("silence", s.Spec) }

// Permit is the token owner's EIP-2612 word: this spender may move this value.
// Its domain is the token's own.
type Permit struct {
	Owner    common.Address
	Spender  common.Address
	Value    *big.Int // wei
	Nonce    *big.Int // the token's next permit nonce of the owner
	Deadline *big.Int // Unix seconds of chain time
}

// StructHash implements Signable.
func (p *Permit) StructHash() common.Hash {
	return structHash(PermitType, addressWord(p.Owner), addressWord(p.Spender), bigWord(p.Value), bigWord(p.Nonce), bigWord(p.Deadline))
}

// Check implements Signable.
func (p *Permit) Check() error {
	if err := checkBig("permit: value", p.Value, bitsWord); err != nil {
		return err
	}
	if err := checkBig("permit: nonce", p.Nonce, bitsWord); err != nil {
		return err
	}
	return checkBig("permit: deadline", p.Deadline, bitsWord)
}
