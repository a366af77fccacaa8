package main

import (
	"bufio"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed packages.lock
var lockText string

// suite is the Debian release that the image is made of.
const suite = "bookworm"

// kernelMeta depends on the current cloud kernel.
const kernelMeta = "linux-image-cloud-amd64"

// rootPackages are unpacked into the root disk. It is a list and not the
// closure of dependencies: maintainer scripts do not run here, so what only
// they need (perl, debconf, adduser) stays out. checkLibraries sees to it that
// every shared library is there.
var rootPackages = []string{ //nolint:gochecknoglobals // The recipe.
	"base-files", "base-passwd", "bash", "busybox-static", "ca-certificates", "dash",
	"libaudit1", "libc-bin", "libc6", "libcap-ng0", "libcap2", "libcom-err2", "libcrypt1",
	"libgcc-s1", "libgcrypt20", "libgpg-error0", "libgssapi-krb5-2", "libk5crypto3",
	"libkeyutils1", "libkrb5-3", "libkrb5support0", "liblz4-1", "liblzma5", "libnsl2",
	"libpam0g", "libpcre2-8-0", "libselinux1", "libssl3", "libsystemd0", "libtinfo6",
	"libtirpc3", "libwrap0", "libzstd1", "ncurses-base", "openssh-server",
	"openssh-sftp-server", "zlib1g",
}

// batchMax is how many packages one apt-get downloads: starting it takes
// longer than most packages, and progress should still be seen.
const batchMax = 10

// triesMax is how often a download is tried.
const triesMax = 3

// debPackage is a package as the lock pins it.
type debPackage struct {
	name, version, file, sha256 string
	size                        string
}

func (p debPackage) line() string {
	return strings.Join([]string{p.name, p.version, p.file, p.size, p.sha256}, " ")
}

// parseLock reads the lock, one "NAME VERSION FILE SIZE SHA256" a line.
func parseLock(text string) ([]debPackage, error) {
	var all []debPackage
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 5 || strings.ContainsAny(f[2], "/\\") || len(f[4]) != 2*sha256.Size {
			return nil, fmt.Errorf("packages.lock has %q, want NAME VERSION FILE SIZE SHA256", line)
		}
		all = append(all, debPackage{name: f[0], version: f[1], file: f[2], size: f[3], sha256: f[4]})
	}
	return all, nil
}

// allPackages are those of all recipes, without the kernel.
func allPackages() []string {
	all := slices.Concat(rootPackages, functionPackages)
	slices.Sort(all)
	return slices.Compact(all)
}

// of returns those of the packages that a recipe takes, and the kernel.
func of(r recipe, all []debPackage) []debPackage {
	return slices.DeleteFunc(all, func(p debPackage) bool {
		return !strings.HasPrefix(p.name, "linux-image-") && !slices.Contains(r.packages, p.name)
	})
}

// packages returns the packages of the image, downloaded and checked.
func (b *builder) packages(r recipe) ([]debPackage, error) {
	locked, err := parseLock(lockText)
	if err != nil {
		return nil, err
	}
	locked = of(r, locked)
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return nil, fmt.Errorf("make package cache: %w", err)
	}
	if len(b.missing(locked)) == 0 {
		return locked, nil
	}
	if err := b.updateLists(); err != nil {
		return nil, err
	}
	err = b.download(locked)
	if !errors.Is(err, errGone) {
		return locked, err
	}
	b.sayf("the mirror does not serve packages.lock any more (%v)", err)
	b.sayf("taking its current packages: the image will not have the recorded hash")
	current, err := b.resolve()
	if err != nil {
		return nil, err
	}
	current = of(r, current)
	if err := b.download(current); err != nil {
		return nil, err
	}
	return current, nil
}

// patiently does what needs the mirror, again when that fails: what it got is
// not fetched twice. A version that is gone does not come back.
func (b *builder) patiently(what string, fn func() error) error {
	for try := 1; ; try++ {
		err := fn()
		if err == nil || errors.Is(err, errGone) || b.ctx.Err() != nil {
			return err
		}
		if try == triesMax {
			return fmt.Errorf("%s from %s failed %d times; check this machine's network, or name another mirror (make image IMAGE_MIRROR=URL), and run this again: %w",
				what, b.mirror, triesMax, err)
		}
		pause := time.Duration(try) * b.pause
		b.sayf("%s failed, trying again in %v (%v)", what, pause, err)
		select {
		case <-time.After(pause):
		case <-b.ctx.Done():
		}
	}
}

// missing returns the packages that the cache does not hold intact.
func (b *builder) missing(all []debPackage) []debPackage {
	return slices.DeleteFunc(slices.Clone(all), func(p debPackage) bool { return b.check(p) == nil })
}

