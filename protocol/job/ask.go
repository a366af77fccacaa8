package job

import (
	"encoding/json"
	"fmt"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// AskKind names a question that one node asks another about a job.
type AskKind string

// The kinds of questions.
const (
	AskAccept  AskKind = "accept"  // will you run this job on these terms?
	AskStatus  AskKind = "status"  // how is the machine of this job?
	AskLogs    AskKind = "logs"    // the owner wants the console of this job
	AskMessage AskKind = "message" // give me this message

	AskReconcile AskKind = "reconcile" // this is what I have of some ranges: what of that have you otherwise?
	AskMessages  AskKind = "messages"  // give me these messages, of those that you have processed
)

// Bounds of an ask.
const (
	targetMax        = 2048 // characters of the request target that an owner signed
	authorizationMax = 2048 // characters of an Authorization header
	reasonMax        = 1024 // characters of a reason
)

// Ask is a question; which fields count depends on Kind.
type Ask struct {
	Kind AskKind `json:"kind"`

	// AskAccept: the INSTANCE message, the payer's signed offer, and the
	// terms that the coordinator will sign.
	Message        *message.Envelope `json:"message,omitempty"`
	Offer          *Offer            `json:"offer,omitempty"`
	OfferSignature Signature         `json:"offer_signature,omitempty"`
	Assignment     *Assignment       `json:"assignment,omitempty"`

	// AskStatus, AskLogs.
	Spec message.ItemHash `json:"spec,omitempty"`

	// AskLogs: the owner's request as it was signed. After the reply the
	// stream carries the raw bytes of the console.
	Follow        bool   `json:"follow,omitempty"`
	Authorization string `json:"authorization,omitempty"`
	Method        string `json:"method,omitempty"`
	Target        string `json:"target,omitempty"` // path and query

	// AskMessage.
	ItemHash message.ItemHash `json:"item_hash,omitempty"`

	// AskReconcile: a reconcile.Question as it is written.
	Ranges []byte `json:"ranges,omitempty"`

	// AskMessages.
	ItemHashes []message.ItemHash `json:"item_hashes,omitempty"`
}

// Reply is the answer to an Ask. Error is set if the question could not be
// answered; ErrorKind is then one of the kinds of failure of the node.
type Reply struct {
	Accepted  bool              `json:"accepted,omitempty"`  // AskAccept
	Signature Signature         `json:"signature,omitempty"` // AskAccept: the node signer's Accept
	Reason    string            `json:"reason,omitempty"`    // AskAccept: why not
	VM        *VM               `json:"vm,omitempty"`        // AskStatus
	Message   *message.Envelope `json:"message,omitempty"`   // AskMessage
	Ranges    []byte            `json:"ranges,omitempty"`    // AskReconcile: a reconcile.Answer as it is written.
	Messages  *Messages         `json:"messages,omitempty"`  // AskMessages
	Error     string            `json:"error,omitempty"`
	ErrorKind string            `json:"error_kind,omitempty"`
}

// VM is the machine of a job as its node sees it.
type VM struct {
	State       string           `json:"state"`
	Driver      string           `json:"driver,omitempty"`
	Accelerator string           `json:"accelerator,omitempty"` // kvm or tcg
	Detail      string           `json:"detail,omitempty"`
	Ports       []Port           `json:"ports,omitempty"`
	TimingsMS   map[string]int64 `json:"timings_ms,omitempty"` // stage to milliseconds
	History     []Step           `json:"history,omitempty"`    // oldest first, the newest HistoryMax of it
	Usage       *Usage           `json:"usage,omitempty"`      // nil while it does not run
}

// Usage is what a machine had used at a moment. CPU time and traffic begin anew
// when it is started again.
type Usage struct {
	AtMS      int64  `json:"at_ms"`              // Unix milliseconds of the node's clock
	CPUMS     int64  `json:"cpu_ms"`             // milliseconds of one processor
	RSSBytes  int64  `json:"rss_bytes"`          // memory of the host
	DiskBytes int64  `json:"disk_bytes"`         // allocated on the host's disk
	RxBytes   *int64 `json:"rx_bytes,omitempty"` // received by the machine; nil where nobody counts
	TxBytes   *int64 `json:"tx_bytes,omitempty"` // sent by it
}

// Bounds of a machine's history in an answer.
const (
	HistoryMax = 50
	CauseMax   = 512 // bytes
)

// Step is what happened to a machine: it went from one state to another, or,
// where both are the same, something was said about it.
type Step struct {
	At    int64  `json:"at"`             // Unix seconds of the node's clock
	From  string `json:"from,omitempty"` // "" for its first state
	To    string `json:"to"`
	Cause string `json:"cause,omitempty"` // for people
}

func (v *VM) check() error {
	if len(v.History) > HistoryMax {
		return fmt.Errorf("history has %d steps, at most %d are allowed", len(v.History), HistoryMax)
	}
	for _, s := range v.History {
		if len(s.Cause) > CauseMax || len(s.From)+len(s.To) > CauseMax {
			return fmt.Errorf("history: a step has more than %d bytes", CauseMax)
		}
	}
	return nil
}

// Port is a port of the machine and where it is reached from outside.
type Port struct {
	Guest    int    `json:"guest"`
	Protocol string `json:"protocol"` // tcp or udp
	Host     int    `json:"host"`
	HostIP   string `json:"host_ip"`
}

// ParseAsk decodes a question and checks that it has what its kind needs.
func ParseAsk(raw []byte) (*Ask, error) {
	a := new(Ask)
	if err := json.Unmarshal(raw, a); err != nil {
		return nil, fmt.Errorf("decode ask: %w", err)
	}
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("ask %.20s: %w", a.Kind, err)
	}
	return a, nil
}

