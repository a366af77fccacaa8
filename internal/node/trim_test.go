package node_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/node"
)

func TestOnlyUnchangedPagesOfTheProgramAreTrimmed(t *testing.T) {
	maps := strings.Join([]string{
		"00400000-00402000 r--p 00000000 fe:00 9980963   /opt/aleph node",
		"00402000-0216c000 r-xp 00002000 fe:00 9980963   /opt/aleph node",
		"0216c000-02170000 rw-p 01d6c000 fe:00 9980963   /opt/aleph node",
		"02170000-02180000 r--s 00000000 fe:00 9980963   /opt/aleph node",
		"7f0000000000-7f0000001000 r-xp 00000000 fe:00 7  /lib/libc.so.6",
		"c000000000-c000400000 rw-p 00000000 00:00 0",
		"nonsense r-xp 0 0 0 /opt/aleph node",
		"0216c000-00402000 r-xp 00002000 fe:00 9980963   /opt/aleph node",
		"",
	}, "\n")

	got := node.ProgramMaps([]byte(maps), "/opt/aleph node")

	if diff := cmp.Diff([][2]uintptr{{0x400000, 0x402000}, {0x402000, 0x216c000}}, got); diff != "" {
		t.Errorf("mappings (-want +got):\n%s", diff)
	}
}

func TestTheProgramGoesOnWhenItIsTrimmed(t *testing.T) {
	if err := node.TrimProgram(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile("/proc/self/maps"); err != nil { // code that was unmapped
		t.Error(err)
	}
}

func FuzzProgramMaps(f *testing.F) {
	f.Add([]byte("00402000-0216c000 r-xp 00002000 fe:00 9980963 /x\n"))
	f.Fuzz(func(t *testing.T, maps []byte) {
		for _, m := range node.ProgramMaps(maps, "/x") {
			if m[0] >= m[1] {
				t.Errorf("mapping %x", m)
			}
		}
	})
}
