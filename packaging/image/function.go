package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// functionPackages are unpacked into the runtime of functions: what Python needs,
// a shell and the usual commands. As with rootPackages it is a list and not a
// closure.
var functionPackages = []string{ //nolint:gochecknoglobals // The recipe.
	"base-files", "base-passwd", "busybox-static", "ca-certificates", "dash", "libbz2-1.0", "libc-bin", "libc6", "libcrypt1",
	"libexpat1", "libffi8", "libgcc-s1", "liblzma5", "libpython3.11-minimal", "libpython3.11-stdlib", "libsqlite3-0", "libssl3",
	"libuuid1", "media-types", "python3.11-minimal", "zlib1g",
}

// functionModules are the drivers of a function's initrd. Those of a bus or a
// device that the machine has not are not loaded.
var functionModules = []moduleGroup{ //nolint:gochecknoglobals // The recipe.
	{"virtio", []string{"virtio_ring", "virtio"}},
	{"pci", []string{"virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci"}},
	{"mmio", []string{"virtio_mmio"}},
	{"disk", []string{"virtio_blk", "squashfs", "overlay"}},
	{"vsock", []string{"vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"}},
	{"other", []string{"virtio_console", "failover", "net_failover", "virtio_net", "virtio-rng"}},
}

// functionCmdline is for a machine with the code of one tenant and nothing to
// keep from it, which should be up in a moment. What is turned off here is what a
// copy of a snapshot would have to run, and under translation to translate, before
// its first answer; GODEBUG is for aleph-guest, to which the kernel passes it on.
// See decision 32.
const functionCmdline = "aleph.function=1 console=ttyS0 quiet reboot=t panic=-1 nokaslr mitigations=off init_on_alloc=0 " +
	"random.trust_cpu=on cryptomgr.notests audit=0 lsm=capability psi=0 cgroup_disable=memory nowatchdog 8250.nr_uarts=1 " +
	"GODEBUG=asyncpreemptoff=1 " +
	"initcall_blacklist=init_kprobe_trace,crypto_kdf108_init,load_system_certificate_list,snapshot_device_init," +
	"init_trace_printk_function_export,vga_arb_device_init,tpm_init"

// functionRecipe is the image of functions.
func functionRecipe() recipe {
	return recipe{
		name: "function-" + suite, packages: functionPackages, modules: functionModules, cmdline: functionCmdline,
		rootfs: func(b *builder, packages []debPackage, name string) error {
			t, err := b.runtimeTree(packages)
			if err != nil {
				return err
			}
			return b.writeSquashfs(t, name)
		},
	}
}

// python is where the runtime has Python's library.
const python = "usr/lib/python3.11/"

// unwantedPython needs libraries that the runtime has not: terminals, and
// databases that nobody has any more.
var unwantedPython = []string{ //nolint:gochecknoglobals // The recipe.
	"_curses.", "_curses_panel.", "_dbm.", "readline.", "nis.",
}

