package bindings_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

func TestBreaks(t *testing.T) {
	l, err := bindings.StorageLayouts()
	if err != nil {
		t.Fatal(err)
	}
	if len(l["Base"]) == 0 || len(l["PaymentManager"]) == 0 {
		t.Fatalf("layouts of this release: %v", l)
	}
	if got := l.Breaks(l); got != nil {
		t.Errorf("the same layouts break: %v", got)
	}
	was := bindings.Layouts{"A": {"A.S": {"0:0 a uint8", "0:1 b uint8"}, "A.T": {"0:0 c uint8"}}}
	tests := []struct {
		name string
		next bindings.Layouts
		want []string
		news []string
	}{
		{
			"grown",
			bindings.Layouts{"A": {"A.S": {"0:0 a uint8", "0:1 b uint8", "1:0 d uint8"}, "A.T": {"0:0 c uint8"}, "A.U": nil}, "B": nil},
			nil,
			[]string{"A: A.S gets 1:0 d uint8", "A: A.U is new"},
		},
		{
			"moved",
			bindings.Layouts{"A": {"A.S": {"0:0 b uint8", "0:1 a uint8"}, "A.T": {"0:0 c uint8"}}},
			[]string{"A: A.S has 0:0 b uint8 where 0:0 a uint8 was", "A: A.S has 0:1 a uint8 where 0:1 b uint8 was"},
			nil,
		},
		{"shorter", bindings.Layouts{"A": {"A.S": {"0:0 a uint8"}, "A.T": {"0:0 c uint8"}}}, []string{"A: A.S has lost 0:1 b uint8"}, nil},
		{"gone", bindings.Layouts{"A": {"A.S": {"0:0 a uint8", "0:1 b uint8"}}}, []string{"A: A.T is gone"}, nil},
	}
	packed := bindings.Layouts{"A": {"A.S": {"0:0 all mapping(uint32 => struct A.T[8])"}, "A.T": {"0:0 a uint8"}}}
	fits := bindings.Layouts{"A": {"A.S": packed["A"]["A.S"], "A.T": {"0:0 a uint8", "0:1 b uint8"}}}
	if got := packed.Breaks(fits); got != nil {
		t.Errorf("a struct in an array that grows within its slot breaks: %v", got)
	}
	fits["A"]["A.T"] = append(fits["A"]["A.T"], "1:0 c uint256")
	if diff := cmp.Diff([]string{"A: A.T is in an array and takes another number of slots"}, packed.Breaks(fits)); diff != "" {
		t.Errorf("a struct in an array that grows by a slot (-want +got):\n%s", diff)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, was.Breaks(tt.next)); diff != "" {
				t.Errorf("breaks (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.news, was.Grows(tt.next)); diff != "" {
				t.Errorf("grows (-want +got):\n%s", diff)
			}
		})
	}
}
