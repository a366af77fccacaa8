package message

import "time"

// Bounds of a FORGET.
const (
	MaxForgetTargets = 1000
	MaxReasonChars   = 1000
)

// Forget is the content of a FORGET message: it takes other messages back. See
// section 1.11 of the protocol.
type Forget struct {
	Address string // owner; no target needs to be theirs
	Time    time.Time
	Hashes  []ItemHash
	// Aggregates are keys of the owner's aggregates, of which only those that
	// look like hashes can be named.
	Aggregates []ItemHash
	Reason     *string
}

// Owner implements Content.
func (f *Forget) Owner() string { return f.Address }

// At implements Content.
func (f *Forget) At() time.Time { return f.Time }

// CheckTargets refuses a FORGET of nothing. That is a verdict of its own, which
// is given when the message is processed.
func (f *Forget) CheckTargets() error {
	if len(f.Hashes) == 0 && len(f.Aggregates) == 0 {
		return &RejectError{Code: CodeForgetNoTarget}
	}
	return nil
}

// ParseForget decodes and checks the content of a FORGET message. The error is
// always a *RejectError.
func ParseForget(raw []byte) (*Forget, error) {
	o, owner, at, err := contentOf(raw, "address", "time", "hashes", "aggregates", "reason")
	if err != nil {
		return nil, err
	}
	f := &Forget{
		Address: owner, Time: at, Hashes: o.need("hashes").given().hashes(MaxForgetTargets),
		Aggregates: o.maybe("aggregates").given().hashes(MaxForgetTargets),
		Reason:     o.maybe("reason").textOrNull(MaxReasonChars),
	}
	if o.d.err != nil {
		return nil, o.d.err
	}
	return f, nil
}

func (f *Forget) write(w *writer) {
	w.open()
	w.text("address", f.Address)
	w.time(f.Time)
	texts(w, "hashes", append([]ItemHash{}, f.Hashes...))
	if w.model || len(f.Aggregates) > 0 {
		texts(w, "aggregates", append([]ItemHash{}, f.Aggregates...))
	}
	textOrNull(w, "reason", f.Reason)
	w.close()
}

// MarshalJSON implements json.Marshaler with the form that clients send: what
// is not set is left out.
func (f Forget) MarshalJSON() ([]byte, error) { return wire(f.write) }

// UnmarshalJSON implements json.Unmarshaler with ParseForget.
func (f *Forget) UnmarshalJSON(raw []byte) error { return into(f, raw, ParseForget) }
