package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

//go:embed *.go packages.lock
var sources embed.FS

// cmdline is for a tenant's machine: quiet and quick, with all of the kernel's
// mitigations. The driver adds what depends on the host.
const cmdline = "console=ttyS0 quiet panic=5 reboot=t random.trust_cpu=on cryptomgr.notests audit=0 apparmor=0 8250.nr_uarts=1"

// manifest describes an image to those who boot it.
type manifest struct {
	Version  int      `json:"version"`
	Name     string   `json:"name"`
	Kernel   string   `json:"kernel"`
	Initrd   string   `json:"initrd"`
	Rootfs   string   `json:"rootfs"`
	Format   string   `json:"format"`
	Cmdline  string   `json:"cmdline"`
	Agent    bool     `json:"agent"`
	Packages []string `json:"packages"`
}

// recipe is what an image is made of.
type recipe struct {
	name     string
	packages []string // Without the kernel.
	modules  []moduleGroup
	cmdline  string
	tags     string // That aleph-guest is built with.
	// rootfs writes the root disk of the packages.
	rootfs func(b *builder, packages []debPackage, name string) error
}

// machineRecipe is the image of machines that people log in to.
func machineRecipe() recipe {
	return recipe{
		name: "debian-" + suite, packages: rootPackages, modules: moduleGroups, cmdline: cmdline, tags: "machine",
		rootfs: func(b *builder, packages []debPackage, name string) error {
			t, err := b.rootTree(packages)
			if err != nil {
				return err
			}
			return b.writeRootfs(t, name)
		},
	}
}

// build writes the image, unless it is there and made of the same.
func (b *builder) build(r recipe, out string, force bool) error {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("make directory of images: %w", err)
	}
	work, err := os.MkdirTemp(filepath.Dir(out), "work-")
	if err != nil {
		return fmt.Errorf("make work directory: %w", err)
	}
	defer os.RemoveAll(work)

	agent, err := b.buildAgent(work, r.tags)
	if err != nil {
		return err
	}
	key, err := inputsKey(r.name, agent)
	if err != nil {
		return err
	}
	keyFile := out + ".inputs"
	if !force && upToDate(out, keyFile, key) {
		b.sayf("%s is up to date", out)
		return nil
	}
	packages, err := b.packages(r)
	if err != nil {
		return err
	}
	image := filepath.Join(work, "image")
	sum, size, err := b.assemble(r, work, image, agent, packages)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Rename(image, out), os.WriteFile(keyFile, []byte(key+" "+sum+"\n"), 0o644)); err != nil {
		return fmt.Errorf("put image in place: %w", err)
	}
	b.sayf("wrote %s: %.1f MB, sha256 %s", out, float64(size)/1e6, sum)
	return nil
}

// assemble makes the parts and packs them.
func (b *builder) assemble(r recipe, work, image string, agent []byte, packages []debPackage) (sum string, size int64, err error) {
	m := manifest{
		Version: 1, Name: r.name, Kernel: "kernel", Initrd: "initrd", Rootfs: "rootfs",
		Format: "raw", Cmdline: r.cmdline, Agent: true,
	}
	var kernel kernelFiles
	var rest []debPackage
	for _, p := range packages {
		m.Packages = append(m.Packages, p.name+"="+p.version)
		if !strings.HasPrefix(p.name, "linux-image-") {
			rest = append(rest, p)
			continue
		}
		b.sayf("unpacking the kernel of %s", p.name)
		if kernel, err = b.readKernel(p, r.modules); err != nil {
			return "", 0, err
		}
	}
	b.sayf("writing the root disk from %d packages", len(rest))
	rootfs := filepath.Join(work, "rootfs")
	if err := r.rootfs(b, rest, rootfs); err != nil {
		return "", 0, err
	}
	b.sayf("packing")
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return "", 0, fmt.Errorf("encode manifest: %w", err)
	}
	return packImage(image, []member{
		{"manifest.json", bytes.NewReader(append(raw, '\n'))},
		{"kernel", bytes.NewReader(kernel.elf)},
		{"initrd", bytes.NewReader(initrd(agent, r.modules, kernel.modules))},
		{"rootfs", fileReader(rootfs)},
	})
}

// buildAgent builds aleph-guest.
func (b *builder) buildAgent(work, tags string) ([]byte, error) {
	name := filepath.Join(work, "aleph-guest")
	cmd := b.command("go", "build", "-trimpath", "-buildvcs=false", "-tags="+tags, "-ldflags=-s -w -buildid=", "-o", name,
		"github.com/aleph-onchain/aleph-onchain/cmd/aleph-guest")
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GOFLAGS=")
	b.sayf("building aleph-guest")
	if _, err := b.output(cmd); err != nil {
		return nil, fmt.Errorf("build aleph-guest: %w", err)
	}
	return os.ReadFile(name)
}

