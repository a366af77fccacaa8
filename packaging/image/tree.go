package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// entry is a file, directory or symbolic link of the root disk.
type entry struct {
	path     string // Relative to the root, without a leading slash.
	mode     int64  // Permissions and set-id bits.
	uid, gid int
	dir      bool
	link     string // Target of a symbolic link.
	data     []byte
}

// tree is the root disk to be, by path.
type tree map[string]entry

// unpackedMax bounds the files of all packages together.
const unpackedMax = 1 << 30

// eachFile calls fn with every member of a package.
func (b *builder) eachFile(p debPackage, fn func(entry) error) error {
	out, err := b.output(b.command("dpkg-deb", "--fsys-tarfile", filepath.Join(b.cache, p.file)))
	if err != nil {
		return fmt.Errorf("unpack %s: %w", p.name, err)
	}
	files := map[string]entry{}
	r := tar.NewReader(bytes.NewReader(out))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpack %s: %w", p.name, err)
		}
		e := entry{path: strings.TrimPrefix(path.Clean("/"+h.Name), "/"), mode: h.Mode & 0o7777, uid: h.Uid, gid: h.Gid}
		switch h.Typeflag {
		case tar.TypeDir:
			e.dir = true
		case tar.TypeSymlink:
			e.link = h.Linkname
		case tar.TypeLink:
			e = files[strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")]
			e.path = strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		case tar.TypeReg:
			if e.data, err = io.ReadAll(io.LimitReader(r, unpackedMax)); err != nil {
				return fmt.Errorf("unpack %s: %w", p.name, err)
			}
		default:
			continue
		}
		files[e.path] = e
		if err := fn(e); err != nil {
			return err
		}
	}
}

// unwanted are documentation and translations; copyright files stay.
var unwanted = []string{ //nolint:gochecknoglobals // The recipe.
	"usr/share/man/", "usr/share/locale/", "usr/share/lintian/", "usr/share/bug/", "usr/share/info/",
	"usr/share/doc-base/", "usr/share/menu/", "usr/share/initramfs-tools/", "usr/share/bash-completion/",
	"usr/lib/systemd/", "usr/lib/x86_64-linux-gnu/gconv/", "etc/init.d/", "etc/default/", "usr/share/apport/",
	"usr/share/tabset/", "etc/ufw/", "etc/pam.d/",
	"usr/sbin/update-passwd/", // Needs debconf.
}

func isWanted(name string) bool {
	if strings.HasPrefix(name, "usr/share/doc/") {
		return path.Base(name) == "copyright"
	}
	for _, u := range unwanted {
		if strings.HasPrefix(name+"/", u) {
			return false
		}
	}
	return true
}

// add puts an entry in, below /usr where Debian merges directories.
func (t tree) add(e entry) {
	for _, dir := range []string{"bin", "sbin", "lib", "lib64", "lib32", "libx32"} {
		if e.path == dir {
			return
		}
		if strings.HasPrefix(e.path, dir+"/") {
			e.path = "usr/" + e.path
		}
	}
	if e.path == "" || e.path == "." || !isWanted(e.path) {
		return
	}
	if old, ok := t[e.path]; ok && old.dir && e.dir && old.mode != 0o755 {
		return // The first package that says more than the usual wins.
	}
	t.parents(e.path)
	t[e.path] = e
}

// parents adds the directories that lead to name.
func (t tree) parents(name string) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, ok := t[dir]; !ok {
			t[dir] = entry{path: dir, mode: 0o755, dir: true}
		}
	}
}

func (t tree) file(name string, mode int64, text string) {
	t.parents(name)
	t[name] = entry{path: name, mode: mode, data: []byte(text)}
}

func (t tree) symlink(name, target string) {
	t.parents(name)
	t[name] = entry{path: name, mode: 0o777, link: target}
}

func (t tree) directory(name string, mode int64) {
	t.parents(name)
	t[name] = entry{path: name, mode: mode, dir: true}
}

// sorted returns the entries with every directory before what is in it.
func (t tree) sorted() []entry {
	all := make([]entry, 0, len(t))
	for _, e := range t {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	return all
}

// bytes returns the size of all contents.
func (t tree) bytes() (n int64) {
	for _, e := range t {
		// Whole blocks, as the file system stores them.
		n += (int64(len(e.data)) + fsBlock - 1) / fsBlock * fsBlock
	}
	return n
}

// checkLibraries reports a program whose shared libraries are not in the
// tree: a package is missing in the recipe.
func (t tree) checkLibraries() error {
	have := map[string]bool{}
	for name := range t {
		have[path.Base(name)] = true
	}
	for _, e := range t.sorted() {
		if len(e.data) < 4 || !bytes.Equal(e.data[:4], []byte(elf.ELFMAG)) {
			continue
		}
		f, err := elf.NewFile(bytes.NewReader(e.data))
		if err != nil {
			return fmt.Errorf("read %s: %w", e.path, err)
		}
		libs, err := f.ImportedLibraries()
		if err != nil {
			continue // A static program has none.
		}
		for _, lib := range libs {
			if !have[lib] {
				return fmt.Errorf("%s needs %s, which no package of the recipe has", e.path, lib)
			}
		}
	}
	return nil
}
