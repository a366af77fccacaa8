package aleph

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Wei is an amount in the smallest unit of a token. Its JSON form is a decimal
// text. The zero value is 0.
type Wei struct{ v *big.Int }

// NewWei returns the amount v.
func NewWei(v *big.Int) Wei { return Wei{new(big.Int).Set(v)} }

// Big returns a copy of the amount.
func (w Wei) Big() *big.Int {
	if w.v == nil {
		return new(big.Int)
	}
	return new(big.Int).Set(w.v)
}

// String returns the amount in decimal.
func (w Wei) String() string { return w.Big().String() }

// Sign returns -1, 0 or 1.
func (w Wei) Sign() int { return w.Big().Sign() }

// Cmp compares two amounts.
func (w Wei) Cmp(o Wei) int { return w.Big().Cmp(o.Big()) }

// Tokens returns the amount in tokens of 18 decimals, exactly: trailing zeros
// are dropped.
func (w Wei) Tokens() string {
	s := new(big.Rat).SetFrac(w.Big(), tokenUnit()).FloatString(tokenDecimals)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// MarshalJSON implements json.Marshaler.
func (w Wei) MarshalJSON() ([]byte, error) { return json.Marshal(w.String()) }

// UnmarshalJSON implements json.Unmarshaler.
func (w *Wei) UnmarshalJSON(raw []byte) error {
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("amount %.100s is not a decimal text", raw)
	}
	if s == nil {
		*w = Wei{}
		return nil
	}
	const charsMax = 80 // a sign and the digits of 2^256
	v, ok := new(big.Int).SetString(*s, 10)
	if !ok || len(*s) > charsMax {
		return fmt.Errorf("amount %.100q is not a decimal number", *s)
	}
	w.v = v
	return nil
}

const tokenDecimals = 18 // of ALEPH and of ETH

func tokenUnit() *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(tokenDecimals), nil)
}

// ParseTokens reads an amount in tokens of 18 decimals, such as "12.5".
func ParseTokens(s string) (Wei, error) {
	const charsMax = 80
	if len(s) > charsMax || strings.Trim(s, "0123456789.") != "" || strings.Trim(s, ".") == "" {
		return Wei{}, fmt.Errorf("amount %.100q is not a number of tokens, such as 12.5", s)
	}
	whole, frac, _ := strings.Cut(s, ".")
	if len(frac) > tokenDecimals {
		return Wei{}, fmt.Errorf("amount %q has more than %d decimals", s, tokenDecimals)
	}
	v, ok := new(big.Int).SetString(whole+frac+strings.Repeat("0", tokenDecimals-len(frac)), 10)
	if !ok {
		return Wei{}, fmt.Errorf("amount %.100q is not a number of tokens, such as 12.5", s)
	}
	return Wei{v}, nil
}

// Times in the interface are Unix seconds of chain time; 0 means not yet.

// Info says what a node is and which chain it follows.
type Info struct {
	Role      string    `json:"role"`
	NodeID    uint32    `json:"node_id"`
	Version   string    `json:"version"`
	PeerID    string    `json:"peer_id"`
	Chain     ChainInfo `json:"chain"`
	Contracts Contracts `json:"contracts"`
	Token     TokenInfo `json:"token"`
}

// ChainInfo is the chain as the node sees it.
type ChainInfo struct {
	ID   int64  `json:"id"`
	Head uint64 `json:"head"` // block number
	Time uint64 `json:"time"` // of the head
}

// Contracts are the addresses of the contracts.
type Contracts struct {
	AlephToken     common.Address `json:"AlephToken"`
	NodeRegistry   common.Address `json:"NodeRegistry"`
	StakingManager common.Address `json:"StakingManager"`
	JobManager     common.Address `json:"JobManager"`
	PaymentManager common.Address `json:"PaymentManager"`
	AccessManager  common.Address `json:"AccessManager"`
}

// TokenInfo is the token that jobs are paid with.
type TokenInfo struct {
	Index    uint8  `json:"index"`
	Symbol   string `json:"symbol"`
	Decimals int    `json:"decimals"`
}

// Jobs returns the domain that offers and stops are signed for.
func (i *Info) Jobs() job.Domain { return job.Jobs(big.NewInt(i.Chain.ID), i.Contracts.JobManager) }

