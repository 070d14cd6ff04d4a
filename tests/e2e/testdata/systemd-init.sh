#!/bin/sh
# The init of a guest on the host's files, read-only: makes what systemd and the units need, and becomes systemd. $DIR and $REPO
# come before this line.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 tmpfs /run
for module in /usr/lib/uml/modules/*/kernel/fs/fuse/fuse.ko; do insmod "$module" && break; done
mkdir -p /run/etc /run/systemd/system /run/systemd/user /run/user/65534
cp -a /etc/. /run/etc
mount --bind /run/etc /etc
for dir in /tmp /root; do
	case $DIR in "$dir"/*) ;; *) mount -t tmpfs tmpfs "$dir" ;; esac
done
rm -f /etc/systemd/system/*.wants/*
: >/etc/fstab

mkdir -p /etc/dmfs /run/home/.config/dmfs
for of in /run /run/home; do
	truncate -s 8M $of/disk.img
	printf '[devices.vol]\ntable = "0 16384 linear %s/disk.img 0"\n' $of >$of/data.toml
done
mv /run/data.toml /etc/dmfs/data.toml
mv /run/home/data.toml /run/home/.config/dmfs/data.toml
chown -R 65534:65534 /run/home /run/user/65534
chmod 700 /run/user/65534
sed "s#@BIN@#$DIR#" "$REPO/cmd/dmfs/dist/dmfs@.service" >/run/systemd/system/dmfs@.service
sed "s#@BIN@#$DIR#" "$REPO/cmd/dmfs/dist/dmfs-user@.service" >/run/systemd/user/dmfs@.service

cat >/run/systemd/system/manager.service <<'END'
[Unit]
DefaultDependencies=no
[Service]
Type=notify
User=65534
Delegate=yes
Environment=XDG_RUNTIME_DIR=/run/user/65534 HOME=/run/home
ExecStart=/lib/systemd/systemd --user --unit=basic.target
END
cat >/run/systemd/system/judge.service <<END
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh $DIR/systemd-judge.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
END
printf '[Unit]\nDefaultDependencies=no\nWants=judge.service\n' >/run/systemd/system/judge.target
exec /lib/systemd/systemd --unit=judge.target --log-target=journal --show-status=no </dev/console >/dev/console 2>&1
