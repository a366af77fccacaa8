package wire

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Bounds of a capacity ad.
const (
	adTextMax    = 256     // characters of each text
	adDriversMax = 8       // drivers
	adVCPUsMax   = 1 << 16 // no host has more
	adMemoryMax  = 1 << 28 // MiB, 256 TiB
	adDiskMax    = 1 << 38 // MiB
	adBpsMax     = 100_000 // ten times the base
)

// Bps is the base of price and score multipliers: 10000 is one.
const Bps = 10_000

// CapacityAd is what a compute node says about itself, signed by its signer.
// Free figures count what no job holds.
type CapacityAd struct {
	NodeID         uint32   `json:"node_id"`
	PeerID         string   `json:"peer_id"`
	Endpoint       string   `json:"endpoint"`  // base URL of its HTTP interface
	PublicIP       string   `json:"public_ip"` // where its machines' ports are reached
	VCPUsTotal     int      `json:"vcpus_total"`
	VCPUsFree      int      `json:"vcpus_free"`
	MemoryTotalMiB int64    `json:"memory_total_mib"`
	MemoryFreeMiB  int64    `json:"memory_free_mib"`
	DiskTotalMiB   int64    `json:"disk_total_mib"`
	DiskFreeMiB    int64    `json:"disk_free_mib"`
	PriceBps       int      `json:"price_bps"`   // its price, in 1/10000 of the table
	Accelerator    string   `json:"accelerator"` // kvm or tcg
	Drivers        []string `json:"drivers"`
	Features       uint64   `json:"features"`
	ScoreBps       int      `json:"score_bps"`
	Draining       bool     `json:"draining"` // takes no new jobs
	AtMS           int64    `json:"at_ms"`    // Unix milliseconds of the node's clock
	Signature      string   `json:"signature,omitempty"`
}

// SigningBytes returns the bytes that the signer signs: the line
// "aleph-capacity", then the ad's JSON without the signature, fields in the
// order of the type, no spaces, no HTML escapes.
func (a CapacityAd) SigningBytes() ([]byte, error) {
	a.Signature = ""
	buf := bytes.NewBufferString("aleph-capacity\n")
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(a); err != nil {
		return nil, fmt.Errorf("encode capacity ad: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// Sign signs the ad with the key of the node's signer.
func (a *CapacityAd) Sign(key *ecdsa.PrivateKey) error {
	text, err := a.SigningBytes()
	if err != nil {
		return err
	}
	sig, err := message.SignText(key, text)
	if err != nil {
		return fmt.Errorf("sign capacity ad of node %d: %w", a.NodeID, err)
	}
	a.Signature = sig
	return nil
}

// Signer returns the address whose key signed the ad.
func (a *CapacityAd) Signer() (common.Address, error) {
	text, err := a.SigningBytes()
	if err != nil {
		return common.Address{}, err
	}
	signer, err := message.RecoverText(text, a.Signature)
	if err != nil {
		return common.Address{}, fmt.Errorf("capacity ad of node %d: %w", a.NodeID, err)
	}
	return signer, nil
}

// Verify checks that the registered signer of the node signed the ad.
func (a *CapacityAd) Verify(signer common.Address) error {
	got, err := a.Signer()
	if err != nil {
		return err
	}
	if got != signer {
		return fmt.Errorf("capacity ad of node %d is signed by %s, want %s", a.NodeID, got, signer)
	}
	return nil
}

// ParseCapacityAd decodes an ad and checks its bounds. Whether its signature
// is the node's is judged by Verify.
func ParseCapacityAd(raw []byte) (*CapacityAd, error) {
	if len(raw) > MaxGossip {
		return nil, fmt.Errorf("capacity ad has %d bytes, at most %d are allowed", len(raw), MaxGossip)
	}
	a := new(CapacityAd)
	if err := json.Unmarshal(raw, a); err != nil {
		return nil, fmt.Errorf("decode capacity ad: %w", err)
	}
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("capacity ad of node %d: %w", a.NodeID, err)
	}
	return a, nil
}

func (a *CapacityAd) check() error {
	if a.NodeID == 0 {
		return fmt.Errorf("node_id is missing")
	}
	if err := a.checkFigures(); err != nil {
		return err
	}
	for _, f := range []struct{ name, text string }{
		{"peer_id", a.PeerID}, {"endpoint", a.Endpoint}, {"accelerator", a.Accelerator}, {"signature", a.Signature},
	} {
		if f.text == "" || len(f.text) > adTextMax {
			return fmt.Errorf("%s has %d characters, want 1 to %d", f.name, len(f.text), adTextMax)
		}
	}
	if u, err := url.Parse(a.Endpoint); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("endpoint %q is not an http or https URL", a.Endpoint)
	}
	if _, err := netip.ParseAddr(a.PublicIP); err != nil {
		return fmt.Errorf("public_ip %.80q is not an IP address", a.PublicIP)
	}
	if len(a.Drivers) == 0 || len(a.Drivers) > adDriversMax {
		return fmt.Errorf("%d drivers, want 1 to %d", len(a.Drivers), adDriversMax)
	}
	for _, d := range a.Drivers {
		if d == "" || len(d) > adTextMax {
			return fmt.Errorf("a driver's name has %d characters, want 1 to %d", len(d), adTextMax)
		}
	}
	return nil
}

func (a *CapacityAd) checkFigures() error {
	figures := []struct {
		name        string
		free, total int64
		limit       int64
	}{
		{"vcpus", int64(a.VCPUsFree), int64(a.VCPUsTotal), adVCPUsMax},
		{"memory", a.MemoryFreeMiB, a.MemoryTotalMiB, adMemoryMax},
		{"disk", a.DiskFreeMiB, a.DiskTotalMiB, adDiskMax},
		{"price_bps", int64(a.PriceBps), adBpsMax, adBpsMax},
		{"score_bps", int64(a.ScoreBps), adBpsMax, adBpsMax},
	}
	for _, f := range figures {
		if f.free < 0 || f.free > f.total || f.total > f.limit {
			return fmt.Errorf("%s: %d of %d, want 0 to the total and at most %d", f.name, f.free, f.total, f.limit)
		}
	}
	if a.AtMS <= 0 {
		return fmt.Errorf("at_ms is %d, want Unix milliseconds", a.AtMS)
	}
	return nil
}
