package luks

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// Containers made here open, in both versions.
func TestOpen(t *testing.T) {
	h := opened(t, buildLUKS1(t), 2)
	if s := h.Segments[0]; h.Version != 1 || h.UUID != testUUID || s.Cipher != "aes-xts-plain64" || h.KeySize(0) != testKeySize {
		t.Errorf("LUKS1: %+v", h)
	}
	text := marshal(t, metadata2(t))
	h = opened(t, buildLUKS2(t, text, text, 5, 5), 3)
	if h.Version != 2 || h.Label != "a label" || len(h.Notes) != 0 || len(h.Flags) != 1 || h.MayOpen(false) != nil {
		t.Errorf("LUKS2: %+v", h)
	}
}

// Of two headers the newer good one counts, and what is wrong with the other is said.
func TestCopies(t *testing.T) {
	text := marshal(t, metadata2(t))
	other := metadata2(t)
	other["segments"].(fields)["0"].(fields)["iv_tweak"] = "8"
	marked := marshal(t, other)
	damage := func(disk []byte, at int) []byte { disk[at] ^= 1; return disk }
	for _, c := range []struct {
		name  string
		disk  []byte
		tweak uint64
		note  string
	}{
		{"both", buildLUKS2(t, text, text, 1, 1), 0, ""},
		{"the first is newer", buildLUKS2(t, text, marked, 3, 2), 0, "the secondary LUKS2 header is older"},
		{"the second is newer", buildLUKS2(t, text, marked, 2, 3), 8, "the primary LUKS2 header is older"},
		{"the first is damaged", damage(buildLUKS2(t, text, marked, 3, 3), bin2Size), 8, "the primary LUKS2 header is damaged"},
		{"the second is damaged", damage(buildLUKS2(t, text, marked, 3, 3), least2+bin2Size), 0, "the secondary LUKS2 header is damaged"},
		{"the first has no magic", damage(buildLUKS2(t, text, marked, 3, 3), 0), 8, "there is no header"},
		{"the second has no magic", damage(buildLUKS2(t, text, marked, 3, 3), least2), 0, "there is no header"},
		{"the newer says what it must not", buildLUKS2(t, "{}", marked, 4, 3), 8, "want an object"},
	} {
		h, err := Read(bytes.NewReader(c.disk), testSize)
		if err != nil || h.Segments[0].IVTweak != c.tweak || (c.note == "") != (len(h.Notes) == 0) || !strings.Contains(strings.Join(h.Notes, ""), c.note) {
			t.Errorf("%s: %+v, %v", c.name, h, err)
		}
	}
}

