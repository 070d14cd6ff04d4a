// Package luks reads containers of LUKS, versions 1 and 2: what a disk is encrypted with, and the key, which a passphrase opens. It reads,
// and changes nothing; tables are made of it elsewhere.
//
// # What is read
//
//   - LUKS1, as the LUKS On-Disk Format Specification 1.2.3 has it.
//   - LUKS2, as the LUKS2 On-Disk Format Specification 1.1.1 has it: both headers, of which the newer good one counts; key slots of type luks2
//     with PBKDF2, Argon2i and Argon2id; segments crypt, with and without integrity, and linear; digests pbkdf2. Tokens are checked and not used.
//   - Reencryptions of LUKS2 in progress, metadata of versions 1 to 3: see [Reencryption], [Header.Authenticate] and [Header.Resolve].
//   - Key slots may be encrypted with whatever the target crypt knows that needs no tags, and take every hash function of
//     dmfs/targets/internal/hashalg: sha1, sha2, sha3, ripemd160, whirlpool, blake2. stribog and sm3 are not among them.
//
// What is wrong with a header, though it has the right checksum, is an error that names the object and field. What is not understood is
// refused by name: requirements by [Header.MayOpen]; a key slot that cannot be opened here is listed in Header.Unusable and in the way of
// nobody who has the passphrase of another.
//
// # Hostile headers
//
// A header may ask for work: 2^32 iterations are legal. All of it ends with the context, except Argon2, which is the library's, and
// takes no more than 4 GiB, and no more than the caller says there is. What is read of a header is at most 8 MiB, of key material 128 MiB.
//
// # Keys
//
// Passphrases, keys and key material are in memory for secrets, see [Secret]. What the hash functions keep of them, and
// the memory of Argon2, is on the heap until it is used anew.
package luks
