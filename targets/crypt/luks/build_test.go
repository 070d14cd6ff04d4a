package luks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/crypto/xts"

	"crypto/aes"
)

// What the containers of these tests have.
const (
	testUUID       = "01234567-89ab-cdef-0123-456789abcdef"
	testPassphrase = "correct horse"
	testKeySize    = 32
	testOffset     = 64 << 10 // of the first key slot, bytes
	testArea       = 128 << 10
	testSize       = 512 << 10 // of the disk, bytes
)

func testKey() []byte { return bytes.Repeat([]byte{0x5a, 0xc3}, testKeySize/2) }

func derived(t testing.TB, passphrase []byte, salt []byte, n int) []byte {
	t.Helper()
	out := make([]byte, n)
	if err := pbkdf2(context.Background(), out, passphrase, salt, "sha256", 2); err != nil {
		t.Fatal(err)
	}
	return out
}

// split writes key material that the test passphrase opens, encrypted with aes-xts-plain64. Of the stripes all but the last are zero, so that
// the last says what the others come to.
func split(t testing.TB, salt []byte) []byte {
	t.Helper()
	return splitKey(t, salt, testKey())
}

func splitKey(t testing.TB, salt, key []byte) []byte {
	t.Helper()
	p := make([]byte, testKeySize*stripes)
	sum := make([]byte, testKeySize)
	if err := merge(context.Background(), sum, p, stripes, "sha256"); err != nil {
		t.Fatal(err)
	}
	last := p[len(p)-testKeySize:]
	for i, b := range key {
		last[i] = b ^ sum[i]
	}
	const sector = 512
	p = append(p, make([]byte, -len(p)&(sector-1))...)
	c, err := xts.NewCipher(aes.NewCipher, derived(t, []byte(testPassphrase), salt, 32))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(p); i += sector {
		c.Encrypt(p[i:i+sector], p[i:i+sector], uint64(i/sector))
	}
	return p
}

// buildLUKS1 makes a container of LUKS1 with one slot in use.
func buildLUKS1(t testing.TB) []byte {
	disk := make([]byte, 2<<20)
	be := binary.BigEndian
	salt := bytes.Repeat([]byte{7}, 32)
	copy(disk, magic1+"\x00\x01")
	copy(disk[8:], "aes")
	copy(disk[40:], "xts-plain64")
	copy(disk[72:], "sha256")
	be.PutUint32(disk[104:], uint32(len(disk)/512-16))
	be.PutUint32(disk[108:], testKeySize)
	copy(disk[132:], salt)
	copy(disk[112:132], derived(t, testKey(), salt, 20))
	be.PutUint32(disk[164:], 2)
	copy(disk[168:], testUUID)
	for i := range slots1 {
		p := disk[slot1At+i*slot1Size:]
		be.PutUint32(p, slotOff)
		be.PutUint32(p[40:], uint32(8+i*256))
		be.PutUint32(p[44:], stripes)
	}
	p := disk[slot1At+2*slot1Size:]
	be.PutUint32(p, slotOn)
	be.PutUint32(p[4:], 2)
	copy(p[8:], salt)
	copy(disk[(8+2*256)*512:], split(t, salt))
	return disk
}

type fields = map[string]any

// metadata2 is the JSON of a container of LUKS2 with one slot.
func metadata2(t testing.TB) fields {
	salt := bytes.Repeat([]byte{7}, 32)
	return fields{
		"keyslots": fields{"3": fields{
			"type": "luks2", "key_size": testKeySize, "af": fields{"type": "luks1", "stripes": stripes, "hash": "sha256"},
			"area": fields{"type": "raw", "offset": fmt.Sprint(testOffset), "size": fmt.Sprint(testArea), "encryption": "aes-xts-plain64", "key_size": 32},
			"kdf":  fields{"type": "pbkdf2", "hash": "sha256", "iterations": 2, "salt": base64.StdEncoding.EncodeToString(salt)},
		}},
		"tokens": fields{"0": fields{"type": "own", "keyslots": []string{"3"}}},
		"segments": fields{"0": fields{
			"type": "crypt", "offset": fmt.Sprint(testOffset + testArea), "size": "dynamic", "iv_tweak": "0", "encryption": "aes-xts-plain64", "sector_size": 512,
		}},
		"digests": fields{"0": fields{
			"type": "pbkdf2", "keyslots": []string{"3"}, "segments": []string{"0"}, "hash": "sha256", "iterations": 2,
			"salt": base64.StdEncoding.EncodeToString(salt), "digest": base64.StdEncoding.EncodeToString(derived(t, testKey(), salt, 32)),
		}},
		"config": fields{"json_size": "12288", "keyslots_size": fmt.Sprint(testOffset + testArea - 2*least2), "flags": []string{"allow-discards"}},
	}
}

// seal makes a header of a JSON area, with its checksum.
func seal(magic string, at, sequence uint64, area []byte) []byte {
	b := make([]byte, bin2Size, bin2Size+len(area))
	be := binary.BigEndian
	copy(b, magic+"\x00\x02")
	be.PutUint64(b[8:], uint64(bin2Size+len(area)))
	be.PutUint64(b[16:], sequence)
	copy(b[24:], "a label")
	copy(b[72:], "sha256")
	copy(b[168:], testUUID)
	be.PutUint64(b[256:], at)
	b = append(b, area...)
	sum := sha256.Sum256(b)
	copy(b[sumAt:], sum[:])
	return b
}

// buildLUKS2 makes a container of LUKS2 of two JSON texts with their sequence numbers.
func buildLUKS2(t testing.TB, one, two string, sequence1, sequence2 uint64) []byte {
	t.Helper()
	disk := make([]byte, testSize)
	for i, text := range []string{one, two} {
		area := make([]byte, least2-bin2Size)
		if copy(area, text) < len(text) {
			t.Fatal("the JSON is too long")
		}
		magic, at, sequence := magic1, uint64(0), sequence1
		if i == 1 {
			magic, at, sequence = magic2, least2, sequence2
		}
		copy(disk[at:], seal(magic, at, sequence, area))
	}
	copy(disk[testOffset:], split(t, bytes.Repeat([]byte{7}, 32)))
	return disk
}

func marshal(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// opened reads a container and opens it with the test passphrase.
func opened(t *testing.T, disk []byte, slot int) *Header {
	t.Helper()
	r := bytes.NewReader(disk)
	h, err := Read(r, int64(len(disk)))
	if err != nil {
		t.Fatal(err)
	}
	key, got, err := h.Unlock(context.Background(), r, []byte(testPassphrase), UnlockOptions{Slot: -1})
	if err != nil || got != slot || !slices.Equal(key.Bytes, testKey()) {
		t.Fatalf("slot %d, %v; want slot %d and its key", got, err, slot)
	}
	key.Release()
	return h
}
