package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// inRoot runs the test in the root of the repository, as the command is.
func inRoot(t *testing.T) {
	t.Helper()
	t.Chdir(filepath.Join("..", ".."))
}

// TestImageIsTheSameTwice builds each image twice, in different places, and looks
// what is in it.
func TestImageIsTheSameTwice(t *testing.T) {
	inRoot(t)
	for name, tt := range map[string]struct {
		args    []string
		sizeMax int
	}{
		"machines":  {nil, 120e6},
		"functions": {[]string{"-function"}, 100e6},
	} {
		t.Run(name, func(t *testing.T) {
			first := build(t, tt.args, nil)
			build(t, tt.args, first)
			if len(first) > tt.sizeMax {
				t.Errorf("image has %d bytes, want at most %d", len(first), tt.sizeMax)
			}
			r := tar.NewReader(bytes.NewReader(first))
			for _, want := range []string{"manifest.json", "kernel", "initrd", "rootfs"} {
				h, err := r.Next()
				if err != nil || h.Name != want || h.Uid != 0 || h.ModTime.Unix() != epoch {
					t.Fatalf("member %+v, %v; want %s of root and the epoch", h, err, want)
				}
			}
			if _, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("after the last member: %v, want the end", err)
			}
		})
	}
}

// build builds an image and returns it. It is to be the same as first, or the
// first, which a second run leaves alone.
func build(t *testing.T, args []string, first []byte) []byte {
	t.Helper()
	var said bytes.Buffer
	out := filepath.Join(t.TempDir(), "image")
	args = append([]string{"-o", out}, args...)
	if err := run(t.Context(), args, &said); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if first != nil {
		if !bytes.Equal(raw, first) {
			t.Error("the second image has other bytes than the first")
		}
		return raw
	}
	said.Reset()
	if err := run(t.Context(), args, &said); err != nil || !strings.Contains(said.String(), "up to date") {
		t.Errorf("a second run: %v, %s; want nothing to do", err, said.String())
	}
	return raw
}

func TestLock(t *testing.T) {
	all, err := parseLock(lockText)
	if err != nil || len(all) != len(allPackages())+1 {
		t.Errorf("packages.lock has %d packages, %v; want the kernel and the %d of the recipes", len(all), err, len(allPackages()))
	}
	for _, bad := range []string{"x", "a 1 ../f 1 " + strings.Repeat("0", 64), "a 1 f 1 00"} {
		if _, err := parseLock(bad); err == nil {
			t.Errorf("parseLock(%q) was taken", bad)
		}
	}
	line := "# comment\n\nbash 1:5 bash_1%3a5_amd64.deb 10 " + strings.Repeat("0", 64) + "\n"
	all, err = parseLock(line)
	if err != nil || len(all) != 1 || all[0].line()+"\n" != line[len("# comment\n\n"):] {
		t.Errorf("parseLock = %+v, %v", all, err)
	}
}

func TestURIs(t *testing.T) {
	all, err := parseURIs("Reading...\n'http://d/bash_1%3a5.2-2_amd64.deb' bash_1%3a5.2-2_amd64.deb 14 SHA256:ab\n")
	want := debPackage{name: "bash", version: "1:5.2-2", file: "bash_1%3a5.2-2_amd64.deb", size: "14", sha256: "ab"}
	if err != nil || len(all) != 1 || all[0] != want {
		t.Errorf("parseURIs = %+v, %v; want %+v", all, err, want)
	}
	if _, err := parseURIs("'http://d/x' x 14 MD5Sum:ab\n"); err == nil {
		t.Error("a line of another form was taken")
	}
}

// lz4Frame packs text as one block of literals and one match.
func lz4Frame(block []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0x184c2102)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(block)))
	return append(b, block...)
}