// inputsKey names everything that an image is made of.
func inputsKey(name string, agent []byte) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, name)
	h.Write(agent)
	entries, err := sources.ReadDir(".")
	if err != nil {
		return "", fmt.Errorf("list recipe: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		raw, err := sources.ReadFile(e.Name())
		if err != nil {
			return "", fmt.Errorf("read recipe: %w", err)
		}
		fmt.Fprintf(h, "%s %d\n", e.Name(), len(raw))
		h.Write(raw)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// upToDate reports whether out was made of the inputs that key names and has
// not changed since.
func upToDate(out, keyFile, key string) bool {
	raw, err := os.ReadFile(keyFile)
	if err != nil {
		return false
	}
	was, sum, _ := strings.Cut(strings.TrimSpace(string(raw)), " ")
	if was != key {
		return false
	}
	f, err := os.Open(out)
	if err != nil {
		return false
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return false
	}
	return hex.EncodeToString(h.Sum(nil)) == sum
}

// member is a file in the image.
type member struct {
	name string
	data io.Reader
}

// fileReader opens a file when it is read first.
func fileReader(name string) io.Reader { return &lazyFile{name: name} }

type lazyFile struct {
	name string
	f    *os.File
}

func (l *lazyFile) Read(p []byte) (n int, err error) {
	if l.f == nil {
		if l.f, err = os.Open(l.name); err != nil {
			return 0, fmt.Errorf("open part of image: %w", err)
		}
	}
	if n, err = l.f.Read(p); err != nil {
		l.f.Close()
	}
	return n, err
}

// packImage writes the members as a tar and returns its hash and size.
func packImage(name string, members []member) (sum string, size int64, err error) {
	f, err := os.Create(name)
	if err != nil {
		return "", 0, fmt.Errorf("make image: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	w := tar.NewWriter(io.MultiWriter(f, h))
	for _, m := range members {
		data, err := io.ReadAll(m.data)
		if err != nil {
			return "", 0, fmt.Errorf("read %s: %w", m.name, err)
		}
		header := &tar.Header{
			Name: m.name, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(epoch, 0),
			Typeflag: tar.TypeReg, Format: tar.FormatUSTAR,
		}
		if err := w.WriteHeader(header); err != nil {
			return "", 0, fmt.Errorf("pack %s: %w", m.name, err)
		}
		if _, err := w.Write(data); err != nil {
			return "", 0, fmt.Errorf("pack %s: %w", m.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return "", 0, fmt.Errorf("pack image: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return "", 0, fmt.Errorf("look at image: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), info.Size(), nil
}

// initrd packs aleph-guest and the drivers, not compressed: the guest would
// take longer to unpack it than the host to read it.
func initrd(agent []byte, groups []moduleGroup, modules map[string][]byte) []byte {
	var c cpio
	for _, dir := range []string{"dev", "proc", "sys", "newroot", "lib", "lib/modules"} {
		c.add(dir, 0o040755, nil)
	}
	var list strings.Builder
	for _, group := range groups {
		for _, m := range group.modules {
			name := "lib/modules/" + m + ".ko"
			c.add(name, 0o100644, modules[m])
			fmt.Fprintf(&list, "%s /%s\n", group.name, name)
		}
	}
	c.add("lib/modules/load", 0o100644, []byte(list.String()))
	c.add("init", 0o100755, agent)
	return c.end()
}

// cpio writes the "newc" format of the kernel's initramfs.
type cpio struct {
	buf   bytes.Buffer
	inode int
}

func (c *cpio) add(name string, mode int, data []byte) {
	c.inode++
	fields := []int{c.inode, mode, 0, 0, 1, epoch, len(data), 0, 0, 0, 0, len(name) + 1, 0}
	c.buf.WriteString("070701")
	for _, f := range fields {
		fmt.Fprintf(&c.buf, "%08X", f)
	}
	c.buf.WriteString(name + "\x00")
	c.pad(4)
	c.buf.Write(data)
	c.pad(4)
}

func (c *cpio) pad(to int) {
	for c.buf.Len()%to != 0 {
		c.buf.WriteByte(0)
	}
}

func (c *cpio) end() []byte {
	c.inode = -1 // So that the trailer has inode 0.
	c.add("TRAILER!!!", 0, nil)
	c.pad(512)
	return c.buf.Bytes()
}
