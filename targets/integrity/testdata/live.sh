#!/bin/sh
# What made the images beside this script: run in Linux 6.1 as root, with a disk of 2 MiB at /dev/ubda and a directory in $OUT. Each image is a disk
# as it is while the device is in use, after a flush, which is how a crash leaves it.
set -eu
i=0
while read -r options; do
	i=$((i + 1))
	dd if=/dev/zero of=/dev/ubda bs=1M count=2 2>/dev/null
	dmsetup create x --table "0 800 integrity /dev/ubda 0 $options"
	for k in 0 1 2 3 4 5; do
		yes "write $k" | head -c 4096 | dd of=/dev/mapper/x bs=4096 seek=$((k * 7 + 1)) oflag=direct conv=notrunc,fsync 2>/dev/null
	done
	yes again | head -c 20480 | dd of=/dev/mapper/x bs=4096 seek=2 oflag=direct conv=notrunc,fsync 2>/dev/null
	dd if=/dev/ubda bs=64k iflag=direct 2>/dev/null | gzip -9n >"$OUT/live-$i.gz"
	printf '%s\n' "$options" >>"$OUT/options"
	dmsetup remove x
done <<END
4 J 2 internal_hash:crc32c journal_sectors:300
4 J 3 internal_hash:crc32c journal_sectors:300 fix_padding
32 J 3 internal_hash:sha256 journal_sectors:400 journal_mac:hmac(sha256):00112233445566778899aabbccddeeff
4 J 4 internal_hash:crc32c journal_sectors:400 journal_mac:hmac(sha256):00112233445566778899aabbccddeeff fix_hmac
32 J 3 internal_hash:sha256 journal_sectors:180 journal_crypt:ctr(aes):00112233445566778899aabbccddeeff
32 J 4 internal_hash:sha256 journal_sectors:180 journal_mac:hmac(sha1):00 journal_crypt:cbc(aes):00112233445566778899aabbccddeeff
8 J 3 internal_hash:xxhash64 journal_sectors:900 block_size:1024
4 J 3 internal_hash:crc32 journal_sectors:900 block_size:4096
4 B 3 internal_hash:crc32c sectors_per_bit:64 bitmap_flush_interval:100000
4 D 2 internal_hash:crc32c buffer_sectors:1
8 J 4 internal_hash:hmac(xxhash64):0011 block_size:2048 fix_hmac legacy_recalculate
32 J 3 internal_hash:sha256 journal_sectors:100 journal_crypt:xts(aes):00112233445566778899aabbccddeeff00112233445566778899aabbccddeefe
20 J 1 journal_sectors:500
4 D 4 internal_hash:md4 journal_sectors:100 block_size:512 fix_padding
END
