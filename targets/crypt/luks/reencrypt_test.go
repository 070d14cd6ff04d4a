package luks

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"dmfs/mapper"
)

// What containers that are being reencrypted have besides.
const (
	testArea2   = testOffset + testArea // of the second key slot, bytes
	testJournal = testArea2 + testArea  // of the reencryption, bytes
	testRoom    = 8 << 10               // bytes of that
	testData    = testJournal + 72<<10  // bytes
	mib         = 1 << 20
)

func testKey2() []byte { return bytes.Repeat([]byte{0x17, 0x88}, testKeySize/2) }

// A layout is a container that is being reencrypted, to build.
type layout struct {
	mode, direction, requirement string
	area                         fields
	segments                     []fields // those mapped, then previous, final and moved
	areaSize                     int      // bytes of the area; 0: testRoom
}

func cryptAt(offset, iv int, size, digest string, flags ...string) fields {
	return fields{"type": "crypt", "offset": fmt.Sprint(offset), "size": size, "iv_tweak": fmt.Sprint(iv), "encryption": "aes-xts-plain64", "sector_size": 512,
		"flags": append([]string{}, flags...), "digest": digest}
}

func linearAt(offset int, size string, flags ...string) fields {
	return fields{"type": "linear", "offset": fmt.Sprint(offset), "size": size, "flags": append([]string{}, flags...)}
}

func bytesOf(n int) string { return fmt.Sprint(n) }

// The layouts are those that cryptsetup 2.6 made in each mode, stopped in the middle.
func layouts() map[string]layout {
	return map[string]layout{
		"reencrypt": {"reencrypt", "forward", "online-reencrypt-v2", fields{"type": "checksum", "hash": "sha256", "sector_size": 512}, []fields{
			cryptAt(testData, 0, bytesOf(65536), "1"), cryptAt(testData+65536, 128, "dynamic", "0"),
			cryptAt(testData, 0, "dynamic", "0", "backup-previous"), cryptAt(testData, 0, "dynamic", "1", "backup-final"),
		}, 0},
		"reencrypt with shift": {"reencrypt", "backward", "online-reencrypt-v2", fields{"type": "datashift", "shift_size": bytesOf(16384)}, []fields{
			cryptAt(testData, 0, bytesOf(65536), "0"), cryptAt(testData+16384+65536, 128, "dynamic", "1"),
			cryptAt(testData, 0, "dynamic", "0", "backup-previous"), cryptAt(testData+16384, 0, "dynamic", "1", "backup-final"),
		}, 0},
		"encrypt": {"encrypt", "backward", "online-reencrypt-v2", fields{"type": "datashift", "shift_size": bytesOf(mib)}, []fields{
			linearAt(6*mib, bytesOf(mib)), linearAt(mib, bytesOf(2*mib)), cryptAt(4*mib, 6144, bytesOf(2*mib), "1"),
			linearAt(0, bytesOf(5*mib), "backup-previous"), cryptAt(mib, 0, "dynamic", "1", "backup-final"), linearAt(6*mib, bytesOf(mib), "backup-moved-segment"),
		}, 0},
		"decrypt": {"decrypt", "forward", "online-reencrypt-v3", fields{"type": "datashift-checksum", "hash": "sha256", "sector_size": 512, "shift_size": bytesOf(mib)}, []fields{
			cryptAt(0, 0, bytesOf(mib), "0"), linearAt(mib, bytesOf(mib)), cryptAt(3*mib, 4096, "dynamic", "0"),
			cryptAt(mib, 0, "dynamic", "0", "backup-previous"), linearAt(0, "dynamic", "backup-final"), cryptAt(0, 0, bytesOf(mib), "0", "backup-moved-segment"),
		}, 0},
		"decrypt in place": {"decrypt", "backward", "online-reencrypt-v2", fields{"type": "journal"}, []fields{
			cryptAt(0, 0, bytesOf(mib), "0"), linearAt(mib, "dynamic"),
			cryptAt(0, 0, "dynamic", "0", "backup-previous"), linearAt(0, "dynamic", "backup-final"),
		}, 0},
	}
}