// What is wrong in the JSON, though the checksum is right, is refused by name.
func TestRefusals(t *testing.T) {
	at := func(v any, way string) (fields, string) {
		words := strings.Split(way, "/")
		for _, w := range words[:len(words)-1] {
			v = v.(fields)[w]
		}
		return v.(fields), words[len(words)-1]
	}
	for _, c := range []struct {
		way   string
		value any // nil: the field goes
		want  string
	}{
		{"keyslots", nil, "/keyslots: want an object"},
		{"tokens", 5, "/tokens: want an object"},
		{"segments", fields{}, `/digests/0/segments: "0" is not there`},
		{"segments/0/offset", "-512", "want a number of 64 bits"},
		{"segments/0/offset", "+512", "want a number of 64 bits"},
		{"segments/0/offset", "196609", "want whole sectors"},
		{"segments/0/offset", "18446744073709551616", "want a number of 64 bits"},
		{"segments/0/offset", 5, "want a text"},
		{"segments/0/offset", "4096", "the key slots reach into the data"},
		{"segments/0/size", "0", "want bytes, or dynamic"},
		{"segments/0/iv_tweak", nil, "want a text"},
		{"segments/0/sector_size", 1023, "want a multiple of 512"},
		{"segments/0/sector_size", -1, "want a whole number"},
		{"segments/0/sector_size", 512.5, "want a whole number"},
		{"segments/0/flags", "backup", "want a list"},
		{"segments/0/integrity", fields{"type": "aead"}, "journal_encryption"},
		{"segments/x", fields{}, "want numbers for names"},
		{"segments/00", fields{}, "is there twice"},
		{"segments/2", fields{"type": "linear", "offset": "0", "size": "512"}, "1 is missing"},
		{"segments/1", fields{"type": "linear", "offset": "262144", "size": "512"}, "only the last may have dynamic size"},
		{"digests/0/segments", []string{}, "no digest has this segment"},
		{"digests/0/segments", []string{"7"}, "is not there"},
		{"digests/0/keyslots", []string{}, "0 digests have this key slot"},
		{"digests/0/iterations", 0, "0 iterations"},
		{"digests/0/digest", "AA==", "1 bytes"},
		{"digests/0/salt", "?", "no base64"},
		{"keyslots/3/key_size", "32", "want a number"},
		{"keyslots/3/area/offset", "32767", "overlaps a header"},
		{"keyslots/3/area/size", "18446744073709551615", "reaches past"},
		{"keyslots/3/area/size", "0", "or is empty"},
		{"keyslots/3/area/type", "cooked", "raw is known"},
		{"keyslots/3/af/type", "luks9", "luks1 is known"},
		{"keyslots/3/kdf/salt", nil, "want a text"},
		{"keyslots/3/priority", 3, "want 0, 1 or 2"},
		{"keyslots/4", fields{"type": "x", "key_size": 1, "area": fields{"type": "x", "offset": "65536", "size": "1"}}, "overlaps"},
		{"keyslots/4", fields{"type": "reencrypt", "key_size": 1, "mode": "encrypt", "direction": "forward",
			"area": fields{"type": "none", "offset": "40960", "size": "512"}}, "do not name"},
		{"config/json_size", "8192", "no size that a header has"},
		{"config/json_size", "28672", "the header says 12288"},
		{"config/keyslots_size", "4097", "multiple of 4096"},
		{"config/keyslots_size", "1048576", "reach into the data"},
		{"config/flags", []any{"a", 5}, "element 1"},
		{"config/requirements", fields{"mandatory": []string{"online-reencrypt-v2"}}, "those that a reencryption keeps"},
		{"config/requirements", fields{"mandatory": []string{"online-reencrypt", "online-reencrypt-v7"}}, "2 kinds"},
		{"tokens/0/keyslots", []string{"9"}, "is not there"},
	} {
		m := metadata2(t)
		in, name := at(m, c.way)
		in[name] = c.value
		if c.value == nil {
			delete(in, name)
		}
		text := marshal(t, m)
		if _, err := Read(bytes.NewReader(buildLUKS2(t, text, text, 1, 1)), testSize); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %v: %v, want %q", c.way, c.value, err, c.want)
		}
	}
	for text, want := range map[string]string{
		"": "does not begin with {", "[]": "does not begin with {", " {}": "does not begin with {", "{": "JSON area", `{} x`: "behind its end",
		"{" + strings.Repeat(" ", least2-bin2Size-2) + "}": "does not end with a zero byte",
	} {
		if _, err := Read(bytes.NewReader(buildLUKS2(t, text, text, 1, 1)), testSize); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.10q: %v, want %q", text, err, want)
		}
	}
	text := marshal(t, metadata2(t))
	disk := buildLUKS2(t, text, text, 1, 1)
	if _, err := Read(bytes.NewReader(disk[:100<<10]), 100<<10); err == nil || !strings.Contains(err.Error(), "and the disk 102400") {
		t.Errorf("a disk that ends in the key slots: %v", err)
	}
}

