// Package sectorcipher encrypts sectors: block ciphers, and the modes that disks are encrypted in, under the names that the kernel's
// crypto API gives them, such as "xts(aes)" or "essiv(cbc(aes),sha256)".
//
// [Parse] reads a name; [Scheme.New] takes a key and gives a [Cipher], whose keys and schedules are in memory for
// secrets. The ciphers come from the standard library and from x/crypto, and from packages beside this one where neither has them. The
// modes are here, generic over the block cipher: they are the format of encrypted disks.
package sectorcipher
