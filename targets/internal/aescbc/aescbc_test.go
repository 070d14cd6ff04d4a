package aescbc

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"dmfs/targets/internal/aeskey/aestest"
)

func newImpl(t testing.TB, impl implementation, key []byte) *Cipher {
	t.Helper()
	c, err := newIn(new(schedules), impl, key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// forEach runs f for each implementation that this machine can run.
func forEach(t *testing.T, f func(t *testing.T, impl implementation)) {
	for _, impl := range available() {
		t.Run(string(impl), func(t *testing.T) { f(t, impl) })
	}
}

// The vectors of NIST SP 800-38A, F.2.1, F.2.3 and F.2.5.
func TestVectorsOfSP80038A(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	iv, plain := unhex("000102030405060708090a0b0c0d0e0f"), unhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"+
		"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	forEach(t, func(t *testing.T, impl implementation) {
		for _, v := range []struct{ key, secret string }{
			{"2b7e151628aed2a6abf7158809cf4f3c", "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2" +
				"73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7"},
			{"8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a" +
				"571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd"},
			{"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d" +
				"39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b"},
		} {
			c, got := newImpl(t, impl, unhex(v.key)), make([]byte, len(plain))
			c.Encrypt(got, plain, len(plain), iv)
			if hex.EncodeToString(got) != v.secret {
				t.Errorf("key %s: encrypted to %x, want %s", v.key, got, v.secret)
			}
			c.Decrypt(got, got, len(plain), iv)
			if !bytes.Equal(got, plain) {
				t.Errorf("key %s: decrypted to %x", v.key, got)
			}
		}
	})
}

// compare checks all implementations against crypto/cipher, in place and apart, at random alignments, and looks that
// nothing beside the destination is written.
func compare(t *testing.T, src *rand.ChaCha8, rnd *rand.Rand, unit, units int) {
	t.Helper()
	key, plain, ivs := aestest.Random(src, []int{16, 24, 32}[rnd.IntN(3)]), aestest.Random(src, unit*units), aestest.Random(src, units*BlockSize)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	secret := make([]byte, len(plain))
	for u := range units {
		cipher.NewCBCEncrypter(block, ivs[u*BlockSize:][:BlockSize]).CryptBlocks(secret[u*unit:][:unit], plain[u*unit:][:unit])
	}
	for _, impl := range available() {
		c := newImpl(t, impl, key)
		for _, way := range []struct {
			name     string
			f        func(dst, src []byte, unit int, ivs []byte)
			in, want []byte
		}{{"encrypt", c.Encrypt, plain, secret}, {"decrypt", c.Decrypt, secret, plain}} {
			for _, inPlace := range []bool{false, true} {
				const guard = 64
				from, to := guard+rnd.IntN(64), guard+rnd.IntN(64)
				src := bytes.Repeat([]byte{0xa5}, from+len(way.in)+guard)
				copy(src[from:], way.in)
				dst := bytes.Repeat([]byte{0x5a}, to+len(way.in)+guard)
				if inPlace {
					dst, to = src, from
				}
				before, after, beforeIVs := bytes.Clone(dst[:to]), bytes.Clone(dst[to+len(way.in):]), bytes.Clone(ivs)
				way.f(dst[to:to+len(way.in)], src[from:from+len(way.in)], unit, ivs)
				what := fmt.Sprintf("%s: %s, %d units of %d bytes, in place %v, from %d to %d", impl, way.name, units, unit, inPlace, from, to)
				if !bytes.Equal(dst[to:to+len(way.in)], way.want) {
					t.Fatalf("%s: wrong", what)
				}
				if !bytes.Equal(dst[:to], before) || !bytes.Equal(dst[to+len(way.in):], after) || !bytes.Equal(ivs, beforeIVs) {
					t.Fatalf("%s: wrote beside dst", what)
				}
				if !inPlace && !bytes.Equal(src[from:from+len(way.in)], way.in) {
					t.Fatalf("%s: wrote to src", what)
				}
			}
		}
	}
}

func TestAgreesWithCryptoCipher(t *testing.T) {
	src, rnd := aestest.Source(t)
	for unit := BlockSize; unit <= 8192; unit += BlockSize {
		compare(t, src, rnd, unit, 1+rnd.IntN(19))
	}
	for units := 1; units <= 40; units++ {
		compare(t, src, rnd, 512, units)
	}
	compare(t, src, rnd, 64<<10, 9)
}

