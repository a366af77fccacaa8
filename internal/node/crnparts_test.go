package node_test

import (
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

func TestMachinesAwaitTheirOwnerWhileNothingElseIsMissing(t *testing.T) {
	waits := state.VM{State: state.VMPreparing, AwaitsOwner: true}
	for _, tt := range []struct {
		name   string
		change func(*state.VM, *state.Lease)
		want   bool
	}{
		{"waits", func(*state.VM, *state.Lease) {}, true},
		{"disks are made", func(vm *state.VM, _ *state.Lease) { vm.AwaitsOwner = false }, false},
		{"disks are fetched again", func(vm *state.VM, _ *state.Lease) { vm.State = state.VMFetching }, false},
		{"is being stopped", func(vm *state.VM, _ *state.Lease) { vm.Halt = &state.Halt{} }, false},
		{"its owner stopped it", func(vm *state.VM, _ *state.Lease) { vm.State = state.VMHalted }, false},
		{"has ended", func(vm *state.VM, _ *state.Lease) { vm.State = state.VMStopped }, false},
		{"its lease has ended", func(_ *state.VM, l *state.Lease) { l.End = &state.LeaseEnd{} }, false},
		{"has its session", func(_ *state.VM, l *state.Lease) { l.Session = &state.Session{} }, false},
	} {
		vm, lease := waits, state.Lease{}
		tt.change(&vm, &lease)
		if got := node.AwaitsOwner(vm, &lease); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
