// Package sha256x2 hashes two messages of one length at a time with SHA-256 (FIPS 180-4). The SHA instructions of a processor wait for
// each other within one message, so that two messages together take little longer than one. What hashes many blocks, as verity
// does, hashes them in pairs.
//
// It has code for amd64 with SHA and AVX instructions; Supported says whether that runs here. Elsewhere crypto/sha256 is to be used,
// which is the judge of the tests, too.
package sha256x2
