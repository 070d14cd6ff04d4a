package aesxts

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/crypto/xts"

	"dmfs/targets/internal/aeskey/aestest"
)

// newImpl returns a Cipher that runs impl.
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

// TestAvailable is for whoever reads the log, and for TestOtherProcessors.
func TestAvailable(t *testing.T) {
	t.Logf("available: %v", available())
	if n := len(available()); available()[n-1] != implGeneric {
		t.Error("generic is not the last resort")
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The first three vectors of IEEE 1619, annex B. The first has two equal keys.
func TestVectorsOfIEEE1619(t *testing.T) {
	vectors := []struct{ key, tweak, plain, secret string }{
		{
			strings.Repeat("00", 32), strings.Repeat("00", 16), strings.Repeat("00", 32),
			"917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e",
		}, {
			strings.Repeat("11", 16) + strings.Repeat("22", 16), "33333333330000000000000000000000", strings.Repeat("44", 32),
			"c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0",
		}, {
			"fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0" + strings.Repeat("22", 16), "33333333330000000000000000000000", strings.Repeat("44", 32),
			"af85336b597afc1a900b2eb21ec949d292df4c047e0b21532186a5971a227a89",
		},
	}
	forEach(t, func(t *testing.T, impl implementation) {
		for i, v := range vectors {
			c := newImpl(t, impl, unhex(t, v.key))
			got := make([]byte, 32)
			c.Encrypt(got, unhex(t, v.plain), 32, unhex(t, v.tweak))
			if want := unhex(t, v.secret); !bytes.Equal(got, want) {
				t.Errorf("vector %d: encrypted to %x, want %x", i+1, got, want)
			}
			c.Decrypt(got, got, 32, unhex(t, v.tweak))
			if want := unhex(t, v.plain); !bytes.Equal(got, want) {
				t.Errorf("vector %d: decrypted to %x, want %x", i+1, got, want)
			}
		}
	})
}

// The judge takes only sector numbers as tweaks; TestTweaks and FuzzAESXTS have all others.
func TestAgreesWithXCrypto(t *testing.T) {
	src, rnd := aestest.Source(t)
	forEach(t, func(t *testing.T, impl implementation) {
		for unit := BlockSize; unit <= 8192; unit += BlockSize {
			key := aestest.Random(src, []int{32, 48, 64}[rnd.IntN(3)])
			judge, err := xts.NewCipher(aes.NewCipher, key)
			if err != nil {
				t.Fatal(err)
			}
			units := 1 + rnd.IntN(5)
			plain, want, tweaks := aestest.Random(src, units*unit), make([]byte, units*unit), make([]byte, units*BlockSize)
			for u := range units {
				sector := rnd.Uint64() >> rnd.IntN(64)
				binary.LittleEndian.PutUint64(tweaks[u*BlockSize:], sector)
				judge.Encrypt(want[u*unit:(u+1)*unit], plain[u*unit:(u+1)*unit], sector)
			}
			checkBoth(t, newImpl(t, impl, key), plain, want, unit, tweaks, rnd)
		}
	})
}

// checkBoth encrypts plain and decrypts secret, in place and apart, at random alignments, and looks that
// nothing beside the destination is written.
func checkBoth(t *testing.T, c *Cipher, plain, secret []byte, unit int, tweaks []byte, rnd *rand.Rand) {
	t.Helper()
	for _, way := range []struct {
		name     string
		f        func(dst, src []byte, unit int, tweaks []byte)
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
			before, after, beforeTweaks := bytes.Clone(dst[:to]), bytes.Clone(dst[to+len(way.in):]), bytes.Clone(tweaks)
			way.f(dst[to:to+len(way.in)], src[from:from+len(way.in)], unit, tweaks)
			what := fmt.Sprintf("%s: %s, %d units of %d bytes, in place %v, from %d to %d", c.impl, way.name, len(plain)/unit, unit, inPlace, from, to)
			if got := dst[to : to+len(way.in)]; !bytes.Equal(got, way.want) {
				i := 0
				for got[i] == way.want[i] {
					i++
				}
				t.Fatalf("%s: the first wrong byte is %d", what, i)
			}
			if !bytes.Equal(dst[:to], before) || !bytes.Equal(dst[to+len(way.in):], after) {
				t.Fatalf("%s: wrote beside dst", what)
			}
			if !inPlace && !bytes.Equal(src[from:from+len(way.in)], way.in) {
				t.Fatalf("%s: wrote to src", what)
			}
			if !bytes.Equal(tweaks, beforeTweaks) {
				t.Fatalf("%s: wrote to tweaks", what)
			}
		}
	}
}

// compare checks that all implementations do what generic does.
func compare(t *testing.T, key, plain []byte, unit int, tweaks []byte, rnd *rand.Rand) {
	t.Helper()
	want := make([]byte, len(plain))
	newImpl(t, implGeneric, key).Encrypt(want, plain, unit, tweaks)
	for _, impl := range available() {
		checkBoth(t, newImpl(t, impl, key), plain, want, unit, tweaks, rnd)
	}
}

// Tweaks may have any bits, and requests more units than a batch.
func TestTweaks(t *testing.T) {
	src, rnd := aestest.Source(t)
	for _, unit := range []int{16, 48, 512, 528, 1024, 4096, 64 << 10} {
		for _, units := range []int{1, 2, 3, 4, 5, 63, 64, 65, 127, 129, 300} {
			if unit*units > 2<<20 {
				continue
			}
			tweaks := aestest.Random(src, units*BlockSize)
			copy(tweaks, bytes.Repeat([]byte{0xff}, BlockSize))
			compare(t, aestest.Random(src, []int{32, 48, 64}[rnd.IntN(3)]), aestest.Random(src, unit*units), unit, tweaks, rnd)
		}
	}
}

// Every alignment of the one against every alignment of the other, in a line of the cache.
func TestAlignments(t *testing.T) {
	src, _ := aestest.Source(t)
	key, tweaks, plain := aestest.Random(src, 64), aestest.Random(src, 2*BlockSize), aestest.Random(src, 2*560)
	want := make([]byte, len(plain))
	newImpl(t, implGeneric, key).Encrypt(want, plain, 560, tweaks)
	forEach(t, func(t *testing.T, impl implementation) {
		c := newImpl(t, impl, key)
		from, to := make([]byte, len(plain)+64), make([]byte, len(plain)+64)
		for i := range 64 {
			copy(from[i:], plain)
			for j := range 64 {
				c.Encrypt(to[j:j+len(plain)], from[i:i+len(plain)], 560, tweaks)
				if !bytes.Equal(to[j:j+len(plain)], want) {
					t.Fatalf("from alignment %d to %d: wrong", i, j)
				}
			}
		}
	})
}

func FuzzAESXTS(f *testing.F) {
	f.Add(uint64(1), uint8(0), uint16(32), uint16(1), []byte("0123456789abcdef"))
	f.Add(uint64(2), uint8(1), uint16(31), uint16(65), bytes.Repeat([]byte{0xff}, 16))
	f.Add(uint64(3), uint8(2), uint16(257), uint16(3), bytes.Repeat([]byte{0x80}, 48))
	f.Fuzz(func(t *testing.T, seed uint64, size uint8, blocks, units uint16, tweaks []byte) {
		src, rnd := aestest.Seeded(seed)
		unit, n := BlockSize*(1+int(blocks)%512), 1+int(units)%130
		n = max(1, min(n, (256<<10)/unit))
		all := aestest.Random(src, n*BlockSize)
		copy(all, tweaks)
		compare(t, aestest.Random(src, []int{32, 48, 64}[size%3]), aestest.Random(src, n*unit), unit, all, rnd)
	})
}

func TestMisuse(t *testing.T) {
	forEach(t, func(t *testing.T, impl implementation) {
		c := newImpl(t, impl, make([]byte, 32))
		b := make([]byte, 2048)
		for name, f := range map[string]func(){
			"unit of 0":              func() { c.Encrypt(b[:512], b[:512], 0, b[:16]) },
			"unit of -16":            func() { c.Encrypt(b[:512], b[:512], -16, b[:16]) },
			"unit of 24":             func() { c.Encrypt(b[:48], b[:48], 24, b[:32]) },
			"no whole number":        func() { c.Encrypt(b[:520], b[:520], 512, b[:16]) },
			"dst too short":          func() { c.Encrypt(b[:496], b[:512], 512, b[:16]) },
			"dst too long":           func() { c.Encrypt(b[:528], b[:512], 512, b[:16]) },
			"tweaks too short":       func() { c.Decrypt(b[:1024], b[:1024], 512, b[:16]) },
			"tweaks too long":        func() { c.Decrypt(b[:512], b[:512], 512, b[:32]) },
			"tweaks for nothing":     func() { c.Decrypt(nil, nil, 512, b[:16]) },
			"dst behind src":         func() { c.Decrypt(b[16:528], b[:512], 512, b[1024:1040]) },
			"dst just before src":    func() { c.Decrypt(b[:512], b[1:513], 512, b[1024:1040]) },
			"dst by one behind src":  func() { c.Decrypt(b[511:1023], b[:512], 512, b[1024:1040]) },
			"dst by one before src":  func() { c.Decrypt(b[:512], b[511:1023], 512, b[1024:1040]) },
			"used after Wipe":        func() { c := newImpl(t, impl, make([]byte, 32)); c.Wipe(); c.Encrypt(b[:16], b[:16], 16, b[:16]) },
			"decrypted after a Wipe": func() { c := newImpl(t, impl, make([]byte, 32)); c.Wipe(); c.Decrypt(b[:16], b[:16], 16, b[:16]) },
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
		c.Encrypt(b[512:1024], b[:512], 512, b[1024:1040]) // next to each other
		c.Encrypt(b[:512], b[512:1024], 512, b[1024:1040])
	})
}

func TestKeySizes(t *testing.T) {
	for n := range 130 {
		_, err := New(make([]byte, n))
		if ok := n == 32 || n == 48 || n == 64; ok != (err == nil) {
			t.Errorf("key of %d bytes: error %v", n, err)
		}
	}
}

func TestNewIn(t *testing.T) {
	words := make([]uint64, MemorySize/8+1)
	mem := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), MemorySize+1)
	key := bytes.Repeat([]byte{1, 2, 3, 4}, 16)
	if _, err := NewIn(mem[:MemorySize-1], key); err == nil {
		t.Error("memory that is too short was taken")
	}
	if _, err := NewIn(mem[1:], key); err == nil {
		t.Error("memory off its alignment was taken")
	}
	c, err := NewIn(mem, key)
	if err != nil {
		t.Fatal(err)
	}
	want, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	a, b := make([]byte, 512), make([]byte, 512)
	c.Encrypt(a, a, 512, make([]byte, 16))
	want.Encrypt(b, b, 512, make([]byte, 16))
	if !bytes.Equal(a, b) {
		t.Error("New and NewIn differ")
	}
	if c.InMemory() && !bytes.Contains(mem, key[:16]) {
		t.Error("the key is not in the memory given")
	}
	c.Wipe()
	if !bytes.Equal(mem[:MemorySize], make([]byte, MemorySize)) {
		t.Error("Wipe left something")
	}
}