// What is well-formed and not understood is refused by MayOpen, or only that key slot is.
func TestUnknown(t *testing.T) {
	requirement := func(names ...string) func(fields) {
		return func(m fields) { m["config"].(fields)["requirements"] = fields{"mandatory": names} }
	}
	slot := func(way string, value any) func(fields) {
		return func(m fields) {
			v := m["keyslots"].(fields)["3"].(fields)
			if part, name, ok := strings.Cut(way, "/"); ok {
				v[part].(fields)[name] = value
			} else {
				v[way] = value
			}
		}
	}
	kdf := func(kind string, time, memory, cpus int) func(fields) {
		return slot("kdf", fields{"type": kind, "time": time, "memory": memory, "cpus": cpus, "salt": "AAAA"})
	}
	for _, c := range []struct {
		change   func(fields)
		may, use string // errors of MayOpen and of Unlock
	}{
		{requirement("offline-reencrypt"), "cryptsetup reencrypt --resume-only", ""},
		{requirement("opal"), "the kernel and the drive", ""},
		{requirement("inline-hw-tags"), `"inline-hw-tags"`, ""},
		{requirement("own"), `"own", which is not known`, ""},
		{requirement("online-reencrypt-v9"), "cryptsetup reencrypt --resume-only", ""},
		{func(m fields) { m["segments"].(fields)["0"].(fields)["type"] = "hw-opal" }, `type "hw-opal"`, ""},
		{func(m fields) { m["segments"].(fields)["0"].(fields)["encryption"] = "a b" }, `cipher "a b"`, ""},
		{func(m fields) { m["digests"].(fields)["0"].(fields)["type"] = "other" }, "", "digest \"0\" is missing"},
		{slot("type", "own"), "", `type "own" is not known`},
		{slot("kdf/type", "scrypt"), "", `"scrypt"`},
		{slot("kdf/hash", "streebog512"), "", `"streebog512"`},
		{slot("kdf/iterations", 0), "", "0 iterations"},
		{slot("af/hash", "nosuch"), "", `"nosuch"`},
		{slot("af/stripes", 1), "", "1 stripes"},
		{slot("key_size", 4000), "", "does not fit"},
		{slot("area/key_size", 100000), "", "100000 bytes"},
		{slot("area/encryption", "nosuch-xts-plain64"), "", "nosuch-xts-plain64"},
		{kdf("argon2id", 1, 5<<20, 4), "", "5242880 KiB"},
		{kdf("argon2id", 1, 1<<10, 1000), "", "1000 threads"},
		{kdf("argon2i", 0, 1<<10, 1), "", "0 passes"},
		{kdf("argon2i", 1, 7, 1), "", "7 KiB"},
		{kdf("argon2id", 1, 1<<20, 1), "", "not enough memory"},
	} {
		m := metadata2(t)
		c.change(m)
		text := marshal(t, m)
		r := bytes.NewReader(buildLUKS2(t, text, text, 1, 1))
		h, err := Read(r, testSize)
		if err != nil {
			t.Errorf("%s%s: %v", c.may, c.use, err)
			continue
		}
		if err := h.MayOpen(false); c.may == "" && err != nil || c.may != "" && (err == nil || !strings.Contains(err.Error(), c.may)) {
			t.Errorf("MayOpen: %v, want %q", err, c.may)
		}
		_, _, err = h.Unlock(context.Background(), r, []byte(testPassphrase), UnlockOptions{Slot: -1, Memory: 64 << 20})
		if c.use != "" && (err == nil || errors.Is(err, ErrPassphrase) || !strings.Contains(err.Error(), c.use)) {
			t.Errorf("Unlock: %v, want %q", err, c.use)
		}
	}
}

// A cipher that encrypts nothing takes the empty passphrase alone: else a planted header would take anybody's.
func TestNullCipher(t *testing.T) {
	m := metadata2(t)
	m["keyslots"].(fields)["3"].(fields)["area"].(fields)["encryption"] = "cipher_null-ecb"
	text := marshal(t, m)
	disk := buildLUKS2(t, text, text, 1, 1)
	plain := make([]byte, testKeySize*stripes)
	sum := make([]byte, testKeySize)
	if err := merge(context.Background(), sum, plain, stripes, "sha256"); err != nil {
		t.Fatal(err)
	}
	for i, b := range testKey() {
		plain[len(plain)-testKeySize+i] = b ^ sum[i]
	}
	copy(disk[testOffset:], plain)
	r := bytes.NewReader(disk)
	h, err := Read(r, testSize)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Unlock(context.Background(), r, []byte("any"), UnlockOptions{Slot: -1}); !errors.Is(err, ErrPassphrase) {
		t.Errorf("a passphrase: %v", err)
	}
	key, _, err := h.Unlock(context.Background(), r, nil, UnlockOptions{Slot: -1})
	if err != nil {
		t.Fatalf("none: %v", err)
	}
	key.Release()
}

