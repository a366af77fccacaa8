package cloudinit_test

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit/iso"
)

func seed() cloudinit.Seed {
	return cloudinit.Seed{
		InstanceID: "i-1", Hostname: "vm-1",
		AuthorizedKeys: []string{"ssh-ed25519 AAAA me", "ssh-rsa BBBB you"},
		Variables:      map[string]string{"B": "two\nlines", "A": "it's ''quoted''", "EMPTY": ""},
		Network: &cloudinit.Network{
			MAC: "52:54:00:01:02:03", Address: netip.MustParsePrefix("172.16.0.2/30"), Gateway: netip.MustParseAddr("172.16.0.1"),
			Nameservers: []netip.Addr{netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("9.9.9.9")},
		},
	}
}

// equal compares by what seeds become.
func equal(t *testing.T, a, b cloudinit.Seed) bool {
	t.Helper()
	fa, err := a.Files()
	if err != nil {
		t.Fatal(err)
	}
	fb, err := b.Files()
	if err != nil {
		t.Fatal(err)
	}
	for name := range fa {
		if !bytes.Equal(fa[name], fb[name]) {
			return false
		}
	}
	return len(fa) == len(fb)
}

func TestFilesAreWhatCloudImagesRead(t *testing.T) {
	files, err := seed().Files()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		cloudinit.UserDataFile: "#cloud-config\n" + `{"hostname":"vm-1","disable_root":false,"ssh_pwauth":false,"ssh_authorized_keys":["ssh-ed25519 AAAA me","ssh-rsa BBBB you"],"resize_rootfs":true,` +
			`"write_files":[{"path":"/etc/aleph/variables","owner":"root:root","permissions":"0600","content":"A='it'\\''s '\\'''\\''quoted'\\'''\\'''\nB='two\nlines'\nEMPTY=''\n"}]}` + "\n",
		cloudinit.MetaDataFile: `{"instance-id":"i-1","local-hostname":"vm-1"}` + "\n",
		cloudinit.NetworkFile: `{"version":2,"ethernets":{"eth0":{"match":{"macaddress":"52:54:00:01:02:03"},"set-name":"eth0","addresses":["172.16.0.2/30"],` +
			`"gateway4":"172.16.0.1","nameservers":{"addresses":["1.1.1.1","9.9.9.9"]}}}}` + "\n",
	} {
		if got := string(files[name]); got != want {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestVariablesAreWhatAShellReads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "variables")
	if err := os.WriteFile(file, []byte(seed().ShellVariables()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", `. "$0"; printf %s "$A|$B|$EMPTY"`, file).Output()
	if want := "it's ''quoted''|two\nlines|"; err != nil || string(out) != want {
		t.Errorf("a shell reads %q (%v), want %q", out, err, want)
	}
}

func TestSeedComesThroughItsVolume(t *testing.T) {
	bare := cloudinit.Seed{InstanceID: "i-2", Hostname: "bare", Network: &cloudinit.Network{Address: netip.MustParsePrefix("10.0.0.2/24")}}
	for name, want := range map[string]cloudinit.Seed{"full": seed(), "bare": bare, "no network": {InstanceID: "i", Hostname: "x"}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "seed.iso")
			for range 2 { // The second replaces the first.
				if err := iso.Write(file, want); err != nil {
					t.Fatal(err)
				}
			}
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()

			files, err := cloudinit.ReadISO(f)
			if err != nil {
				t.Fatal(err)
			}
			got, err := cloudinit.Parse(files)

			if err != nil || !equal(t, got, want) {
				t.Errorf("got %+v, %v; want %+v", got, err, want)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("left: %v (%v), want the volume only", left, err)
			}
			label := make([]byte, 32)
			if _, err := f.ReadAt(label, 16*2048+40); err != nil || strings.TrimRight(string(label), " \x00") != "cidata" {
				t.Errorf("label is %q, %v; want cidata", label, err)
			}
		})
	}
}

func TestBadSeedsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*cloudinit.Seed){
		"hostname":       func(s *cloudinit.Seed) { s.Hostname = "a b" },
		"many keys":      func(s *cloudinit.Seed) { s.AuthorizedKeys = make([]string, 300) },
		"key of 2 lines": func(s *cloudinit.Seed) { s.AuthorizedKeys = []string{"a\nb"} },
		"variable name":  func(s *cloudinit.Seed) { s.Variables = map[string]string{"A=$(rm)": ""} },
		"variable value": func(s *cloudinit.Seed) { s.Variables = map[string]string{"A": "\x00"} },
		"long value":     func(s *cloudinit.Seed) { s.Variables = map[string]string{"A": strings.Repeat("x", 5000)} },
	} {
		s := seed()
		change(&s)
		if err := iso.Write(filepath.Join(t.TempDir(), "seed.iso"), s); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	vars := map[string]string{}
	for i := range 300 {
		vars["V"+strings.Repeat("x", i%100)+string(rune('A'+i%26))+string(rune('A'+i/26))] = ""
	}
	s := seed()
	if s.Variables = vars; !errors.Is(s.Validate(), errs.Invalid) {
		t.Error("300 variables were accepted")
	}
}

// withIPv6 is seed with a network of both families.
func withIPv6() cloudinit.Seed {
	s := seed()
	s.Network.Address6 = netip.MustParsePrefix("2001:db8:1:2:3:deca:deca:dec1/124")
	s.Network.Gateway6 = netip.MustParseAddr("2001:db8:1:2:3:deca:deca:dec0")
	return s
}

