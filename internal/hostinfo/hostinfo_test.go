package hostinfo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/hostinfo"
)

// host makes a file system like that of a host with two GPUs, of which one is kept
// for machines.
func host(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("proc/meminfo", "MemTotal:       65882960 kB\nMemFree:         1000 kB\nMemAvailable:   50034733 kB\n")
	write("proc/loadavg", "0.50 0.25 0.10 1/234 5678\n")
	write("proc/cpuinfo", "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9254 24-Core Processor\ncpu MHz\t\t: 2900.000\n\nprocessor\t: 1\nvendor_id\t: AuthenticAMD\ncpu MHz\t\t: 1500.5\n")
	write("sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq", "1500000\n")
	write("sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "4150000\n")
	write("sys/module/kvm_amd/parameters/sev", "Y\n")
	write("sys/module/kvm_amd/parameters/sev_es", "Y\n")
	write("sys/module/kvm_amd/parameters/sev_snp", "N\n")
	write("dev/sev", "")
	write("usr/share/misc/pci.ids", "# List\n1002  AMD\n\t27b0  Not this\n10de  NVIDIA Corporation\n\t27b0  AD104GL [RTX 4000 SFF Ada Generation]\n\t\t27b0 0001  Board\n")
	for addr, driver := range map[string]string{"0000:01:00.0": "vfio-pci", "0000:02:00.0": "nvidia"} {
		dir := "sys/bus/pci/devices/" + addr
		write(dir+"/class", "0x030000\n")
		write(dir+"/vendor", "0x10de\n")
		write(dir+"/device", "0x27b0\n")
		if err := os.Symlink("../../../bus/pci/drivers/"+driver, filepath.Join(root, dir, "driver")); err != nil {
			t.Fatal(err)
		}
	}
	write("sys/bus/pci/devices/0000:03:00.0/class", "0x020000\n") // A network card.
	return root
}

func newHost(t *testing.T, used ...string) *hostinfo.Host {
	t.Helper()
	h := hostinfo.New(hostinfo.Options{
		Root:     os.DirFS(host(t)),
		Disk:     func(context.Context) (total, available int64, err error) { return 1919566543001, 1519566544999, nil },
		GPU:      func(_ context.Context, id string) (string, bool) { return "RTX 4000 ADA", id == "10de:27b0" },
		UsedGPUs: func(context.Context) ([]string, error) { return used, nil },
	})
	h.SetClock(time.Date(2026, 8, 7, 12, 0, 59, 1, time.FixedZone("", 3600)))
	return h
}

func TestUsageIsThatOfClients(t *testing.T) {
	raw, err := os.ReadFile("testdata/usage.json")
	if err != nil {
		t.Fatal(err)
	}
	var want hostinfo.Usage
	decode := json.NewDecoder(bytes.NewReader(raw))
	decode.DisallowUnknownFields()
	if err := decode.Decode(&want); err != nil {
		t.Fatal(err)
	}

	got, err := newHost(t, "01:00.0").Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	want.CPU.Count = got.CPU.Count // Of this machine.
	want.CPU.Frequencies.Max = 4150
	want.Memory = hostinfo.Bytes{Total: 67464152, Available: 51235566}
	want.Properties.CPU.Architecture = got.Properties.CPU.Architecture
	want.Disk = hostinfo.Bytes{Total: 1919566544, Available: 1519566544}
	want.Period.Start = "2026-08-07T11:00:00Z"
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
	again, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(again, []byte(`"duration_seconds":60.0`)) {
		t.Errorf("%s has no 60.0", again)
	}
}

func TestFreeGPUsAreShown(t *testing.T) {
	u, err := newHost(t).Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(u.GPU.Devices) != 1 || len(u.GPU.Available) != 1 {
		t.Errorf("of two GPUs, one kept for machines, %d are shown, %d of them free", len(u.GPU.Devices), len(u.GPU.Available))
	}
}

func TestCapability(t *testing.T) {
	c, err := newHost(t).Capability(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.CPU.Model != "AMD EPYC 9254 24-Core Processor" || c.CPU.Frequency != 4150000000 || c.Memory.Size != 65882960<<10 || c.Memory.Type != nil {
		t.Errorf("%+v", c)
	}
}

// An empty host is no failure: what is not known is left out.
func TestNothingIsKnown(t *testing.T) {
	h := hostinfo.New(hostinfo.Options{Root: os.DirFS(t.TempDir())})
	u, err := h.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if u.Memory.Total != 0 || u.GPU.Devices == nil || u.Properties.CPU.Features == nil || u.Disk.Total == 0 {
		t.Errorf("%+v", u)
	}
}

// memoryTable is an entry of a firmware's tables.
func memoryTable(kind byte, mts uint16) []byte {
	entry := make([]byte, 0x20)
	entry[0], entry[1], entry[0x12], entry[0x15], entry[0x16] = 17, byte(len(entry)), kind, byte(mts), byte(mts>>8)
	return append(entry, "DIMM 0\x00\x00"...)
}

func TestMemoryIsRead(t *testing.T) {
	bios := append([]byte{0, 5, 0, 0, 1}, "Vendor\x00Version\x00\x00"...)
	kind, clock := hostinfo.MemoryDevice(append(append(bios, memoryTable(2, 0)...), memoryTable(0x22, 4800)...))
	if kind == nil || *kind != "DDR5" || clock == nil || *clock != 4_800_000_000 {
		t.Errorf("%v at %v, want DDR5 at 4.8 GHz", kind, clock)
	}
}

func FuzzMemoryDevice(f *testing.F) {
	f.Add(memoryTable(0x22, 4800))
	f.Add([]byte{17, 3, 0, 0})
	f.Add([]byte{17, 200, 0, 0})
	f.Fuzz(func(t *testing.T, tables []byte) {
		if kind, clock := hostinfo.MemoryDevice(tables); clock != nil && kind == nil {
			t.Error("a clock of no memory")
		}
	})
}

func TestConnectivityTriesEachFamily(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer web.Close()
	h := hostinfo.New(hostinfo.Options{Domain: "127.0.0.1", Targets: hostinfo.Targets{
		EgressIPv4: web.URL, EgressIPv6: web.URL, DNS: "127.0.0.1", HTTP: []string{"http://127.0.0.1:1/", web.URL},
	}})

	got := h.Connectivity(t.Context())

	want := hostinfo.Connectivity{IPv4: hostinfo.Reach{Egress: true, DNS: true, Domain: true, HTTP: true}}
	if *got != want {
		t.Errorf("%+v, want %+v", *got, want)
	}
	if h.IPv6(t.Context()) {
		t.Error("an address of IPv4 was reached by IPv6")
	}
}
