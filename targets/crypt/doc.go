// Package crypt encrypts a segment: what is on the disk cannot be read without the key.
//
// # Use
//
// Encrypted disks and containers: LUKS, plain dm-crypt, loop-AES, TrueCrypt and BitLocker volumes all come down to a crypt table.
//
// # Table line
//
//	START LENGTH crypt CIPHER KEY IV_OFFSET DISK OFFSET [COUNT OPTION*]
//
// CIPHER is CIPHER[:KEYS]-MODE-IV[:OPTION], as in aes-xts-plain64, serpent-cbc-essiv:sha256 or aes:64-cbc-lmk, or capi:NAME-IV with a
// name of the kernel's crypto API, as in capi:xts(aes)-plain64 or capi:adiantum(xchacha12,aes)-plain64. CIPHER alone, or CIPHER-plain,
// means cbc with plain. KEYS, a power of two, is how many keys take turns by sector.
//
// KEY is two hexadecimal digits for each byte; - for no key; or :SIZE:user:DESCRIPTION for a key of SIZE bytes of type
// user that the program finds in its keyrings (keyctl add user DESCRIPTION ... @u). XTS takes two keys of one size, LRW 16 bytes behind the
// key, lmk a seed behind the keys if it is version 3, tcw an IV and 16 bytes, elephant a second key of the same size.
//
// IV_OFFSET, in sectors, is added to the sector of the segment, and that is the number from which IVs are made. OFFSET is the sector
// of DISK where the segment begins. Options:
//
//   - allow_discards: pass discards on. Who sees the disk then sees which parts are in use.
//   - sector_size:BYTES: encrypt in units of 512 (the default) to 4096 bytes. Blocks of the device are no smaller.
//   - iv_large_sectors: IVs count units, not sectors of 512 bytes.
//   - integrity:BYTES:aead: authenticate as well, with a cipher that does. DISK must be an integrity device without internal_hash that keeps so
//     many bytes for each unit: the cipher's tag, and behind it the IV if it is random.
//   - integrity:BYTES:none: with the IV random, as many bytes as an IV has are kept there. Else it is kept for the table only.
//   - same_cpu_crypt, submit_from_crypt_cpus, no_read_workqueue, no_write_workqueue: on which processors and in which queues the
//     kernel works. There is nothing to schedule here; they are kept for the table.
//
// An example, where the key comes from the keyring:
//
//	[devices.private]
//	table = "0 204800 crypt aes-xts-plain64 :64:user:private 0 data 0 1 allow_discards"
//
// # Ciphers
//
// What was compared with Linux 6.1: C by a disk of the corpus that it wrote, S by a scenario in which each side writes, both
// disks must be equal, and each opens the other's.
//
//	block cipher   key bytes           modes compared
//	aes            16 24 32            ecb CS, cbc CS, ctr CS, xts CS, lrw CS
//	serpent        0 to 32             cbc CS, xts CS
//	twofish        16 24 32            cbc CS, xts CS, lrw S
//	camellia       16 24 32            xts CS, cbc S
//	blowfish       4 to 56             cbc CS, ctr S
//	cast5          11 to 16            cbc CS
//	des3_ede       24                  cbc CS
//	des            8                   cbc S
//	cipher_null    none                ecb CS, cbc S
//	adiantum       32                  (xchacha12,aes) CS; (xchacha20,aes), (xchacha12,serpent), (xchacha12,twofish) S
//
//	IV             compared with
//	plain          cbc, xts past 2^32 CS     plain64        all modes CS
//	plain64be      xts CS, cbc S             essiv:HASH     cbc CS, xts S; md5, sha256 CS, all others but sha512 and long sha3 and blake2b S
//	benbi          cbc, lrw CS, ctr S        null           cbc CS
//	eboiv          cbc, xts CS, lrw S        elephant       cbc CS
//	lmk            versions 1 to 3 CS        tcw            cbc CS, xts S
//
//	authenticated                        key bytes           tag bytes       compared
//	capi:gcm(aes)                        16 24 32            4 8 12 to 16    CS
//	capi:rfc7539(chacha20,poly1305)      32                  16              S
//	capi:rfc4309(ccm(aes))               19 27 35            8 12 16         CS
//	capi:aegis128                        16                  8 to 16         S
//	capi:authenc(hmac(HASH),CIPHER)      CIPHER's + HASH's   1 to HASH's     xts CS; cbc with essiv, ctr S
//
// HASH is one of those of essiv but blake2 and wp256, CIPHER one of those above in any mode; the key is CIPHER's, then as many bytes as HASH has. IVs of authenticated ciphers are random, plain, plain64, plain64be, null, benbi, and with authenc essiv. A unit that was changed, or moved, reads as
// EILSEQ, and the log names its sector. So does one that was never written, unless something wrote tags there.
//
// Every cipher goes with every mode, where blocks of 16 bytes are needed and there (xts, lrw, adiantum), and with every IV.
// Hashes of essiv are md5, sha1, rmd160, sha2, sha3, wp256 and blake2b.
//
// # Keys
//
// A key from the keyring, or the digits of a table, are turned into bytes in memory that is locked, not in core dumps, and zeroed when
// the key is wiped, replaced, or the table goes. So are all key schedules: those of the libraries are made on the heap, moved there at
// once, and the original is zeroed. If the system does not lock memory (ulimit -l), the log says so and the rest holds.
//
// Not promised: the digits of a key that came in a table or a message are a text that passes through the program; nothing keeps
// it, but memory that it lay in is zeroed by nobody. While a key is made ready, parts of it are in registers and on stacks, until
// something else takes the place. A key of the keyring never is a text; use one where that matters. What the
// table shows when it is asked for with its keys is a text, too.
//
// Neither tables, errors nor logs show a key, unless showkeys asks a table to. A name in the keyring is no secret and is
// always shown, so that a saved table can be loaded.
//
// # Status and messages
//
// The status is empty. Both messages need a suspended device:
//
//	key wipe       forgets the key; the device does not resume (EAGAIN) until it has one
//	key set KEY    takes another of the same size
//
// # Limits
//
// Requests are cut into pieces of 512 KiB, of which several run at a time. Large writes to a regular file, which takes one at a time, are encrypted on
// one processor while another writes what is encrypted, 128 KiB at a time. A write takes a buffer of its size, and one for tags. Blocks are those of
// the disk, or a unit if that is more. Discards pass if allow_discards is set and the disk takes them. Zeroing writes encrypted zeroes.
//
// # Layout
//
// Sector for sector as on the device, encrypted in units. There is no header. What is authenticated of a unit is the number of its
// first sector in the segment (8 bytes, little endian), its IV, and its data.
//
// # Ordering and crashes
//
// The target keeps nothing of its own: what the disk has made durable is durable. A unit larger than what the disk writes at once
// may be torn by a power cut, and then reads as noise from there on, or as a whole with a mode that mixes it; so it is in the
// kernel.
//
// # Differences from the kernel
//
//   - The IVs lmk, tcw, eboiv and elephant are refused with authenticated ciphers; the kernel crashes at lmk.
//   - Of authenc with a mode that takes no IV, as ecb, the kernel verifies nothing when it reads, a MAC of another key neither. Here what does not fit its tag is EILSEQ.
//   - integrity:BYTES:none with another IV than random on a device that keeps tags: the kernel stores what lies in memory, here nothing is stored.
//   - Of the authenticated ciphers ccm is known as rfc4309(ccm(aes)) alone, as cryptsetup writes it; MACs other than hmac are not.
//   - What is in keys of the types logon, encrypted and trusted only the kernel can read: they are refused, with EOPNOTSUPP if
//     the key is there.
//   - A key in digits of which there is an odd number is refused; the kernel drops the last.
//   - A cipher that needs an IV, without one, as in capi:xts(aes), is refused; the kernel takes it and uses what is left of the sector before as IV.
//   - lmk and tcw with IVs of more than 16 bytes are refused; the kernel takes what lies behind in memory.
//   - integrity:BYTES without a kind is refused; the kernel takes an address that is none for a text.
//   - No more than 1024 keys take turns.
//   - sector_size takes no number of 2^16 or more, integrity none of 2^32; the kernel takes them modulo that.
//   - Unknown here: the modes pcbc, cfb, ofb, cts and rfc3686(ctr(aes)); essiv of essiv; the ciphers anubis, aria, cast6, fcrypt, khazad, seed, sm4, tea, xtea and xeta; cast5 with less
//     than 11 bytes; hctr2; the hashes md4, wp256 and streebog for essiv, and checksums.
//   - After "key set" with bad digits the key shows as zeroes, not as what was read up to there.
package crypt
