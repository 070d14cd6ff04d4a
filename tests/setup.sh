#!/usr/bin/env bash
# Installs the Debian packages that the tests, the demo or the benchmarks use and this machine lacks.
#
#   tests/setup.sh [demo|test|bench]
#
# It installs only as root with apt-get, and not if DMFS_NO_INSTALL is set; otherwise it says what is missing
# and what is left out for it. It always exits with 0: tests skip, by name, what the machine lacks.
set -u

# What each package is for. The first list is all that the demo needs.
demo_packages='
fuse3             mounting as an ordinary user
e2fsprogs         mkfs.ext4 and e2fsck on a device
util-linux        losetup, unshare, setpriv
'
test_packages="$demo_packages
qemu-utils        qemu-img and qemu-io on a device
qemu-system-x86   a guest whose disk is a device
qemu-user         assembly for processors that this machine does not have
user-mode-linux   the real device mapper, to compare with
kmod              modules of the guests' kernels
dmsetup           the real dmsetup, to compare with
busybox-static    user space of the guests
systemd           running the units in one
cpio              their initramfs
xz-utils          their kernels' modules
nbdkit            network disks
libnbd-bin        network disks
python3           scripts that use a device
strace            faults below a device
lvm2              volume groups, in dmfs exec
kpartx            partitions, in dmfs exec
fdisk             partitions, in dmfs exec
thin-provisioning-tools  metadata of thin pools and caches; LVM runs them, too
cryptsetup-bin    images of veritysetup, integritysetup and cryptsetup
mdadm             superblocks of software RAID
openssl           signatures of root hashes
mandoc            checking the man pages
shellcheck        checking the shell scripts
"
bench_packages="$test_packages
fio               load for the benchmarks
"

case ${1:-test} in
demo) packages=$demo_packages ;;
test) packages=$test_packages ;;
bench) packages=$bench_packages ;;
*)
	echo "usage: $0 [demo|test|bench]" >&2
	exit 2
	;;
esac

# missing prints the packages of the list that are not installed.
missing() {
	local name rest
	while read -r name rest; do
		[ -n "$name" ] || continue
		dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || printf '%s ' "$name"
	done <<<"$packages"
}

# install installs packages, each on its own if together they cannot be had.
install() {
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq update </dev/null >/dev/null 2>&1
	apt-get -qq -y --no-install-recommends install "$@" </dev/null >/dev/null 2>&1 && return
	local p
	for p; do
		apt-get -qq -y --no-install-recommends install "$p" </dev/null >/dev/null 2>&1
	done
}

if ! command -v dpkg-query >/dev/null; then
	echo 'setup: this is no Debian: install by hand what the tests skip for'
	exit 0
fi
lacking=$(missing)
if [ -n "$lacking" ] && [ "$(id -u)" = 0 ] && [ -z "${DMFS_NO_INSTALL:-}" ]; then
	echo "setup: installing $lacking"
	# shellcheck disable=SC2086 # a list of words
	install $lacking
	lacking=$(missing)
fi
for p in $lacking; do
	printf 'setup: left out: %s\n' "$(grep "^$p " <<<"$packages" | tr -s ' ' | sed 's/ /: /')"
done
# Without udev the device may be root's alone, and then no ordinary user can mount.
if [ -c /dev/fuse ] && [ "$(id -u)" = 0 ] && [ "$(stat -c %a /dev/fuse)" != 666 ] && [ -z "${DMFS_NO_INSTALL:-}" ]; then
	chmod 666 /dev/fuse && echo 'setup: gave /dev/fuse mode 666, as udev does'
fi
[ -c /dev/fuse ] || echo 'setup: left out: whatever mounts: there is no /dev/fuse (modprobe fuse, or --device /dev/fuse for a container)'
exit 0
