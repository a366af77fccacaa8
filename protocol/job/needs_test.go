package job_test

import (
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestNeedsOf(t *testing.T) {
	ref := message.HashOf([]byte("image"))
	text, firecracker := "x", message.Firecracker
	tests := []struct {
		name string
		edit func(*message.Instance)
		want string // part of the error, "" for none
	}{
		{"plain", func(*message.Instance) {}, ""},
		{"hold", func(i *message.Instance) { i.Payment = nil }, "payment by hold"},
		{"confidential", func(i *message.Instance) { i.Environment.TrustedExecution = &message.TrustedExecution{} }, "confidential"},
		{"requirements", func(i *message.Instance) { i.Requirements = &message.Requirements{} }, "requirements"},
		{"volumes", func(i *message.Instance) { i.Volumes = []message.Volume{{}} }, "volumes"},
		{"replaces", func(i *message.Instance) { i.Replaces = &text }, "replace"},
		{"image on IPFS", func(i *message.Instance) { i.Rootfs.Parent.Ref = "Qm" }, "rootfs.parent.ref"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := &message.Instance{
				Executable: message.Executable{
					Payment:   &message.Payment{Type: message.PayCredit},
					Resources: message.Resources{VCPUs: 2, MemoryMiB: 512},
				},
				Rootfs: message.Rootfs{Parent: message.Parent{Ref: ref}, SizeMiB: 1000},
			}
			tt.edit(i)

			got, err := job.NeedsOf(i)

			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("NeedsOf gave %v, want an error with %q", err, tt.want)
				}
				return
			}
			if want := (job.Needs{Driver: "qemu", VCPUs: 2, MemoryMiB: 512, DiskMiB: 1000}); err != nil || got != want {
				t.Errorf("NeedsOf gave %+v, %v; want %+v", got, err, want)
			}
			i.Environment.Hypervisor = &firecracker
			if got, _ := job.NeedsOf(i); got.Driver != firecracker {
				t.Errorf("driver is %s, want %s", got.Driver, firecracker)
			}
		})
	}
}

func TestNodeReasonsHaveWords(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range []job.NodeReason{job.NodeRefused, job.NodeCannotStart, job.NodeCrashed, 99} {
		if text := r.String(); text == "" || seen[text] {
			t.Errorf("reason %d has the words %q, want its own", r, text)
		}
		seen[r.String()] = true
	}
	if got := job.NodeReason(99).String(); got != "reason 99 of the node" {
		t.Errorf("an unknown reason has the words %q", got)
	}
}
