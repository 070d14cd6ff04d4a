// Package secrettest finds keys that were left in the memory of a process.
package secrettest

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// A Key is a key that this process has nowhere as it is: each byte is kept with a mask.
type Key struct{ masked, mask []byte }

// New returns a key of n bytes, chosen by chance.
func New(n int) *Key {
	k := &Key{make([]byte, n), make([]byte, n)}
	_, _ = rand.Read(k.masked)
	_, _ = rand.Read(k.mask)
	return k
}

// Lend calls f with the digits of the key in memory that is zeroed after.
func (k *Key) Lend(f func(digits string)) {
	raw, digits := make([]byte, len(k.mask)), make([]byte, 2*len(k.mask))
	for i := range raw {
		raw[i] = k.masked[i] ^ k.mask[i]
	}
	hex.Encode(digits, raw)
	clear(raw)
	f(unsafe.String(unsafe.SliceData(digits), len(digits)))
	clear(digits)
}

// Wipe zeroes a string that only a test has, and that is no constant.
func Wipe(s string) { clear(unsafe.Slice(unsafe.StringData(s), len(s))) }

// A form is how a byte of a key may lie in memory: with the low bits of its index changed, as the mirror image of words in key schedules
// has it, and with a mask, as the pads of an HMAC have it.
type form struct {
	swap int
	mask byte
}

var forms = []form{{}, {swap: 3}, {mask: 0x36}, {mask: 0x5c}}

// Find searches all memory of this process that can be written for 16 bytes in a row of the key, in any form, or 16 of its digits, and
// says where they are.
func (k *Key) Find(t *testing.T) (found []string) {
	t.Helper()
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	buf := make([]byte, 1<<20)
	defer clear(buf)
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		const overlap = 64
		for at := from; at < to; at += int64(len(buf)) - overlap {
			n, _ := mem.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
			for _, what := range k.find(buf[:n]) {
				found = append(found, fmt.Sprintf("%s near %#x: %s", what, at, lines.Text()))
			}
		}
	}
	return found
}

// find says what of the key is in p.
func (k *Key) find(p []byte) (found []string) {
	for i := 0; i+window <= len(k.mask); i += window {
		for _, f := range forms {
			if k.search(p, func(n int) byte { return k.at(i+n^f.swap) ^ f.mask }) {
				found = append(found, fmt.Sprintf("bytes %d to %d of the key, %+v,", i, i+window-1, f))
			}
		}
		const digits = "0123456789abcdef"
		if k.search(p, func(n int) byte { return digits[k.at(i+n/2)>>(4*(1-n%2))&15] }) {
			found = append(found, fmt.Sprintf("digits of the key from byte %d on", i))
		}
	}
	return found
}

// window is how many bytes in a row are searched for.
const window = 16

func (k *Key) at(i int) byte { return k.masked[i] ^ k.mask[i] }

// search says whether p has window bytes in a row that are those of at.
func (k *Key) search(p []byte, at func(n int) byte) bool {
	first := at(0)
	for i := 0; ; i++ {
		j := bytes.IndexByte(p[i:], first)
		if j < 0 || i+j+window > len(p) {
			return false
		}
		i += j
		n := 1
		for n < window && p[i+n] == at(n) {
			n++
		}
		if n == window {
			return true
		}
	}
}

// OverwriteStack takes the place of what earlier calls left on the stack of the goroutine, depth KiB of it.
func OverwriteStack(depth int) byte {
	var room [1 << 10]byte
	if depth > 0 {
		room[depth] = OverwriteStack(depth - 1)
	}
	return room[depth/2]
}
