#!/usr/bin/env bash
# Runs tests of LVM2 on dmfs, with the LVM2 of the system: lvm2.sh [NAME…]
# shellcheck disable=SC2317 # each calls the function that runs a test
# shellcheck source=tests/suites/lib.sh
. "$(dirname "$0")/lib.sh"
need lvm lvm2 dmsetup dmsetup gcc gcc thin_check thin-provisioning-tools mkfs.ext4 e2fsprogs
need_version lvm 2.03.16
source_package lvm2 2.03.16 lvm2-2.03.16
source=$store/lvm2-2.03.16
suite=$store/lvm2-testsuite # as the suite is installed; its wrapper of lvm goes by this name

# install_suite does as the suite's "make install", which needs LVM2 to be built.
install_suite() {
	local f name
	rm -rf "$suite" && mkdir -p "$suite/lib" && cp -r "$source/test/shell" "$suite/" || return
	for f in "$source"/test/lib/*.sh "$source/scripts/fsadm.sh"; do
		install -m 755 "$f" "$suite/lib/$(basename "$f" .sh)" || return
	done
	cp "$source/test/lib/mke2fs.conf" "$source"/conf/{cache-mq,cache-smq,thin-performance,lvmdbusd}.profile "$suite/lib/" || return
	gcc -O1 -o "$suite/lib/not" "$source/test/lib/not.c" || return
	ln -s not "$suite/lib/should" && ln -s not "$suite/lib/invalid" && ln -s not "$suite/lib/fail" || return
	cut -d' ' -f1 "$source/VERSION" >"$suite/lib/version-expected"
	cut -d' ' -f1 "$source/VERSION_DM" >"$suite/lib/dm-version-expected"
	for name in lvm $(lvm help 2>&1 | awk '/^  [a-z]/ { print $1 }'); do
		ln -s lvm-wrapper "$suite/lib/$name" || return
	done
	{
		echo 'DM_UDEV_SYNCHRONISATION=0 LVMPOLLD_PIDFILE=/run/lvmpolld.pid DMEVENTD_PIDFILE=/run/dmeventd.pid installed_testsuite=1'
		for name in thin_{check,dump,repair,restore} cache_{check,dump,repair,restore}; do
			echo "export LVM_TEST_${name^^}_CMD=\${LVM_TEST_${name^^}_CMD-/usr/sbin/$name}"
		done
		echo 'export DM_UDEV_SYNCHRONISATION THIN RAID CACHE'
	} >"$suite/lib/paths"
	touch "$suite/installed"
}

[ -e "$suite/installed" ] || install_suite || give_up 'cannot install the suite'

# test_script NAME SECONDS
test_script() {
	local log=$logs/$1.log
	rm -rf "$work/t" && mkdir "$work/t"
	session "$log" "$2" -- env -C "$suite" LVM_TEST_DIR="$work/t" TMPDIR="$work/t" LVM_TEST_DEVDIR=/dev LVM_TEST_PREFER_BRD=0 \
		LVM_TEST_PARALLEL=1 LVM_TEST_FLAVOUR=ndev-vanilla "PATH=$suite/lib:/usr/sbin:/sbin:$PATH" bash "shell/$1.sh"
	count $? "$1" "$log"
}

each "$here/lvm2.list" test_script "$@"
summary
