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
			moved, err := m.Move(b)
			if err != nil {
				t.Fatal(err)
			}
			moved.Encrypt(got, text)
			if !bytes.Equal(got, want) {
				t.Errorf("encrypts to %x, want %x", got, want)
			}
			old := reflect.ValueOf(b)
			left := unsafe.Slice((*byte)(old.UnsafePointer()), old.Type().Elem().Size())
			if !bytes.Equal(left, make([]byte, len(left))) {
				t.Error("the original is not zeroed")
			}
		})
	}
}

type pointing struct {
	cipher.Block
}

func TestMoveRefusesPointers(t *testing.T) {
	var m Memory
	defer m.Release()
	if _, err := m.Move(&pointing{}); err == nil {
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
