package message

// Hypervisors that a content may name.
const (
	QEMU        = "qemu"
	Firecracker = "firecracker"
)

// Instance is the content of an INSTANCE message: a virtual machine that runs
// until it is stopped. See section 1.9 of the protocol.
type Instance struct {
	Executable
	Environment Environment
	Rootfs      Rootfs
}

// Environment says what an instance may reach and how it is run.
type Environment struct {
	Internet         bool              `json:"internet"`
	AlephAPI         bool              `json:"aleph_api"`
	Hypervisor       *string           `json:"hypervisor,omitempty"`
	TrustedExecution *TrustedExecution `json:"trusted_execution,omitempty"`
	Reproducible     bool              `json:"reproducible"`
	SharedCache      bool              `json:"shared_cache"`
}

// Rootfs is the root disk of an instance.
type Rootfs struct {
	Parent      Parent   `json:"parent"`
	Persistence string   `json:"persistence"` // host or store
	SizeMiB     int64    `json:"size_mib"`
	ForgottenBy []string `json:"forgotten_by,omitempty"`
}

// ParseInstance decodes and checks the content of an INSTANCE message. The
// error is always a *RejectError.
func ParseInstance(raw []byte) (*Instance, error) {
	o, e, err := readExecutable(raw, "rootfs")
	if err != nil {
		return nil, err
	}
	i := &Instance{
		Executable: e, Environment: readEnvironment(o.need("environment")), Rootfs: readRootfs(o.need("rootfs")),
	}
	if o.d.err != nil {
		return nil, o.d.err
	}
	if err := i.checkTogether(); err != nil {
		return nil, err
	}
	return i, nil
}

// checkTogether holds the rules that span several fields.
func (i *Instance) checkTogether() error {
	var node NodeRequirement
	var gpus int
	if i.Requirements != nil {
		gpus = len(i.Requirements.GPU)
		if i.Requirements.Node != nil {
			node = *i.Requirements.Node
		}
	}
	payment := i.PaymentType()
	flows := payment == PaySuperfluid || payment == PayCredit
	qemu := i.Environment.Hypervisor != nil && *i.Environment.Hypervisor == QEMU
	confidential := i.Environment.TrustedExecution != nil
	switch {
	case confidential && !qemu:
		return invalid("content.environment.trusted_execution needs hypervisor qemu")
	case i.Requirements != nil && flows && node.NodeHash == nil:
		return invalid("content.requirements.node.node_hash is missing; requirements with payment by %s need it", payment)
	case gpus > 0 && node.NodeHash == nil:
		return invalid("content.requirements.node.node_hash is missing; a GPU needs it")
	case gpus > 0 && !qemu:
		return invalid("content.requirements.gpu needs hypervisor qemu")
	case node.TermsAndConditions != nil && node.NodeHash == nil:
		return invalid("content.requirements.node.node_hash is missing; terms_and_conditions need it")
	case node.TermsAndConditions != nil && !flows && !confidential:
		return invalid("content.requirements.node.terms_and_conditions need payment by superfluid or credit, or a confidential instance")
	}
	return nil
}

func readEnvironment(n node) Environment {
	o := n.object()
	// Only functions can be reproducible or share a cache; the words are
	// tolerated on instances because clients send them.
	return Environment{
		Internet: o.maybe("internet").boolean(false), AlephAPI: o.maybe("aleph_api").boolean(false),
		Hypervisor:       o.maybe("hypervisor").wordOrNull(QEMU, Firecracker),
		TrustedExecution: readTrustedExecution(o.maybe("trusted_execution")),
		Reproducible:     o.maybe("reproducible").boolean(false), SharedCache: o.maybe("shared_cache").boolean(false),
	}
}

func readRootfs(n node) Rootfs {
	o := n.object()
	return Rootfs{
		Parent: readParent(o.need("parent")), Persistence: o.need("persistence").word("host", "store"),
		SizeMiB:     o.need("size_mib").strictInteger(1, MaxVolumeMiB),
		ForgottenBy: o.maybe("forgotten_by").texts(anyLength, anyLength),
	}
}

func (i *Instance) write(w *writer) {
	i.Executable.write(w, func() {
		w.key("environment")
		i.Environment.write(w)
	})
	w.key("rootfs")
	w.open()
	w.key("parent")
	writeParent(w, &i.Rootfs.Parent)
	w.text("persistence", i.Rootfs.Persistence)
	w.integer("size_mib", i.Rootfs.SizeMiB)
	texts(w, "forgotten_by", i.Rootfs.ForgottenBy)
	w.close()
	w.close()
}

func (e *Environment) write(w *writer) {
	w.open()
	w.boolean("internet", e.Internet)
	w.boolean("aleph_api", e.AlephAPI)
	textOrNull(w, "hypervisor", e.Hypervisor)
	objectOrNull(w, "trusted_execution", e.TrustedExecution, writeTrustedExecution)
	w.boolean("reproducible", e.Reproducible)
	w.boolean("shared_cache", e.SharedCache)
	w.close()
}

// MarshalJSON implements json.Marshaler with the compact form that clients
// send: unset optional fields are left out.
func (i Instance) MarshalJSON() ([]byte, error) { return wire(i.write) }

// UnmarshalJSON implements json.Unmarshaler with ParseInstance.
func (i *Instance) UnmarshalJSON(raw []byte) error { return into(i, raw, ParseInstance) }
