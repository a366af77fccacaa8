// Command image builds the guest image from Debian packages.
//
//	go run ./packaging/image -o build/images/debian.aleph
//	go run ./packaging/image -function -o build/images/function.aleph
//
// The second is the image of functions: its root disk is a squashfs of a small
// Debian with Python, the runtime that programs get which name no other.
//
// The result is one file, an uncompressed tar with a manifest, the kernel as
// ELF, an initrd with aleph-guest, and a root disk. The same packages and the
// same source give the same bytes: packages.lock pins each package by version
// and hash, every time stamp is Epoch, every owner root, every list sorted.
// When Debian's mirror no longer has a locked version (it drops old ones with
// each update), its current version is taken, the builder says so, and the
// image is another one; its manifest names what is in it.
//
// It needs apt-get, dpkg-deb, mke2fs and debugfs, which are on every Debian, for
// functions mksquashfs, and no privileges: packages are downloaded into a
// directory of its own, nothing of them is installed, and the file systems are
// written as files. Nothing of them is run but the Python of functions, which
// compiles its own library.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// epoch is the time stamp of everything in an image: the day of the Debian
// release that it is made of.
const epoch = 1686355200 // 2023-06-10

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// run is main without the process.
func run(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(stderr)
	out := flags.String("o", "build/images/debian.aleph", "file to write")
	cache := flags.String("cache", "build/cache/debs", "directory of downloaded packages")
	mirror := flags.String("mirror", "http://deb.debian.org", "Debian mirror with debian/ and debian-security/")
	lock := flags.Bool("update-lock", false, "write packages.lock anew from what the mirror has, and stop")
	function := flags.Bool("function", false, "build the image of functions")
	force := flags.Bool("force", false, "build even when the file is up to date")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b := &builder{ctx: ctx, stderr: stderr, mirror: *mirror, pause: 2 * time.Second, begin: time.Now()}
	var err error
	if b.cache, err = filepath.Abs(*cache); err != nil {
		return fmt.Errorf("find cache directory: %w", err)
	}
	r, tools := machineRecipe(), []string{"apt-get", "dpkg-deb", "mke2fs", "debugfs", "go"}
	if *function {
		r, tools = functionRecipe(), []string{"apt-get", "dpkg-deb", "mksquashfs", "go"}
	}
	if err := b.checkTools(tools...); err != nil {
		return err
	}
	if *lock {
		return b.updateLock("packaging/image/packages.lock")
	}
	return b.build(r, *out, *force)
}

// builder builds one image.
type builder struct {
	ctx    context.Context //nolint:containedctx // The builder is one run of one command.
	stderr io.Writer
	mirror string
	cache  string
	pause  time.Duration // Before a download is tried again.
	begin  time.Time
	tools  map[string]string // Paths of the tools.
}

// sayf tells the user what happens.
func (b *builder) sayf(format string, args ...any) {
	fmt.Fprintf(b.stderr, "image: [%5.1fs] "+format+"\n", append([]any{time.Since(b.begin).Seconds()}, args...)...)
}

// checkTools finds programs, also where users other than root do not look.
func (b *builder) checkTools(names ...string) error {
	b.tools = map[string]string{}
	for _, name := range names {
		path, err := exec.LookPath(name)
		for _, dir := range []string{"/usr/sbin", "/sbin"} {
			if err == nil {
				break
			}
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
		if err != nil {
			return fmt.Errorf("%s is missing, run packaging/setup/debian.sh demo", name)
		}
		b.tools[name] = path
	}
	return nil
}

// command prepares a tool. LC_ALL keeps its messages, and the fake time its
// time stamps, the same everywhere.
func (b *builder) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.ctx, b.tools[name], args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", epoch),
		"MKE2FS_CONFIG=/dev/null", "DEBUGFS_PAGER=cat")
	return cmd
}

// output runs a tool and returns what it prints.
func (b *builder) output(cmd *exec.Cmd) ([]byte, error) {
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w%s", filepath.Base(cmd.Path), err, said(err))
	}
	return out, nil
}

// said returns the last of what a failed program said.
func said(err error) string {
	var exit *exec.ExitError
	if !errors.As(err, &exit) || len(exit.Stderr) == 0 {
		return ""
	}
	const lastMax = 500
	text := exit.Stderr
	return ": " + string(text[max(0, len(text)-lastMax):])
}
