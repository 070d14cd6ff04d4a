package hashalg

import (
	"bytes"
	"crypto/hmac"
	"strings"
	"testing"

	"dmfs/mapper/secret"
)

// The standard library is the judge, for keys shorter than a block, as long as one, and longer.
func TestMAC(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789"), 100)
	for name, maker := range makers {
		n, ok := MACSize("hmac(" + name + ")")
		if held := strings.HasPrefix(name, "blake2") || strings.HasPrefix(name, "wp") || strings.HasPrefix(name, "crc"); ok == held {
			t.Errorf("hmac(%s): there: %v", name, ok)
		}
		if !ok {
			continue
		}
		for _, size := range []int{0, 16, maker().BlockSize(), maker().BlockSize() + 1, 300} {
			var m secret.Memory
			defer m.Release()
			key := bytes.Repeat([]byte{7}, size)
			c, err := NewMAC(&m, "hmac("+name+")", key)
			if err != nil {
				t.Fatal(err)
			}
			judge := hmac.New(maker, key)
			judge.Write(text)
			want := judge.Sum(nil)
			for range 2 { // the second time the hash has been used
				got := make([]byte, n)
				if c.Sum(got, text[:1], nil, text[1:]); !bytes.Equal(got, want) || c.Size != n {
					t.Errorf("hmac(%s), key of %d bytes: got %x, want %x", name, size, got, want)
				}
				if c.Sum(got[:4], text); !bytes.Equal(got[:4], want[:4]) {
					t.Errorf("hmac(%s): the beginning is %x", name, got[:4])
				}
			}
		}
	}
	for _, name := range []string{"", "hmac", "hmac(sha256", "sha256", "hmac(none)", "hmac()"} {
		if _, ok := MACSize(name); ok {
			t.Errorf("%q is a MAC", name)
		}
	}
}

func TestMACDoesNotAllocate(t *testing.T) {
	var m secret.Memory
	defer m.Release()
	c, err := NewMAC(&m, "hmac(sha256)", make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	text, out := make([]byte, 512), make([]byte, 32)
	if n := testing.AllocsPerRun(1000, func() { c.Sum(out, text[:20], text) }); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}
