package secret

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"reflect"
	"testing"
	"unsafe"

	//lint:ignore SA1019 disks that are encrypted with it exist
	"golang.org/x/crypto/blowfish"
	//lint:ignore SA1019 disks that are encrypted with it exist
	"golang.org/x/crypto/cast5"
	"golang.org/x/crypto/chacha20poly1305"
	//lint:ignore SA1019 disks that are encrypted with it exist
	"golang.org/x/crypto/twofish"
)

// A moved cipher does what the original did, and nothing of it is left behind.
func TestMove(t *testing.T) {
	key := []byte("0123456789abcdefghijklmn")
	for _, c := range []struct {
		name string
		make func() (cipher.Block, error)
	}{
		{"aes", func() (cipher.Block, error) { return aes.NewCipher(key) }},
		{"3des", func() (cipher.Block, error) { return des.NewTripleDESCipher(key) }},
		{"des", func() (cipher.Block, error) { return des.NewCipher(key[:8]) }},
		{"blowfish", func() (cipher.Block, error) { return blowfish.NewCipher(key) }},
		{"cast5", func() (cipher.Block, error) { return cast5.NewCipher(key[:16]) }},
		{"twofish", func() (cipher.Block, error) { return twofish.NewCipher(key) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m Memory
			defer m.Release()
			b, err := c.make()
			if err != nil {
				t.Fatal(err)
			}
			text := bytes.Repeat([]byte{7}, b.BlockSize())
			want, got := make([]byte, len(text)), make([]byte, len(text))
			b.Encrypt(want, text)
			moved, err := Move(&m, b)
			if err != nil {
				t.Fatal(err)
			}
			moved.Encrypt(got, text)
			if !bytes.Equal(got, want) {
				t.Errorf("encrypts to %x, want %x", got, want)
			}
			checkZeroed(t, b)
		})
	}
}

// checkZeroed looks at what v points to.
func checkZeroed(t *testing.T, v any) {
	t.Helper()
	old := reflect.ValueOf(v)
	left := unsafe.Slice((*byte)(old.UnsafePointer()), old.Type().Elem().Size())
	if !bytes.Equal(left, make([]byte, len(left))) {
		t.Errorf("the original %T is not zeroed", v)
	}
}

// An AEAD of the libraries is as flat as their block ciphers.
func TestMoveAEAD(t *testing.T) {
	block, err := aes.NewCipher([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	gcm, e1 := cipher.NewGCM(block)
	chacha, e2 := chacha20poly1305.New([]byte("0123456789abcdef0123456789abcdef"))
	if e1 != nil || e2 != nil {
		t.Fatal(e1, e2)
	}
	for _, a := range []cipher.AEAD{gcm, chacha} {
		var m Memory
		defer m.Release()
		nonce, text := make([]byte, a.NonceSize()), []byte("text")
		want := a.Seal(nil, nonce, text, nil)
		moved, err := Move(&m, a)
		if err != nil {
			t.Fatalf("%T: %v", a, err)
		}
		if got := moved.Seal(nil, nonce, text, nil); !bytes.Equal(got, want) {
			t.Errorf("%T seals to %x, want %x", a, got, want)
		}
		checkZeroed(t, a)
	}
}

type pointing struct {
	cipher.Block
}

func TestMoveRefusesPointers(t *testing.T) {
	var m Memory
	defer m.Release()
	if _, err := Move(&m, cipher.Block(&pointing{})); err == nil {
		t.Error("a cipher with a slice was moved")
	}
}

func TestAlloc(t *testing.T) {
	var m Memory
	defer m.Release()
	var all [][]byte
	for _, n := range []int{0, 1, 64, 65, regionBytes, 3 * regionBytes, 5} {
		p, err := m.Alloc(n)
		if err != nil || len(p) != n {
			t.Fatalf("Alloc(%d): %d bytes, %v", n, len(p), err)
		}
		for i := range p {
			if p[i] != 0 {
				t.Fatalf("Alloc(%d): byte %d is in use", n, i)
			}
			p[i] = 0xff
		}
		all = append(all, p)
	}
	for i, p := range all {
		if bytes.IndexByte(p, 0) >= 0 {
			t.Errorf("allocation %d was given twice", i)
		}
	}
}
