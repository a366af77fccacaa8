package message

import "time"

// Bounds of a V-PROGRAM.
const (
	MaxVerifiedVolumes     = 8
	MaxRuntimeCommentChars = 1024
	rootHashChars          = 64 // 32 bytes in hex
)

// VerifiableProgram is the content of a V-PROGRAM message: a confidential
// machine whose disks anybody can verify. See section 1.10 of the protocol.
type VerifiableProgram struct {
	Address      string // owner
	Time         time.Time
	AllowAmend   bool // never true
	Metadata     Metadata
	Internet     bool // of the environment, its only word
	Resources    Resources
	Payment      *Payment // by credit
	Requirements *Requirements
	Volumes      []VerifiedDisk
	Runtime      VerifiedRuntime
	Workload     VerifiedDisk // without a comment
	Verification Verification
}

// VerifiedRuntime is the system that a verifiable program runs on.
type VerifiedRuntime struct {
	Ref     ItemHash
	Comment string
}

// VerifiedDisk is a read-only disk and the hash tree that proves it. Both
// hashes name STORE messages.
type VerifiedDisk struct {
	Ref      ItemHash
	HashTree ItemHash
	RootHash string // 32 bytes in lower-case hex
	Comment  *string
}

// Verification says what the machine must measure.
type Verification struct {
	Backend      string // sev_snp
	Policy       uint64 // guest policy
	Measurements []LaunchMeasurement
}

// Owner implements Content.
func (v *VerifiableProgram) Owner() string { return v.Address }

// At implements Content.
func (v *VerifiableProgram) At() time.Time { return v.Time }

// PaymentType returns how the program is paid for.
func (v *VerifiableProgram) PaymentType() PaymentType { return v.Payment.kind() }

// ParseVerifiableProgram decodes and checks the content of a V-PROGRAM
// message. The error is always a *RejectError.
func ParseVerifiableProgram(raw []byte) (*VerifiableProgram, error) {
	o, owner, at, err := contentOf(raw, executableKeys("runtime", "workload", "verification")...)
	if err != nil {
		return nil, err
	}
	v := &VerifiableProgram{
		Address: owner, Time: at, AllowAmend: o.maybe("allow_amend").boolean(false),
		Metadata: o.maybe("metadata").dict(MaxMetadata), Internet: o.need("environment").object().maybe("internet").boolean(false),
		Resources: readResources(o.need("resources")), Payment: readPayment(o.need("payment")),
		Requirements: readRequirements(o.maybe("requirements")), Runtime: readVerifiedRuntime(o.need("runtime")),
		Workload: readVerifiedDisk(o.need("workload"), "ref", "hash_tree", "roothash"), Verification: readVerification(o.need("verification")),
	}
	for _, n := range o.maybe("volumes").given().list(MaxVerifiedVolumes) {
		v.Volumes = append(v.Volumes, readVerifiedDisk(n, "ref", "hash_tree", "roothash", "comment"))
	}
	v.checkUnused(o)
	if o.d.err != nil {
		return nil, o.d.err
	}
	return v, nil
}

// checkUnused refuses the words of other executables that would make the
// machine another than the one that is measured.
func (v *VerifiableProgram) checkUnused(o object) {
	switch {
	case o.d.err != nil:
	case v.AllowAmend:
		o.maybe("allow_amend").fail("is true; a verifiable program is never amended")
	case v.PaymentType() != PayCredit:
		o.maybe("payment").fail("is %s; a verifiable program is paid by credit", v.PaymentType())
	case len(readVariables(o.maybe("variables"))) > 0:
		o.maybe("variables").fail("is not empty; a verifiable program has none")
	case len(o.maybe("authorized_keys").texts(MaxKeys, MaxKeyChars)) > 0:
		o.maybe("authorized_keys").fail("is not empty; nobody logs in to a verifiable program")
	case !o.maybe("replaces").null():
		o.maybe("replaces").fail("is set; a verifiable program replaces no other")
	}
}

func readVerifiedRuntime(n node) VerifiedRuntime {
	o := n.object("ref", "comment")
	return VerifiedRuntime{Ref: o.need("ref").hash(), Comment: o.need("comment").text(0, MaxRuntimeCommentChars)}
}

func readVerifiedDisk(n node, keys ...string) VerifiedDisk {
	o := n.object(keys...)
	return VerifiedDisk{
		Ref: o.need("ref").hash(), HashTree: o.need("hash_tree").hash(), RootHash: o.need("roothash").hex(rootHashChars),
		Comment: o.maybe("comment").textOrNull(anyLength),
	}
}

func readVerification(n node) Verification {
	o := n.object("backend", "policy", "measurements")
	v := Verification{
		Backend: o.need("backend").word(ModeSEVSNP), Policy: o.need("policy").unsigned(),
		Measurements: readMeasurements(o.need("measurements")),
	}
	checkPolicy(o.maybe("policy"), v.Policy)
	if o.d.err == nil && len(v.Measurements) == 0 {
		o.maybe("measurements").fail("is empty, want at least one")
	}
	return v
}

// write writes the fields of an executable first, as the reference's model
// inherits them.
func (v *VerifiableProgram) write(w *writer) {
	w.open()
	w.text("address", v.Address)
	w.time(v.Time)
	w.boolean("allow_amend", v.AllowAmend)
	w.dict("metadata", v.Metadata)
	w.null("authorized_keys")
	w.null("variables")
	w.key("environment")
	w.open()
	w.boolean("internet", v.Internet)
	w.close()
	w.key("resources")
	v.Resources.write(w)
	objectOrNull(w, "payment", v.Payment, writePayment)
	objectOrNull(w, "requirements", v.Requirements, writeRequirements)
	list(w, "volumes", v.Volumes, func(w *writer, d *VerifiedDisk) {
		w.open()
		d.write(w)
		textOrNull(w, "comment", d.Comment)
		w.close()
	})
	w.null("replaces")
	w.key("runtime")
	w.open()
	w.text("ref", string(v.Runtime.Ref))
	w.text("comment", v.Runtime.Comment)
	w.close()
	w.key("workload")
	w.open()
	v.Workload.write(w)
	w.close()
	w.key("verification")
	w.open()
	w.text("backend", v.Verification.Backend)
	w.unsigned("policy", v.Verification.Policy)
	list(w, "measurements", v.Verification.Measurements, writeMeasurement)
	w.close()
	w.close()
}

// write writes what every disk has into an open object.
func (d *VerifiedDisk) write(w *writer) {
	w.text("ref", string(d.Ref))
	w.text("hash_tree", string(d.HashTree))
	w.text("roothash", d.RootHash)
}

// MarshalJSON implements json.Marshaler with the form that clients send: what
// is not set is left out.
func (v VerifiableProgram) MarshalJSON() ([]byte, error) { return wire(v.write) }

// UnmarshalJSON implements json.Unmarshaler with ParseVerifiableProgram.
func (v *VerifiableProgram) UnmarshalJSON(raw []byte) error {
	return into(v, raw, ParseVerifiableProgram)
}