// Node is a node of the network.
type Node struct {
	NodeID      uint32         `json:"node_id"`
	Kind        string         `json:"kind"`
	Status      string         `json:"status"`
	Owner       common.Address `json:"owner"`
	Signer      common.Address `json:"signer"`
	PeerID      string         `json:"peer_id"`
	Region      uint16         `json:"region"`
	Capacity    *Capacity      `json:"capacity"` // nil for nodes that run no machines
	PriceBps    int            `json:"price_bps"`
	Accelerator string         `json:"accelerator"`
	Endpoint    string         `json:"endpoint"`
	Draining    bool           `json:"draining"` // takes no new jobs
	SeenAt      int64          `json:"seen_at"`
}

// Capacity is what a compute node has and what is free of it.
type Capacity struct {
	VCPUsTotal     int   `json:"vcpus_total"`
	VCPUsFree      int   `json:"vcpus_free"`
	MemoryTotalMiB int64 `json:"memory_total_mib"`
	MemoryFreeMiB  int64 `json:"memory_free_mib"`
	DiskTotalMiB   int64 `json:"disk_total_mib"`
	DiskFreeMiB    int64 `json:"disk_free_mib"`
}

// QuoteRequest asks what an instance costs and where it could run.
type QuoteRequest struct {
	Spec     message.ItemHash  `json:"spec,omitempty"`      // decides ties as the job's own spec will
	NodeHint uint32            `json:"node_hint,omitempty"` // node to run on; 0 leaves the choice open
	Content  *message.Instance `json:"content"`
}

// Quote is the price of an instance and the nodes that could run it.
type Quote struct {
	RateQ32       Wei         `json:"rate_q32"`
	WeiPerSecond  Wei         `json:"wei_per_second"`
	WeiPerHour    Wei         `json:"wei_per_hour"`
	WeiPerMonth   Wei         `json:"wei_per_month"` // 730 hours
	PrepaySeconds int64       `json:"prepay_seconds"`
	PrepayWei     Wei         `json:"prepay_wei"`
	Token         uint8       `json:"token"`
	NodeID        uint32      `json:"node_id"` // that would be chosen; 0 for none
	Reason        string      `json:"reason"`  // why that node, or why none
	Lines         []QuoteLine `json:"lines"`
	Candidates    []Candidate `json:"candidates"`
}

// QuoteLine is one line of an hourly price.
type QuoteLine struct {
	Name       string `json:"name"`
	WeiPerHour Wei    `json:"wei_per_hour"`
}

// Candidate is a node that was looked at for a job, and why it was chosen or
// not.
type Candidate struct {
	NodeID   uint32  `json:"node_id"`
	Eligible bool    `json:"eligible"`
	Chosen   bool    `json:"chosen"`
	Reason   string  `json:"reason"`
	Score    float64 `json:"score"`
}

// Accepted is the answer to a message.
type Accepted struct {
	ItemHash message.ItemHash `json:"item_hash"`
	Status   message.Status   `json:"status"`
}

// MessageView is a message and where it stands.
type MessageView struct {
	Status    message.Status    `json:"status"`
	Message   *message.Envelope `json:"message,omitempty"`
	ErrorCode *message.Code     `json:"error_code,omitempty"`
	Detail    string            `json:"detail,omitempty"`
}

// JobRequest opens a job.
type JobRequest struct {
	Message   *message.Envelope `json:"message"`
	Offer     *job.Offer        `json:"offer"`
	Signature job.Signature     `json:"signature"`
}

// JobStatus is where a job stands.
type JobStatus string

// The statuses of a job.
const (
	JobOffered   JobStatus = "offered"   // the coordinator has the offer
	JobDecided   JobStatus = "decided"   // a node has accepted, the transaction is on its way
	JobAssigned  JobStatus = "assigned"  // the chain has the assignment
	JobRunning   JobStatus = "running"   // the machine runs and is billed
	JobStopped   JobStatus = "stopped"   // ended by the payer, or by the node
	JobCompleted JobStatus = "completed" // ended by itself
	JobFailed    JobStatus = "failed"    // never started
	JobExpired   JobStatus = "expired"   // reached its end, or its payer's grace ran out
	JobRefused   JobStatus = "refused"   // no node takes it
)

// Ended reports whether the job can never run again.
func (s JobStatus) Ended() bool {
	switch s {
	case JobStopped, JobCompleted, JobFailed, JobExpired, JobRefused:
		return true
	default:
		return false
	}
}

