package message

import (
	"encoding/json"
	"regexp"
	"strings"
)

// Bounds of executable contents.
const (
	MaxVCPUs       = 256
	MaxMemoryMiB   = 1 << 20
	MaxSeconds     = 315_360_000 // ten years
	MaxKeys        = 256         // authorized keys
	MaxKeyChars    = 8192
	MaxVariables   = 256
	MaxNameChars   = 128 // of a variable
	MaxValueChars  = 4096
	MaxVolumes     = 256
	MaxVolumeMiB   = 1_953_125 // 2048 GB
	MaxEphemeral   = 1000      // MiB of an ephemeral volume
	MaxVolumeChars = 256       // of a comment, a mount point or a name
	MaxRefChars    = 128       // of a replaced machine's hash

	// portsMax bounds published_ports; there are no more ports than this in
	// the two protocols, and a repeated one is refused by the executor.
	portsMax    = 1024
	gpusMax     = 64  // more than fit a host
	featuresMax = 256 // CPU features
)

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

// Parent is the file that a volume starts from: Ref names a STORE message.
type Parent struct {
	Ref       ItemHash `json:"ref"`
	UseLatest bool     `json:"use_latest"` // follow later versions of the file
}

// VolumeKind tells the three kinds of volumes apart.
type VolumeKind string

// The kinds of volumes.
const (
	Immutable  VolumeKind = "immutable"
	Ephemeral  VolumeKind = "ephemeral"
	Persistent VolumeKind = "persistent"
)

// Volume is a disk of a machine besides its root. Which fields count depends
// on Kind.
type Volume struct {
	Kind        VolumeKind
	Comment     *string
	Mount       *string
	Ref         ItemHash // Immutable: a STORE message
	UseLatest   bool     // Immutable
	SizeMiB     int64    // Ephemeral, Persistent
	Parent      *Parent  // Persistent
	Persistence *string  // Persistent: host or store
	Name        *string  // Persistent
}

// Requirements limits the hosts that a machine may run on.
type Requirements struct {
	CPU  *CPURequirement  `json:"cpu,omitempty"`
	Node *NodeRequirement `json:"node,omitempty"`
	GPU  []GPURequirement `json:"gpu,omitempty"`
}

// CPURequirement limits the processor.
type CPURequirement struct {
	Architecture *string  `json:"architecture,omitempty"` // x86_64 or arm64
	Vendor       *string  `json:"vendor,omitempty"`
	Features     []string `json:"features,omitempty"`
}

// NodeRequirement limits the node.
type NodeRequirement struct {
	Owner              *string   `json:"owner,omitempty"`
	AddressRegex       *string   `json:"address_regex,omitempty"`
	NodeHash           *ItemHash `json:"node_hash,omitempty"`
	TermsAndConditions *ItemHash `json:"terms_and_conditions,omitempty"`
}

// GPURequirement names a graphics card.
type GPURequirement struct {
	Vendor      string `json:"vendor"`
	DeviceName  string `json:"device_name"`
	DeviceClass string `json:"device_class"` // 0300 or 0302
	DeviceID    string `json:"device_id"`    // vvvv:dddd
}

func readResources(n node) Resources {
	o := n.d.object(n)
	r := Resources{
		VCPUs:     int(o.maybe("vcpus").integerOr(1, 1, MaxVCPUs)),
		MemoryMiB: int(o.maybe("memory").integerOr(128, 1, MaxMemoryMiB)),
		Seconds:   o.maybe("seconds").integerOr(1, 1, MaxSeconds),
	}
	for _, port := range o.maybe("published_ports").list(portsMax) {
		p := n.d.object(port)
		out := PublishedPort{Protocol: "tcp", Port: int(p.need("port").integer(1, 65535))}
		if protocol := p.maybe("protocol"); !protocol.absent() {
			out.Protocol = protocol.word("tcp", "udp")
		}
		r.PublishedPorts = append(r.PublishedPorts, out)
	}
	return r
}

func readPayment(n node) *Payment {
	if n.d.err != nil || n.null() {
		return nil
	}
	o := n.d.object(n)
	p := &Payment{Receiver: o.maybe("receiver").textOrNull(MaxTextBytes)}
	if chain := o.maybe("chain"); !chain.null() {
		c := Chain(chain.text(0, MaxTextBytes))
		if n.d.err == nil && !c.Known() {
			n.d.fail("%s is %.80q, which is not a chain of this protocol", chain.path, c)
		}
		p.Chain = &c
	}
	p.Type = PaymentType(o.need("type").word(string(PayHold), string(PaySuperfluid), string(PayCredit)))
	return p
}

func readParent(n node) Parent {
	o := n.d.object(n)
	return Parent{Ref: o.need("ref").hash(), UseLatest: o.maybe("use_latest").boolean(true)}
}

