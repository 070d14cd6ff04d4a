// Package hashalg knows hash functions by the names that the kernel's crypto interface gives them, which are those in
// tables and superblocks.
package hashalg

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"hash"

	"github.com/jzelinskie/whirlpool"
	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/blake2s"
	//lint:ignore SA1019 disks that were made with it are to be read
	"golang.org/x/crypto/md4"
	//lint:ignore SA1019 images that were made with it are to be read
	"golang.org/x/crypto/ripemd160"
)

// makers are the functions by name.
var makers = map[string]func() hash.Hash{
	"crc32":       checksum32("crc32", 0),
	"crc32c":      checksum32("crc32c", 0xffffffff),
	"xxhash64":    func() hash.Hash { return newXX(0) },
	"md4":         md4.New,
	"md5":         md5.New,
	"sha1":        sha1.New,
	"sha224":      sha256.New224,
	"sha256":      sha256.New,
	"sha384":      sha512.New384,
	"sha512":      sha512.New,
	"sha3-224":    func() hash.Hash { return sha3.New224() },
	"sha3-256":    func() hash.Hash { return sha3.New256() },
	"sha3-384":    func() hash.Hash { return sha3.New384() },
	"sha3-512":    func() hash.Hash { return sha3.New512() },
	"rmd160":      ripemd160.New,
	"wp512":       whirlpool.New,
	"wp384":       func() hash.Hash { return truncated{whirlpool.New(), 48} },
	"wp256":       func() hash.Hash { return truncated{whirlpool.New(), 32} },
	"blake2b-160": blake(20),
	"blake2b-256": blake(32),
	"blake2b-384": blake(48),
	"blake2b-512": blake(64),
	"blake2s-256": func() hash.Hash {
		h, _ := blake2s.New256(nil) // only keys can be wrong
		return h
	},
}

func blake(size int) func() hash.Hash {
	return func() hash.Hash {
		h, _ := blake2b.New(size, nil) // only keys and sizes can be wrong
		return h
	}
}

// truncated is the beginning of the digests of a function.
type truncated struct {
	hash.Hash
	size int
}

func (t truncated) Size() int { return t.size }

// Sum leaves alone what is behind the digest in b's memory.
func (t truncated) Sum(b []byte) []byte { return append(b, t.Hash.Sum(nil)[:t.size]...) }

// New returns what makes the hash function called name; ok is false if there is none of that name.
func New(name string) (maker func() hash.Hash, ok bool) {
	maker, ok = makers[name]
	return maker, ok
}
