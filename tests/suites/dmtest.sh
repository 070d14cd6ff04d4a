#!/usr/bin/env bash
# Runs tests of dmtest-python, which drives dmsetup, on dmfs: dmtest.sh [NAME…]
# DMTEST_SOURCE is the git repository to fetch it from.
# shellcheck disable=SC2317 # each calls the function that runs a test
# shellcheck source=tests/suites/lib.sh
. "$(dirname "$0")/lib.sh"
commit=244faab26f5528d537eee628d4b2d2e2cc7a7d4e
python=${PYTHON:-/usr/bin/python3}
need git git dmsetup dmsetup thin_check thin-provisioning-tools blockdev util-linux "$python" python3
"$python" -c 'import numpy, toml, yaml' || give_up "$python lacks modules (packages python3-numpy python3-toml python3-yaml)"
source=$store/dmtest-python
if [ "$(git -C "$source" rev-parse HEAD 2>/dev/null)" != $commit ]; then
	rm -rf "$source" && mkdir -p "$store"
	timeout 300 git clone -q "${DMTEST_SOURCE:-https://github.com/jthornber/dmtest-python}" "$source" || give_up 'cannot fetch dmtest-python'
	git -C "$source" checkout -q $commit || give_up "this dmtest-python has no commit $commit"
fi
mkdir -p "$store/dmtest-modules" && : >"$store/dmtest-modules/pudb.py" # a debugger, imported and not used
printf '%s\n' "metadata_dev = '/dev/sda'" "data_dev = '/dev/sdb'" 'disable_by_id_check = true' >"$source/config.toml"

# test_case NAME SECONDS: with disks that are empty, and have holes. What the program says counts, not its exit status: a test that lacks
# something to begin with has not failed for it.
test_case() {
	local name=$1 log=$logs/${1//\//_}.log status
	rm -f "$work"/*.img
	truncate -s 1G "$work/meta.img" || give_up "no space in $work"
	truncate -s 16G "$work/data.img" || give_up "no space in $work"
	session "$log" "$2" --block "$work/meta.img" --block "$work/data.img" -- env -C "$source" "PYTHONPATH=src:$store/dmtest-modules" \
		"$python" -m dmtest run --result-set dmfs --rx "^$name\$" --log
	status=$?
	if [ "$status" = 0 ] && ! grep -aqE '(^| )PASS \[' "$log"; then
		status=1
		! grep -aq MISSING_DEP "$log" || status=77
	fi
	count "$status" "$name" "$log"
}

each "$here/dmtest.list" test_case "$@"
summary
