#!/bin/sh
# Installs what a command of the Makefile needs from Debian, and only what is
# missing. It does nothing when all is there.
#
#   packaging/setup/debian.sh demo    to run machines and build their image
#   packaging/setup/debian.sh test    the same, and what only tests use
set -eu

group=${1:-}

# PROGRAM:PACKAGE, by group. Programs are looked for, not packages, so that a
# QEMU of your own counts too. The demo shows SSH too, but does without it
# where nobody may install a client.
demo='qemu-system-x86_64:qemu-system-x86 mke2fs:e2fsprogs debugfs:e2fsprogs dpkg-deb:dpkg apt-get:apt qemu-img:qemu-utils'
ssh='ssh:openssh-client ssh-keygen:openssh-client'
test='nft:nftables ip:iproute2 postgres:postgresql mksquashfs:squashfs-tools python3:python3'

case $group in
demo) wanted="$demo $ssh" ;;
test) wanted="$demo $ssh $test" ;;
*)
	echo "usage: $0 demo|test" >&2
	exit 2
	;;
esac

# System programs are not on every user's path, nor are those of PostgreSQL.
PATH=$PATH:/usr/sbin:/sbin
for bin in /usr/lib/postgresql/*/bin; do
	PATH=$PATH:$bin
done

missing=
for pair in $wanted; do
	command -v "${pair%%:*}" >/dev/null 2>&1 && continue
	package=${pair##*:}
	case " $missing " in
	*" $package "*) ;;
	*) missing="$missing $package" ;;
	esac
done
# QEMU starts without these, but not a machine: its firmware, and Debian's keys
# that the image's packages are checked with.
[ -e /usr/share/seabios/bios-256k.bin ] || [ -e /usr/share/qemu/bios-256k.bin ] || missing="$missing seabios"
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing="$missing debian-archive-keyring"
# Go trusts the first of these that is there. Without any, no module can be
# downloaded, so this comes first.
trusted=
for file in ${SSL_CERT_FILE:-} /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem \
	/etc/pki/tls/cacert.pem /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem /etc/ssl/cert.pem; do
	[ ! -e "$file" ] || trusted=$file
done
[ -n "$trusted" ] || missing=" ca-certificates$missing"
[ -n "$missing" ] || exit 0

fail() {
	echo "setup: $1" >&2
	exit 1
}

# can_do_without says what will not be, when the demo can be without all that is
# missing.
can_do_without() {
	for package in $missing; do
		case $package in
		openssh-client) echo "setup: openssh-client is missing and cannot be installed without root; going on without showing SSH." >&2 ;;
		qemu-utils) echo "setup: qemu-utils is missing and cannot be installed without root; going on without backups and volumes that grow." >&2 ;;
		ca-certificates) echo "setup: ca-certificates is missing and cannot be installed without root; going on, but nothing new can be downloaded." >&2 ;;
		*) return 1 ;;
		esac
	done
}

command -v apt-get >/dev/null 2>&1 ||
	fail "missing:$missing; this is not a Debian, so install them by your system's own means and run this again."
root=
if [ "$(id -u)" -ne 0 ]; then
	# Without a terminal nobody can type sudo's password.
	if command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
		root=sudo
	elif [ "$group" = demo ] && can_do_without; then
		exit 0
	else
		fail "missing:$missing; ask an administrator to run: apt-get install --no-install-recommends$missing"
	fi
fi

# sudo drops what is exported.
apt_get() {
	$root env DEBIAN_FRONTEND=noninteractive apt-get -q=2 -o Dpkg::Use-Pty=0 "$@" >&2
}

echo "setup: updating the package lists" >&2
apt_get update ||
	echo "setup: the package lists could not be updated, going on with those that are there" >&2
for package in $missing; do
	echo "setup: installing $package (apt-get install --no-install-recommends $package)" >&2
	apt_get install --no-install-recommends "$package" ||
		fail "$package could not be installed; check this machine's network and /etc/apt/sources.list, then run this again."
done
