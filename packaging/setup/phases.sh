#!/bin/sh
# Runs the phases of a long command one after the other. Before each it says
# what is done, while a phase is silent it says that it still runs, and after
# it how long it took. At the end there is one sentence.
#
#   packaging/setup/phases.sh NAME THEN [PHASE COMMAND]...
#
# NAME is what the user ran; THEN is what to do next when all went well. The
# output of each phase is also in build/logs.
set -eu

name=$1
then=$2
shift 2
logs=build/logs
mkdir -p "$logs"

now() { date +%s; }

# span SECONDS prints a time as people say it.
span() {
	if [ "$1" -lt 60 ]; then
		echo "$1 s"
	else
		echo "$(($1 / 60)) min $(($1 % 60)) s"
	fi
}

# running exists for as long as a phase runs.
running=$logs/$name.$$
beat=
stop_beat() {
	rm -f "$running"
	[ -z "$beat" ] || kill "$beat" 2>/dev/null || true
	beat=
}
trap 'stop_beat; rm -f "$running.status"' EXIT
trap 'stop_beat; echo "$name: interrupted; run make $name again, what is finished is not done twice." >&2; exit 130' INT TERM

# heartbeat LOG BEGIN says that a phase still runs which has been silent for two
# seconds, and again every four.
heartbeat() {
	old=
	silent=0
	while sleep 1 && [ -e "$running" ]; do
		size=$(wc -c <"$1")
		if [ "$size" = "$old" ]; then
			silent=$((silent + 1))
		else
			silent=0
		fi
		[ $((silent % 4)) -ne 1 ] || echo "   ... $(span $(($(now) - $2)))"
		old=$size
	done
}

count=$(($# / 2))
number=0
started=$(now)
summary=
while [ $# -gt 0 ]; do
	phase=$1
	command=$2
	shift 2
	number=$((number + 1))
	log=$logs/$name-$(echo "$phase" | tr ' ' '-').log
	begin=$(now)
	echo "==> $name $number/$count: $phase"
	: >"$log"
	: >"$running"
	heartbeat "$log" "$begin" </dev/null &
	beat=$!
	# The status of the command, not of tee.
	{
		status=0
		sh -c "$command" 2>&1 || status=$?
		echo "$status" >"$running.status"
	} | tee "$log"
	stop_beat
	status=$(cat "$running.status")
	took=$(span $(($(now) - begin)))
	if [ "$status" -ne 0 ]; then
		echo "==> $name $number/$count: $phase failed after $took" >&2
		echo "$name: $phase failed; read the last lines above or $log, put that right, and run make $name again." >&2
		exit 1
	fi
	echo "==> $name $number/$count: $phase took $took"
	summary="$summary${summary:+, }$phase $took"
done
echo "$name: all $count phases passed in $(span $(($(now) - started))) ($summary); $then"
