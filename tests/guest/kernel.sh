#!/usr/bin/env bash
# Unpacks a Debian kernel, without installing it, for the guest of the end-to-end tests.
#
#   tests/guest/kernel.sh DIR
#
# DIR gets vmlinuz and the modules that a virtio disk needs, in the order they are loaded, as 00-NAME.ko ….
set -euo pipefail
dir=$1
[ -e "$dir/vmlinuz" ] && exit 0
package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-[0-9]/ { print $2; exit }')
[ -n "$package" ] || {
	echo 'no kernel package: run apt-get update' >&2
	exit 1
}
mkdir -p "$dir"
work=$(mktemp -d "$dir/unpack.XXXXXX")
trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$package" && dpkg-deb -x ./*.deb .)
i=0
for name in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
	module=$(find "$work/lib/modules" -name "$name.ko*" | head -n 1)
	[ -n "$module" ] || continue # built in
	to=$dir/$(printf %02d $i)-$name.ko
	case $module in
	*.xz) xz -dc "$module" >"$to" ;;
	*) cp "$module" "$to" ;;
	esac
	i=$((i + 1))
done
cp "$work"/boot/vmlinuz-* "$dir/vmlinuz.new"
mv "$dir/vmlinuz.new" "$dir/vmlinuz"
