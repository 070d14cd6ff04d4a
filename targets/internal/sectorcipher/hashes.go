package sectorcipher

import (
	"hash"

	"dmfs/targets/internal/hashalg"
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

func hashNamed(name string) (*digest, error) {
	maker, ok := hashalg.New(name)
	if !ok {
		return nil, unknown(name)
	}
	return &digest{name, maker().Size(), maker}, nil
}