// runtimeTree puts the packages together, and what their maintainer scripts
// would have.
func (b *builder) runtimeTree(packages []debPackage) (tree, error) {
	t := tree{}
	for _, p := range packages {
		err := b.eachFile(p, func(e entry) error {
			if !isUnwantedPython(e.path) {
				t.add(e)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	t.skeleton("data", "opt/code", "opt/packages", "opt/aleph/libs")
	for _, name := range []string{"usr/bin/python3", "usr/bin/python"} {
		t.symlink(name, "python3.11")
	}
	if err := t.accounts(); err != nil {
		return nil, err
	}
	t.certificates()
	t.file("etc/hostname", 0o644, "aleph\n")
	t.file("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")
	t.file("var/lib/dpkg/status", 0o644, dpkgStatus(packages))
	if err := t.checkLibraries(); err != nil {
		return nil, err
	}
	return t, b.compilePython(t)
}

func isUnwantedPython(name string) bool {
	rest, ok := strings.CutPrefix(name, "./")
	if !ok {
		rest = name
	}
	rest, ok = strings.CutPrefix(rest, python+"lib-dynload/")
	return ok && slices.ContainsFunc(unwantedPython, func(u string) bool { return strings.HasPrefix(rest, u) })
}

// compilePython adds the compiled form of Python's library, which machines would
// make at each start, since they keep nothing. The tree's own Python compiles it,
// by the tree's own loader, so that it fits and nothing else is needed.
func (b *builder) compilePython(t tree) error {
	b.sayf("compiling the library of Python")
	dir, err := os.MkdirTemp("", "runtime-")
	if err != nil {
		return fmt.Errorf("make directory of runtime: %w", err)
	}
	defer os.RemoveAll(dir)
	for _, e := range t.sorted() {
		if err := e.write(dir); err != nil {
			return fmt.Errorf("write runtime: %w", err)
		}
	}
	libs := filepath.Join(dir, "usr/lib/x86_64-linux-gnu")
	b.tools["ld.so"] = filepath.Join(libs, "ld-linux-x86-64.so.2")
	// One process and names in order, so that the result is always the same; what
	// this run itself imports is compiled as the rest is.
	cmd := b.command("ld.so", "--library-path", libs, filepath.Join(dir, "usr/bin/python3.11"), "-E", "-s", "-S", "-B", "-m", "compileall",
		"-f", "-q", "-j", "1", "--invalidation-mode", "unchecked-hash", "-s", dir, "-p", "/", filepath.Join(dir, python))
	cmd.Env = append(cmd.Env, "PYTHONHASHSEED=0")
	if _, err := b.output(cmd); err != nil {
		return fmt.Errorf("compile the library of Python: %w", err)
	}
	library := os.DirFS(filepath.Join(dir, python))
	return fs.WalkDir(library, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".pyc") {
			return err
		}
		raw, err := fs.ReadFile(library, name)
		if err != nil {
			return fmt.Errorf("read compiled library: %w", err)
		}
		t.file(python+name, 0o644, string(raw))
		return nil
	})
}

// write puts an entry below dir, as far as an unprivileged user can.
func (e entry) write(dir string) error {
	name := filepath.Join(dir, filepath.FromSlash(e.path))
	switch {
	case e.dir:
		return os.MkdirAll(name, 0o755)
	case e.link != "":
		return os.Symlink(e.link, name)
	default:
		return os.WriteFile(name, e.data, 0o644|fs.FileMode(e.mode&0o111))
	}
}

// writeSquashfs writes the tree as a squashfs. LZ4 is unpacked fastest, which
// counts more than the size, since every start does it.
func (b *builder) writeSquashfs(t tree, name string) error {
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(t.writeTar(pw)) }()
	cmd := b.command("mksquashfs", "-", name, "-tar", "-noappend", "-quiet", "-no-progress", "-no-xattrs", "-comp", "lz4", "-Xhc",
		"-mkfs-time", fmt.Sprint(epoch), "-all-time", fmt.Sprint(epoch), "-root-mode", "0755", "-root-uid", "0", "-root-gid", "0")
	cmd.Stdin = pr
	_, err := b.output(cmd)
	if err = errors.Join(err, pr.Close()); err != nil {
		return fmt.Errorf("write squashfs: %w", err)
	}
	return nil
}

// writeTar writes the tree as a tar.
func (t tree) writeTar(w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, e := range t.sorted() {
		h := &tar.Header{
			Name: e.path, Mode: e.mode, Uid: e.uid, Gid: e.gid, ModTime: time.Unix(epoch, 0), Format: tar.FormatGNU,
			Typeflag: tar.TypeReg, Size: int64(len(e.data)),
		}
		switch {
		case e.dir:
			h.Typeflag, h.Name, h.Size = tar.TypeDir, e.path+"/", 0
		case e.link != "":
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, e.link, 0
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("pack %s: %w", e.path, err)
		}
		if _, err := tw.Write(e.data[:h.Size]); err != nil {
			return fmt.Errorf("pack %s: %w", e.path, err)
		}
	}
	return tw.Close()
}
