package hashalg

import (
	"encoding/hex"
	"testing"
)

// The vector of RFC 8439, 2.5.2, whose key is what comes first, in pieces of any size; the check value of CRC-16/T10-DIF; and digests of New.
func TestAny(t *testing.T) {
	key, _ := hex.DecodeString("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
	for _, c := range []struct{ name, text, want string }{
		{"poly1305", string(key) + "Cryptographic Forum Research Group", "a8061dc1305136c6c22b8baf0c0127a9"},
		{"crct10dif", "123456789", "dbd0"},
		{"md5", "abc", "900150983cd24fb0d6963f7d28e17f72"},
	} {
		maker, ok := Any(c.name)
		if !ok {
			t.Fatalf("there is no %s", c.name)
		}
		h := maker()
		for cut := range len(c.text) {
			h.Reset()
			h.Write([]byte(c.text[:cut]))
			h.Write([]byte(c.text[cut:]))
			if got := hex.EncodeToString(h.Sum(nil)); got != c.want || len(got) != 2*h.Size() {
				t.Errorf("%s, cut at %d: %s, want %s", c.name, cut, got, c.want)
			}
		}
		h.Reset()
		h.Write([]byte("short"))
		if got := h.Sum(nil); len(got) != h.Size() {
			t.Errorf("%s of little: %x", c.name, got)
		}
	}
	for _, name := range []string{"poly1305", "crct10dif"} {
		if _, ok := New(name); ok {
			t.Errorf("%s is taken for a hash", name)
		}
		if _, ok := MACSize("hmac(" + name + ")"); ok {
			t.Errorf("there is hmac(%s)", name)
		}
	}
	if _, ok := Any("nosuch"); ok {
		t.Error("a function of any name is there")
	}
}
