#!/usr/bin/env bash
# A disk that two servers serve, and a table that goes on where one of them dies; then a table over both machines.
#
#   docs/examples/nbd.sh [DIR]
#
# docs/nbd.md goes through it. It needs nbdkit and qemu-nbd, and dmfs in PATH or in $DMFS; the servers, the images and the mount are
# in DIR, a temporary directory if not given, and are gone at the end.
set -euo pipefail
dmfs=${DMFS:-dmfs}
dir=${1:-$(mktemp -d)}
cd "$dir"
mkdir -p mnt
export DMFS_MOUNT=$dir/mnt
declare -A server

cleanup() {
	"$dmfs" umount -q mnt || true
	for pid in "${server[@]}"; do
		kill -9 "$pid" 2>/dev/null || true
	done
	wait
	rm -rf mnt ./*.img ./*.sock dmfs.toml data
	[ $# -gt 0 ] || rmdir "$dir"
}
trap 'cleanup "$@"' EXIT

# start NAME IMAGE: a server of IMAGE behind NAME.sock. Elsewhere this is on another machine, and the URI is nbd://MACHINE/.
start() {
	rm -f "$1.sock"
	case $1 in
	left | far) nbdkit -f -U "$PWD/$1.sock" file "$2" & ;;
	right) qemu-nbd -t -e 16 -k "$PWD/$1.sock" -f raw "$2" & ;;
	esac
	server[$1]=$!
	until [ -S "$1.sock" ]; do sleep 0.05; done
}

# stop NAME: the server dies, without a word.
stop() {
	kill -9 "${server[$1]}"
	wait "${server[$1]}" || true
}

# same: what was written is read back.
same() { dd if=mnt/wide bs=1M status=none | cmp data -; }

# 1. One image with two servers, which are two paths to it.
truncate -s 16M disk.img far.img
start left disk.img
start right disk.img
start far far.img

cat >dmfs.toml <<END
[disks]
left = "nbd+unix:///?socket=$PWD/left.sock"
right = "nbd+unix:///?socket=$PWD/right.sock"
far = "nbd+unix:///?socket=$PWD/far.sock&reconnect-delay=60"

[devices.disk]
table = "0 32768 multipath 1 queue_if_no_path 0 1 1 queue-length 0 2 0 left right"

[devices.wide]
table = "0 65536 striped 2 128 disk 0 far 0"
END
"$dmfs" mount --config dmfs.toml mnt

# 2. wide is a stripe over the machine that left and right lead to, and another one.
head -c 32M /dev/urandom >data
dd if=data of=mnt/wide bs=1M conv=notrunc,fsync status=none

# 3. A server dies in the middle of a write. Nobody above notices.
dd if=data of=mnt/wide bs=64k conv=notrunc,fsync status=none &
writer=$!
sleep 0.02
stop left
wait $writer
same
"$dmfs" status disk

# 4. It comes back. It is used again when that is said.
start left disk.img
"$dmfs" message disk 0 reinstate_path left
same
"$dmfs" status disk

# 5. The other machine restarts. Its disk has no second path, but a reconnect-delay: what is under way waits.
stop far
same &
reader=$!
sleep 0.1
start far far.img
wait $reader

# 6. What was written lies on the images.
sync mnt/wide
"$dmfs" umount mnt
echo 'all of it is there'
