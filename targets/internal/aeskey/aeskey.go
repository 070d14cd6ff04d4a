// Package aeskey is what the AES modes that we have in assembly share: expanding and wiping keys, finding out what the processor
// can do, and checking arguments.
//
// Expansion of keys uses the AES instructions of the processor and no tables, so that its time does not depend on the key. Source: FIPS 197.
package aeskey

// RoundKeys has room for the round keys of AES-256, 14 rounds and the whitening before them, as they lie in memory. It holds no
// pointers, so that it may lie where the garbage collector does not look: in memory that is locked and kept out of dumps.
type RoundKeys [15][16]byte

// Rounds returns how many rounds a key of 16, 24 or 32 bytes makes: 10, 12 or 14.
func Rounds(key []byte) int { return len(key)/4 + 6 }
