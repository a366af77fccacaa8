package message

import (
	"math"
	"strings"
)

// Bounds of confidential execution.
const (
	MaxMeasurements   = 16
	MaxVCPUTypeChars  = 64
	registerChars     = 96 // 48 bytes in hex
	attestationPort   = 8443
	policyDefault     = 1
	policySNPDefault  = 0x30000
	policySNPReserved = 1 << 17 // must be one
)

// Modes of confidential execution.
const (
	ModeSEV    = "sev"
	ModeSEVSNP = "sev_snp"
	ModeTDX    = "tdx"
)

// TrustedExecution asks for a confidential machine. See section 1.8 of the
// protocol.
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
	Platform string `json:"platform"` // sev_snp or tdx
	// Registers by name; the one of sev_snp is launch.
	Registers map[string]string `json:"registers"`
	VCPUType  *string           `json:"vcpu_type,omitempty"`
	// Digest is set when launch was written as a field of its own, the older
	// form.
	Digest bool `json:"-"`
}

// Port returns the port of the attestation service.
func (t *TrustedExecution) Port() int {
	if t.AttestationPort == nil {
		return attestationPort
	}
	return *t.AttestationPort
}

func readTrustedExecution(n node) *TrustedExecution {
	if n.skip() {
		return nil
	}
	o := n.object("firmware", "policy", "mode", "runtime", "measurements", "attestation_port")
	t := &TrustedExecution{
		Firmware: o.maybe("firmware").hashOrNull(), Runtime: o.maybe("runtime").hashOrNull(), Policy: policyDefault,
		Mode: o.maybe("mode").wordOrNull(ModeSEV, ModeSEVSNP, ModeTDX),
	}
	var mode string
	if t.Mode != nil {
		mode = *t.Mode
	}
	if mode == ModeSEVSNP {
		t.Policy = policySNPDefault
	}
	if p := o.maybe("policy"); !p.absent() {
		t.Policy = p.unsigned()
	}
	if p := o.maybe("attestation_port").integerOrNull(1, math.MaxUint16); p != nil {
		port := int(*p)
		t.AttestationPort = &port
	}
	t.Measurements = readMeasurements(o.maybe("measurements"))
	t.checkMode(o, mode)
	return t
}

func (t *TrustedExecution) checkMode(o object, mode string) {
	if o.d.err != nil || mode != ModeSEVSNP && mode != ModeTDX {
		return
	}
	switch {
	case t.Runtime == nil:
		o.maybe("runtime").fail("is missing; mode %s needs it", mode)
	case len(t.Measurements) == 0:
		o.maybe("measurements").fail("is empty; mode %s needs at least one", mode)
	case t.Firmware != nil:
		o.maybe("firmware").fail("is not used in mode %s", mode)
	case mode == ModeSEVSNP:
		checkPolicy(o.maybe("policy"), t.Policy)
	case t.Policy != policyDefault:
		o.maybe("policy").fail("must be left out in mode tdx")
	}
}

// checkPolicy wants the reserved bit of an SNP guest policy.
func checkPolicy(n node, policy uint64) {
	if n.d.err == nil && policy&policySNPReserved == 0 {
		n.fail("is %#x, which has bit 17 clear", policy)
	}
}

func readMeasurements(n node) []LaunchMeasurement {
	nodes := n.list(MaxMeasurements)
	if n.skip() {
		return nil
	}
	out := make([]LaunchMeasurement, len(nodes))
	for i, m := range nodes {
		out[i] = readMeasurement(m)
	}
	return out
}

// readMeasurement reads both forms in use: registers by name, and the older
// single digest, which is the launch register.
func readMeasurement(n node) LaunchMeasurement {
	o := n.object("platform", "registers", "digest", "vcpu_type")
	m := LaunchMeasurement{
		Platform: o.need("platform").word(ModeSEVSNP, ModeTDX), Registers: map[string]string{},
		VCPUType: o.maybe("vcpu_type").textOrNull(MaxVCPUTypeChars),
	}
	if digest := o.maybe("digest"); !digest.null() {
		m.Digest = true
		m.Registers["launch"] = digest.hex(registerChars)
		return m
	}
	names := registersOf(m.Platform)
	registers := o.need("registers").object(names...)
	for _, name := range names {
		m.Registers[name] = registers.need(name).hex(registerChars)
	}
	return m
}

// registersOf returns the registers of a platform in the order of its model.
func registersOf(platform string) []string {
	if platform == ModeTDX {
		return []string{"mrtd", "rtmr1", "rtmr2", "mrconfigid"}
	}
	return []string{"launch"}
}

// hex reads lower-case hex digits.
func (n node) hex(chars int) string {
	s := n.text(0, chars)
	if n.d.err == nil && (len(s) != chars || strings.Trim(s, alphabetHex) != "") {
		n.fail("is not %d lower-case hex digits", chars)
	}
	return s
}

// writeTrustedExecution writes what is newer than the released form only if it
// is used: clients of that form refuse other keys, even with null.
func writeTrustedExecution(w *writer, t *TrustedExecution) {
	w.open()
	textOrNull(w, "firmware", t.Firmware)
	w.unsigned("policy", t.Policy)
	if t.Mode != nil || t.Runtime != nil || t.Measurements != nil || t.AttestationPort != nil {
		t.writeMeasured(w)
	}
	w.close()
}

func (t *TrustedExecution) writeMeasured(w *writer) {
	textOrNull(w, "mode", t.Mode)
	textOrNull(w, "runtime", t.Runtime)
	if t.Measurements == nil {
		w.null("measurements")
	} else {
		list(w, "measurements", t.Measurements, writeMeasurement)
	}
	if t.AttestationPort == nil {
		w.null("attestation_port")
	} else {
		w.integer("attestation_port", int64(*t.AttestationPort))
	}
}

func writeMeasurement(w *writer, m *LaunchMeasurement) {
	w.open()
	w.text("platform", m.Platform)
	if m.Digest {
		w.text("digest", m.Registers["launch"])
	} else {
		w.key("registers")
		w.open()
		for _, name := range registersOf(m.Platform) {
			w.text(name, m.Registers[name])
		}
		w.close()
	}
	textOrNull(w, "vcpu_type", m.VCPUType)
	w.close()
}
