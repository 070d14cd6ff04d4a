package ioctls

import (
	"bytes"
	"testing"
)

// What is packed comes back.
func FuzzPack(f *testing.F) {
	f.Add([]byte("aaaaaaaaaaaaab\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("aaaaaaa"))
	f.Fuzz(func(t *testing.T, b []byte) {
		back, err := Unpack(Pack(b))
		if err != nil || !bytes.Equal(back, b) {
			t.Errorf("%x came back as %x, %v", b, back, err)
		}
	})
}

// A golden that was written is read as it was.
func TestParse(t *testing.T) {
	calls := Calls(253)
	for i := range calls {
		calls[i].After = calls[i].Before
	}
	calls[0].After, calls[0].Errno = []byte{1, 2}, 22
	back, err := Parse(Format("who", calls))
	if err != nil || len(back) != len(calls) {
		t.Fatalf("%d calls of %d, %v", len(back), len(calls), err)
	}
	for i, c := range calls {
		b := back[i]
		if b.What != c.What || b.Nr != c.Nr || b.Errno != c.Errno || !bytes.Equal(b.Before, c.Before) || !bytes.Equal(b.After, c.After) {
			t.Errorf("call %d, %s, came back as %+v", i, c.What, b)
		}
	}
	if _, err := Parse("# who\n= x\n1 zz\n0 same\n"); err == nil {
		t.Error("what is not hexadecimal is read")
	}
}