// check compares a package in the cache with its hash.
func (b *builder) check(p debPackage) error {
	f, err := os.Open(filepath.Join(b.cache, p.file))
	if err != nil {
		return fmt.Errorf("open package: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("read package: %w", err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != p.sha256 {
		return fmt.Errorf("package %s has the hash %s, want %s", p.name, got, p.sha256)
	}
	return nil
}

// apt prepares apt-get with directories of our own, so that it needs no
// privileges and sees neither the packages nor the sources of this machine. It
// runs in workDir, where it puts what it downloads and leaves out what is
// there already.
func (b *builder) apt(workDir string, args ...string) ([]byte, error) {
	dir := filepath.Join(b.cache, "apt")
	for _, d := range []string{"lists/partial", "cache/archives/partial", "empty"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("make apt directory: %w", err)
		}
	}
	signed := "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " + b.mirror
	files := map[string]string{
		"sources.list": signed + "/debian " + suite + " main\n" + signed + "/debian-security " + suite + "-security main\n",
		"status":       "",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("write apt settings: %w", err)
		}
	}
	options := []string{
		"-q=2",
		"-o", "Dir::State=" + dir, "-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"),
		"-o", "Dir::State::status=" + filepath.Join(dir, "status"),
		"-o", "Dir::Cache=" + filepath.Join(dir, "cache"),
		"-o", "Dir::Etc::SourceList=" + filepath.Join(dir, "sources.list"),
		"-o", "Dir::Etc::SourceParts=" + filepath.Join(dir, "empty"),
		"-o", "Dir::Etc::Preferences=/dev/null", "-o", "Dir::Etc::PreferencesParts=" + filepath.Join(dir, "empty"),
		"-o", "APT::Architecture=amd64", "-o", "APT::Architectures=amd64",
		"-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none", "-o", "Acquire::Retries=1",
		"-o", "APT::Update::Error-Mode=any", // Or a mirror that is away would be a warning.
	}
	cmd := b.command("apt-get", append(options, args...)...)
	cmd.Dir = workDir
	return b.output(cmd)
}

// updateLists fetches the mirror's lists of packages.
func (b *builder) updateLists() error {
	b.sayf("fetching the package lists of Debian %s from %s", suite, b.mirror)
	return b.patiently("fetching package lists", func() error {
		_, err := b.apt(b.cache, "update")
		return err
	})
}

// download fetches the packages that the cache has not, and checks each.
func (b *builder) download(all []debPackage) error {
	return b.patiently("downloading packages", func() error { return b.downloadOnce(b.missing(all)) })
}

// errGone is that a mirror which answers has a version no more: Debian's keep the
// newest only.
var errGone = errors.New("the version is gone")

// gone marks what apt-get says of a version that is gone.
func gone(err error) error {
	for _, said := range []string{"was not found", "Unable to locate package", "404  Not Found"} {
		if strings.Contains(err.Error(), said) {
			return fmt.Errorf("%w: %w", errGone, err)
		}
	}
	return err
}

func (b *builder) downloadOnce(all []debPackage) error {
	done := 0
	for batch := range slices.Chunk(all, batchMax) {
		args := []string{"download"}
		for _, p := range batch {
			done++
			b.sayf("downloading %s %s (%s bytes, %d of %d)", p.name, p.version, p.size, done, len(all))
			args = append(args, p.name+"="+p.version)
		}
		if _, err := b.apt(b.cache, args...); err != nil {
			return gone(err)
		}
		for _, p := range batch {
			if err := b.check(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// resolve finds the mirror's current version of every package.
func (b *builder) resolve() ([]debPackage, error) {
	empty, err := os.MkdirTemp(b.cache, "resolve-")
	if err != nil {
		return nil, fmt.Errorf("make empty directory: %w", err)
	}
	defer os.RemoveAll(empty)
	kernel, err := b.currentKernel(empty)
	if err != nil {
		return nil, err
	}
	out, err := b.apt(empty, append([]string{"--print-uris", "download", kernel}, allPackages()...)...)
	if err != nil {
		return nil, fmt.Errorf("resolve packages: %w", err)
	}
	all, err := parseURIs(string(out))
	if err != nil {
		return nil, err
	}
	if want := len(allPackages()) + 1; len(all) != want {
		return nil, fmt.Errorf("resolve packages: the mirror named %d, want %d", len(all), want)
	}
	return all, nil
}

// currentKernel returns the package that the kernel's meta package stands for.
func (b *builder) currentKernel(empty string) (string, error) {
	out, err := b.apt(empty, "--print-uris", "-o", "APT::Install-Recommends=false", "install", kernelMeta)
	if err != nil {
		return "", fmt.Errorf("resolve %s: %w", kernelMeta, err)
	}
	for _, word := range strings.Fields(string(out)) {
		name, _, ok := strings.Cut(word, "_")
		if ok && strings.HasPrefix(name, "linux-image-") && name != kernelMeta {
			return name, nil
		}
	}
	return "", fmt.Errorf("%s depends on no kernel", kernelMeta)
}

// parseURIs reads what apt-get --print-uris prints: 'URI' FILE SIZE HASH.
func parseURIs(text string) ([]debPackage, error) {
	var all []debPackage
	sc := bufio.NewScanner(strings.NewReader(text))
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "'") {
			continue
		}
		parts := strings.Split(strings.TrimSuffix(f[1], ".deb"), "_")
		hash, ok := strings.CutPrefix(f[3], "SHA256:")
		if len(parts) != 3 || !ok {
			return nil, fmt.Errorf("apt-get printed %q", sc.Text())
		}
		version := strings.ReplaceAll(parts[1], "%3a", ":")
		all = append(all, debPackage{name: parts[0], version: version, file: f[1], size: f[2], sha256: hash})
	}
	slices.SortFunc(all, func(a, b debPackage) int { return strings.Compare(a.name, b.name) })
	return all, sc.Err()
}

// updateLock writes the lock from what the mirror has now.
func (b *builder) updateLock(path string) error {
	if err := b.updateLists(); err != nil {
		return err
	}
	all, err := b.resolve()
	if err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString("# The packages of the guest images: NAME VERSION FILE SIZE SHA256.\n# Written by: go run ./packaging/image -update-lock\n")
	for _, p := range all {
		text.WriteString(p.line() + "\n")
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	b.sayf("wrote %d packages to %s", len(all), path)
	return nil
}
