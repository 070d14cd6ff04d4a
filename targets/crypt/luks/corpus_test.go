package luks

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// corpus returns the disk of a case of the corpus of disks that the kernel and the standard tools wrote.
func corpus(t *testing.T, name string) (dir string, disk []byte) {
	t.Helper()
	root := os.Getenv("DMFS_CORPUS")
	if root == "" {
		root = filepath.Join("..", "..", "..", "..", "shared", "corpus")
	}
	dir = filepath.Join(root, name)
	packed, err := os.ReadFile(filepath.Join(dir, "disk0.img.zst"))
	if err != nil {
		t.Skipf("needs the corpus: %v", err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if disk, err = d.DecodeAll(packed, nil); err != nil {
		t.Fatal(err)
	}
	return dir, disk
}

// Each passphrase of each container opens its slot, with the key that cryptsetup printed; another does not.
func TestCorpus(t *testing.T) {
	for _, c := range []struct {
		name, passphrase string
		slot             int
	}{
		{"luks1", "correct horse", 0}, {"luks1", "second pass", 1}, {"luks2-pbkdf2", "luks two", 0}, {"luks2-4096", "luks two", 0},
		{"luks2-argon2id", "luks two", 0}, {"luks2-aead", "luks two", 0}, {"luks2-integrity", "luks two", 0},
	} {
		t.Run(c.name+"/"+c.passphrase, func(t *testing.T) {
			dir, disk := corpus(t, c.name)
			text, err := os.ReadFile(filepath.Join(dir, "volume.key"))
			if err != nil {
				t.Fatal(err)
			}
			digits := regexp.MustCompile(`\b[0-9a-f]{2}\b`).FindAllString(strings.TrimPrefix(string(text), "MK dump:"), -1)
			want, err := hex.DecodeString(strings.Join(digits, ""))
			if err != nil {
				t.Fatal(err)
			}
			r := bytes.NewReader(disk)
			h, err := Read(r, int64(len(disk)))
			if err != nil || len(h.Notes) > 0 || h.MayOpen(false) != nil || h.UUID != "11111111-2222-3333-4444-555555555555" {
				t.Fatalf("%+v, %v", h, err)
			}
			key, slot, err := h.Unlock(context.Background(), r, []byte(c.passphrase), UnlockOptions{Slot: -1})
			if err != nil || slot != c.slot || !bytes.Equal(key.Bytes, want) {
				t.Fatalf("slot %d, %v; want slot %d and the key of cryptsetup", slot, err, c.slot)
			}
			key.Release()
			if _, _, err := h.Unlock(context.Background(), r, []byte(c.passphrase+"\n"), UnlockOptions{Slot: -1}); !errors.Is(err, ErrPassphrase) {
				t.Errorf("a wrong passphrase: %v", err)
			}
		})
	}
}
