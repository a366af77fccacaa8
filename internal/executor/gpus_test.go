package executor_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/hostinfo"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// gpus are those of a host: two of one kind, and one of another.
type gpus struct{}

func (gpus) GPUs(context.Context) []hostinfo.GPU {
	return []hostinfo.GPU{
		{PCIHost: "01:00.0", DeviceID: "10de:27b0", DeviceClass: "0300"},
		{PCIHost: "02:00.0", DeviceID: "10de:27b0", DeviceClass: "0302"},
		{PCIHost: "03:00.0", DeviceID: "10de:2684", DeviceClass: "0300"},
	}
}

const nodeHash = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// withGPU returns the nth INSTANCE message, which asks for a GPU.
func (s *source) withGPU(n int, device string) *message.Envelope {
	s.t.Helper()
	return s.content(fmt.Sprintf(`{"address":%q,"time":%d,"allow_amend":false,"environment":{"internet":true,"aleph_api":false,"hypervisor":"qemu"},
		"resources":{"vcpus":1,"memory":512,"seconds":30},"payment":{"chain":"ETH","type":"credit"},"volumes":[],
		"requirements":{"node":{"node_hash":%q},"gpu":[{"vendor":"NVIDIA","device_name":"RTX","device_class":"0300","device_id":%q}]},
		"rootfs":{"parent":{"ref":"%s"},"persistence":"host","size_mib":1000}}`,
		address(s.t, payerKey).Hex(), 1_700_000_000+n, nodeHash, device, s.image().ItemHash))
}

// TestAGPUIsOneMachinesOnly: each machine has one of its own as long as its lease, who asks
// when none is left is told, and one that has ended gives it back.
func TestAGPUIsOneMachinesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.core, w.devices = newCore(), gpus{}
		w.cfg.LeaseRetention, w.cfg.Interval, w.cfg.NodeHash = time.Minute, 30*time.Second, nodeHash
		s := w.supervisor()
		defer w.run(s)()
		const kind = "10de:27b0"
		a, b, c := w.src.withGPU(1, kind).ItemHash, w.src.withGPU(2, kind).ItemHash, w.src.withGPU(3, kind).ItemHash
		for _, spec := range []message.ItemHash{a, b} {
			if err := s.Request(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
		}
		w.wantRefusal(s.Request(t.Context(), c), executor.NoRoom)
		w.wantRefusal(s.Request(t.Context(), w.src.withGPU(4, "10de:0000").ItemHash), executor.NoRoom)
		used, err := s.UsedGPUs(t.Context())
		if err != nil || fmt.Sprint(used) != "[01:00.0 02:00.0]" {
			t.Errorf("used are %v, %v", used, err)
		}
		time.Sleep(time.Second)
		w.wantState(a, state.VMRunning)
		// The other node could find that it has none when it has been given all.
		if _, err := s.BeginExport(t.Context(), a); errs.KindOf(err) != errs.Invalid {
			t.Errorf("BeginExport: %v, want errs.Invalid", err)
		}
		// A machine that its owner stops keeps its GPU, and starts with it again.
		if _, err := s.Stop(t.Context(), a, "its owner"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.wantRefusal(s.Request(t.Context(), c), executor.NoRoom)
		if err := s.Request(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		l, err := w.db.Lease(t.Context(), a)
		if err != nil || len(l.GPUs) != 1 || l.GPUs[0] != (state.GPU{PCIHost: "01:00.0", DeviceID: kind, Display: true}) {
			t.Errorf("lease is %+v, %v, want the GPU that it had", l, err)
		}
		if err := s.Erase(t.Context(), a, "its owner"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := s.Request(t.Context(), c); err != nil {
			t.Errorf("when one is free again: %v", err)
		}
	})
}

// TestAGPUIsKeptForWhoReserves it, for a minute.
func TestAGPUIsKeptForWhoReserves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.core, w.devices = newCore(), gpus{}
		w.cfg.Interval, w.cfg.NodeHash = 30*time.Second, nodeHash
		s := w.supervisor()
		defer w.run(s)()
		env := w.src.withGPU(1, "10de:2684")
		want, err := env.Instance()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Reserve(t.Context(), "0xsomebody", want); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Reserve(t.Context(), "0xother", want); errs.KindOf(err) != errs.Conflict {
			t.Errorf("for another: %v, want a conflict", err)
		}
		if _, err := s.Reserve(t.Context(), "0xSomebody", want); err != nil {
			t.Errorf("for the same again: %v", err)
		}
		w.wantRefusal(s.Request(t.Context(), env.ItemHash), executor.NoRoom)
		time.Sleep(61 * time.Second)
		if err := s.Request(t.Context(), env.ItemHash); err != nil {
			t.Errorf("after a minute: %v", err)
		}
	})
}