func (a *Ask) check() error {
	switch a.Kind {
	case AskAccept:
		return a.checkAccept()
	case AskStatus:
		return checkSpec("status", a.Spec)
	case AskLogs:
		if len(a.Authorization) == 0 || len(a.Authorization) > authorizationMax {
			return fmt.Errorf("authorization has %d characters, want 1 to %d", len(a.Authorization), authorizationMax)
		}
		if len(a.Method) == 0 || len(a.Method)+len(a.Target) > targetMax || len(a.Target) == 0 {
			return fmt.Errorf("method and target have %d characters, want both and at most %d", len(a.Method)+len(a.Target), targetMax)
		}
		return checkSpec("logs", a.Spec)
	case AskMessage:
		if a.ItemHash == "" {
			return fmt.Errorf("item_hash is missing")
		}
		return nil
	case AskReconcile:
		return a.checkRanges()
	case AskMessages:
		return a.checkMessages()
	default:
		return fmt.Errorf("unknown kind %.40q", a.Kind)
	}
}

func (a *Ask) checkAccept() error {
	switch {
	case a.Message == nil:
		return fmt.Errorf("message is missing")
	case a.Offer == nil:
		return fmt.Errorf("offer is missing")
	case a.Assignment == nil:
		return fmt.Errorf("assignment is missing")
	case len(a.OfferSignature) == 0:
		return fmt.Errorf("offer_signature is missing")
	case a.Offer.Spec != a.Message.ItemHash || a.Assignment.Spec != a.Message.ItemHash:
		return fmt.Errorf("message is %s, offer for %s, assignment for %s; want one spec", a.Message.ItemHash, a.Offer.Spec, a.Assignment.Spec)
	case a.Assignment.RateQ32.Cmp(a.Offer.MaxRateQ32) > 0:
		return fmt.Errorf("rate_q32 %s is above the offered %s", a.Assignment.RateQ32, a.Offer.MaxRateQ32)
	}
	return nil
}

// ParseReply decodes an answer.
func ParseReply(raw []byte) (*Reply, error) {
	r := new(Reply)
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("decode reply: %w", err)
	}
	if len(r.Reason) > reasonMax || len(r.Error) > reasonMax {
		return nil, fmt.Errorf("reply: a reason has more than %d characters", reasonMax)
	}
	if r.Accepted && len(r.Signature) == 0 {
		return nil, fmt.Errorf("reply: accepted without a signature")
	}
	if r.VM != nil {
		if err := r.VM.check(); err != nil {
			return nil, fmt.Errorf("reply: %w", err)
		}
	}
	return r, nil
}

// CheckOffer checks an offer against the message it is for: the payer signed
// it, and the message is the payer's own.
func CheckOffer(d Domain, o *Offer, sig Signature, e *message.Envelope) error {
	if o.Spec != e.ItemHash {
		return fmt.Errorf("offer is for %s, but the message is %s", o.Spec, e.ItemHash)
	}
	if !common.IsHexAddress(e.Sender) || common.HexToAddress(e.Sender) != o.Payer {
		return fmt.Errorf("offer is paid by %s, but the message is from %.80s", o.Payer, e.Sender)
	}
	return Verify(d, o, sig, o.Payer)
}
