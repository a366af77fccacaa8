package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	fsBlock = 4096
	// fsInodes are for the image's files and the tenant's first ones; each
	// 128 MiB that the disk grows brings as many again.
	fsInodes = 8192
	// fsSlack is free space for logs and keys before the disk has grown.
	fsSlack = 8 << 20
	// fsJournalMiB is the smallest journal with which the kernel grows the
	// file system: a step takes 261 of its blocks, and may take a quarter.
	fsJournalMiB = 8
	// fsGrowBlocks is how far the disk can grow: 2 TiB, the largest that a
	// message can ask for.
	fsGrowBlocks = 2 << 40 / fsBlock
	// fsUUID names the file system and seeds its directory hashes. It is the
	// same in all images, as every machine has one only.
	fsUUID = "a1e9f0cc-0de5-4a1e-9f00-000000000001"
)

// applets are the commands of busybox that the image offers.
const applets = `[ awk basename cat chgrp chmod chown clear cmp cp cut date dd df diff dirname dmesg du echo env expr
false find free grep gunzip gzip head hexdump hostname httpd id ip kill killall less ln ls md5sum mkdir mktemp more
mount mv nc netstat nslookup od pgrep pidof ping pkill printenv printf ps pwd readlink realpath rm rmdir sed seq
sha256sum sleep sort stat stty su sync tail tar tee test time timeout top touch tr traceroute true tty umount uname
uniq uptime vi watch wc wget which whoami xargs yes zcat halt poweroff reboot`

// webService serves /var/www, where a page carries a token that is made at
// the first boot and that only this machine knows. One static program does
// all: each further one, or a dynamic linker, would cost the boot a hundredth.
const webService = `#!/usr/bin/busybox sh
# aleph-ready: tcp 8080
www=/var/www
if [ ! -s $www/token ]; then
	read -r a < /proc/sys/kernel/random/uuid
	read -r b < /proc/sys/kernel/random/uuid
	echo "$a$b" > $www/token
	echo "<!doctype html><title>aleph</title><p>This page comes from a virtual machine.<p>token: $a$b" > $www/index.html
fi
exec /usr/bin/busybox httpd -f -p 8080 -h $www
`

const sshdConfig = `HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp /usr/lib/openssh/sftp-server
`

const profile = `export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if [ -r /etc/aleph/variables ]; then set -a; . /etc/aleph/variables; set +a; fi
PS1='\u@\h:\w\$ '
`

