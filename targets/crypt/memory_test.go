package crypt

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// A secretKey is a key that this process has nowhere as it is: each byte is kept with a mask.
type secretKey struct{ masked, mask []byte }

func newSecretKey(n int) *secretKey {
	k := &secretKey{make([]byte, n), make([]byte, n)}
	_, _ = rand.Read(k.masked)
	_, _ = rand.Read(k.mask)
	return k
}

// lend calls f with the digits of the key in memory that is zeroed after.
func (k *secretKey) lend(f func(digits string)) {
	raw, digits := make([]byte, len(k.mask)), make([]byte, 2*len(k.mask))
	for i := range raw {
		raw[i] = k.masked[i] ^ k.mask[i]
	}
	hex.Encode(digits, raw)
	clear(raw)
	f(unsafeString(digits))
	clear(digits)
}

// find searches all memory of this process that can be written for 16 bytes in a row of the key, or of their mirror image in words
// of 4 bytes, as key schedules have them.
func (k *secretKey) find(t *testing.T) (found []string) {
	t.Helper()
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Skip(err)
	}
	defer maps.Close()
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Skip(err)
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
			for i := 0; i+16 <= len(k.mask); i += 16 {
				for _, swap := range []int{0, 3} {
					if j := k.search(buf[:n], i, swap); j >= 0 {
						found = append(found, fmt.Sprintf("bytes %d to %d of the key at %#x: %s", i, i+15, at+int64(j), lines.Text()))
					}
				}
			}
		}
	}
	return found
}

// search finds bytes from to from+15 of the key in p, each index with its low bits changed by swap.
func (k *secretKey) search(p []byte, from, swap int) int {
	at := func(i int) byte { return k.masked[from+i^swap] ^ k.mask[from+i^swap] }
	first := at(0)
	for i := 0; ; i++ {
		j := bytes.IndexByte(p[i:], first)
		if j < 0 || i+j+16 > len(p) {
			return -1
		}
		i += j
		same := true
		for n := 1; n < 16 && same; n++ {
			same = p[i+n] == at(n)
		}
		if same {
			return i
		}
	}
}

// After a wipe no byte of a key is in this process: not the key, and not where a key schedule begins with it. That the search
// finds what is there it shows first.
func TestWipedKeysAreGone(t *testing.T) {
	for _, c := range []struct {
		cipher string
		bytes  int
	}{
		{"aes-xts-plain64", 64}, {"aes-cbc-essiv:sha256", 32}, {"aes:2-cbc-lmk", 48}, {"aes-cbc-tcw", 64}, {"aes-cbc-elephant", 64}, {"aes-lrw-benbi", 48},
		{"serpent-xts-plain64", 64}, {"twofish-xts-plain64", 64}, {"camellia-xts-plain64", 64}, {"blowfish-cbc-plain64", 32}, {"cast5-cbc-plain64", 16},
		{"capi:adiantum(xchacha12,aes)-plain64", 32},
		{"capi:gcm(aes)-random", 32}, {"capi:rfc7539(chacha20,poly1305)-random", 32}, {"capi:aegis128-random", 16},
		{"capi:authenc(hmac(sha256),xts(aes))-random", 96}, {"capi:authenc(hmac(sha512),cbc(aes))-essiv:sha256", 96},
	} {
		t.Run(c.cipher, func(t *testing.T) {
			const tries = 4
			for n := 1; ; n++ {
				left := wipedKey(t, c.cipher, c.bytes)
				if len(left) == 0 {
					return
				}
				if n == tries {
					t.Fatalf("left behind, in each of %d tries: %s", tries, strings.Join(left, "; "))
				}
			}
		})
	}
}

// wipedKey uses a key and wipes it, and returns where it still is. That may be where the registers of a goroutine went that was
// stopped amid its work, which happens by chance; what the target leaves behind is there each time.
func wipedKey(t *testing.T, cipher string, size int) []string {
	t.Helper()
	k := newSecretKey(size)
	var d *target
	var err error
	k.lend(func(digits string) { d, err = withKey(t, cipher, digits) })
	if err != nil {
		t.Fatal(err)
	}
	if len(k.find(t)) == 0 {
		t.Fatal("the search does not find a key that is in use")
	}
	ctx := context.Background()
	for _, op := range []mapper.Op{mapper.OpWrite, mapper.OpRead} {
		if err := d.Submit(ctx, mapper.Request{Op: op, Count: 8, Data: make([]byte, 8*512)}); err != nil {
			t.Fatal(err)
		}
	}
	_ = d.PostSuspend(ctx)
	if _, err := d.Message(ctx, []string{"key", "wipe"}); err != nil {
		t.Fatal(err)
	}
	overwriteStack(64)
	runtime.GC()
	return k.find(t)
}

// overwriteStack takes the place of what earlier calls left on this stack.
func overwriteStack(depth int) byte {
	var room [1 << 10]byte
	if depth > 0 {
		room[depth] = overwriteStack(depth - 1)
	}
	return room[depth/2]
}

// withKey makes a target with a key whose digits are lent.
func withKey(t *testing.T, cipher, digits string) (*target, error) {
	disk := mappertest.NewDisk("7:0", 200)
	args := []string{cipher, digits, "0", "7:0", "0"}
	if i := slices.IndexFunc(tagTests, func(c tagTest) bool { return c.cipher == cipher }); i >= 0 {
		disk.SetLimits(withTags(tagTests[i].tags, mapper.SectorSize))
		args = append(args, "1", fmt.Sprintf("integrity:%d:aead", tagTests[i].tags))
	}
	got, err := newTarget(context.Background(), mappertest.NewHost(disk), mapper.Spec{Len: 104, Args: args})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = got.(*target).Close() })
	return got.(*target), nil
}

// unsafeString returns p as a string without copying it.
func unsafeString(p []byte) string { return unsafe.String(unsafe.SliceData(p), len(p)) }
