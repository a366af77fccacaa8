package vmm_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
)

func goodSpec() vmm.Spec {
	return vmm.Spec{
		ID: strings.Repeat("0a", 32), VCPUs: 1, MemoryMiB: 128, DiskMiB: 10, Dir: "/vm",
		Image: vmm.Image{Name: "x", Rootfs: "/image", Format: vmm.Raw, VirtualBytes: 10 << 20},
		Net: vmm.NetDevice{Kind: vmm.NetUser, MAC: "52:54:00:00:00:01", Forwards: []vmm.Forward{
			{Protocol: vmm.TCP, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 80, GuestPort: 80},
		}},
	}
}

func TestSpecsAreChecked(t *testing.T) {
	if err := goodSpec().Validate(); err != nil {
		t.Errorf("a good spec: %v", err)
	}
	for name, change := range map[string]func(*vmm.Spec){
		"short id":         func(s *vmm.Spec) { s.ID = "0a" },
		"upper case":       func(s *vmm.Spec) { s.ID = strings.ToUpper(s.ID) },
		"no directory":     func(s *vmm.Spec) { s.Dir = "" },
		"vCPUs":            func(s *vmm.Spec) { s.VCPUs = 1000 },
		"memory":           func(s *vmm.Spec) { s.MemoryMiB = 1 << 30 },
		"disk":             func(s *vmm.Spec) { s.DiskMiB = 0 },
		"small disk":       func(s *vmm.Spec) { s.DiskMiB = 9 },
		"relative image":   func(s *vmm.Spec) { s.Image.Rootfs = "image" },
		"stray initrd":     func(s *vmm.Spec) { s.Image.Initrd = "/initrd" },
		"TAP without name": func(s *vmm.Spec) { s.Net = vmm.NetDevice{Kind: vmm.NetTap} },
		"forwards":         func(s *vmm.Spec) { s.Net.Forwards = make([]vmm.Forward, 200) },
		"a bad forward":    func(s *vmm.Spec) { s.Net.Forwards[0].HostPort = 0 },
		"volumes":          func(s *vmm.Spec) { s.Volumes = make([]vmm.Volume, 25) },
		"relative volume":  func(s *vmm.Spec) { s.Volumes = []vmm.Volume{{Path: "data", Format: vmm.Raw}} },
		"volume options":   func(s *vmm.Spec) { s.Volumes = []vmm.Volume{{Path: "/a,read-only=off", Format: vmm.Raw}} },
		"volume format":    func(s *vmm.Spec) { s.Volumes = []vmm.Volume{{Path: "/a", Format: "vmdk"}} },
	} {
		s := goodSpec()
		change(&s)
		if err := s.Validate(); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: Validate returned %v, want invalid", name, err)
		}
	}
}
