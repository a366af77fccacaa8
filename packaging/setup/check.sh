#!/bin/sh
# Checks that the programs named exist and are new enough, and says in one
# sentence what to do when one is not.
#
#   packaging/setup/check.sh go git node npm
set -eu

fail() {
	echo "setup: $1" >&2
	exit 1
}

# at_least NAME HAVE WANT WHERE compares versions such as 1.26.8 and 1.26.
at_least() {
	lowest=$(printf '%s\n%s\n' "$2" "$3" | sort -t. -k1,1n -k2,2n -k3,3n | head -n 1)
	[ "$lowest" = "$3" ] || [ "$2" = "$3" ] || fail "$1 is version $2, but $3 or newer is needed; install it from $4 and run this again."
}

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
	fail "this is $(uname -s) on $(uname -m), but nodes and their machines run on Linux on x86-64; use such a machine."

for program in "$@"; do
	case $program in
	go) where='https://go.dev/dl' ;;
	node | npm) where='https://nodejs.org (npm comes with Node)' ;;
	cc) where='the package gcc' ;;
	*) where="the package $program" ;;
	esac
	command -v "$program" >/dev/null 2>&1 || fail "$program is not on the PATH; install it from $where and run this again."
	case $program in
	go) at_least Go "$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//; s/[^0-9.].*//')" 1.26 "$where" ;;
	node) at_least Node "$(node --version | sed 's/^v//; s/[^0-9.].*//')" 20 "$where" ;;
	esac
done