// message puts together what is authenticated, independently of the code that is tested: from the JSON.
func (l layout) message(t testing.TB) []byte {
	t.Helper()
	m := map[string]string{"online-reencrypt": "v1", "online-reencrypt-v2": "v2", "online-reencrypt-v3": "v3"}[l.requirement]
	if l.mode != "encrypt" {
		m += string(testKey())
	}
	if l.mode != "decrypt" {
		m += string(testKey2())
	}
	add := func(in fields, names ...string) {
		for _, name := range names {
			switch v := in[name].(type) {
			case nil:
			case int:
				m += string(binary.BigEndian.AppendUint32(nil, uint32(v)))
			case string:
				var n uint64
				if _, err := fmt.Sscan(v, &n); err == nil {
					v = string(binary.BigEndian.AppendUint64(nil, n))
				}
				m += v
			}
		}
	}
	m += l.mode + l.direction
	add(l.area, "type", "offset", "size", "hash", "sector_size", "shift_size")
	for _, flag := range []string{"backup-previous", "backup-final", "backup-moved-segment"} {
		for _, s := range l.segments {
			if slices.Contains(s["flags"].([]string), flag) {
				add(s, "type", "offset", "size", "iv_tweak", "encryption", "sector_size")
			}
		}
	}
	return []byte(m)
}

// metadata returns the JSON. The message is authenticated as it is before change.
func (l layout) metadata(t testing.TB, change func(fields)) fields {
	t.Helper()
	l.area["offset"], l.area["size"] = bytesOf(testJournal), bytesOf(cmp.Or(l.areaSize, testRoom))
	m := metadata2(t)
	salt := bytes.Repeat([]byte{7}, 32)
	digest := func(secret []byte, slots ...string) fields {
		return fields{"type": "pbkdf2", "keyslots": slots, "segments": []string{}, "hash": "sha256", "iterations": 2,
			"salt": base64.StdEncoding.EncodeToString(salt), "digest": base64.StdEncoding.EncodeToString(derived(t, secret, salt, 32))}
	}
	digests := fields{"0": digest(testKey(), "3"), "1": digest(testKey2(), "4"), "2": digest(l.message(t), "5")}
	segments := fields{}
	for i, s := range l.segments {
		name := fmt.Sprint(i)
		if d, ok := s["digest"].(string); ok {
			of := digests[d].(fields)
			of["segments"] = append(of["segments"].([]string), name)
		}
		delete(s, "digest")
		segments[name] = s
	}
	slots := m["keyslots"].(fields)
	second := metadata2(t)["keyslots"].(fields)["3"].(fields)
	second["area"].(fields)["offset"] = bytesOf(testArea2)
	slots["4"] = second
	slots["5"] = fields{"type": "reencrypt", "key_size": 1, "mode": l.mode, "direction": l.direction, "area": l.area}
	config := m["config"].(fields)
	config["keyslots_size"] = bytesOf(testData - 2*least2)
	config["requirements"] = fields{"mandatory": []string{l.requirement}}
	m["segments"], m["digests"] = segments, digests
	if change != nil {
		change(m)
	}
	return m
}

// build makes the container: its header and key slots.
func (l layout) build(t testing.TB, change func(fields)) []byte {
	t.Helper()
	text := marshal(t, l.metadata(t, change))
	disk := buildLUKS2(t, text, text, 1, 1)
	copy(disk[testArea2:], splitKey(t, bytes.Repeat([]byte{7}, 32), testKey2()))
	return disk
}

