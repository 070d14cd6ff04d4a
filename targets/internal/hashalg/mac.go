package hashalg

import (
	"fmt"
	"hash"
	"strings"
	"sync"

	"dmfs/mapper/secret"
)

// A MAC is HMAC (RFC 2104) with a key. It may be used concurrently and does not allocate once it is warm.
//
// What it has of the key is in memory for secrets: the hashes that do the work are shared, and forget what they were fed.
type MAC struct {
	Size         int    // bytes
	inner, outer []byte // the key, padded and masked, a block of the hash each
	states       sync.Pool
}

// A macState is a hash at work.
type macState struct {
	hash.Hash
	sum [64]byte
}

// MACSize returns the size in bytes of the MAC called hmac(HASH); ok is false if there is none of that name. blake2 is not among them: its
// implementation holds a block back, which would keep the key; nor is Whirlpool, whose sums leave copies of the state. Nor are the CRCs.
func MACSize(name string) (size int, ok bool) {
	maker, ok := macHash(name)
	if !ok {
		return 0, false
	}
	return maker().Size(), true
}

func macHash(name string) (maker func() hash.Hash, ok bool) {
	rest, isHMAC := strings.CutPrefix(name, "hmac(")
	of, closed := strings.CutSuffix(rest, ")")
	if !isHMAC || !closed || strings.HasPrefix(of, "blake2") || strings.HasPrefix(of, "wp") {
		return nil, false
	}
	maker, ok = New(of)
	if !ok || maker().Size() > maker().BlockSize() {
		return nil, false // a checksum
	}
	return maker, true
}

// NewMAC returns the MAC called name with a key, which is not kept. What it has of the key is in m.
func NewMAC(m *secret.Memory, name string, key []byte) (*MAC, error) {
	maker, ok := macHash(name)
	if !ok {
		return nil, fmt.Errorf("unknown MAC %.64q", name)
	}
	h := maker()
	block := h.BlockSize()
	pads, err := m.Alloc(2 * block)
	if err != nil {
		return nil, err
	}
	c := &MAC{Size: h.Size(), inner: pads[:block:block], outer: pads[block:]}
	c.states.New = func() any { return &macState{Hash: maker()} }
	if len(key) > block {
		h.Write(key) //nolint:errcheck // a hash takes everything
		h.Sum(c.inner[:0])
		h.Reset()
		h.Write(make([]byte, block-1)) //nolint:errcheck // over what it has collected of the key
	} else {
		copy(c.inner, key)
	}
	copy(c.outer, c.inner)
	for i := range block {
		c.inner[i] ^= 0x36
		c.outer[i] ^= 0x5c
	}
	return c, nil
}

// Sum writes the first len(out) bytes, at most Size, of the MAC of the parts, one after the other.
func (c *MAC) Sum(out []byte, parts ...[]byte) {
	s, _ := c.states.Get().(*macState)
	defer c.states.Put(s)
	s.Write(c.inner) //nolint:errcheck // a hash takes everything
	for _, p := range parts {
		s.Write(p) //nolint:errcheck // a hash takes everything
	}
	inner := s.Hash.Sum(s.sum[:0])
	s.Reset()
	s.Write(c.outer) //nolint:errcheck // a hash takes everything
	s.Write(inner)   //nolint:errcheck // a hash takes everything
	copy(out, s.Hash.Sum(s.sum[:0]))
	s.Reset()
}