// Job is a job as a coordinator sees it.
type Job struct {
	Spec           message.ItemHash `json:"spec"`
	Owner          common.Address   `json:"owner"`
	Status         JobStatus        `json:"status"`
	StatusReason   string           `json:"status_reason"`
	NodeID         uint32           `json:"node_id"`
	NodeEndpoint   string           `json:"node_endpoint"`
	RateQ32        Wei              `json:"rate_q32"`
	WeiPerSecond   Wei              `json:"wei_per_second"`
	Attempt        uint8            `json:"attempt"`
	OfferedAt      int64            `json:"offered_at"`
	AssignedAt     int64            `json:"assigned_at"`
	StartedAt      int64            `json:"started_at"`
	StoppedAt      int64            `json:"stopped_at"`
	MeteredSeconds int64            `json:"metered_seconds"`
	MeteredWei     Wei              `json:"metered_wei"`
	Ports          []job.Port       `json:"ports"`
	VM             *job.VM          `json:"vm,omitempty"`
	Decision       *Decision        `json:"decision,omitempty"`
	PaidUntil      int64            `json:"paid_until"`
	ArrearsSince   int64            `json:"arrears_since"`
}

// Port returns the forward of a port of the machine, and false if there is
// none.
func (j *Job) Port(protocol string, guest int) (job.Port, bool) {
	for _, p := range j.Ports {
		if p.Protocol == protocol && p.Guest == guest {
			return p, true
		}
	}
	return job.Port{}, false
}

// Decision says which node got a job and why.
type Decision struct {
	NodeID     uint32      `json:"node_id"`
	Reason     string      `json:"reason"`
	Candidates []Candidate `json:"candidates"`
}

// StopRequest ends a job.
type StopRequest struct {
	Deadline  uint64        `json:"deadline"`
	Signature job.Signature `json:"signature"`
}

// Receipt is what a job cost and who was paid.
type Receipt struct {
	Spec       message.ItemHash `json:"spec"`
	RateQ32    Wei              `json:"rate_q32"`
	StartedAt  int64            `json:"started_at"`
	StoppedAt  int64            `json:"stopped_at"`
	Seconds    int64            `json:"seconds"`
	QuotedWei  Wei              `json:"quoted_wei"`
	SettledWei Wei              `json:"settled_wei"`
	Split      Split            `json:"split"`
	Claims     []Claim          `json:"claims"`
	RefundWei  Wei              `json:"refund_wei"`
	Complete   bool             `json:"complete"` // everything is settled
}

// Split is how a settled amount was shared; the parts add up to it.
type Split struct {
	Node        Wei `json:"node"`
	Coordinator Wei `json:"coordinator"`
	Staker      Wei `json:"staker"`
	Development Wei `json:"development"`
}

// Sum returns the sum of the parts.
func (s Split) Sum() Wei {
	sum := s.Node.Big()
	for _, part := range []Wei{s.Coordinator, s.Staker, s.Development} {
		sum.Add(sum, part.Big())
	}
	return Wei{sum}
}

// Claim is one settlement on chain.
type Claim struct {
	Tx          common.Hash `json:"tx"`
	Gross       Wei         `json:"gross"`  // taken from the payer for all jobs on the node
	Amount      Wei         `json:"amount"` // what of it is this job's; the shares add up to it
	At          int64       `json:"at"`
	Node        Wei         `json:"node"`
	Coordinator Wei         `json:"coordinator"`
	Staker      Wei         `json:"staker"`
	Development Wei         `json:"development"`
}

// PermitRequest asks to relay an EIP-2612 permit of the token.
type PermitRequest struct {
	Owner    common.Address `json:"owner"`
	Spender  common.Address `json:"spender"`
	Value    Wei            `json:"value"`
	Deadline uint64         `json:"deadline"`
	V        uint8          `json:"v"`
	R        common.Hash    `json:"r"`
	S        common.Hash    `json:"s"`
}

// Relayed names a transaction that a node will send.
type Relayed struct {
	Intent string `json:"intent"`
}

// AccountView is an address as the payments know it.
type AccountView struct {
	Address      common.Address `json:"address"`
	EthWei       Wei            `json:"eth_wei"`
	TokenBalance Wei            `json:"token_balance"`
	Allowance    Wei            `json:"allowance"` // for the payment contract
	Refund       Wei            `json:"refund"`    // freed prepayments, used before the allowance
	RateQ32      Wei            `json:"rate_q32"`  // of all jobs
	PaidUntil    int64          `json:"paid_until"`
	ArrearsSince int64          `json:"arrears_since"`
	SoftStop     int64          `json:"soft_stop"`
	HardStop     int64          `json:"hard_stop"`
}

// Blob names stored bytes.
type Blob struct {
	Hash message.ItemHash `json:"hash"`
	Size int64            `json:"size"` // bytes
}