func TestNetworksOfBothFamilies(t *testing.T) {
	files, err := withIPv6().Files()
	if err != nil {
		t.Fatal(err)
	}
	want := `"addresses":["172.16.0.2/30","2001:db8:1:2:3:deca:deca:dec1/124"],"gateway4":"172.16.0.1","gateway6":"2001:db8:1:2:3:deca:deca:dec0",`
	if got := string(files[cloudinit.NetworkFile]); !strings.Contains(got, want) {
		t.Errorf("network is %s, want it to have %s", got, want)
	}
	if got, err := cloudinit.Parse(files); err != nil || !equal(t, got, withIPv6()) {
		t.Errorf("got %+v, %v; want %+v", got, err, withIPv6())
	}

	for name, change := range map[string][2]string{
		"three addresses": {`dec1/124"`, `dec1/124","2001:db8::1/64"`},
		"IPv4 twice":      {"2001:db8:1:2:3:deca:deca:dec1/124", "172.16.0.3/30"},
		"mapped IPv4":     {"2001:db8:1:2:3:deca:deca:dec1/124", "::ffff:172.16.0.3/126"},
		"bad gateway":     {"2001:db8:1:2:3:deca:deca:dec0", "fe80::1%eth0"},
		"IPv4 gateway":    {"2001:db8:1:2:3:deca:deca:dec0", "172.16.0.1"},
		"no address":      {`,"2001:db8:1:2:3:deca:deca:dec1/124"`, ""},
	} {
		files, err := withIPv6().Files()
		if err != nil {
			t.Fatal(err)
		}
		replace(files, change[0], change[1])
		if _, err := cloudinit.Parse(files); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: Parse returned %v, want invalid", name, err)
		}
	}
}

func TestForeignSeedsAreRefused(t *testing.T) {
	for name, change := range map[string]func(map[string][]byte){
		"no user-data":   func(f map[string][]byte) { delete(f, cloudinit.UserDataFile) },
		"YAML":           func(f map[string][]byte) { f[cloudinit.UserDataFile] = []byte("#cloud-config\nhostname: x\n") },
		"meta-data":      func(f map[string][]byte) { f[cloudinit.MetaDataFile] = []byte("x") },
		"network":        func(f map[string][]byte) { f[cloudinit.NetworkFile] = []byte("version: 2") },
		"no device":      func(f map[string][]byte) { f[cloudinit.NetworkFile] = []byte(`{"version":2}`) },
		"bad address":    func(f map[string][]byte) { replace(f, "172.16.0.2/30", "fd00::1/64") },
		"bad gateway":    func(f map[string][]byte) { replace(f, `"172.16.0.1"`, `"gw"`) },
		"bad nameserver": func(f map[string][]byte) { replace(f, "9.9.9.9", "dns") },
		"open quote":     func(f map[string][]byte) { replaceUser(f, "EMPTY=''", "EMPTY='") },
		"no name":        func(f map[string][]byte) { replaceUser(f, "EMPTY=''", "=''") },
		"trailing":       func(f map[string][]byte) { replaceUser(f, "EMPTY=''", "EMPTY=''x") },
	} {
		files, err := seed().Files()
		if err != nil {
			t.Fatal(err)
		}
		change(files)
		if _, err := cloudinit.Parse(files); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: Parse returned %v, want invalid", name, err)
		}
	}
}

func replace(f map[string][]byte, from, to string) {
	f[cloudinit.NetworkFile] = bytes.ReplaceAll(f[cloudinit.NetworkFile], []byte(from), []byte(to))
}

func replaceUser(f map[string][]byte, from, to string) {
	f[cloudinit.UserDataFile] = bytes.ReplaceAll(f[cloudinit.UserDataFile], []byte(from), []byte(to))
}

func FuzzReadISO(f *testing.F) {
	name := filepath.Join(f.TempDir(), "seed.iso")
	if err := iso.Write(name, seed()); err != nil {
		f.Fatal(err)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw[:128<<10])
	f.Add(make([]byte, 64<<10))
	f.Fuzz(func(t *testing.T, raw []byte) {
		files, err := cloudinit.ReadISO(bytes.NewReader(raw))
		if err != nil && !errors.Is(err, errs.Invalid) {
			t.Fatalf("ReadISO: %v, want invalid", err)
		}
		for name, content := range files {
			if len(content) > len(raw) {
				t.Fatalf("%s has %d bytes, more than the volume", name, len(content))
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	files, err := seed().Files()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(files[cloudinit.UserDataFile], files[cloudinit.MetaDataFile], files[cloudinit.NetworkFile])
	six, err := withIPv6().Files()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(six[cloudinit.UserDataFile], six[cloudinit.MetaDataFile], six[cloudinit.NetworkFile])
	f.Fuzz(func(t *testing.T, user, meta, network []byte) {
		s, err := cloudinit.Parse(map[string][]byte{
			cloudinit.UserDataFile: user, cloudinit.MetaDataFile: meta, cloudinit.NetworkFile: network,
		})
		if err != nil && !errors.Is(err, errs.Invalid) {
			t.Fatalf("Parse: %v, want invalid", err)
		}
		if err != nil {
			return
		}
		out, err := s.Files()
		if err != nil {
			t.Fatalf("an accepted seed cannot be written: %v", err)
		}
		again, err := cloudinit.Parse(out)
		if err != nil || !equal(t, s, again) {
			t.Fatalf("seed %+v came back as %+v, %v", s, again, err)
		}
	})
}
