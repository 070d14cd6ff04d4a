// Package aescbc encrypts runs of sectors with AES-CBC, each sector a chain of its own with its own IV.
//
// # Use
//
// It has the shape of package aesxts, keys in memory included: read its manual first. ivs are used as given, 16 bytes for
// each unit; what dm-crypt makes of sector numbers (essiv and so on) is the caller's.
//
//	c, err := aescbc.New(key) // 16, 24 or 32 bytes
//	c.Encrypt(dst, src, 512, ivs)
//
// # Speed
//
// In CBC each block is encrypted with the one before, so one sector alone is bound by how long a block takes. Several sectors are
// not: eight are encrypted at a time, each a lane. Decryption knows all blocks at once and needs no lanes.
//
//	vaes512  amd64  VAES, AVX-512 F, BW, DQ: 32 blocks in flight when decrypting; encrypts as aesni
//	aesni    amd64  AES-NI and nothing else: 8 blocks in flight, of 8 units when encrypting
//	generic  all    crypto/aes, a block at a time
//
// docs/performance.md has figures.
//
// # Sources
//
// FIPS 197 for AES, NIST SP 800-38A for CBC, the manuals of the processors for the instructions. The tests compare all
// implementations with crypto/cipher and with the test vectors of SP 800-38A.
package aescbc
