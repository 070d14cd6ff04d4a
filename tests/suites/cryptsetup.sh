#!/usr/bin/env bash
# Runs tests of cryptsetup on dmfs, with the cryptsetup of the system: cryptsetup.sh [NAME…]
# shellcheck disable=SC2317 # each calls the function that runs a test
# shellcheck source=tests/suites/lib.sh
. "$(dirname "$0")/lib.sh"
need cryptsetup cryptsetup-bin veritysetup cryptsetup-bin integritysetup cryptsetup-bin dmsetup dmsetup losetup mount \
	gcc gcc jq jq xxd xxd expect expect keyctl keyutils uuidgen uuid-runtime xz xz-utils
need_version cryptsetup 2.6.1
source_package cryptsetup 2.6.1 cryptsetup-2.6.1
tests=$store/cryptsetup-2.6.1/tests
[ -x "$tests/differ" ] || gcc -O1 -o "$tests/differ" "$tests/differ.c" || give_up 'cannot compile differ'

# without_scsi_debug takes the part out of a script that needs a disk with sectors of 4 KiB, which only a module of the
# kernel makes: the script would end there, with most of its cases not tried.
# shellcheck disable=SC2016 # it is text of the script's
without_scsi_debug() {
	sed -i -e '/^add_scsi_device dev_size_mb=32 sector_size=4096/,/close $DEV_NAME || fail/d' \
		-e '/^# Add check for unaligned plain/,/status.*&& fail$/d' "$1"
}

# with_all_images has luks1-compat-test try all its images: it leaves out those whose cipher the kernel does not offer to programs, and
# without AF_ALG it would try none.
with_all_images() { sed -i '/^\ttest_one /d' "$1"; }

# test_script NAME SECONDS: in a copy of the tests, of which it changes files. Its path has no word that the scripts look for.
test_script() {
	local name=$1 log=$logs/$1.log cases status
	rm -rf "$work/t" && cp -r "$tests" "$work/t" && chmod -R u+w "$work/t"
	without_scsi_debug "$work/t/$name"
	with_all_images "$work/t/$name"
	# shellcheck disable=SC2016 # the inner shell expands it
	session "$log" "$2" -- sh -c 'cd "$1" && CRYPTSETUP_PATH=/sbin exec "./$2"' sh "$work/t" "$name"
	status=$?
	cases=$(grep -acE '^CASE:|^Test image: .*OK$|\[OK\]' "$log")
	[ "$status" != 0 ] || [ "$cases" -gt 0 ] || status=1 # a script that tried nothing has not passed
	count "$status" "$name" "$log" "($cases cases)"
}

each "$here/cryptsetup.list" test_script "$@"
summary