// readVolume tells the kind by the fields that only one kind has.
func readVolume(n node) Volume {
	v := Volume{}
	switch o := n.d.object(n); {
	case o.fields["ref"] != nil:
		o = n.d.object(n, "comment", "mount", "ref", "use_latest")
		v.Kind, v.Ref, v.UseLatest = Immutable, o.need("ref").hash(), o.maybe("use_latest").boolean(true)
	case o.fields["ephemeral"] != nil:
		o = n.d.object(n, "comment", "mount", "ephemeral", "size_mib")
		v.Kind, v.SizeMiB = Ephemeral, o.need("size_mib").strictInteger(1, MaxEphemeral)
		if n.d.err == nil && !o.need("ephemeral").boolean(false) {
			n.d.fail("%s.ephemeral is false; leave it out of a persistent volume", n.path)
		}
	default:
		o = n.d.object(n, "comment", "mount", "parent", "persistence", "name", "size_mib")
		v.Kind, v.SizeMiB = Persistent, o.need("size_mib").strictInteger(1, MaxVolumeMiB)
		if parent := o.maybe("parent"); !parent.null() {
			p := readParent(parent)
			v.Parent = &p
		}
		if persistence := o.maybe("persistence"); !persistence.null() {
			p := persistence.word("host", "store")
			v.Persistence = &p
		}
		v.Name = o.maybe("name").textOrNull(MaxVolumeChars)
	}
	o := n.d.object(n)
	v.Comment = o.maybe("comment").textOrNull(MaxVolumeChars)
	v.Mount = o.maybe("mount").textOrNull(MaxVolumeChars)
	return v
}

// MarshalJSON implements json.Marshaler with the fields of the volume's kind.
func (v Volume) MarshalJSON() ([]byte, error) {
	out := map[string]any{}
	optional(out, "comment", v.Comment)
	optional(out, "mount", v.Mount)
	switch v.Kind {
	case Immutable:
		out["ref"], out["use_latest"] = v.Ref, v.UseLatest
	case Ephemeral:
		out["ephemeral"], out["size_mib"] = true, v.SizeMiB
	case Persistent:
		out["size_mib"] = v.SizeMiB
		optional(out, "parent", v.Parent)
		optional(out, "persistence", v.Persistence)
		optional(out, "name", v.Name)
	}
	return marshal(out)
}

func readRequirements(n node) *Requirements {
	if n.d.err != nil || n.null() {
		return nil
	}
	o := n.d.object(n, "cpu", "node", "gpu")
	r := &Requirements{CPU: readCPU(o.maybe("cpu")), Node: readNode(o.maybe("node"))}
	for _, gpu := range o.maybe("gpu").list(gpusMax) {
		r.GPU = append(r.GPU, readGPU(gpu))
	}
	return r
}

func readCPU(n node) *CPURequirement {
	if n.d.err != nil || n.null() {
		return nil
	}
	o := n.d.object(n, "architecture", "vendor", "features")
	c := &CPURequirement{Vendor: o.maybe("vendor").textOrNull(MaxTextBytes)}
	if arch := o.maybe("architecture"); !arch.null() {
		a := arch.word("x86_64", "arm64")
		c.Architecture = &a
	}
	for _, f := range o.maybe("features").list(featuresMax) {
		c.Features = append(c.Features, f.text(0, MaxTextBytes))
	}
	return c
}

func readNode(n node) *NodeRequirement {
	if n.d.err != nil || n.null() {
		return nil
	}
	o := n.d.object(n, "owner", "address_regex", "node_hash", "terms_and_conditions")
	r := &NodeRequirement{
		Owner: o.maybe("owner").textOrNull(MaxTextBytes), AddressRegex: o.maybe("address_regex").textOrNull(256),
		NodeHash: o.maybe("node_hash").hashOrNull(), TermsAndConditions: o.maybe("terms_and_conditions").hashOrNull(),
	}
	if n.d.err == nil && r.AddressRegex != nil {
		if _, err := regexp.Compile(*r.AddressRegex); err != nil {
			n.d.fail("%s.address_regex: %v", n.path, err)
		}
	}
	return r
}

func readGPU(n node) GPURequirement {
	o := n.d.object(n, "vendor", "device_name", "device_class", "device_id")
	g := GPURequirement{
		Vendor: o.need("vendor").text(0, MaxTextBytes), DeviceName: o.need("device_name").text(0, MaxTextBytes),
		DeviceClass: o.need("device_class").word("0300", "0302"), DeviceID: o.need("device_id").text(0, MaxTextBytes),
	}
	vendor, device, ok := strings.Cut(g.DeviceID, ":")
	if n.d.err == nil && (!ok || len(vendor) != 4 || len(device) != 4) {
		n.d.fail("%s.device_id is %.80q, want vvvv:dddd", n.path, g.DeviceID)
	}
	return g
}

// readKeys reads authorized_keys.
func readKeys(n node) []string {
	var keys []string
	for _, k := range n.list(MaxKeys) {
		keys = append(keys, k.text(0, MaxKeyChars))
	}
	return keys
}

// readVariables reads variables.
func readVariables(n node) map[string]string {
	fields := n.dict(MaxVariables)
	if n.d.err != nil || fields == nil {
		return nil
	}
	out := make(map[string]string, len(fields))
	for k, raw := range fields {
		if len([]rune(k)) > MaxNameChars {
			n.d.fail("%s has a name of %d characters, at most %d are allowed", n.path, len([]rune(k)), MaxNameChars)
		}
		out[k] = node{d: n.d, raw: raw, path: n.path + "." + k}.text(0, MaxValueChars)
	}
	return out
}

// Metadata is free data that an owner attaches, by name.
type Metadata = map[string]json.RawMessage