func TestLZ4(t *testing.T) {
	// "abcd", then 20 bytes from 4 back, then "z".
	frame := lz4Frame([]byte{0x4f, 'a', 'b', 'c', 'd', 4, 0, 1, 0x10, 'z'})
	got, err := unpackLZ4(frame, 25)
	if want := "abcdabcdabcdabcdabcdabcdz"; err != nil || string(got) != want {
		t.Errorf("unpackLZ4 = %q, %v; want %q", got, err, want)
	}
	for name, bad := range map[string][]byte{
		"magic":         []byte("xxxxxxxx"),
		"cut short":     frame[:12],
		"no match":      lz4Frame([]byte{0x00}),
		"offset 0":      lz4Frame([]byte{0x10, 'a', 0, 0}),
		"offset beyond": lz4Frame([]byte{0x10, 'a', 9, 0}),
		"literals":      lz4Frame([]byte{0xf0, 255}),
		"too much":      lz4Frame([]byte{0x1f, 'a', 1, 0, 255, 255, 0}),
		"too little":    lz4Frame([]byte{0x10, 'a'}),
	} {
		if _, err := unpackLZ4(bad, 25); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
}

func FuzzUnpackKernel(f *testing.F) {
	bz := make([]byte, 0x400)
	copy(bz[0x202:], "HdrS")
	f.Add(bz)
	f.Fuzz(func(_ *testing.T, raw []byte) { _, _ = unpackKernel(raw) })
}

func FuzzLZ4(f *testing.F) {
	f.Add([]byte{0x4f, 'a', 'b', 'c', 'd', 4, 0, 1, 0x10, 'z'})
	f.Fuzz(func(t *testing.T, block []byte) {
		const size = 4096
		if out, err := unpackLZ4(lz4Frame(block), size); err == nil && len(out) != size {
			t.Fatalf("unpacked %d bytes", len(out))
		}
	})
}

func TestTreeMergesDirectories(t *testing.T) {
	tr := tree{}
	for _, e := range []entry{
		{path: "bin", dir: true, mode: 0o755},
		{path: "bin/sh", mode: 0o755, data: []byte("x")},
		{path: "usr/share/man/man1/sh.1", data: []byte("x")},
		{path: "usr/share/doc/x/copyright", mode: 0o644, data: []byte("c")},
		{path: "usr/share/doc/x/changelog", data: []byte("c")},
		{path: "tmp", dir: true, mode: 0o1777},
		{path: "tmp", dir: true, mode: 0o755},
		{path: "."},
	} {
		tr.add(e)
	}
	var names []string
	for _, e := range tr.sorted() {
		names = append(names, e.path)
	}
	if got, want := strings.Join(names, " "), "tmp usr usr/bin usr/bin/sh usr/share usr/share/doc usr/share/doc/x usr/share/doc/x/copyright"; got != want {
		t.Errorf("tree has %s, want %s", got, want)
	}
	if tr["tmp"].mode != 0o1777 {
		t.Errorf("tmp has mode %o, want 1777", tr["tmp"].mode)
	}
	if got := tr.bytes(); got != 2*fsBlock {
		t.Errorf("tree has %d bytes, want two blocks", got)
	}
}

func TestMissingLibraryIsNoticed(t *testing.T) {
	raw, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := elf.NewFile(bytes.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	tr := tree{"usr/bin/sh": {path: "usr/bin/sh", data: raw}}
	if err := tr.checkLibraries(); err == nil || !strings.Contains(err.Error(), "libc.so.6") {
		t.Errorf("checkLibraries: %v, want that libc is missing", err)
	}
	tr["usr/lib/libc.so.6"] = entry{path: "usr/lib/libc.so.6"}
	if err := tr.checkLibraries(); err != nil {
		t.Errorf("checkLibraries: %v", err)
	}
	tr["x"] = entry{path: "x", data: []byte("\x7fELF but not really")}
	if err := tr.checkLibraries(); err == nil {
		t.Error("a damaged program was taken")
	}
}

func TestAccounts(t *testing.T) {
	tr := tree{}
	if err := tr.accounts(); err == nil {
		t.Error("accounts were made of nothing")
	}
	tr.file("usr/share/base-passwd/passwd.master", 0o644, "root:*:0:0:root:/root:/bin/bash\n")
	tr.file("usr/share/base-passwd/group.master", 0o644, "root:*:0:\n")
	if err := tr.accounts(); err != nil {
		t.Fatal(err)
	}
	if got := string(tr["etc/shadow"].data); !strings.HasPrefix(got, "root:*:") || !strings.Contains(got, "sshd:*:") {
		t.Errorf("shadow is %q, want no passwords", got)
	}
}

func TestScriptRefusesWhatDebugfsCannotTake(t *testing.T) {
	tr := tree{"a\"b": {path: "a\"b"}}
	if _, err := tr.script(t.TempDir()); err == nil {
		t.Error("a quote was taken")
	}
}

func TestMirrorThatDoesNotAnswer(t *testing.T) {
	b := &builder{ctx: t.Context(), stderr: io.Discard, mirror: "http://127.0.0.1:1", cache: t.TempDir(), begin: time.Now()}
	if err := b.checkTools("apt-get"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.packages(machineRecipe()); err == nil || !strings.Contains(err.Error(), "fetching package lists from http://127.0.0.1:1 failed 3 times; check this machine's network") {
		t.Errorf("packages: %v, want what was tried and what to do", err)
	}
	if err := run(t.Context(), []string{"-no-such-flag"}, io.Discard); err == nil {
		t.Error("an unknown flag was taken")
	}
}

// TestOtherPackagesOnlyWhenTheLockedAreGone asks an apt-get that fails to
// download in some way, and looks what else is asked of it.
func TestOtherPackagesOnlyWhenTheLockedAreGone(t *testing.T) {
	const asked, retried = "update download", "update download download download"
	tests := []struct{ name, says, calls, want string }{
		{"no network", "E: Failed to fetch http://x/a.deb  Could not connect to x:80 (1.2.3.4). - connect (111: Connection refused)", retried, "make image IMAGE_MIRROR=URL"},
		{"a proxy's error", "E: Failed to fetch http://x/a.deb  502  Bad Gateway [IP: 1.2.3.4 80]", retried, "failed 3 times"},
		{"cut off", "E: Failed to fetch http://x/a.deb  Connection timed out", retried, "Connection timed out"},
		{"the version is not listed", "E: Version '5.2.15-2+b7' for 'bash' was not found", asked + " install", "resolve linux-image-cloud-amd64"},
		{"the kernel is not listed", "E: Unable to locate package linux-image-6.1.0-1-cloud-amd64", asked + " install", "resolve"},
		{"the file is gone", "E: Failed to fetch http://x/a.deb  404  Not Found [IP: 1.2.3.4 80]", asked + " install", "resolve"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			script := filepath.Join(dir, "apt-get")
			text := `#!/bin/sh
for word; do case $word in update | download | install) echo "$word" >>` + dir + `/calls; break ;; esac; done
[ "$word" = update ] && exit
echo "` + tt.says + `" >&2
exit 100
`
			if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			b := &builder{
				ctx: t.Context(), stderr: &said, mirror: "http://x", cache: filepath.Join(dir, "cache"), begin: time.Now(),
				tools: map[string]string{"apt-get": script},
			}

			_, err := b.packages(machineRecipe())

			calls, rerr := os.ReadFile(filepath.Join(dir, "calls"))
			if got := strings.Join(strings.Fields(string(calls)), " "); got != tt.calls || rerr != nil {
				t.Errorf("apt-get was asked to %s (%v), want %s", got, rerr, tt.calls)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("packages: %v, want %q", err, tt.want)
			}
			if other := strings.Contains(said.String(), "current packages"); other != (tt.calls != retried) {
				t.Errorf("it says %s", said.String())
			}
		})
	}
}

func TestMissingToolIsNamed(t *testing.T) {
	b := &builder{ctx: t.Context(), stderr: io.Discard, begin: time.Now()}
	if err := b.checkTools("no-such-tool"); err == nil || !strings.Contains(err.Error(), "debian.sh") {
		t.Errorf("checkTools: %v, want what to run", err)
	}
	if err := b.checkTools("sh"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.output(b.command("sh", "-c", "echo no luck >&2; exit 3")); err == nil || !strings.Contains(err.Error(), "no luck") {
		t.Errorf("output: %v, want what the tool said", err)
	}
}

func TestDamagedPackageIsDownloadedAgain(t *testing.T) {
	b := &builder{cache: t.TempDir()}
	p := debPackage{name: "x", file: "x.deb", sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
	for text, missing := range map[string]int{"": 0, "damaged": 1} {
		if err := os.WriteFile(filepath.Join(b.cache, p.file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := b.missing([]debPackage{p}); len(got) != missing {
			t.Errorf("content %q: %d packages missing, want %d", text, len(got), missing)
		}
	}
}

func TestCpio(t *testing.T) {
	var c cpio
	c.add("init", 0o100755, []byte("x"))
	raw := c.end()
	if len(raw)%512 != 0 || !bytes.HasPrefix(raw, []byte("070701")) || !bytes.Contains(raw, []byte("TRAILER!!!")) {
		t.Errorf("archive of %d bytes is not newc", len(raw))
	}
	if want := fmt.Sprintf("%08X", 0o100755); string(raw[14:22]) != want {
		t.Errorf("mode is %s, want %s", raw[14:22], want)
	}
}
