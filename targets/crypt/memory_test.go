package crypt

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/mapper/secret/secrettest"
)

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
		{"capi:gcm(aes)-random", 32}, {"capi:rfc7539(chacha20,poly1305)-random", 32}, {"capi:aegis128-random", 16}, {"capi:rfc4309(ccm(aes))-random", 35},
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
	k := secrettest.New(size)
	var d *target
	var err error
	k.Lend(func(digits string) { d, err = withKey(t, cipher, digits) })
	if err != nil {
		t.Fatal(err)
	}
	if len(k.Find(t)) == 0 {
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
	secrettest.OverwriteStack(64)
	runtime.GC()
	return k.Find(t)
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
