package vmm

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Bits of a guest policy of SEV; see the SEV API specification, 2.2.
const (
	PolicyES = 1 << 2 // The registers of the guest are encrypted, too (SEV-ES).
	// policyBits are those that have a meaning, without the lowest firmware that may run
	// the guest, which the upper half names.
	policyBits = 0x3f
)

// Confidential is what a machine is started with whose memory its host cannot read
// (AMD SEV). Its process starts paused: the platform has measured the firmware, and its
// owner compares that before a secret is injected.
type Confidential struct {
	Policy   uint32 // Of the guest, as its owner's session binds it.
	Firmware string // File of the firmware, the only thing that is measured; absolute.
	Session  []byte // The owner's session for this platform, base64 of 128 bytes.
	GODH     []byte // The owner's Diffie-Hellman certificate, base64 of 2084 bytes.
}

// validate reports what no platform starts.
func (c *Confidential) validate() error {
	switch {
	case !filepath.IsAbs(c.Firmware) || strings.ContainsAny(c.Firmware, ",\n"):
		return errs.New(errs.Invalid, "firmware %q of a confidential machine, want an absolute path without commas", c.Firmware)
	case len(c.Session) == 0 || len(c.GODH) == 0:
		return errs.New(errs.Invalid, "confidential machine without a session of its owner")
	default:
		return CheckPolicy(c.Policy)
	}
}

// CheckPolicy reports a guest policy with bits that SEV does not define.
func CheckPolicy(policy uint32) error {
	if policy&0xffff&^policyBits != 0 {
		return errs.New(errs.Invalid, "guest policy %#x has bits that SEV does not define", policy)
	}
	return nil
}

// Platform is what a host offers for confidential machines.
type Platform struct {
	Certificates []byte // PDH, PEK, OCA and CEK, of 2084 bytes each: owners make their sessions for these.
	CBit         int    // Which bit of an address says that a page is encrypted.
	PhysBits     int    // By how many bits addresses are shorter then.
	ES           bool   // SEV-ES is there, too.
}

// Guard is implemented by drivers that can run confidential machines.
type Guard interface {
	// Platform returns what the host offers, or errs.Unavailable with the reason why it
	// offers nothing.
	Platform(ctx context.Context) (*Platform, error)
}

// Guarded is a confidential machine.
type Guarded interface {
	Machine
	// Measurement is what the platform measured.
	Measurement(ctx context.Context) (*Measurement, error)
	// Inject gives the guest its owner's secret, encrypted for the platform, and lets it
	// run: both are base64. It returns what the hypervisor then says of its state.
	// errs.Conflict means that it runs already, errs.Invalid that the platform refused
	// the secret.
	Inject(ctx context.Context, header, secret string) (json.RawMessage, error)
}

// Measurement is what a platform says of a machine.
type Measurement struct {
	Enabled            bool
	APIMajor, APIMinor int
	BuildID            int
	Policy             uint32
	State              string
	Handle             int
	Launch             string // Base64 of the 32 bytes measured and a nonce of 16.
}
