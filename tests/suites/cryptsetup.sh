#!/usr/bin/env bash
# Runs tests of cryptsetup on dmfs, with the cryptsetup of the system: cryptsetup.sh [NAME…]
# shellcheck disable=SC2317 # each calls the function that runs a test
# shellcheck source=tests/suites/lib.sh
. "$(dirname "$0")/lib.sh"
need cryptsetup cryptsetup-bin veritysetup cryptsetup-bin integritysetup cryptsetup-bin dmsetup dmsetup losetup mount \
	gcc gcc jq jq xxd xxd expect expect keyctl keyutils uuidgen uuid-runtime xz xz-utils setsid util-linux
need_version cryptsetup 2.6.1
source_package cryptsetup 2.6.1 cryptsetup-2.6.1
tests=$store/cryptsetup-2.6.1/tests
[ -x "$tests/differ" ] || gcc -O1 -o "$tests/differ" "$tests/differ.c" || give_up 'cannot compile differ'

# stand_ins makes programs that take the place of those that load modules. Targets are there without any. Of scsi_debug, which makes disks with other
# sectors, they make the like: a device that has the blocks asked for, on a file, with the model that the scripts look for.
stand_ins() {
	local name
	mkdir -p "$work/bin"
	cat >"$work/bin/modprobe" <<-'EOF'
		#!/bin/sh
		case "$*" in
		*--dry-run*) exit 0 ;;
		dm-* | dm_*) exec dmsetup targets >/dev/null ;;
		scsi_debug*) ;;
		*) exit 1 ;;
		esac
		mib=8 block=512 exponent=0
		for option; do
			case $option in
			dev_size_mb=*) mib=${option#*=} ;;
			sector_size=*) block=${option#*=} ;;
			physblk_exp=*) exponent=${option#*=} ;;
			esac
		done
		block=$((block / 512)) physical=$((block << exponent))
		truncate -s "${mib}M" "$DISK" || exit
		table="0 $((mib * 2048)) linear $DISK 0"
		[ $physical = 1 ] || table="0 $((mib * 2048)) ebs $DISK 0 $block $physical"
		dmsetup create scsi_debug_disk --table "$table" || exit
		at=/sys/block/$(basename "$(dmsetup info -c --noheadings -o blkdevname scsi_debug_disk)")/device
		mkdir "$at" && echo scsi_debug >"$at/model"
	EOF
	# shellcheck disable=SC2016 # the script expands it
	printf '%s\n' '#!/bin/sh' '[ -b /dev/mapper/scsi_debug_disk ] || exit 1' 'dmsetup remove --retry scsi_debug_disk && rm -f "$DISK"' >"$work/bin/rmmod"
	# An image in a file system that only the session sees the mount cannot open; the directory that it would have been mounted on does.
	for name in modinfo mount umount; do
		printf '%s\n' '#!/bin/sh' 'exit 0' >"$work/bin/$name"
	done
	chmod +x "$work/bin"/*
}

# with_all_images has luks1-compat-test and tcrypt-compat-test try all their images: they leave out those whose cipher the kernel does not offer to
# programs, and without AF_ALG they would try none. Of tcrypt's, those are left out whose header cryptsetup itself cannot read for want of a cipher.
# shellcheck disable=SC2016 # it is text of the script's
with_all_images() {
	sed -i -e '/^\ttest_one /d' \
		-e '/tcryptDump .*-c \$CIPHER \$file >\/dev\/null || fail$/s/|| fail/|| { echo " [N\/A]"; rm -f "$file"; continue; }/' "$1"
}

# with_known_ciphers has luks2-reencryption-test use AES where it uses ciphers that OpenSSL lacks, with which cryptsetup can encrypt no key slot
# without AF_ALG; nor does it convert a LUKS1 container without encryption, which one step does.
with_known_ciphers() {
	sed -i -e '/^# simulate LUKS2 device with cipher_null/,/&& fail$/d' -e '/-c \(twofish\|serpent\)-xts-plain64 /d' -e '/Cannot use \(Twofish\|Serpent\) cipher/d' \
		-e 's/-c twofish-cbc-essiv:sha256/-c aes-cbc-essiv:sha256/' -e 's/-c serpent-xts-plain /-c aes-xts-plain /' "$1"
}

# test_script NAME SECONDS: in a copy of the tests, of which it changes files. Its path has no word that the scripts look for.
test_script() {
	local name=$1 log=$logs/$1.log cases status
	rm -rf "$work/t" && cp -r "$tests" "$work/t" && chmod -R u+w "$work/t"
	stand_ins
	with_all_images "$work/t/$name"
	[ "$name" != luks2-reencryption-test ] || with_known_ciphers "$work/t/$name"
	# shellcheck disable=SC2016 # the inner shell expands it
	session "$log" "$2" -- env "PATH=$work/bin:/usr/sbin:/sbin:$PATH" "DISK=$work/disk.img" sh -c 'cd "$1" && CRYPTSETUP_PATH=/sbin exec "./$2"' sh "$work/t" "$name"
	status=$?
	cases=$(grep -acE '^CASE:|^Test image: .*OK$|\[OK\]|^\[[0-9]+\]|\.\.\.OK$' "$log")
	[ "$status" != 0 ] || [ "$cases" -gt 0 ] || status=1 # a script that tried nothing has not passed
	count "$status" "$name" "$log" "($cases cases)"
}

each "$here/cryptsetup.list" test_script "$@"
summary