// rootTree unpacks the packages and adds what their scripts would have.
func (b *builder) rootTree(packages []debPackage) (tree, error) {
	t := tree{}
	for _, p := range packages {
		err := b.eachFile(p, func(e entry) error {
			t.add(e)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	t.skeleton("var/www", "var/lib/aleph", "etc/aleph/services.d")
	if err := t.accounts(); err != nil {
		return nil, err
	}
	t.certificates()
	t.file("etc/aleph/services.d/web", 0o755, webService)
	t.file("etc/ssh/sshd_config", 0o644, sshdConfig)
	t.file("etc/profile", 0o644, profile)
	t.file("root/.bashrc", 0o644, ". /etc/profile\n")
	t.file("etc/hostname", 0o644, "aleph\n")
	t.file("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")
	t.file("var/lib/dpkg/status", 0o644, dpkgStatus(packages))
	return t, t.checkLibraries()
}

// skeleton makes the directories of every Debian and those that are named, and
// the links to the shell and to the commands of busybox.
func (t tree) skeleton(more ...string) {
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		t.directory("usr/"+dir, 0o755)
		t.symlink(dir, "usr/"+dir)
	}
	for _, dir := range append([]string{"dev", "proc", "sys", "run", "mnt", "var/log"}, more...) {
		t.directory(dir, 0o755)
	}
	t.directory("tmp", 0o1777)
	t.directory("var/tmp", 0o1777)
	t.directory("root", 0o700)
	for name, target := range map[string]string{"var/run": "/run", "usr/bin/sh": "dash", "etc/mtab": "../proc/self/mounts"} {
		t.symlink(name, target)
	}
	for _, name := range strings.Fields(applets) {
		if _, ok := t["usr/bin/"+name]; !ok {
			t.symlink("usr/bin/"+name, "busybox")
		}
	}
}

// accounts makes Debian's users and groups, and sshd's. Root has no password
// and logs in with a key only.
func (t tree) accounts() error {
	passwd, ok := t["usr/share/base-passwd/passwd.master"]
	group, ok2 := t["usr/share/base-passwd/group.master"]
	if !ok || !ok2 {
		return fmt.Errorf("package base-passwd has no master files")
	}
	users := strings.ReplaceAll(string(passwd.data), ":*:", ":x:")
	users += "sshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n"
	var shadow strings.Builder
	for line := range strings.Lines(users) {
		name, _, _ := strings.Cut(line, ":")
		shadow.WriteString(name + ":*:19518:0:99999:7:::\n")
	}
	t.file("etc/passwd", 0o644, users)
	t.file("etc/group", 0o644, strings.ReplaceAll(string(group.data), ":*:", ":x:"))
	t["etc/shadow"] = entry{path: "etc/shadow", mode: 0o640, gid: shadowGroup, data: []byte(shadow.String())}
	return nil
}

// shadowGroup is Debian's group shadow.
const shadowGroup = 42

// certificates makes the bundle of all authorities that TLS clients read.
func (t tree) certificates() {
	var bundle strings.Builder
	for _, e := range t.sorted() {
		if strings.HasPrefix(e.path, "usr/share/ca-certificates/") && strings.HasSuffix(e.path, ".crt") {
			bundle.Write(e.data)
			delete(t, e.path)
		}
	}
	t.file("etc/ssl/certs/ca-certificates.crt", 0o644, bundle.String())
}

// dpkgStatus tells scanners which packages the image is made of.
func dpkgStatus(packages []debPackage) string {
	var s strings.Builder
	for _, p := range packages {
		fmt.Fprintf(&s, "Package: %s\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: %s\nMaintainer: Debian\nDescription: part of the guest image\n\n", p.name, p.version)
	}
	return s.String()
}

// writeRootfs writes the tree as an ext4 image. mke2fs makes it empty and
// debugfs fills it by a sorted list of commands, so neither needs privileges
// nor depends on the order of a directory.
func (b *builder) writeRootfs(t tree, name string) error {
	size := (t.bytes()*21/20 + fsInodes*256 + fsJournalMiB<<20 + fsSlack + 1<<20 - 1) >> 20 << 20
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		return fmt.Errorf("make root disk: %w", err)
	}
	if err := os.Truncate(name, size); err != nil {
		return fmt.Errorf("make root disk: %w", err)
	}
	_, err := b.output(b.command("mke2fs", "-q", "-F", "-t", "ext4", "-b", fmt.Sprint(fsBlock), "-I", "256",
		"-N", fmt.Sprint(fsInodes), "-m", "0", "-L", "aleph-root", "-U", fsUUID,
		"-O", "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum",
		"-J", fmt.Sprintf("size=%d", fsJournalMiB),
		"-E", fmt.Sprintf("hash_seed=%s,root_owner=0:0,nodiscard,lazy_itable_init=0,lazy_journal_init=0,resize=%d", fsUUID, int64(fsGrowBlocks)),
		name))
	if err != nil {
		return fmt.Errorf("make root file system: %w", err)
	}
	dir, err := os.MkdirTemp(filepath.Dir(name), "rootfs-")
	if err != nil {
		return fmt.Errorf("make directory of files: %w", err)
	}
	defer os.RemoveAll(dir)
	script, err := t.script(dir)
	if err != nil {
		return err
	}
	cmd := b.command("debugfs", "-w", "-f", "-", name)
	cmd.Stdin = strings.NewReader(script)
	var said strings.Builder
	cmd.Stderr = &said
	if _, err := cmd.Output(); err != nil {
		return fmt.Errorf("fill root file system: %w: %s", err, said.String())
	}
	// debugfs goes on after a failed command and says so on stderr only.
	if lines := strings.SplitN(said.String(), "\n", 2); len(lines) > 1 && strings.TrimSpace(lines[1]) != "" {
		return fmt.Errorf("fill root file system: %s", lines[1])
	}
	return nil
}

// script writes contents to files in dir and returns the commands that put
// the tree into a file system.
func (t tree) script(dir string) (string, error) {
	var s strings.Builder
	for i, e := range t.sorted() {
		if strings.ContainsAny(e.path+e.link, "\"\n") {
			return "", fmt.Errorf("path %q has characters that debugfs cannot take", e.path)
		}
		format := int64(0o100000)
		switch {
		case e.dir:
			format = 0o040000
			fmt.Fprintf(&s, "mkdir \"/%s\"\n", e.path)
		case e.link != "":
			format = 0o120000
			fmt.Fprintf(&s, "symlink \"/%s\" \"%s\"\n", e.path, e.link)
		default:
			file := filepath.Join(dir, fmt.Sprint(i))
			if err := os.WriteFile(file, e.data, 0o600); err != nil {
				return "", fmt.Errorf("write file for root disk: %w", err)
			}
			fmt.Fprintf(&s, "write \"%s\" \"/%s\"\n", file, e.path)
		}
		set := func(field, value string) { fmt.Fprintf(&s, "sif \"/%s\" %s %s\n", e.path, field, value) }
		set("mode", fmt.Sprintf("0%o", format|e.mode))
		set("uid", fmt.Sprint(e.uid))
		set("gid", fmt.Sprint(e.gid))
		for _, field := range []string{"atime", "ctime", "mtime", "crtime"} {
			set(field, fmt.Sprintf("@%d", epoch))
		}
	}
	return s.String(), nil
}
