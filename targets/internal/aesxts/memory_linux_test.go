package aesxts

import (
	"bytes"
	"syscall"
	"testing"

	"dmfs/targets/internal/aeskey/aestest"
)

// No implementation reads or writes beside what it is given, not even what it then ignores.
func TestStaysInside(t *testing.T) {
	const most = 1040
	src, _ := aestest.Source(t)
	key, plain, tweaks := aestest.Random(src, 48), aestest.Random(src, 3*most), aestest.Random(src, 3*BlockSize)
	forEach(t, func(t *testing.T, impl implementation) {
		c, judge := newImpl(t, impl, key), newImpl(t, implGeneric, key)
		for _, atEnd := range []bool{false, true} {
			for units := 1; units <= 3; units += 2 {
				from, to, tw := aestest.Fenced(t, units*most, atEnd), aestest.Fenced(t, units*most, atEnd), aestest.Fenced(t, units*BlockSize, atEnd)
				copy(tw, tweaks)
				for unit := BlockSize; unit <= most; unit += BlockSize {
					n := units * unit
					from, to := from[:n], to[:n]
					if atEnd {
						from, to = from[cap(from)-n:cap(from)], to[cap(to)-n:cap(to)]
					}
					copy(from, plain)
					want := make([]byte, n)
					judge.Encrypt(want, plain[:n], unit, tweaks[:units*BlockSize])
					c.Encrypt(to, from, unit, tw)
					if !bytes.Equal(to, want) {
						t.Fatalf("%d units of %d bytes: encrypted wrong", units, unit)
					}
					c.Decrypt(to, to, unit, tw)
					if !bytes.Equal(to, plain[:n]) {
						t.Fatalf("%d units of %d bytes: decrypted wrong", units, unit)
					}
				}
			}
		}
	})
}

// Keys in memory that the caller has locked, and nothing beside it.
func TestNewInFencedMemory(t *testing.T) {
	mem := aestest.Fenced(t, MemorySize, true)
	for i := range mem {
		mem[i] = 0xff
	}
	if err := syscall.Mlock(mem); err != nil {
		t.Logf("mlock: %v", err) // a limit; what is tested does not depend on it
	}
	c, err := NewIn(mem, bytes.Repeat([]byte{7}, 64))
	if err != nil {
		t.Fatal(err)
	}
	plain := bytes.Repeat([]byte("dmfs"), 128)
	b, tweak := bytes.Clone(plain), make([]byte, BlockSize)
	c.Encrypt(b, b, len(b), tweak)
	c.Decrypt(b, b, len(b), tweak)
	if !bytes.Equal(b, plain) {
		t.Error("decrypted to something else")
	}
	c.Wipe()
	if !bytes.Equal(mem, make([]byte, MemorySize)) {
		t.Error("Wipe left something")
	}
}
