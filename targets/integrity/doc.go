// Package integrity keeps a tag beside each block: a checksum or MAC of its own, by which a damaged block is found out when it is read, or a tag
// that comes with the data from crypt.
//
// # Use
//
// Disks that silently give something else than what was written; below RAID, which then knows the leg that is right. With a
// keyed hash, disks that somebody else may write to; with crypt above, authenticated encryption.
//
// # Table line
//
//	START LENGTH integrity DISK OFFSET TAG MODE N OPTION*
//
// The metadata begin at sector OFFSET of DISK. If the 4 KiB there are zeroes the disk is formatted. LENGTH is at most what then is provided; a table of one
// sector is enough to learn that from the status. TAG is the bytes of a tag, up to 255; - is the size of the hash, which is cut or filled up with zeroes
// if TAG says something else. N is the number of words that follow. MODE is
//
//	J  writes go through a journal: after a crash data and tags match, and a sector is the old or the new one as a whole
//	B  a bitmap notes where writes are under way: after a crash the tags there are computed anew. A crash may hide damage there
//	D  data and tags are written directly: after a crash they may not match
//	R  for rescue: nothing is replayed, verified or written
//
// Options that the format depends on. They count when the disk is formatted, and later have to be the same, or do not matter:
//
//	block_size:BYTES            512, 1024, 2048 or 4096: how much a tag is for
//	journal_sectors:N           size of the journal, roughly; a 128th of the disk, up to 64 MiB
//	interleave_sectors:N        data sectors from one run of tags to the next, a power of two from 8 on; 32768
//	meta_device:DISK            journal and tags are there, and DISK has data only. OFFSET is then that on the other
//	fix_padding                 less room is wasted behind the tags
//	fix_hmac                    MACs depend on a salt, and there is one of the superblock: nobody exchanges parts of the disk
//	journal_mac:HASH[:KEY]      the journal is authenticated
//
// The others:
//
//	internal_hash:HASH[:KEY]    what the tags are; without it they come with the data, or there are none
//	journal_crypt:CIPHER:KEY    the journal is encrypted, as it has what was written in the clear
//	buffer_sectors:N            how much of the tags is read at a time; 128. No more than an area or a run of tags is aligned to
//	journal_watermark:PERCENT   so much of the journal may be in use before it is written back; 50
//	commit_time:MS              what nobody flushes is committed after this time; 10000
//	sectors_per_bit:N           of the bitmap, a power of two; 32768, or more if there is no room for so many bits
//	bitmap_flush_interval:MS    so long bits stay set; 10000
//	recalculate                 the tags are computed from the data while the device is in use, once
//	reset_recalculate           the same, again
//	legacy_recalculate          recalculation is allowed with keys too, where an attacker may have his data authenticated so
//	allow_discards              discarded blocks have a tag that says so, and are not verified
//
// HASH is crc32, crc32c, xxhash64, md4, md5, sha1, sha224, sha256, sha384, sha512, sha3-N, rmd160, wp256 to wp512, blake2b-N, blake2s-256, poly1305 (whose key is
// what it hashes first: a checksum, no MAC), crct10dif, or hmac(HASH) with a KEY; CIPHER is that of the kernel's
// crypto API, ctr(aes), cbc(aes), xts(aes) and so on. Keys are in hexadecimal digits. They are held in memory that is not swapped out, and listings
// show zeroes unless asked for keys. A disk for a RAID leg:
//
//	[devices.leg0]
//	table = "0 2064384 integrity /dev/sdb 0 - J 1 internal_hash:crc32c"
//
// # Status and messages
//
//	MISMATCHES PROVIDED RECALCULATED
//
// how many reads met a tag that does not match, since the table was loaded; how many sectors the disk provides; up to where the tags were recalculated, or -.
// There are no messages. The table line shows what options came to, and those of the superblock.
//
// A read whose tag does not match fails with EILSEQ, and the log has the sector, ten times in five seconds at most. So does a sector that was
// never written on a disk that was just formatted, unless it is recalculated.
//
// # Limits
//
// The logical block is block_size. Requests are cut where areas end. Zeroes are written, since they need tags. Discards pass with allow_discards if the disk has them.
// Without internal_hash requests may have tags of TAG bytes for each block; blocks written without get zeroes in mode J and keep their tag in the others.
//
// In memory there are the journal, 16 MiB of tags and in mode B three bitmaps.
//
// # Layout
//
//	OFFSET    superblock, 8 sectors: format.go
//	+8        journal: journal.go; or the bitmap
//	          tags of area 0, from a fixed size and padded
//	          data of area 0, interleave_sectors
//	          tags of area 1 ...
//
// With meta_device there is one area: the tags follow the journal on that disk, and the data begin at sector 0 of the other. A tag is the hash of, with fix_hmac, the salt;
// of the number of the sector, 8 bytes in little endian; and of the block. A discarded block has a tag of bytes 0xf6.
//
// # Ordering and crashes
//
// Mode J is described step by step in journal.go, mode B in bitmap.go. A flush is a commit of the journal in mode J, written with FUA; in the others it writes
// the tags and flushes the disks. Requests that overlap wait for each other where both could not happen at the same time; reads do not wait for reads.
//
// When the device is suspended the journal is written back and emptied, or the bitmap is, and the superblock says so. Formatting writes the superblock last.
// The superblock says up to where tags were recalculated after those tags are durable.
//
// # Differences from the kernel
//
//   - A disk is formatted when the table is resumed, not when it is loaded.
//   - With buffers of tags that areas are not aligned to (interleave_sectors less than buffer_sectors) Linux 6.1 writes tags over data. Here
//     such a buffer is made smaller, which the table line shows.
//   - When the journal or the tags cannot be written the kernel has the device fail until it is loaded again, and what was not committed is lost.
//     Here who flushes is told, all is kept, and the next flush tries again. A recalculation that fails ends, and goes on when the device is opened again.
//   - Before anything of a journal is replayed all of it is verified; the kernel writes what comes before a damaged entry.
//   - A discard in mode J has the journal written back if anything of its range is there; the kernel looks at the first sector, and a block
//     further on that was discarded has the old data again later.
//   - A disk of mode B that was not closed, and is opened in another mode, is noted to need recalculation before its bitmap is
//     replaced. The kernel does so after, and a crash in between forgets which tags may not match.
//   - After a crash in mode B what the bitmap has bits for is recalculated. The kernel recalculates what lies between two such places that are
//     near each other, too, where damaged blocks come to match.
//   - Mode R on a disk that is not formatted keeps the geometry that formatting would give. The kernel forgets it at the resume.
//   - A superblock with flags that are not known, a journal of more than 1 GiB, and a disk whose blocks are larger than block_size are refused.
//   - A read-only table writes nothing: the disk has to be formatted, and to have been closed.
//   - A key with crc32, crc32c or xxhash64 is a seed, as in the kernel; hmac of blake2 and of Whirlpool are refused, as their implementations would not forget the key. Of the kernel's hashes
//     these are missing: cmac, xcbc and vmac, streebog, sm3. Of its stream ciphers for the journal only ctr is there.
//   - Mode I, inline, which Linux 6.12 has, and 6.1 does not, is refused. It needs a disk that itself has room for TAG bytes beside each block, as drives have that
//     are formatted with protection information; what tables stand on here, files, block devices and network disks, is read and written without. Modes J, B and D keep
//     the tags on the disk, or on meta_device.
package integrity