// LUKS1 headers are checked field by field.
func TestRefusals1(t *testing.T) {
	be := binary.BigEndian
	put := func(at int, v uint32) func([]byte) { return func(b []byte) { be.PutUint32(b[at:], v) } }
	for _, c := range []struct {
		change func([]byte)
		want   string
	}{
		{put(108, 0), "volume key of 0 bytes"},
		{put(108, 1<<31), "volume key of"},
		{put(164, 0), "0 iterations"},
		{put(104, 600), "reaches into the data"},
		{put(slot1At+44, 3999), "3999 stripes"},
		{put(slot1At+40, 1), "is in the header"},
		{put(slot1At+40, 100), "overlap"},
		{func(b []byte) { clear(b[72:104]); copy(b[72:], "md5") }, "too short"},
		{func(b []byte) { clear(b[72:104]); copy(b[72:], "streebog512") }, "streebog512"},
		{func(b []byte) { b[8] = ' ' }, "cipher"},
		{func(b []byte) { b[168] = 0 }, "UUID"},
		{func(b []byte) { put(104, 0)(b); put(slot1At+2*slot1Size+40, 1<<30)(b) }, "past the end"},
	} {
		disk := buildLUKS1(t)
		c.change(disk)
		if _, err := Read(bytes.NewReader(disk), int64(len(disk))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	disk := buildLUKS1(t)
	put(slot1At, 5)(disk)
	if h := opened(t, disk, 2); len(h.Unusable) != 1 {
		t.Errorf("a slot in no known state: %+v", h)
	}
}

// A derivation ends with its context, however much it was asked for.
func TestInterrupt(t *testing.T) {
	disk := buildLUKS1(t)
	binary.BigEndian.PutUint32(disk[slot1At+2*slot1Size+4:], 1<<32-1)
	r := bytes.NewReader(disk)
	h, err := Read(r, int64(len(disk)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := h.Unlock(ctx, r, []byte(testPassphrase), UnlockOptions{Slot: -1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the context's error", err)
	}
}

// The vectors of RFC 6070 and RFC 7914.
func TestPBKDF2(t *testing.T) {
	for _, c := range []struct {
		hash, pass, salt string
		n                uint64
		want             string
	}{
		{"sha1", "password", "salt", 4096, "4b007901b765489abead49d926f721d065a429c1"},
		{"SHA1", "passwordPASSWORDpassword", "saltSALTsaltSALTsaltSALTsaltSALTsalt", 4096, "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038"},
		{"sha256", "passwd", "salt", 1, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"},
	} {
		out := make([]byte, len(c.want)/2)
		if err := pbkdf2(context.Background(), out, []byte(c.pass), []byte(c.salt), c.hash, c.n); err != nil || hex.EncodeToString(out) != c.want {
			t.Errorf("%s: %x, %v, want %s", c.hash, out, err, c.want)
		}
	}
}

func TestReadSecret(t *testing.T) {
	for _, n := range []int{0, 1, 4095, 4096, 4097, 9999, 10000, 10001, 20000} {
		want := bytes.Repeat([]byte("x"), min(n, 10001))
		s, err := ReadSecret(&slow{left: n}, 10000)
		if err != nil || !bytes.Equal(s.Bytes, want) {
			t.Fatalf("%d bytes: %d, %v", n, len(s.Bytes), err)
		}
		s.Release()
	}
}

// slow gives few bytes at a time.
type slow struct{ left int }

func (s *slow) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), s.left, 777)
	s.left -= n
	copy(p, bytes.Repeat([]byte("x"), n))
	return n, nil
}

// fuzzed reads and opens a container that may hold anything, in bounded time.
func fuzzed(t *testing.T, disk []byte) {
	r := bytes.NewReader(disk)
	h, err := Read(r, int64(len(disk)))
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	keys := make([]*Secret, h.Keys())
	for n := range keys {
		for _, slot := range []int{0, 3, -1} {
			key, _, err := h.Unlock(ctx, r, []byte(testPassphrase), UnlockOptions{Slot: slot, Key: n, Memory: 1 << 20})
			if err != nil {
				key = new(Secret)
			}
			keys[n].Release()
			keys[n] = key
		}
	}
	_ = h.Authenticate(ctx, keys)
	for _, k := range keys {
		k.Release()
	}
	if h.MayOpen(true) == nil && h.Resolve(ctx, r, r) == nil && h.Interrupted() {
		t.Error("it is not resolved")
	}
}

func FuzzLUKS1(f *testing.F) {
	disk := buildLUKS1(f)
	f.Add(disk[:bin1Size])
	f.Add(disk[:100])
	f.Fuzz(func(t *testing.T, header []byte) {
		whole := bytes.Clone(disk)
		copy(whole, header)
		fuzzed(t, whole)
		fuzzed(t, header)
	})
}

func FuzzLUKS2(f *testing.F) {
	f.Add(marshal(f, metadata2(f)), uint64(least2))
	var corpus any
	if err := json.Unmarshal([]byte(`{"keyslots":{},"tokens":{},"segments":{},"digests":{},"config":{}}`), &corpus); err != nil {
		f.Fatal(err)
	}
	f.Add(marshal(f, corpus), uint64(1<<40))
	for name := range layouts() {
		f.Add(marshal(f, layouts()[name].metadata(f, nil)), uint64(least2))
		f.Add(marshal(f, interrupted(name, 0, "checksum").metadata(f, nil)), uint64(least2))
		f.Add(marshal(f, interrupted(name, 1, "journal").metadata(f, nil)), uint64(least2))
	}
	second := splitKey(f, bytes.Repeat([]byte{7}, 32), testKey2())
	f.Fuzz(func(t *testing.T, text string, size uint64) {
		if len(text) > least2-bin2Size {
			return
		}
		disk := buildLUKS2(t, text, text, 1, 1)
		copy(disk[testArea2:], second)
		fuzzed(t, disk)
		binary.BigEndian.PutUint64(disk[8:], size)
		fuzzed(t, disk)
	})
}