// A generic cipher cannot be in the caller's memory, and says so.
func TestInMemory(t *testing.T) {
	forEach(t, func(t *testing.T, impl implementation) {
		c := newImpl(t, impl, make([]byte, 64))
		if got, want := c.InMemory(), impl != implGeneric; got != want {
			t.Errorf("InMemory is %v, want %v", got, want)
		}
	})
}

func TestAllocations(t *testing.T) {
	buf := make([]byte, 64<<10)
	forEach(t, func(t *testing.T, impl implementation) {
		c := newImpl(t, impl, make([]byte, 64))
		n := testing.AllocsPerRun(20, func() {
			var tweaks [128 * BlockSize]byte // the caller's may be on its stack
			c.Encrypt(buf, buf, 512, tweaks[:])
			c.Decrypt(buf, buf, 512, tweaks[:])
		})
		if n >= 1 { // a pool may lose what it holds to the garbage collector, so less than one is none
			t.Errorf("%v allocations for two calls", n)
		}
	})
}

// One Cipher, many goroutines.
func TestConcurrentUse(t *testing.T) {
	src, _ := aestest.Source(t)
	key, plain, tweaks := aestest.Random(src, 64), aestest.Random(src, 8192), aestest.Random(src, 16*BlockSize)
	forEach(t, func(t *testing.T, impl implementation) {
		c := newImpl(t, impl, key)
		want := make([]byte, len(plain))
		c.Encrypt(want, plain, 512, tweaks)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				got := make([]byte, len(plain))
				for range 50 {
					c.Encrypt(got, plain, 512, tweaks)
					if !bytes.Equal(got, want) {
						t.Error("wrong")
						return
					}
					c.Decrypt(got, got, 512, tweaks)
				}
			})
		}
		wg.Wait()
	})
}

func BenchmarkXTS(b *testing.B) {
	const size = 1 << 20
	buf := make([]byte, size)
	for _, impl := range available() {
		c := newImpl(b, impl, bytes.Repeat([]byte{1, 2}, 32))
		for _, way := range []struct {
			name string
			f    func(dst, src []byte, unit int, tweaks []byte)
		}{{"enc", c.Encrypt}, {"dec", c.Decrypt}} {
			for _, unit := range []int{512, 4096} {
				b.Run(fmt.Sprintf("%s/%s/%d", impl, way.name, unit), func(b *testing.B) {
					tweaks := make([]byte, size/unit*BlockSize)
					b.SetBytes(size)
					best := time.Duration(math.MaxInt64)
					for b.Loop() {
						begin := time.Now()
						way.f(buf, buf, unit, tweaks)
						best = min(best, time.Since(begin))
					}
					// On a machine that others use, too, the mean is about them.
					b.ReportMetric(size/best.Seconds()/1e6, "best-MB/s")
				})
			}
		}
	}
}