// authenticated opens all keys and checks the state. The container may be refused by MayOpen.
func authenticated(t *testing.T, disk []byte) (*Header, error) {
	t.Helper()
	r := bytes.NewReader(disk)
	h, err := Read(r, int64(len(disk)))
	if err != nil {
		t.Fatal(err)
	}
	keys := make([]*Secret, h.Keys())
	for n := range keys {
		if keys[n], _, err = h.Unlock(context.Background(), r, []byte(testPassphrase), UnlockOptions{Slot: -1, Key: n}); err != nil {
			t.Fatal(err)
		}
		defer keys[n].Release()
	}
	return h, h.Authenticate(context.Background(), keys)
}

// Each mode opens where cryptsetup was stopped in the middle of it, with the keys that it has.
func TestReencryption(t *testing.T) {
	const disk = mapper.Sector(8 * mib / 512)
	for name, want := range map[string]struct {
		keys []int // of the segments
		of   int   // how many keys there are
		size mapper.Sector
	}{
		"reencrypt":            {[]int{1, 0}, 2, disk - testData/512},
		"reencrypt with shift": {[]int{0, 1}, 2, disk - testData/512 - 32},
		"encrypt":              {[]int{-1, -1, 0}, 1, disk - 2048},
		"decrypt":              {[]int{0, -1, 0}, 1, disk - 2048},
		"decrypt in place":     {[]int{0, -1}, 1, disk},
	} {
		h, err := authenticated(t, layouts()[name].build(t, nil))
		if err == nil {
			err = h.MayOpen(false)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var keys []int
		for _, s := range h.Segments {
			keys = append(keys, s.Key)
		}
		if got := h.Reencryption.DataSectors(disk); !slices.Equal(keys, want.keys) || h.Keys() != want.of || got != want.size {
			t.Errorf("%s: keys %d of %d, %d sectors, want %d of %d, %d sectors", name, keys, h.Keys(), got, want.keys, want.of, want.size)
		}
		if got := h.Reencryption.DataSectors(1); got > 1 {
			t.Errorf("%s: %d sectors of data on a disk of one", name, got)
		}
	}
}

// field finds a field by the way to it.
func field(m fields, way string) (fields, string) {
	words := strings.Split(way, "/")
	for _, w := range words[:len(words)-1] {
		m = m[w].(fields)
	}
	return m, words[len(words)-1]
}

// Whatever was changed in what the digest covers is found.
func TestNotAuthentic(t *testing.T) {
	for _, c := range []struct {
		layout, way string
		value       any
	}{
		{"reencrypt", "keyslots/5/mode", "encrypt"},
		{"reencrypt", "keyslots/5/direction", "backward"},
		{"reencrypt", "keyslots/5/area/type", "journal"},
		{"reencrypt", "keyslots/5/area/type", "none"},
		{"reencrypt", "keyslots/5/area/offset", bytesOf(testJournal + 512)},
		{"reencrypt", "keyslots/5/area/size", "4096"},
		{"reencrypt", "keyslots/5/area/hash", "sha512"},
		{"reencrypt", "keyslots/5/area/sector_size", 1024},
		{"reencrypt with shift", "keyslots/5/area/shift_size", "8192"},
		{"decrypt", "keyslots/5/area/shift_size", "8192"},
		{"reencrypt", "config/requirements/mandatory", []string{"online-reencrypt-v3"}},
		{"reencrypt", "config/requirements/mandatory", []string{"online-reencrypt"}},
		{"reencrypt", "segments/2/offset", bytesOf(testData + 512)},
		{"reencrypt", "segments/2/size", "1048576"},
		{"reencrypt", "segments/2/iv_tweak", "1"},
		{"reencrypt", "segments/2/encryption", "cipher_null-ecb"},
		{"reencrypt", "segments/2/sector_size", 4096},
		{"reencrypt", "segments/3/encryption", "aes-xts-plain"},
		{"reencrypt", "segments/3/offset", bytesOf(testData + 512)},
		{"reencrypt", "segments/2/flags", []string{"backup-previous", "backup-moved-segment"}},
		{"encrypt", "segments/3/offset", "512"},
		{"encrypt", "segments/5/size", "512"},
		{"encrypt", "segments/5/flags", []string{"backup-other"}},
		{"decrypt", "segments/4/offset", "512"},
		{"decrypt", "segments/5/iv_tweak", "3"},
		{"decrypt", "digests/2/salt", "AAAA"},
		{"decrypt", "digests/2/iterations", 3},
	} {
		_, err := authenticated(t, layouts()[c.layout].build(t, func(m fields) {
			in, name := field(m, c.way)
			if fmt.Sprint(in[name]) == fmt.Sprint(c.value) {
				t.Errorf("%s: %s is %v already", c.layout, c.way, c.value)
			}
			in[name] = c.value
		}))
		if !errors.Is(err, ErrNotAuthentic) {
			t.Errorf("%s: %s = %v: %v, want that it is not authentic", c.layout, c.way, c.value, err)
		}
	}
	// The keys the other way round, both of which somebody may have.
	_, err := authenticated(t, layouts()["reencrypt"].build(t, func(m fields) {
		for _, d := range m["digests"].(fields) {
			in := d.(fields)
			for i, s := range in["segments"].([]string) {
				in["segments"].([]string)[i] = map[string]string{"0": "1", "1": "0", "2": "3", "3": "2"}[s]
			}
		}
	}))
	if !errors.Is(err, ErrNotAuthentic) {
		t.Errorf("with the keys exchanged: %v", err)
	}
}

// What cannot be authenticated, or does not follow from what can, is refused by name.
func TestReencryptionRefusals(t *testing.T) {
	crypt := func(offset, iv int, size string) fields {
		s := cryptAt(offset, iv, size, "")
		delete(s, "digest")
		return s
	}
	for _, c := range []struct {
		layout, way string
		value       any // nil: the field goes
		want        string
	}{
		{"reencrypt", "digests/2/keyslots", []string{}, "cryptsetup repair makes one"},
		{"reencrypt", "digests/0/keyslots", []string{"3", "5"}, "2 digests have this key slot"},
		{"reencrypt", "config/requirements/mandatory", []string{"online-reencrypt-v4"}, "online-reencrypt-v4"},
		{"reencrypt", "config/requirements/mandatory", []string{"online-reencrypt-v2", "own"}, `"own", which is not known`},
		{"reencrypt", "config/requirements/mandatory", []string{"online-reencrypt-v2", "offline-reencrypt"}, "offline-reencrypt"},
		{"reencrypt", "config/requirements/mandatory", []string{"online-reencrypt-v2", "online-reencrypt-v3"}, "2 kinds"},
		{"reencrypt", "keyslots/5/area/type", "own", `"own", which is not known`},
		{"reencrypt", "keyslots/5/area/shift_size", "512", "has none"},
		{"reencrypt", "keyslots/5/area/hash", nil, "hash: want a text"},
		{"reencrypt", "keyslots/5/area/sector_size", 1000, "a power of two"},
		{"reencrypt", "keyslots/5/area/sector_size", 256, "a power of two"},
		{"encrypt", "keyslots/5/area/shift_size", "0", "want whole sectors"},
		{"encrypt", "keyslots/5/area/shift_size", "1000", "want whole sectors"},
		{"encrypt", "keyslots/5/mode", "reencrypt", `a segment of type "linear" to one of type "crypt"`},
		{"reencrypt", "keyslots/5/mode", "decrypt", `a segment of type "crypt" to one of type "crypt"`},
		{"reencrypt", "keyslots/5/mode", "mangle", "want reencrypt, encrypt or decrypt"},
		{"reencrypt", "keyslots/5/direction", "sideways", "want forward or backward"},
		{"reencrypt", "keyslots/5/key_size", 32, "want 1"},
		{"reencrypt", "segments/2/flags", []string{"backup-final"}, "a second segment is backup-final"},
		{"reencrypt", "segments/2/flags", []string{"backup-other"}, "those that a reencryption keeps are missing"},
		{"decrypt", "segments/5", linearAt(mib, "512", "backup-moved-segment"), `of type "linear" that it moved`},
		{"reencrypt", "segments/3/integrity", fields{"type": "aead", "journal_encryption": "none", "journal_integrity": "none"}, "is authenticated"},
		{"reencrypt", "segments/0/flags", []string{"in-reencryption"}, "cryptsetup repair recovers it"},
		{"reencrypt", "segments/1/flags", []string{"in-reencryption"}, "has no size"},
		{"decrypt in place", "segments/0/flags", []string{"in-reencryption"}, "segment 0 does not follow"},
		{"reencrypt", "digests/0/segments", []string{"0", "1", "2"}, "more than one digest"},
		// The segments that are mapped.
		{"reencrypt", "segments/0/encryption", "cipher_null-ecb", "segment 0 does not follow"},
		{"reencrypt", "segments/0/sector_size", 4096, "segment 0 does not follow"},
		{"reencrypt", "segments/0/iv_tweak", "8", "segment 0 does not follow"},
		{"reencrypt", "segments/1/iv_tweak", "127", "segment 1 does not follow"},
		{"reencrypt", "segments/1/offset", bytesOf(testData + 65536 + 512), "segment 1 does not follow"},
		{"reencrypt", "segments/1", linearAt(testData+65536, "dynamic"), "segment 1 does not follow"},
		{"reencrypt", "segments/0/size", "65024", "segment 1 does not follow"},
		{"reencrypt", "keyslots/5/direction", "backward", "segment 1 does not follow"},
		{"encrypt", "segments/0/size", "1048064", "segment 0 does not follow"},
		{"encrypt", "segments/0", linearAt(7*mib, bytesOf(mib)), "segment 0 does not follow"},
		{"encrypt", "segments/0", linearAt(0, bytesOf(mib)), "segment 0 does not follow"},
		{"encrypt", "segments/1", linearAt(mib-512, bytesOf(2*mib)), "segment 1 does not follow"},
		{"encrypt", "segments/2", crypt(4*mib, 0, bytesOf(2*mib)), "segment 2 does not follow"},
	} {
		disk := layouts()[c.layout].build(t, func(m fields) {
			in, name := field(m, c.way)
			if in[name] = c.value; c.value == nil {
				delete(in, name)
			}
		})
		h, err := Read(bytes.NewReader(disk), int64(len(disk)))
		if err == nil {
			err = h.MayOpen(false)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s = %v: %v, want %q", c.layout, c.way, c.value, err, c.want)
		}
	}
	// More parts than there are, and a part twice.
	five := layouts()["reencrypt"]
	at := testData
	five.segments = nil
	for n := range 5 {
		five.segments = append(five.segments, cryptAt(at, (at-testData)/512, "512", fmt.Sprint(n%2)))
		at += 512
	}
	for n, want := range map[int]string{5: "there are 5 segments", 3: "segment 2 does not follow"} {
		l := five
		l.segments = append(slices.Clone(five.segments[:n]), layouts()["reencrypt"].segments[2:]...)
		l.segments[0]["digest"], l.segments[1]["digest"], l.segments[2]["digest"] = "1", "0", "1"
		l.area = layouts()["reencrypt"].area
		disk := l.build(t, nil)
		h, err := Read(bytes.NewReader(disk), int64(len(disk)))
		if err == nil {
			err = h.MayOpen(false)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d segments: %v, want %q", n, err, want)
		}
	}
}

// A header that was written anew is not what it was.
func TestUnchanged(t *testing.T) {
	text := marshal(t, metadata2(t))
	disk := buildLUKS2(t, text, text, 1, 1)
	h := opened(t, disk, 3)
	if err := h.Unchanged(bytes.NewReader(disk), testSize); err != nil {
		t.Error(err)
	}
	if err := h.Unchanged(bytes.NewReader(buildLUKS2(t, text, text, 2, 2)), testSize); err == nil {
		t.Error("it is another one")
	}
	if err := h.Unchanged(bytes.NewReader(nil), 0); err == nil {
		t.Error("it is gone")
	}
}
