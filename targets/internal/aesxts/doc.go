// Package aesxts encrypts runs of sectors with AES-XTS at the speed of the processor.
//
// # Use
//
// A Cipher works on runs of units: a unit is what has one tweak, dm-crypt's sector. The caller makes the tweaks as
// they are before encryption, 16 bytes for each unit (dm-crypt's IVs: plain64, essiv, eboiv and so on); the cipher encrypts
// them with the tweak key and then the units. It takes whole requests, since all that is gained here
// is gained by having many blocks in flight:
//
//	c, err := aesxts.New(key) // data key and tweak key, 32, 48 or 64 bytes together
//	c.Encrypt(dst, src, 4096, tweaks)
//
// Units are multiples of 16 bytes, as all sectors of dm-crypt are, so there is no ciphertext stealing.
//
// # Keys in memory
//
// A Cipher holds its keys in one piece of memory without pointers, MemorySize bytes long. New takes it from Go's heap; NewIn
// takes it from the caller, who can lock it and keep it out of dumps (mmap, mlock, madvise(MADV_DONTDUMP)). Wipe zeroes it.
// Assembly clears the registers that held keys, and puts none on the stack. The keys given to New and NewIn stay the caller's
// to wipe.
//
// What is beyond reach: a signal that comes while assembly runs, as Go's runtime sends them to preempt, makes the kernel save the
// registers on the signal stack of the thread, where they stay until its next signal.
//
// One case is weaker: without an implementation in assembly (see below) the keys live in values of crypto/aes on Go's heap, which
// cannot be locked. Wipe zeroes these, too, except on s390x, where they are out of reach. InMemory tells the two cases apart.
//
// # Implementations
//
// The first that the processor and the system allow is taken when a Cipher is made:
//
//	vaes512  amd64  VAES, VPCLMULQDQ and AVX-512 F, BW, DQ: 32 blocks in flight
//	vaes256  amd64  VAES, VPCLMULQDQ and AVX2: 16 blocks in flight
//	aesni    amd64  AES-NI and nothing else: 8 blocks in flight
//	arm64    arm64  the AES instructions of ARMv8: 8 blocks in flight
//	generic  all    crypto/aes, a block at a time
//
// Those in assembly take the same time for all keys and data: they look nothing up in tables, the expansion of keys included.
// docs/performance.md has figures.
//
// # Sources
//
// FIPS 197 for AES; IEEE 1619 and NIST SP 800-38E for XTS; the manuals of the processors for the instructions. The tests
// compare all implementations with each other, with golang.org/x/crypto/xts and with the test vectors of IEEE 1619.
package aesxts