func FuzzAESCBC(f *testing.F) {
	f.Add(uint64(1), uint16(32), uint16(1))
	f.Add(uint64(2), uint16(31), uint16(9))
	f.Add(uint64(3), uint16(257), uint16(8))
	f.Fuzz(func(t *testing.T, seed uint64, blocks, units uint16) {
		src, rnd := aestest.Seeded(seed)
		compare(t, src, rnd, BlockSize*(1+int(blocks)%512), 1+int(units)%20)
	})
}

func TestMisuse(t *testing.T) {
	forEach(t, func(t *testing.T, impl implementation) {
		c, wiped := newImpl(t, impl, make([]byte, 16)), newImpl(t, impl, make([]byte, 16))
		wiped.Wipe()
		b := make([]byte, 2048)
		for name, f := range map[string]func(){
			"unit of 0":        func() { c.Encrypt(b[:512], b[:512], 0, b[:16]) },
			"unit of 24":       func() { c.Decrypt(b[:48], b[:48], 24, b[:32]) },
			"no whole number":  func() { c.Encrypt(b[:520], b[:520], 512, b[:16]) },
			"dst too short":    func() { c.Decrypt(b[:496], b[:512], 512, b[:16]) },
			"ivs too short":    func() { c.Encrypt(b[:1024], b[:1024], 512, b[:16]) },
			"dst overlaps src": func() { c.Decrypt(b[16:528], b[:512], 512, b[1024:1040]) },
			"encrypted wiped":  func() { wiped.Encrypt(b[:16], b[:16], 16, b[:16]) },
			"decrypted wiped":  func() { wiped.Decrypt(b[:16], b[:16], 16, b[:16]) },
		} {
			t.Run(name, func(t *testing.T) {
				defer func() {
					if recover() == nil {
						t.Error("no panic")
					}
				}()
				f()
			})
		}
		c.Encrypt(nil, nil, 512, nil)
		c.Decrypt(nil, nil, 512, nil)
	})
}

func TestNewIn(t *testing.T) {
	words := make([]uint64, MemorySize/8+1)
	mem := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), MemorySize+1)
	key := bytes.Repeat([]byte{1, 2, 3, 4}, 8)
	if _, err := NewIn(mem[:MemorySize-1], key); err == nil {
		t.Error("memory that is too short was taken")
	}
	if _, err := NewIn(mem[1:], key); err == nil {
		t.Error("memory off its alignment was taken")
	}
	for n := range 40 {
		_, err := New(make([]byte, n))
		if ok := n == 16 || n == 24 || n == 32; ok != (err == nil) {
			t.Errorf("key of %d bytes: error %v", n, err)
		}
	}
	c, err := NewIn(mem, key)
	if err != nil {
		t.Fatal(err)
	}
	if c.InMemory() != bytes.Contains(mem, key) {
		t.Error("InMemory does not say where the key is")
	}
	c.Wipe()
	if !bytes.Equal(mem[:MemorySize], make([]byte, MemorySize)) {
		t.Error("Wipe left something")
	}
}

func TestAllocations(t *testing.T) {
	buf := make([]byte, 64<<10)
	forEach(t, func(t *testing.T, impl implementation) {
		c := newImpl(t, impl, make([]byte, 32))
		n := testing.AllocsPerRun(20, func() {
			var ivs [128 * BlockSize]byte // the caller's may be on its stack
			c.Encrypt(buf, buf, 512, ivs[:])
			c.Decrypt(buf, buf, 512, ivs[:])
		})
		if n >= 1 { // a pool may lose what it holds to the garbage collector, so less than one is none
			t.Errorf("%v allocations for two calls", n)
		}
	})
}

func BenchmarkCBC(b *testing.B) {
	const size = 1 << 20
	buf := make([]byte, size)
	for _, impl := range available() {
		c := newImpl(b, impl, bytes.Repeat([]byte{1, 2}, 16))
		for _, way := range []struct {
			name string
			f    func(dst, src []byte, unit int, ivs []byte)
		}{{"enc", c.Encrypt}, {"dec", c.Decrypt}} {
			for _, unit := range []int{512, 4096} {
				b.Run(fmt.Sprintf("%s/%s/%d", impl, way.name, unit), func(b *testing.B) {
					ivs := make([]byte, size/unit*BlockSize)
					b.SetBytes(size)
					best := time.Duration(math.MaxInt64)
					for b.Loop() {
						begin := time.Now()
						way.f(buf, buf, unit, ivs)
						best = min(best, time.Since(begin))
					}
					// On a machine that others use, too, the mean is about them.
					b.ReportMetric(size/best.Seconds()/1e6, "best-MB/s")
				})
			}
		}
	}
}
