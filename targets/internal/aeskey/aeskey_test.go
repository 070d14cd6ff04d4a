package aeskey

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"reflect"
	"runtime"
	"testing"
)

// The keys of FIPS 197, appendix A, and the last round keys there.
func TestExpandAsInFIPS197(t *testing.T) {
	if !HasInstructions() {
		t.Skip("the processor has no instructions for AES")
	}
	for _, v := range []struct{ key, last string }{
		{"2b7e151628aed2a6abf7158809cf4f3c", "d014f9a8c9ee2589e13f0cc8b6630ca6"},
		{"8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", "e98ba06f448c773c8ecc720401002202"},
		{"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "fe4890d1e6188d0b046df344706c631e"},
	} {
		key, err := hex.DecodeString(v.key)
		if err != nil {
			t.Fatal(err)
		}
		var keys, inverse RoundKeys
		Expand(&keys, key)
		if got := hex.EncodeToString(keys[Rounds(key)][:]); got != v.last {
			t.Errorf("key %s: the last round key is %s, want %s", v.key, got, v.last)
		}
		Invert(&inverse, &keys, Rounds(key))
		if inverse[0] != keys[Rounds(key)] || inverse[Rounds(key)] != keys[0] || inverse[1] == keys[Rounds(key)-1] {
			t.Errorf("key %s: not inverted", v.key)
		}
		invMixed := mixColumns(inverse[1])
		if invMixed != keys[Rounds(key)-1] {
			t.Errorf("key %s: MixColumns does not give back what InvMixColumns was given", v.key)
		}
	}
}

// mixColumns is MixColumns of FIPS 197, section 5.1.3, by its definition.
func mixColumns(b [16]byte) (mixed [16]byte) {
	double := func(x byte) byte { return x<<1 ^ x>>7*0x1b }
	for i := range mixed {
		column := b[i/4*4:][:4]
		at := func(j int) byte { return column[(i+j)%4] }
		mixed[i] = double(at(0)) ^ double(at(1)) ^ at(1) ^ at(2) ^ at(3)
	}
	return mixed
}

// Wipe reaches into a type that is not ours, so this looks that it does with this version of Go.
func TestWipe(t *testing.T) {
	if runtime.GOARCH == "s390x" {
		t.Skip("on s390x keys lie behind a pointer")
	}
	for _, size := range []int{16, 24, 32} {
		key := bytes.Repeat([]byte{0x5a}, size) // the same in every order of the bytes
		b, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		memory := func() (all []byte) {
			v := reflect.ValueOf(b)
			visitIntegers(v.Elem().Type(), v.UnsafePointer(), func(b []byte) { all = append(all, b...) })
			return all
		}
		if !bytes.Contains(memory(), key) {
			t.Errorf("%d bytes: there is no key where Wipe looks for it", size)
		}
		Wipe(b)
		if after := memory(); !bytes.Equal(after, make([]byte, len(after))) {
			t.Errorf("%d bytes: wiped to %x", size, after)
		}
	}
}
