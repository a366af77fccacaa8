package executor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qcow2"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// diskMiB is the root disk's size in the messages of source.
const diskMiB = 1000

// withVolumes returns an INSTANCE message with the volumes.
func (s *source) withVolumes(volumes string) message.ItemHash {
	s.t.Helper()
	return s.content(fmt.Sprintf(`{"address":%q,"time":1700000000,"allow_amend":false,"environment":{"internet":true,"aleph_api":false},
		"resources":{"vcpus":1,"memory":512,"seconds":30},"payment":{"chain":"ETH","type":"credit"},"volumes":[%s],
		"rootfs":{"parent":{"ref":"%s"},"persistence":"host","size_mib":%d}}`,
		address(s.t, payerKey).Hex(), volumes, s.image().ItemHash, diskMiB)).ItemHash
}

// writeDisk gives the machine a root disk, as a real driver does, and returns
// its path.
func (w *world) writeDisk(spec message.ItemHash) string {
	w.t.Helper()
	path := filepath.Join(w.vm(spec).Dir, vmm.DiskFile)
	if err := qcow2.WriteOverlay(path, w.src.path, "raw", diskMiB<<20); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func TestAMachineOfALeaseHasItsVolumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		ref := w.src.image().ItemHash
		spec := w.src.withVolumes(fmt.Sprintf(`{"ref":%q,"use_latest":false},{"ephemeral":true,"size_mib":20},
			{"persistence":"host","name":"my data","size_mib":30},{"parent":{"ref":%q},"persistence":"host","name":"over","size_mib":40}`, ref, ref))
		if err := s.Request(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		vm := w.wantState(spec, state.VMRunning)
		if vm.Resources.DiskMiB != diskMiB+20+30+40 {
			t.Errorf("the machine counts with %d MiB of disk, want those of its volumes too", vm.Resources.DiskMiB)
		}
		got, _ := w.host.Spec(string(spec))
		want := []vmm.Volume{
			{Path: w.src.path, Format: vmm.Raw, ReadOnly: true},
			{Path: filepath.Join(vm.Dir, "ephemeral", "1.ext4"), Format: vmm.Raw},
			{Path: filepath.Join(vm.Dir, "volumes", "my_data.ext4"), Format: vmm.Raw},
			{Path: filepath.Join(vm.Dir, "volumes", "over.qcow2"), Format: vmm.Qcow2},
		}
		if fmt.Sprint(got.Volumes) != fmt.Sprint(want) || got.DiskMiB != diskMiB {
			t.Errorf("drives are %+v and a root of %d MiB, want %+v", got.Volumes, got.DiskMiB, want)
		}
		for _, v := range got.Volumes {
			if _, err := os.Stat(v.Path); err != nil {
				t.Error(err)
			}
		}
		keep, err := s.Needed(t.Context())
		if err != nil || !keep(vm.Files[ref], time.Time{}) {
			t.Errorf("the volume's file may be deleted under the machine (%v)", err)
		}
		if err := s.Reinstall(t.Context(), spec, "0xowner", false); err != nil {
			t.Fatal(err)
		}
		marked := filepath.Join(vm.Dir, "volumes", "mark")
		if err := os.WriteFile(marked, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Reinstall(t.Context(), spec, "0xowner", true); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(marked); err == nil {
			t.Error("the volumes are the old ones")
		}
	})
}

func TestVolumesThatCannotBeAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := leasing(t)
		defer stop()
		w.wantRefusal(s.Request(t.Context(), w.src.withVolumes(`{"persistence":"store","name":"a","size_mib":1}`)), executor.CannotRun)
		many := strings.Repeat(`{"ephemeral":true,"size_mib":1},`, 25)
		w.wantRefusal(s.Request(t.Context(), w.src.withVolumes(strings.TrimSuffix(many, ","))), executor.CannotRun)
		w.wantRefusal(s.Request(t.Context(), w.src.withVolumes(`{"persistence":"host","name":"a","size_mib":1000000}`)), executor.NoRoom)
	})
}
