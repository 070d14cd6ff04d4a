# shellcheck shell=bash
# What the scripts of the suites share; each sources it. A suite is another project's tests, fetched when it is run, kept in
# build/suites and nowhere else. Its list says what is run and what is left out, and why:
#
#   run NAME [SECONDS]   run it, for so long at most
#   out NAME WHY…        leave it out
#
# Exit status of the scripts: 0 all that ran passed, 1 some failed, 2 the suite could not be run at all.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
dmfs=$root/bin/dmfs
store=$root/build/suites
work=$(mktemp -d "${TMPDIR:-/tmp}/dmfs-suite-XXXXXX") || exit 2
# shellcheck disable=SC2034 # the scripts use it
logs=$store/logs/$(basename "$0" .sh)
passed=0 failed=0 left=0
job= # process that runs a test
trap 'end' EXIT
trap 'exit 130' INT TERM

# give_up WHY…: says that nothing was tested.
give_up() {
	printf '%s: NOT RUN: %s\n' "$(basename "$0" .sh)" "$*" >&2
	exit 2
}

# need TOOL PACKAGE…: gives up with the list of what is missing.
need() {
	local missing=()
	while [ $# -gt 0 ]; do
		PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || missing+=("$1 (package $2)")
		shift 2
	done
	[ ${#missing[@]} = 0 ] || give_up "missing: ${missing[*]}"
	[ -x "$dmfs" ] || give_up 'there is no bin/dmfs: make build'
}

# need_version TOOL VERSION: gives up if the installed tool is not what the suite is for.
need_version() {
	local have
	have=$("$1" --version 2>/dev/null || "$1" version 2>/dev/null)
	[[ $have == *"$2"* ]] || give_up "$1 is not version $2: $(head -1 <<<"$have")"
}

# source_package NAME VERSION DIR: has the upstream source of Debian 12's package in $store/DIR.
source_package() {
	local name=$1 version=$2 dir=$3 tar apt=$store/apt
	[ -d "$store/$dir" ] && return
	mkdir -p "$apt/lists/partial" "$apt/archives/partial" || give_up "cannot write $apt"
	if ! compgen -G "$store/${name}_$version.orig.tar.*z" >/dev/null; then
		command -v apt-get >/dev/null || give_up "cannot fetch $name $version without apt-get; put ${name}_$version.orig.tar.xz into $store"
		printf 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian%s main\n' \
			' bookworm' '-security bookworm-security' >"$apt/sources.list"
		local options=(-qq -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
			-o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt" -o "APT::Sandbox::User=$(id -un)" -o Acquire::Retries=2)
		timeout 300 apt-get "${options[@]}" update || give_up "cannot fetch Debian's list of sources"
		(cd "$store" && timeout 300 apt-get "${options[@]}" source --download-only "$name") || give_up "cannot fetch the source of $name"
	fi
	tar=$(compgen -G "$store/${name}_$version.orig.tar.*z" | head -1)
	[ -n "$tar" ] || give_up "Debian's source of $name is not $version"
	rm -rf "$store/unpacking"
	mkdir "$store/unpacking"
	tar -xf "$tar" -C "$store/unpacking" || give_up "cannot unpack $tar"
	mv "$store/unpacking"/* "$store/$dir" || give_up "$tar is not one directory"
	rmdir "$store/unpacking"
}

# end leaves nothing behind.
# shellcheck disable=SC2317 # the trap calls it
end() {
	if [ -n "$job" ]; then
		kill "$job" 2>/dev/null
		wait "$job"
	fi
	close_mount
	rm -rf "$work"
}

# close_mount unmounts what session mounted.
close_mount() {
	mountpoint -q "$work/mnt" 2>/dev/null || return 0
	timeout 30 "$dmfs" umount "$work/mnt" >/dev/null 2>&1 || timeout 30 "$dmfs" umount -l "$work/mnt"
}

# session LOG SECONDS [OPTION…] -- COMMAND…: runs a command in a session of a mount of its own. Its status is the command's.
session() {
	local log=$1 seconds=$2 status
	shift 2
	mkdir -p "$work/mnt" "$(dirname "$log")"
	"$dmfs" mount "$work/mnt" >"$log" 2>&1 || return 125
	timeout -k 10 "$seconds" "$dmfs" exec -m "$work/mnt" "$@" >>"$log" 2>&1 </dev/null &
	job=$!
	wait "$job"
	status=$?
	job=
	close_mount >>"$log" 2>&1
	return "$status"
}

# count STATUS NAME LOG [TEXT]: counts a test that ended with the status; 77 and 200 are those of tests that leave themselves out.
count() {
	local status=$1 name=$2 log=$3 text=${4:-}
	case $status in
	0)
		passed=$((passed + 1))
		printf 'passed    %s %s\n' "$name" "$text"
		;;
	77 | 200) left_out "$name" "it says: $(grep -aiE '^TEST SKIPPED|skipped|MISSING_DEP' "$log" | tail -1 | cut -c1-120)" ;;
	*)
		failed=$((failed + 1))
		[ "$status" != 124 ] && [ "$status" != 137 ] || text='not done in time'
		printf 'FAILED    %s %s (status %s, see %s)\n' "$name" "$text" "$status" "$log"
		;;
	esac
}

# left_out NAME WHY…
left_out() {
	left=$((left + 1))
	printf 'left out  %s: %s\n' "$1" "${*:2}"
}

# each LIST COMMAND [NAME…]: calls COMMAND NAME SECONDS for each test to be run, or for those named.
each() {
	local list=$1 command=$2 verb name rest
	shift 2
	while read -r verb name rest; do
		[ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
		case $verb in
		run) "$command" "$name" "${rest:-120}" ;;
		out) left_out "$name" "$rest" ;;
		'' | '#'*) ;;
		*) give_up "$list: $verb $name: want run or out" ;;
		esac
	done <"$list"
}

# summary prints the figures and exits.
summary() {
	printf '%s: %d run, %d passed, %d failed, %d left out\n' "$(basename "$0" .sh)" $((passed + failed)) "$passed" "$failed" "$left"
	[ $((passed + failed)) -gt 0 ] || give_up 'no test was run'
	[ "$failed" = 0 ] || exit 1
	exit 0
}
