package integrity

import (
	"runtime"
	"strings"
	"testing"

	"dmfs/mapper/mappertest"
	"dmfs/mapper/secret/secrettest"
)

// After a device is closed, or refused once its keys were read, no byte of its keys is in this process. That the search finds what is there it
// shows first.
func TestKeysAreGone(t *testing.T) {
	for name, option := range map[string]string{
		"hash": "- J 2 fix_padding internal_hash:hmac(sha256):KEY",
		"mac":  "- J 4 fix_padding fix_hmac internal_hash:crc32c journal_mac:hmac(sha256):KEY",
		"ctr":  "- J 3 fix_padding internal_hash:crc32c journal_crypt:ctr(aes):KEY",
		"cbc":  "- J 3 fix_padding internal_hash:crc32c journal_crypt:cbc(aes):KEY",
		"late": "- J 4 fix_padding internal_hash:hmac(sha256):KEY journal_mac:hmac(sha256):KEY journal_crypt:nonsense",
	} {
		t.Run(name, func(t *testing.T) {
			const tries = 4 // a goroutine that was stopped amid its work may have left its registers behind
			for n := 1; ; n++ {
				left := usedKey(t, option)
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

// usedKey uses a device with a key and closes it, and returns where the key still is.
func usedKey(t *testing.T, option string) []string {
	t.Helper()
	k := secrettest.New(32)
	refused := strings.HasSuffix(option, "nonsense")
	k.Lend(func(digits string) {
		words := strings.Fields("1:1 0 " + option)
		var lent []int // words of which this test makes copies
		for i, w := range words {
			if strings.HasSuffix(w, ":KEY") {
				words[i], lent = strings.TrimSuffix(w, "KEY")+digits, append(lent, i)
			}
		}
		x, err := try(800, words, mappertest.NewDisk("1:1", 4096))
		for _, i := range lent {
			secrettest.Wipe(words[i])
		}
		if (err != nil) != refused {
			t.Fatal(err)
		}
		if refused {
			return
		}
		if err := x.write(0, 200, 1); err != nil {
			t.Fatal(err)
		}
		if len(k.Find(t)) == 0 {
			t.Fatal("the search does not find a key that is in use")
		}
		x.close()
	})
	secrettest.OverwriteStack(64)
	runtime.GC()
	return k.Find(t)
}
