package message

import (
	"encoding/json"
	"regexp"
	"time"
)

// Hypervisors that a content may name.
const (
	QEMU        = "qemu"
	Firecracker = "firecracker"
)

// Instance is the content of an INSTANCE message: a virtual machine that runs
// until it is stopped.
type Instance struct {
	Address        string // owner
	Time           time.Time
	AllowAmend     bool
	Metadata       Metadata
	AuthorizedKeys []string // public SSH keys
	Variables      map[string]string
	Environment    Environment
	Resources      Resources
	Payment        *Payment // nil means hold
	Requirements   *Requirements
	Volumes        []Volume
	Replaces       *string
	Rootfs         Rootfs
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

// PaymentType returns how the instance is paid for.
func (i *Instance) PaymentType() PaymentType {
	if i.Payment == nil {
		return PayHold
	}
	return i.Payment.Type
}

// Name returns metadata.name, or "" if there is none that is a text.
func (i *Instance) Name() string {
	var name string
	if err := json.Unmarshal(i.Metadata["name"], &name); err != nil {
		return ""
	}
	return name
}

// ParseInstance decodes and checks the content of an INSTANCE message. The
// error is always a *RejectError.
func ParseInstance(raw []byte) (*Instance, error) {
	d, n, err := contentNode(raw)
	if err != nil {
		return nil, err
	}
	o := d.object(n, "address", "time", "allow_amend", "metadata", "authorized_keys", "variables", "environment",
		"resources", "payment", "requirements", "volumes", "replaces", "rootfs")
	i := &Instance{
		Address: o.need("address").text(1, MaxTextBytes), Time: o.need("time").seconds(),
		AllowAmend: o.need("allow_amend").boolean(false), Metadata: o.maybe("metadata").dict(metadataMax),
		AuthorizedKeys: readKeys(o.maybe("authorized_keys")), Variables: readVariables(o.maybe("variables")),
		Environment: readEnvironment(o.need("environment")), Resources: readResources(o.need("resources")),
		Payment: readPayment(o.maybe("payment")), Requirements: readRequirements(o.maybe("requirements")),
		Replaces: o.maybe("replaces").textOrNull(MaxRefChars), Rootfs: readRootfs(o.need("rootfs")),
	}
	for _, v := range o.maybe("volumes").list(MaxVolumes) {
		i.Volumes = append(i.Volumes, readVolume(v))
	}
	if d.err != nil {
		return nil, d.err
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
	o := n.d.object(n)
	e := Environment{
		Internet: o.maybe("internet").boolean(false), AlephAPI: o.maybe("aleph_api").boolean(false),
		Reproducible: o.maybe("reproducible").boolean(false), SharedCache: o.maybe("shared_cache").boolean(false),
		TrustedExecution: readTrustedExecution(o.maybe("trusted_execution")),
	}
	if h := o.maybe("hypervisor"); !h.null() {
		w := h.word(QEMU, Firecracker)
		e.Hypervisor = &w
	}
	// Only functions can be reproducible or share a cache; the words are
	// tolerated on instances because clients send them.
	return e
}

func readRootfs(n node) Rootfs {
	o := n.d.object(n)
	r := Rootfs{
		Parent: readParent(o.need("parent")), Persistence: o.need("persistence").word("host", "store"),
		SizeMiB: o.need("size_mib").strictInteger(1, MaxVolumeMiB),
	}
	for _, h := range o.maybe("forgotten_by").list(MaxVolumes) {
		r.ForgottenBy = append(r.ForgottenBy, h.text(0, MaxTextBytes))
	}
	return r
}

// MarshalJSON implements json.Marshaler with the compact form that clients
// send: unset optional fields are left out.
func (i Instance) MarshalJSON() ([]byte, error) {
	volumes := i.Volumes
	if volumes == nil {
		volumes = []Volume{}
	}
	return marshal(struct {
		Address        string            `json:"address"`
		Time           json.Number       `json:"time"`
		AllowAmend     bool              `json:"allow_amend"`
		Metadata       Metadata          `json:"metadata,omitempty"`
		AuthorizedKeys []string          `json:"authorized_keys,omitempty"`
		Variables      map[string]string `json:"variables,omitempty"`
		Environment    Environment       `json:"environment"`
		Resources      Resources         `json:"resources"`
		Payment        *Payment          `json:"payment,omitempty"`
		Requirements   *Requirements     `json:"requirements,omitempty"`
		Volumes        []Volume          `json:"volumes"`
		Replaces       *string           `json:"replaces,omitempty"`
		Rootfs         Rootfs            `json:"rootfs"`
	}{
		i.Address, json.Number(FormatTime(i.Time)), i.AllowAmend, i.Metadata, i.AuthorizedKeys, i.Variables,
		i.Environment, i.Resources, i.Payment, i.Requirements, volumes, i.Replaces, i.Rootfs,
	})
}

// UnmarshalJSON implements json.Unmarshaler with ParseInstance.
func (i *Instance) UnmarshalJSON(raw []byte) error {
	p, err := ParseInstance(raw)
	if err != nil {
		return err
	}
	*i = *p
	return nil
}

// TrustedExecution asks for a confidential machine.
type TrustedExecution struct {
	Firmware        *ItemHash           `json:"firmware,omitempty"`
	Policy          uint64              `json:"policy"` // guest policy of the platform
	Mode            *string             `json:"mode,omitempty"`
	Runtime         *ItemHash           `json:"runtime,omitempty"`
	Measurements    []LaunchMeasurement `json:"measurements,omitempty"`
	AttestationPort *int                `json:"attestation_port,omitempty"` // nil means 8443
}

// LaunchMeasurement is what a confidential machine must measure when it starts.
type LaunchMeasurement struct {
	Platform  string            `json:"platform"` // sev_snp or tdx
	Registers map[string]string `json:"registers"`
	VCPUType  *string           `json:"vcpu_type,omitempty"`
}

// Modes of confidential execution, and their default policies.
const (
	ModeSEV    = "sev"
	ModeSEVSNP = "sev_snp"
	ModeTDX    = "tdx"

	policyDefault    = 1
	policySNPDefault = 0x30000
	policySNPBit     = 1 << 17 // reserved, must be one
)

func readTrustedExecution(n node) *TrustedExecution {
	if n.d.err != nil || n.null() {
		return nil
	}
	o := n.d.object(n, "firmware", "policy", "mode", "runtime", "measurements", "attestation_port")
	t := &TrustedExecution{Firmware: o.maybe("firmware").hashOrNull(), Runtime: o.maybe("runtime").hashOrNull(), Policy: policyDefault}
	var mode string
	if m := o.maybe("mode"); !m.null() {
		mode = m.word(ModeSEV, ModeSEVSNP, ModeTDX)
		t.Mode = &mode
	}
	if mode == ModeSEVSNP {
		t.Policy = policySNPDefault
	}
	if p := o.maybe("policy"); !p.absent() {
		t.Policy = p.unsigned()
	}
	if p := o.maybe("attestation_port"); !p.null() {
		v := int(p.integer(1, 65535))
		t.AttestationPort = &v
	}
	for _, m := range o.maybe("measurements").list(16) {
		t.Measurements = append(t.Measurements, readMeasurement(m))
	}
	t.checkMode(n, mode)
	return t
}

func (t *TrustedExecution) checkMode(n node, mode string) {
	if mode != ModeSEVSNP && mode != ModeTDX {
		return
	}
	switch {
	case t.Runtime == nil:
		n.d.fail("%s.runtime is missing; mode %s needs it", n.path, mode)
	case len(t.Measurements) == 0:
		n.d.fail("%s.measurements is empty; mode %s needs at least one", n.path, mode)
	case t.Firmware != nil:
		n.d.fail("%s.firmware is not used in mode %s", n.path, mode)
	case mode == ModeSEVSNP && t.Policy&policySNPBit == 0:
		n.d.fail("%s.policy %#x has bit 17 clear", n.path, t.Policy)
	case mode == ModeTDX && t.Policy != policyDefault:
		n.d.fail("%s.policy must be left out in mode tdx", n.path)
	}
}

// readMeasurement reads both forms in use: registers by name, and the older
// single digest, which is the launch register.
func readMeasurement(n node) LaunchMeasurement {
	o := n.d.object(n, "platform", "registers", "digest", "vcpu_type")
	m := LaunchMeasurement{
		Platform: o.need("platform").word(ModeSEVSNP, ModeTDX), Registers: map[string]string{},
		VCPUType: o.maybe("vcpu_type").textOrNull(64),
	}
	if digest := o.maybe("digest"); !digest.null() {
		m.Registers["launch"] = digest.register()
		return m
	}
	names := []string{"launch"}
	if m.Platform == ModeTDX {
		names = []string{"mrtd", "rtmr1", "rtmr2", "mrconfigid"}
	}
	registers := n.d.object(o.need("registers"), names...)
	for _, name := range names {
		m.Registers[name] = registers.need(name).register()
	}
	return m
}

// register reads 48 bytes in lower-case hex.
func (n node) register() string {
	s := n.text(0, 96)
	if n.d.err == nil && !regexp.MustCompile(`^[0-9a-f]{96}$`).MatchString(s) {
		n.d.fail("%s is not 96 lower-case hex digits", n.path)
	}
	return s
}

// unsigned reads a 64-bit unsigned number.
func (n node) unsigned() uint64 {
	r := n.number()
	if n.d.err == nil && (!r.IsInt() || !r.Num().IsUint64()) {
		n.d.fail("%s is not an unsigned 64-bit number", n.path)
		return 0
	}
	return r.Num().Uint64()
}
