package sectorcipher

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"hash"

	"golang.org/x/crypto/blake2b"
	//lint:ignore SA1019 disks whose IVs are made with it exist
	"golang.org/x/crypto/ripemd160"
)

// A digest is a hash that ESSIV can take.
type digest struct {
	name string
	size int // bytes
	new  func() hash.Hash
}

// sum writes the hash of p to out and leaves nothing of p in the hash: it overwrites the block that the hash collects.
func (d *digest) sum(out, p []byte) {
	h := d.new()
	h.Write(p) //nolint:errcheck // a hash takes everything
	h.Sum(out[:0])
	h.Reset()
	h.Write(make([]byte, h.BlockSize()-1)) //nolint:errcheck // a hash takes everything
}

// as returns f as a function for any hash.
func as[T hash.Hash](f func() T) func() hash.Hash { return func() hash.Hash { return f() } }

func blake(size int) func() hash.Hash {
	return func() hash.Hash {
		h, err := blake2b.New(size, nil)
		if err != nil {
			return nil // it fails for sizes above 64 and keys above 64 bytes only
		}
		return h
	}
}

var digests = []digest{
	{"md5", 16, md5.New},
	{"sha1", 20, sha1.New},
	{"rmd160", 20, ripemd160.New},
	{"sha224", 28, sha256.New224},
	{"sha256", 32, sha256.New},
	{"sha384", 48, sha512.New384},
	{"sha512", 64, sha512.New},
	{"sha3-224", 28, as(sha3.New224)},
	{"sha3-256", 32, as(sha3.New256)},
	{"sha3-384", 48, as(sha3.New384)},
	{"sha3-512", 64, as(sha3.New512)},
	{"blake2b-160", 20, blake(20)},
	{"blake2b-256", 32, blake(32)},
	{"blake2b-384", 48, blake(48)},
	{"blake2b-512", 64, blake(64)},
}

func hashNamed(name string) (*digest, error) {
	for i := range digests {
		if digests[i].name == name {
			return &digests[i], nil
		}
	}
	return nil, unknown(name)
}
