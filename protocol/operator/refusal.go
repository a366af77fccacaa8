package operator

// Refusal is why a proof is not taken, in the words that clients of compute
// nodes know.
type Refusal struct {
	Reason string
	// Malformed tells a proof that cannot be read from one that proves nothing.
	Malformed bool
}

// Error implements error.
func (r *Refusal) Error() string { return r.Reason }

func malformed(reason string) error { return &Refusal{Reason: reason, Malformed: true} }

func refused(reason string) error { return &Refusal{Reason: reason} }
