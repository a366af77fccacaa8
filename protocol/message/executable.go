package message

import (
	"encoding/json"
	"math"
	"time"
	"unicode/utf8"
)

// Bounds of executable contents.
const (
	MaxVCPUs      = 256
	MaxMemoryMiB  = 1 << 20
	MaxSeconds    = 315_360_000 // ten years
	MaxMetadata   = 256         // entries
	MaxKeys       = 256         // authorized keys
	MaxKeyChars   = 8192
	MaxVariables  = 256
	MaxNameChars  = 128 // of a variable
	MaxValueChars = 4096
	MaxRefChars   = 128 // of a replaced machine's hash
)

// Executable is what a PROGRAM and an INSTANCE have in common. See section 1.8
// of the protocol.
type Executable struct {
	Address        string // owner
	Time           time.Time
	AllowAmend     bool
	Metadata       Metadata
	AuthorizedKeys []string // public SSH keys
	Variables      map[string]string
	Resources      Resources
	Payment        *Payment // nil means hold
	Requirements   *Requirements
	Volumes        []Volume
	Replaces       *string
}

// Metadata is free data that an owner attaches, by name.
type Metadata = map[string]json.RawMessage

// executableKeys are the keys of an Executable and of its environment, which
// each type reads in its own way.
func executableKeys(more ...string) []string {
	return append([]string{
		"address", "time", "allow_amend", "metadata", "authorized_keys", "variables", "environment", "resources",
		"payment", "requirements", "volumes", "replaces",
	}, more...)
}

// Owner implements Content.
func (e *Executable) Owner() string { return e.Address }

// At implements Content.
func (e *Executable) At() time.Time { return e.Time }

// PaymentType returns how the machine is paid for.
func (e *Executable) PaymentType() PaymentType { return e.Payment.kind() }

// Name returns metadata.name, or "" if there is none that is a text.
func (e *Executable) Name() string {
	var name string
	if err := json.Unmarshal(e.Metadata["name"], &name); err != nil {
		return ""
	}
	return name
}

func readExecutable(raw []byte, more ...string) (object, Executable, error) {
	o, owner, at, err := contentOf(raw, executableKeys(more...)...)
	if err != nil {
		return o, Executable{}, err
	}
	e := Executable{
		Address: owner, Time: at,
		AllowAmend: o.need("allow_amend").boolean(false), Metadata: o.maybe("metadata").dict(MaxMetadata),
		AuthorizedKeys: o.maybe("authorized_keys").texts(MaxKeys, MaxKeyChars),
		Variables:      readVariables(o.maybe("variables")), Resources: readResources(o.need("resources")),
		Payment: readPayment(o.maybe("payment")), Requirements: readRequirements(o.maybe("requirements")),
		Replaces: o.maybe("replaces").textOrNull(MaxRefChars),
	}
	for _, v := range o.maybe("volumes").given().list(MaxVolumes) {
		e.Volumes = append(e.Volumes, readVolume(v))
	}
	return o, e, o.d.err
}

// write writes the fields with the environment in its place, and leaves the
// object open for those of the type.
func (e *Executable) write(w *writer, environment func()) {
	w.open()
	w.text("address", e.Address)
	w.time(e.Time)
	w.boolean("allow_amend", e.AllowAmend)
	w.dict("metadata", e.Metadata)
	texts(w, "authorized_keys", e.AuthorizedKeys)
	w.words("variables", e.Variables)
	environment()
	w.key("resources")
	e.Resources.write(w)
	objectOrNull(w, "payment", e.Payment, writePayment)
	objectOrNull(w, "requirements", e.Requirements, writeRequirements)
	list(w, "volumes", e.Volumes, writeVolume)
	textOrNull(w, "replaces", e.Replaces)
}

// Resources is the machine that a content asks for.
type Resources struct {
	VCPUs          int             `json:"vcpus"`
	MemoryMiB      int             `json:"memory"`
	Seconds        int64           `json:"seconds"`
	PublishedPorts []PublishedPort `json:"published_ports,omitempty"`
}

// PublishedPort is a port of the machine that is forwarded from its host.
type PublishedPort struct {
	Protocol string `json:"protocol"` // tcp or udp
	Port     int    `json:"port"`
}

func readResources(n node) Resources {
	const portMax = math.MaxUint16
	o := n.object()
	r := Resources{
		VCPUs:     int(o.maybe("vcpus").integerOr(1, 1, MaxVCPUs)),
		MemoryMiB: int(o.maybe("memory").integerOr(128, 1, MaxMemoryMiB)),
		Seconds:   o.maybe("seconds").integerOr(1, 1, MaxSeconds),
	}
	ports := o.maybe("published_ports")
	nodes := ports.list(anyLength)
	if ports.skip() {
		return r
	}
	r.PublishedPorts = make([]PublishedPort, 0, len(nodes))
	for _, port := range nodes {
		p := port.object()
		out := PublishedPort{Protocol: "tcp", Port: int(p.need("port").integer(1, portMax))}
		if protocol := p.maybe("protocol"); !protocol.absent() {
			out.Protocol = protocol.word("tcp", "udp")
		}
		r.PublishedPorts = append(r.PublishedPorts, out)
	}
	return r
}

func (r *Resources) write(w *writer) {
	w.open()
	w.integer("vcpus", int64(r.VCPUs))
	w.integer("memory", int64(r.MemoryMiB))
	w.integer("seconds", r.Seconds)
	if r.PublishedPorts == nil {
		w.null("published_ports")
	} else {
		list(w, "published_ports", r.PublishedPorts, func(w *writer, p *PublishedPort) {
			w.open()
			w.text("protocol", p.Protocol)
			w.integer("port", int64(p.Port))
			w.close()
		})
	}
	w.close()
}

// PaymentType is how a content is paid for.
type PaymentType string

// The payment types.
const (
	PayHold       PaymentType = "hold"
	PaySuperfluid PaymentType = "superfluid"
	PayCredit     PaymentType = "credit"
)

// Payment says how a content is paid for, and to whom.
type Payment struct {
	Chain    *Chain      `json:"chain,omitempty"`
	Receiver *string     `json:"receiver,omitempty"`
	Type     PaymentType `json:"type"`
}

func (p *Payment) kind() PaymentType {
	if p == nil {
		return PayHold
	}
	return p.Type
}

func readPayment(n node) *Payment {
	if n.skip() {
		return nil
	}
	o := n.object()
	p := &Payment{Receiver: o.maybe("receiver").textOrNull(anyLength)}
	if chain := o.maybe("chain"); !chain.skip() {
		c := chain.chain()
		p.Chain = &c
	}
	p.Type = PaymentType(o.need("type").word(string(PayHold), string(PaySuperfluid), string(PayCredit)))
	return p
}

func writePayment(w *writer, p *Payment) {
	w.open()
	textOrNull(w, "chain", p.Chain)
	textOrNull(w, "receiver", p.Receiver)
	w.text("type", string(p.Type))
	w.close()
}

// readVariables reads variables.
func readVariables(n node) map[string]string {
	if n.skip() {
		return nil
	}
	out := map[string]string{}
	for k, v := range n.object().fields {
		name := n.d.text(k)
		if chars := utf8.RuneCountInString(name); chars > MaxNameChars {
			n.fail("has a name of %d characters, at most %d are allowed", chars, MaxNameChars)
		}
		out[name] = node{d: n.d, at: v}.text(0, MaxValueChars)
	}
	if len(out) > MaxVariables {
		n.fail("has %d entries, at most %d are allowed", len(out), MaxVariables)
	}
	return out
}
