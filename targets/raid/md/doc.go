// Package md reads and writes the superblocks that mdadm and the md driver of Linux keep on the members of a software RAID: versions 0.90, 1.0,
// 1.1 and 1.2, and the header of the write-intent bitmap. Bytes in, structures and errors out; it does no I/O but to read a superblock.
//
// # Where they are
//
//	version  where                                                    numbers
//	0.90     64 KiB from the end, rounded down to 64 KiB              host order, of which little endian is known
//	1.0      8 KiB from the end, rounded down to 4 KiB                little endian
//	1.1      at the start
//	1.2      4 KiB from the start
//
// # Version 1
//
//	offset size  field
//	0      4 × 2 magic a92b4efc, 1
//	8      4     features
//	16     16    array's identity
//	32     32    name
//	72     4 × 2 level (-1: linear), layout
//	80     8     sectors used of each member; 0 of levels linear and 0
//	88     4 × 2 sectors of a chunk, members
//	96     4     where the bitmap begins, in sectors from the superblock, signed
//	128    8 × 2 where the data begin, and their length, in sectors
//	144    8     sector of the superblock
//	152    8     sectors that are rebuilt of this member, if the feature says so
//	160    4     number of this disk, an index into the last field
//	168    16    disk's identity
//	184    1     flags: 1 write mostly
//	200    8 × 2 events, and sectors that are in sync, all ones if all
//	216    4 × 2 checksum, and length of the last field
//	256    2 × … what each disk is: its place in the array, ffff a spare, fffe failed, fffd the journal
//
// The checksum is the sum of all words of 4 bytes, with itself zero, with what overflows 32 bits added.
//
// # Version 0.90
//
// Words of 4 bytes, by number: magic 0, version 1 and 2, identity 5 and 13 to 15, level 7, KiB used of each member 8, members 10, state 33 (1 clean,
// 0x100 has a bitmap, 8 sectors behind), checksum 38, events 39 and 40, events at the checkpoint 41 and 42, KiB or sectors in sync 43, layout 64, bytes of
// a chunk 65; from 128 on 27 descriptors of 32 words: number, major, minor, place in the array, state (1 failed, 2 active, 4 in sync, 8 removed, 0x200 write
// mostly); at 992 that of this disk.
//
// # Source
//
// The fields are those of linux/raid/md_p.h, the places where superblocks lie and the checksums those of md(4) and of images that mdadm made
// (tests/corpus).
package md
