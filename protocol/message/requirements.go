package message

import (
	"regexp"
	"strings"
)

// MaxRegexChars bounds the regular expression of a node's address.
const MaxRegexChars = 256

// Requirements limits the hosts that a machine may run on. See section 1.8 of
// the protocol.
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

func readRequirements(n node) *Requirements {
	if n.skip() {
		return nil
	}
	o := n.object("cpu", "node", "gpu")
	r := &Requirements{CPU: readCPU(o.maybe("cpu")), Node: readNode(o.maybe("node"))}
	gpus := o.maybe("gpu")
	nodes := gpus.list(anyLength)
	if gpus.skip() {
		return r
	}
	r.GPU = make([]GPURequirement, len(nodes))
	for i, gpu := range nodes {
		r.GPU[i] = readGPU(gpu)
	}
	return r
}

func readCPU(n node) *CPURequirement {
	if n.skip() {
		return nil
	}
	o := n.object("architecture", "vendor", "features")
	return &CPURequirement{
		Architecture: o.maybe("architecture").wordOrNull("x86_64", "arm64"),
		Vendor:       o.maybe("vendor").textOrNull(anyLength),
		Features:     o.maybe("features").texts(anyLength, anyLength),
	}
}

func readNode(n node) *NodeRequirement {
	if n.skip() {
		return nil
	}
	o := n.object("owner", "address_regex", "node_hash", "terms_and_conditions")
	r := &NodeRequirement{
		Owner: o.maybe("owner").textOrNull(anyLength), AddressRegex: o.maybe("address_regex").textOrNull(MaxRegexChars),
		NodeHash: o.maybe("node_hash").hashOrNull(), TermsAndConditions: o.maybe("terms_and_conditions").hashOrNull(),
	}
	if n.d.err == nil && r.AddressRegex != nil {
		if _, err := regexp.Compile(*r.AddressRegex); err != nil {
			o.maybe("address_regex").fail("does not compile: %v", err)
		}
	}
	return r
}

func readGPU(n node) GPURequirement {
	o := n.object("vendor", "device_name", "device_class", "device_id")
	g := GPURequirement{
		Vendor: o.need("vendor").text(0, anyLength), DeviceName: o.need("device_name").text(0, anyLength),
		DeviceClass: o.need("device_class").word("0300", "0302"), DeviceID: o.need("device_id").text(0, anyLength),
	}
	vendor, device, ok := strings.Cut(g.DeviceID, ":")
	if n.d.err == nil && (!ok || len(vendor) != 4 || len(device) != 4) {
		o.maybe("device_id").fail("is %.80q, want vvvv:dddd", g.DeviceID)
	}
	return g
}

func writeRequirements(w *writer, r *Requirements) {
	w.open()
	objectOrNull(w, "cpu", r.CPU, func(w *writer, c *CPURequirement) {
		w.open()
		textOrNull(w, "architecture", c.Architecture)
		textOrNull(w, "vendor", c.Vendor)
		texts(w, "features", c.Features)
		w.close()
	})
	objectOrNull(w, "node", r.Node, func(w *writer, n *NodeRequirement) {
		w.open()
		textOrNull(w, "owner", n.Owner)
		textOrNull(w, "address_regex", n.AddressRegex)
		textOrNull(w, "node_hash", n.NodeHash)
		textOrNull(w, "terms_and_conditions", n.TermsAndConditions)
		w.close()
	})
	if r.GPU == nil {
		w.null("gpu")
	} else {
		list(w, "gpu", r.GPU, func(w *writer, g *GPURequirement) {
			w.open()
			w.text("vendor", g.Vendor)
			w.text("device_name", g.DeviceName)
			w.text("device_class", g.DeviceClass)
			w.text("device_id", g.DeviceID)
			w.close()
		})
	}
	w.close()
}
