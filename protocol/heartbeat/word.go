package heartbeat

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// Type is the EIP-712 type of the word, letter by letter as the contract has
// it. Its domain is protocol/job's Nodes.
const Type = "Heartbeat(uint32 epoch,bytes32 statsRoot,bytes32 bitmapHash)"

// Epoch is an hour of chain time: Unix time divided by EpochSeconds.
type Epoch uint32

// Times of an epoch.
const (
	EpochSeconds = 3600
	PostEpochs   = 6 // epochs after it in which it can be posted
)

// EpochAt returns the epoch of a Unix time.
func EpochAt(unix uint64) Epoch { return Epoch(unix / EpochSeconds) }

// Start returns the Unix time at which the epoch starts.
func (e Epoch) Start() uint64 { return uint64(e) * EpochSeconds }

// Postable tells whether the epoch can be posted at a Unix time.
func (e Epoch) Postable(unix uint64) bool {
	now := EpochAt(unix)
	return e < now && now-e <= PostEpochs
}

// Word is what coordinators sign of an epoch.
type Word struct {
	Epoch      Epoch       `json:"epoch"`
	StatsRoot  common.Hash `json:"stats_root"`
	BitmapHash common.Hash `json:"bitmap_hash"`
}

// StructHash implements job.Signable.
func (w *Word) StructHash() common.Hash {
	epoch := common.LeftPadBytes(binary.BigEndian.AppendUint32(nil, uint32(w.Epoch)), 32)
	return crypto.Keccak256Hash(crypto.Keccak256([]byte(Type)), bytes.Join([][]byte{epoch, w.StatsRoot[:], w.BitmapHash[:]}, nil))
}

// Check implements job.Signable.
func (w *Word) Check() error {
	if w.StatsRoot == (common.Hash{}) || w.BitmapHash == (common.Hash{}) {
		return fmt.Errorf("heartbeat of epoch %d: root or bitmap hash is zero", w.Epoch)
	}
	return nil
}

// Commitment returns what the contract stores of the epoch.
func (w *Word) Commitment() common.Hash { return Commitment(w.StatsRoot, w.BitmapHash) }
