package node_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/node"
)

func TestOnlyUnchangedPagesOfTheProgramAreTrimmed(t *testing.T) {
	untouched, touched := "\nRss:  8 kB\nAnonymous:             0 kB\nVmFlags: rd mr", "\nRss:  8 kB\nAnonymous:             4 kB\nVmFlags: rd mr"
	maps := strings.Join([]string{
		"00400000-00402000 r--p 00000000 fe:00 9980963   /opt/aleph node" + untouched,
		"00402000-0216c000 r-xp 00002000 fe:00 9980963   /opt/aleph node" + untouched,
		"0216b000-0216c000 r--p 01d6b000 fe:00 9980963   /opt/aleph node" + touched, // The linker's.
		"0216c000-02170000 rw-p 01d6c000 fe:00 9980963   /opt/aleph node" + untouched,
		"02170000-02180000 r--s 00000000 fe:00 9980963   /opt/aleph node" + untouched,
		"7f0000000000-7f0000001000 r-xp 00000000 fe:00 7  /lib/libc.so.6" + untouched,
		"c000000000-c000400000 rw-p 00000000 00:00 0" + untouched,
		"nonsense r-xp 0 0 0 /opt/aleph node" + untouched,
		"0216c000-00402000 r-xp 00002000 fe:00 9980963   /opt/aleph node" + untouched,
		"00500000-00502000 r--p 00000000 fe:00 9980963   /opt/aleph node",
		"",
	}, "\n")

	got := node.ProgramMaps([]byte(maps), "/opt/aleph node")

	if diff := cmp.Diff([][2]uintptr{{0x400000, 0x402000}, {0x402000, 0x216c000}}, got); diff != "" {
		t.Errorf("mappings (-want +got):\n%s", diff)
	}
}

// TestTheProgramGoesOnWhenItIsTrimmed: its code, and what the dynamic linker has filled
// in, of which no copy is in the file.
func TestTheProgramGoesOnWhenItIsTrimmed(t *testing.T) {
	before := protectedPages(t)

	if err := node.TrimProgram(); err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff(before, protectedPages(t)); diff != "" {
		t.Errorf("pages that nobody may write to have changed (-before +after): %.500s", diff)
	}
}

// protectedPages returns the bytes of what this program has mapped that is private and
// may only be read, by its address, as sums.
func protectedPages(t *testing.T) map[string][sha256.Size]byte {
	t.Helper()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	out := map[string][sha256.Size]byte{}
	for line := range strings.Lines(string(maps)) {
		fields := strings.Fields(line)
		if len(fields) != 6 || fields[5] != exe || fields[1] != "r--p" {
			continue
		}
		var from, to int64
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &from, &to); err != nil {
			t.Fatal(err)
		}
		raw := make([]byte, to-from)
		if _, err := memory.ReadAt(raw, from); err != nil {
			t.Fatal(err)
		}
		out[fields[0]] = sha256.Sum256(raw)
	}
	if len(out) == 0 {
		t.Fatal("the program has no pages that may only be read")
	}
	return out
}

func FuzzProgramMaps(f *testing.F) {
	f.Add([]byte("00402000-0216c000 r-xp 00002000 fe:00 9980963 /x\nAnonymous: 0 kB\n"))
	f.Fuzz(func(t *testing.T, maps []byte) {
		for _, m := range node.ProgramMaps(maps, "/x") {
			if m[0] >= m[1] {
				t.Errorf("mapping %x", m)
			}
		}
	})
}
