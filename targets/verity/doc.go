// Package verity reads a disk whose every block is verified by a tree of hashes, of which the table line has the root: what was
// changed, by accident or on purpose, is not read but refused.
//
// # Use
//
// Root file systems and images that must be what was published: whoever trusts the root digest trusts every block. Trees are made by veritysetup.
//
// # Table line
//
//	START LENGTH verity VERSION DATA HASH DATABLOCK HASHBLOCK BLOCKS HASHSTART ALGORITHM ROOT SALT [N OPTION*]
//
// The table must be read-only. VERSION is 1, or 0 for images of the first tools. DATA has BLOCKS blocks of DATABLOCK bytes; HASH, which may be the same
// disk, has the tree from its block HASHSTART of HASHBLOCK bytes on. Blocks are powers of two, at least the logical block of their disk and at most 65536. ALGORITHM is
// md5, sha1, sha224, sha256, sha384, sha512, sha3-224 to sha3-512, rmd160, wp256 to wp512 (Whirlpool), blake2b-160 to blake2b-512, blake2s-256, or one that integrity has for its tags. ROOT is the digest of the
// topmost hash block and SALT what is hashed with each block, both in hexadecimal digits; a SALT of - is none. The OPTIONs:
//
//	ignore_corruption      a block that does not verify is logged and read as it is
//	restart_on_corruption  after one, the device fails all I/O until it is loaded anew: this program does not restart the machine
//	panic_on_corruption    likewise
//	ignore_zero_blocks     a block of which the tree says that it is zeroes is not verified: zeroes are read whatever the disk holds
//	check_at_most_once     a data block that was verified is not verified again, as long as the table lives
//	try_verify_in_tasklet  is accepted and changes nothing: it is about the kernel's scheduling
//
//	use_fec_from_device DISK  a block that does not verify is repaired, if it can be, by the parity on DISK, which is only read; with
//	fec_roots N            bytes of parity for each code word, 2 to 24: as many lost blocks of a row can be repaired
//	fec_start N            the block of DISK where the parity begins, 0 if not given
//	fec_blocks N           how many blocks it covers: the data, the tree, and what may follow the tree
//
//	root_hash_sig_key_desc NAME  the user key NAME, of the configuration or a keyring, is a detached PKCS#7 signature, in DER, of ROOT as
//	                       it stands here; it is by one of the certificates of the configuration, or by one that they signed
//
// A signature is made by
//
//	printf %s ROOT | openssl smime -sign -nocerts -noattr -binary -inkey key.pem -signer cert.pem -outform der -out root.p7s
//
// With a tree that veritysetup has put into hash.img:
//
//	[devices.image]
//	readonly = true
//	table = "0 2048 verity 1 data.img hash.img 4096 4096 256 1 sha256 9f2c… 00ff00ff"
//
// # Status and messages
//
// V, or C once a block has not verified. That is no event, as in the kernel. There are no messages.
//
// # Limits
//
// The logical block is DATABLOCK. A read verifies its blocks on all processors if it is large. Hash blocks that were verified are kept, at
// most 8 MiB of them; check_at_most_once takes a bit for each data block. Repairing a block reads all blocks of its row, some 250, one repair at a time.
//
// # Layout
//
// As the kernel's Documentation/admin-guide/device-mapper/verity.rst says, read here in images of veritysetup 2.6 in both versions. Level 0 has the digests of
// the data blocks in their order, level 1 those of the blocks of level 0, and so on up to a level of one block. On the disk the topmost level comes first:
//
//	HASHSTART  level n-1 (one block)  level n-2 …  level 0
//
// A hash block has as many digests as fit, cut to a power of two. In version 1 each takes a power of two of bytes, and the digest of a block is that of
// SALT and the block; in version 0 they lie one after the other, and it is that of the block and SALT. Of a single data block ROOT is the digest.
//
// The parity is that of Reed-Solomon codes over GF(2^8), 255 bytes a word, of which each block of a row gives one; see fec.go.
//
// # Ordering and crashes
//
// Nothing is ever written.
//
// # Differences from the kernel
//
//   - Data blocks may be larger than the page of this machine, up to 64 KiB, the largest page of any.
//   - Hash blocks are at most 64 KiB.
//   - The kernel of the oracle has no error correction. It was compared with what veritysetup 2.6 wrote and repairs itself. A fec_blocks that
//     leaves the tree out is taken for one with it, which is how veritysetup makes the parity.
//   - A block of which the disk cannot be read is repaired, too; so is a block of the tree. One that cannot be repaired is an I/O error, whatever the options say
//     of corruption.
//   - The kernel of the oracle checks no signatures. Whom to trust is said by certificates in the configuration, in place of the kernel's
//     keyring of trusted keys.
//   - restart_on_corruption and panic_on_corruption, see there.
//   - The kernel logs which implementation of the hash function it has chosen.
//   - Keyed and other hash functions of the kernel that are not in the list are refused as unknown.
package verity
