package aescbc

import (
	"fmt"
	"unsafe"

	"dmfs/targets/internal/aeskey"
)

// BlockSize is the size in bytes of AES' blocks and of IVs.
const BlockSize = 16

// MemorySize is how many bytes NewIn needs.
const MemorySize = int(unsafe.Sizeof(schedules{}))

// schedules is all that is secret about a Cipher. It holds no pointers, since it may lie where the garbage collector does not
// look.
type schedules struct {
	rounds           int // 10, 12 or 14; 0 once wiped
	encrypt, decrypt aeskey.RoundKeys
}

// implementation says which code a Cipher runs.
type implementation string

const implGeneric implementation = "generic"

// best is what New takes, the first of available.
var best = available()[0]

// A Cipher is AES-CBC with one key. Encrypt and Decrypt may be called concurrently with each other, but not with Wipe.
type Cipher struct {
	keys    *schedules
	impl    implementation
	generic *generic // for implGeneric only
}

// New returns a Cipher for key, 16, 24 or 32 bytes. The key is not kept.
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
	case 16, 24, 32:
	default:
		return nil, fmt.Errorf("key of %d bytes: want 16, 24 or 32", len(key))
	}
	c := &Cipher{keys: keys, impl: impl}
	*keys = schedules{rounds: aeskey.Rounds(key)}
	if impl != implGeneric {
		aeskey.Expand(&keys.encrypt, key)
		aeskey.Invert(&keys.decrypt, &keys.encrypt, keys.rounds)
		return c, nil
	}
	var err error
	c.generic, err = newGeneric(key)
	return c, err
}

// InMemory reports whether the key is in the memory given to NewIn and nowhere else.
func (c *Cipher) InMemory() bool { return c.generic == nil }

// Wipe zeroes the key. No call of Encrypt or Decrypt may be running, and none may follow: it panics rather than encrypt
// with a key of zeroes.
func (c *Cipher) Wipe() {
	*c.keys = schedules{}
	if c.generic != nil {
		aeskey.Wipe(c.generic.block)
	}
}

// Encrypt encrypts src, a run of units of unit bytes each, to dst. ivs has BlockSize bytes for each unit. dst and src have
// the same length; they are the same memory or do not overlap, and ivs overlaps neither. None needs an alignment. Nothing is
// allocated.
//
// It panics on lengths that do not fit: a unit that is no positive multiple of BlockSize, a src that is no whole number of units,
// a dst or ivs of another length than src asks for; on a dst that overlaps src but does not begin with it; and after Wipe. It
// never panics on data.
func (c *Cipher) Encrypt(dst, src []byte, unit int, ivs []byte) {
	if !c.ready(dst, src, unit, ivs) {
		return
	}
	if c.generic != nil {
		c.generic.encrypt(dst, src, unit, ivs)
		return
	}
	c.keys.encryptUnits(dst, src, unit, ivs)
}

// Decrypt is the inverse of Encrypt, on the same terms.
func (c *Cipher) Decrypt(dst, src []byte, unit int, ivs []byte) {
	if !c.ready(dst, src, unit, ivs) {
		return
	}
	if c.generic != nil {
		c.generic.decrypt(dst, src, unit, ivs)
		return
	}
	c.keys.decryptUnits(c.impl, dst, src, unit, ivs)
}

// ready checks the arguments and reports whether there is something to do.
func (c *Cipher) ready(dst, src []byte, unit int, ivs []byte) bool {
	if err := aeskey.Misuse(dst, src, unit, ivs); err != nil {
		panic("aescbc: " + err.Error())
	}
	if c.keys.rounds == 0 {
		panic("aescbc: used after Wipe")
	}
	return len(src) > 0
}
