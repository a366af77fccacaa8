package job

import (
	"encoding/binary"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// Requirements is what a job needs of the numbers that coordinators publish of a
// node: at least so much of everything, at most the price tier, all the flags,
// and the region and autonomous system if they are not 0. An offer holds their
// hash, so that anybody can show that another node should have got the job.
type Requirements struct {
	ScoreBps      uint16
	UptimeBps     uint16
	VCPUs         uint16
	MemoryGiB     uint16
	DiskGiB       uint32
	GPUs          uint8
	PriceTier     uint16 // 0 for any
	BandwidthMbps uint16
	Flags         uint32
	Region        uint16
	ASN           uint32
}

// Pack returns the 32 bytes that contracts compare with a node's, which are
// packed the same way: the node id, 0 here, comes first, a reserved byte last.
func (r Requirements) Pack() (out common.Hash) {
	b := out[:4]
	b = binary.BigEndian.AppendUint16(b, r.ScoreBps)
	b = binary.BigEndian.AppendUint16(b, r.UptimeBps)
	b = binary.BigEndian.AppendUint16(b, r.VCPUs)
	b = binary.BigEndian.AppendUint16(b, r.MemoryGiB)
	b = binary.BigEndian.AppendUint32(b, r.DiskGiB)
	b = append(b, r.GPUs)
	b = binary.BigEndian.AppendUint16(b, r.PriceTier)
	b = binary.BigEndian.AppendUint16(b, r.BandwidthMbps)
	b = binary.BigEndian.AppendUint32(b, r.Flags)
	b = binary.BigEndian.AppendUint16(b, r.Region)
	binary.BigEndian.AppendUint32(b, r.ASN)
	return out
}

// Hash returns what an offer holds.
func (r Requirements) Hash() common.Hash {
	packed := r.Pack()
	return crypto.Keccak256Hash(packed[:])
}
