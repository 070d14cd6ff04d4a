package aesxts

import (
	"fmt"
	"unsafe"

	"dmfs/targets/internal/aeskey"
)

// BlockSize is the size in bytes of AES' blocks and of tweaks.
const BlockSize = 16

// MemorySize is how many bytes NewIn needs.
const MemorySize = int(unsafe.Sizeof(schedules{}))

// A Cipher is AES-XTS with one pair of keys. Encrypt and Decrypt may be called concurrently with each other, but not with Wipe.
type Cipher struct {
	keys    *schedules
	impl    implementation
	generic *generic // for implGeneric only
}

// New returns a Cipher for key: the data key and then the tweak key, together 32, 48 or 64 bytes for AES-128, -192
// or -256. The two may be equal: the kernel takes such keys. The key is not kept.
func New(key []byte) (*Cipher, error) {
	return newIn(new(schedules), best, key)
}

// NewIn does as New and puts what it makes of the key into mem, at least MemorySize bytes which begin at a
// multiple of 8. mem is the Cipher's until Wipe; it must not be unmapped before, and need not be memory of Go's.
func NewIn(mem, key []byte) (*Cipher, error) {
	keys, err := aeskey.In[schedules](mem)
	if err != nil {
		return nil, err
	}
	return newIn(keys, best, key)
}

func newIn(keys *schedules, impl implementation, key []byte) (*Cipher, error) {
	switch len(key) {
	case 32, 48, 64:
	default:
		return nil, fmt.Errorf("key of %d bytes: want 32, 48 or 64", len(key))
	}
	data, tweak := key[:len(key)/2], key[len(key)/2:]
	c := &Cipher{keys: keys, impl: impl}
	*keys = schedules{}
	if impl != implGeneric {
		keys.expand(data, tweak)
		return c, nil
	}
	var err error
	if c.generic, err = newGeneric(data, tweak); err != nil {
		return nil, err
	}
	keys.rounds = aeskey.Rounds(data)
	return c, nil
}

// InMemory reports whether the keys are in the memory given to NewIn and nowhere else.
func (c *Cipher) InMemory() bool { return c.generic == nil }

// Wipe zeroes the keys. No call of Encrypt or Decrypt may be running, and none may follow: it panics rather than encrypt
// with a key of zeroes.
func (c *Cipher) Wipe() {
	*c.keys = schedules{}
	if c.generic != nil {
		c.generic.wipe()
	}
}

// Encrypt encrypts src, a run of units of unit bytes each, to dst. tweaks has BlockSize bytes for each unit, as they are before
// encryption with the tweak key. dst and src have the same length; they are the same memory or do not overlap, and tweaks
// overlaps neither. None needs an alignment. Nothing is allocated.
//
// It panics on lengths that do not fit: a unit that is no positive multiple of BlockSize, a src that is no whole number of units,
// a dst or tweaks of another length than src asks for; on a dst that overlaps src but does not begin with it; and after Wipe. It
// never panics on data.
func (c *Cipher) Encrypt(dst, src []byte, unit int, tweaks []byte) {
	c.crypt(dst, src, unit, tweaks, false)
}

// Decrypt is the inverse of Encrypt, on the same terms.
func (c *Cipher) Decrypt(dst, src []byte, unit int, tweaks []byte) {
	c.crypt(dst, src, unit, tweaks, true)
}

func (c *Cipher) crypt(dst, src []byte, unit int, tweaks []byte, decrypt bool) {
	if err := aeskey.Misuse(dst, src, unit, tweaks); err != nil {
		panic("aesxts: " + err.Error())
	}
	if c.keys.rounds == 0 {
		panic("aesxts: used after Wipe")
	}
	if c.generic != nil {
		c.generic.crypt(dst, src, unit, tweaks, decrypt)
		return
	}
	c.keys.crypt(c.impl, dst, src, unit, tweaks, decrypt)
}
