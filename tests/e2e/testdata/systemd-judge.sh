#!/bin/sh
# Runs in the guest, under systemd: plays the life of both units and says what came of it, one line "RESULT NAME: TEXT" each.
say() { printf 'RESULT %s: %s\n' "$1" "$(printf %s "$2" | tr '\n' ' ')"; }
mounted() { grep -c " $1 fuse.dmfs " /proc/mounts; }

# judge NAME MOUNTPOINT IMAGE COMMAND…: COMMAND is systemctl of the manager
judge() {
	name=$1 point=$2 image=$3
	shift 3
	"$@" start dmfs@data
	say "$name start" $?
	say "$name state" "$("$@" show -p ActiveState,Type,StatusText dmfs@data)"
	echo hello | dd of="$point/vol" conv=notrunc status=none
	say "$name data" "$(head -c 5 "$image")"
	kill -9 "$("$@" show -p MainPID --value dmfs@data)"
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		sleep 1
		[ "$("$@" show -p NRestarts --value dmfs@data)" = 1 ] && "$@" is-active -q dmfs@data && break
	done
	say "$name killed" "$("$@" show -p ActiveState,NRestarts dmfs@data) $(head -c 5 "$point/vol")"
	"$@" stop dmfs@data
	say "$name stop" "$? $("$@" show -p ActiveState,Result dmfs@data) mounted=$(mounted "$point")"
}

chmod 666 /dev/fuse # as udev does
judge system /run/dmfs/data /run/disk.img systemctl
systemctl start manager
say manager $?
as_user() {
	setpriv --reuid 65534 --regid 65534 --clear-groups env XDG_RUNTIME_DIR=/run/user/65534 HOME=/run/home "$@"
}
dd() { as_user dd "$@"; }
head() { as_user head "$@"; }
judge user /run/user/65534/dmfs/data /run/home/disk.img as_user systemctl --user
journalctl -b --no-pager | grep -a dmfs | tail -n 40
systemctl poweroff -ff
