package heartbeat

import (
	"encoding/binary"
	"fmt"
)

// LeafSize is the size of a leaf, in bytes.
const LeafSize = 32

// BasisPoints is the whole of a score and of an uptime.
const BasisPoints = 10_000

// Leaf is what the coordinators say of a node in an epoch.
type Leaf struct {
	NodeID    uint32
	Score     uint16 // in 1/10,000
	Uptime    uint16 // in 1/10,000
	VCPUFree  uint16
	MemGiB    uint16 // free
	DiskGiB   uint32 // free
	GPUFree   uint8
	PriceTier uint16
	Mbps      uint16 // bandwidth
	Flags     uint32
	Region    uint16
	ASN       uint32 // autonomous system
}

// Encode returns the leaf's 32 bytes, in the order of the fields, big-endian,
// and a zero byte.
func (l *Leaf) Encode() [LeafSize]byte {
	b := make([]byte, 0, LeafSize)
	b = binary.BigEndian.AppendUint32(b, l.NodeID)
	for _, v := range []uint16{l.Score, l.Uptime, l.VCPUFree, l.MemGiB} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	b = binary.BigEndian.AppendUint32(b, l.DiskGiB)
	b = append(b, l.GPUFree)
	b = binary.BigEndian.AppendUint16(b, l.PriceTier)
	b = binary.BigEndian.AppendUint16(b, l.Mbps)
	b = binary.BigEndian.AppendUint32(b, l.Flags)
	b = binary.BigEndian.AppendUint16(b, l.Region)
	b = binary.BigEndian.AppendUint32(b, l.ASN)
	return [LeafSize]byte(append(b, 0))
}

// Check refuses values that no leaf has.
func (l *Leaf) Check() error {
	switch {
	case l.NodeID == 0 || l.NodeID > NodeMax:
		return fmt.Errorf("leaf: node %d is none of 1 to %d", l.NodeID, NodeMax)
	case l.Score > BasisPoints || l.Uptime > BasisPoints:
		return fmt.Errorf("leaf of node %d: score %d or uptime %d is more than %d", l.NodeID, l.Score, l.Uptime, BasisPoints)
	}
	return nil
}

// ParseLeaf decodes a leaf and checks it.
func ParseLeaf(raw []byte) (*Leaf, error) {
	if len(raw) != LeafSize {
		return nil, fmt.Errorf("leaf has %d bytes, want %d", len(raw), LeafSize)
	}
	if raw[LeafSize-1] != 0 {
		return nil, fmt.Errorf("leaf ends with %d, want 0", raw[LeafSize-1])
	}
	u16, u32 := binary.BigEndian.Uint16, binary.BigEndian.Uint32
	l := &Leaf{
		NodeID: u32(raw), Score: u16(raw[4:]), Uptime: u16(raw[6:]), VCPUFree: u16(raw[8:]), MemGiB: u16(raw[10:]),
		DiskGiB: u32(raw[12:]), GPUFree: raw[16], PriceTier: u16(raw[17:]), Mbps: u16(raw[19:]), Flags: u32(raw[21:]),
		Region: u16(raw[25:]), ASN: u32(raw[27:]),
	}
	if err := l.Check(); err != nil {
		return nil, err
	}
	return l, nil
}
