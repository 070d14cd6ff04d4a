#!/usr/bin/env bash
# Shows what dmfs does, with the commands: two images become one disk, with a file system on it that is used, grown
# while it is in use, and checked. As root the file system is mounted by way of a loop device; others work on the
# device's file. Everything is in a directory of its own and goes away at the end, also after a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
dmfs=$PWD/bin/dmfs
PATH=$PWD/bin:$PATH:/usr/sbin:/sbin

bold='' dim='' green='' red='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
	bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/dmfs-demo.XXXXXX")
loop='' here=$PWD finished=no

# cleanup undoes whatever was done, in whatever state the demo ended.
cleanup() {
	status=$?
	set +e
	cd "$here" || exit 1
	mountpoint -q "$dir/fs" && umount "$dir/fs"
	[ -n "$loop" ] && losetup -d "$loop" 2>/dev/null
	"$dmfs" umount -q "$dir/mnt"
	rm -rf "$dir"
	if [ $finished = no ]; then
		printf '%sthe demo failed (exit status %s)%s\n' "$red" "$status" "$plain" >&2
	fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# say TEXT: what comes next.
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# run COMMAND: shows a command and runs it.
run() {
	printf '%s$ %s%s\n' "$green" "$1" "$plain"
	eval "$1" 2>&1 | sed "s/^/  $dim/; s/\$/$plain/"
}

# write FILE: shows what goes into a file, and writes it.
write() {
	printf '%s$ cat > %s%s\n' "$green" "$1" "$plain"
	tee "$1" | sed "s/^/  $dim/; s/\$/$plain/"
}

# loops tells whether this machine lets us have a loop device.
loops() { [ "$(id -u)" = 0 ] && losetup -f >/dev/null 2>&1; }

# may_resize_online tells whether we have the capability that ext4 asks for. Containers' root often has not.
may_resize_online() {
	local caps
	caps=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
	(((0x$caps >> 24) & 1))
}

# in_use_by_kernel formats, fills and grows the device as a mounted file system.
in_use_by_kernel() {
	loop=$(losetup -f)
	say 'The kernel uses it as a disk: here by a loop device, with ext4.'
	run "losetup $loop mnt/joined"
	run "mkfs.ext4 -q $loop && mount $loop fs"
	run 'cp /etc/*.conf fs/; head -c 40M /dev/urandom > fs/forty; sync; df -h fs'

	say 'A third image is put behind the two, while the file system is mounted: the new table is written to the device.'
	larger
	run 'cat larger.table > mnt/.dm/joined/table'
	run "losetup -c $loop"
	if may_resize_online; then
		run "resize2fs $loop"
	else
		say '(Growing ext4 while it is mounted takes CAP_SYS_RESOURCE, which this root lacks: so it is unmounted for that.)'
		run "umount fs && e2fsck -fp $loop && resize2fs $loop && mount $loop fs"
	fi
	run 'head -c 40M /dev/urandom > fs/more; sync; df -h fs'

	say 'Unmounted, it checks clean.'
	run 'umount fs'
	run "losetup -d $loop"
	loop=''
	run 'e2fsck -fn mnt/joined'
}

# in_use_by_tools does the same with tools that work on files.
in_use_by_tools() {
	say 'A file system is made on it, with files in it. (As root, the demo mounts it through a loop device.)'
	run 'mkdir files; cp /etc/*.conf files/; head -c 40M /dev/urandom > files/forty'
	run 'mkfs.ext4 -q -F -d files mnt/joined'
	run 'e2fsck -fn mnt/joined'

	say 'A third image is put behind the two, while the mount serves: the new table is written to the device.'
	larger
	run 'cat larger.table > mnt/.dm/joined/table'
	run 'e2fsck -fp mnt/joined; resize2fs mnt/joined'

	say 'It checks clean.'
	run 'e2fsck -fn mnt/joined'
}

larger() {
	run 'truncate -s 64M third.img'
	write larger.table <<-EOT
		0      131072 linear first.img 0
		131072 131072 linear second.img 0
		262144 131072 linear third.img 0
	EOT
}

cd "$dir"
mkdir mnt fs
say 'Two images of 64 MiB, and a table that makes one device of them. Numbers are sectors of 512 bytes.'
run 'truncate -s 64M first.img second.img'
write demo.toml <<-EOT
	[devices.joined]
	table = """
	0      131072 linear first.img 0
	131072 131072 linear second.img 0
	"""
EOT

say 'One command mounts it; the device is a file.'
run 'dmfs mount --config demo.toml mnt'
run 'ls -l mnt'
run 'cat mnt/.dm/joined/table'

if loops; then in_use_by_kernel; else in_use_by_tools; fi

say 'After umount everything is in the images, where the table says: put together they are the device.'
device=$(sha256sum <mnt/joined)
run 'sha256sum < mnt/joined'
run 'dmfs umount mnt'
run 'cat first.img second.img third.img | sha256sum'
[ "$device" = "$(cat first.img second.img third.img | sha256sum)" ]
finished=yes
say 'That was it: "dmfs help" goes on from here.'
