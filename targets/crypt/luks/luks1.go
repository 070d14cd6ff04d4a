package luks

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"dmfs/mapper"
)

// The header of LUKS1, big-endian. The format is that of the LUKS On-Disk Format Specification 1.2.3; it was checked with containers of
// cryptsetup 2.6.
//
//	offset  size  field
//	0       6     magic "LUKS\xba\xbe"
//	6       2     version: 1
//	8       32    cipher name, text that a zero byte ends, as the next two
//	40      32    cipher mode
//	72      32    hash
//	104     4     offset of the data, sectors; 0 if the header is detached
//	108     4     bytes of the volume key
//	112     20    digest of the volume key, made with
//	132     32    this salt
//	164     4     and so many iterations
//	168     40    UUID, text
//	208     48×8  slots
//
// A slot:
//
//	0       4     0x00ac71f3 in use, 0x0000dead not
//	4       4     iterations
//	8       32    salt
//	40      4     offset of the material, sectors
//	44      4     stripes: 4000
const (
	magic1     = "LUKS\xba\xbe"
	versionEnd = 8
	bin1Size   = 592
	slots1     = 8
	slot1At    = 208
	slot1Size  = 48
	slotOn     = 0x00ac71f3
	slotOff    = 0x0000dead
	stripes    = 4000
	digest1    = "volume key" // what LUKS1 has one of, LUKS2 calls by numbers
)

// mostMaterial bounds the key slots of a header in bytes, as LUKS2 does.
const mostMaterial = 128 << 20

// text1 returns a text that a zero byte ends, or the end of its field.
func text1(field []byte) string {
	text, _, _ := bytes.Cut(field, []byte{0})
	return string(text)
}

// readLUKS1 reads a header. size is that of the disk in bytes.
func readLUKS1(b []byte, size int64) (*Header, error) {
	if len(b) < bin1Size {
		return nil, fmt.Errorf("LUKS1 header: %d bytes, and it has %d", len(b), bin1Size)
	}
	be := binary.BigEndian
	cipher, mode, hash := text1(b[8:40]), text1(b[40:72]), text1(b[72:104])
	h := &Header{Version: 1, UUID: text1(b[168:208])}
	if !printable(cipher) || !printable(mode) {
		return nil, fmt.Errorf("LUKS1 header: cipher %.32q, mode %.32q", cipher, mode)
	}
	if err := checkUUID(h.UUID); err != nil {
		return nil, fmt.Errorf("LUKS1 header: %w", err)
	}
	const leastHash = 20
	maker, err := hashNamed(hash)
	if err == nil && maker().Size() < leastHash {
		err = fmt.Errorf("hash function %q: it is too short", hash)
	}
	if err != nil {
		return nil, fmt.Errorf("LUKS1 header: %w", err)
	}
	payload, keyBytes := be.Uint32(b[104:]), be.Uint32(b[108:])
	if keyBytes == 0 || keyBytes > mostMaterial/stripes {
		return nil, fmt.Errorf("LUKS1 header: volume key of %d bytes", keyBytes)
	}
	h.Segments = []Segment{{
		Type: "crypt", Offset: mapper.Sector(payload), Cipher: cipher + "-" + mode, SectorSize: mapper.SectorSize, digest: digest1,
	}}
	d := &digest{hash: hash, iterations: uint64(be.Uint32(b[164:])), salt: bytes.Clone(b[132:164]), sum: bytes.Clone(b[112:132])}
	if d.iterations == 0 {
		return nil, fmt.Errorf("LUKS1 header: digest with 0 iterations")
	}
	h.digests, h.keys = map[string]*digest{digest1: d}, []string{digest1}
	if err := h.readSlots1(b, Slot{
		KeySize: int(keyBytes), Priority: 1, cipher: cipher + "-" + mode, areaKeySize: int(keyBytes), stripes: stripes, afHash: hash,
		kdf: kdf{kind: "pbkdf2", hash: hash}, digest: digest1,
	}, size); err != nil {
		return nil, fmt.Errorf("LUKS1 header: %w", err)
	}
	return h, nil
}

// readSlots1 reads the slots; like is what they have in common. Slots that are not in use have their place, too, and are checked.
func (h *Header) readSlots1(b []byte, like Slot, size int64) error {
	be, payload := binary.BigEndian, h.Segments[0].Offset
	length := mapper.Sector(like.materialSectors())
	var starts []mapper.Sector
	for i := range slots1 {
		p := b[slot1At+i*slot1Size:][:slot1Size]
		start := mapper.Sector(be.Uint32(p[40:]))
		switch n := be.Uint32(p[44:]); {
		case n != stripes:
			return fmt.Errorf("key slot %d: %d stripes, want %d", i, n, stripes)
		case start.Bytes() < bin1Size:
			return fmt.Errorf("key slot %d: its material is in the header, at sector %d", i, start)
		case payload != 0 && start+length > payload:
			return fmt.Errorf("key slot %d: its material, sectors %d+%d, reaches into the data, which begins at %d", i, start, length, payload)
		}
		starts = append(starts, start)
		switch state := be.Uint32(p); state {
		case slotOff:
			continue
		case slotOn:
		default:
			h.Unusable = append(h.Unusable, fmt.Sprintf("key slot %d: state %#x, want %#x or %#x", i, state, slotOn, slotOff))
			continue
		}
		if (start + length).Bytes() > size {
			return fmt.Errorf("key slot %d: its material, sectors %d+%d, reaches past the end of the disk", i, start, length)
		}
		s := like
		s.Number, s.offset, s.size = i, start.Bytes(), length.Bytes()
		s.kdf.salt, s.kdf.iterations = bytes.Clone(p[8:40]), uint64(be.Uint32(p[4:]))
		h.addSlot(s)
	}
	slices.Sort(starts)
	for i := 1; i < len(starts); i++ {
		if starts[i] < starts[i-1]+length {
			return fmt.Errorf("two key slots overlap, at sectors %d and %d", starts[i-1], starts[i])
		}
	}
	return nil
}

// addSlot adds a slot, to the unusable ones if its key cannot be derived here.
func (h *Header) addSlot(s Slot) {
	if err := s.kdf.check(); err != nil {
		h.Unusable = append(h.Unusable, fmt.Sprintf("key slot %d: %v", s.Number, err))
		return
	}
	h.Slots = append(h.Slots, s)
}

// printable reports whether text can be one word of a table.
func printable(text string) bool {
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return text != ""
}

// checkUUID refuses what cannot be a part of a device's uuid. What it says is for its users.
func checkUUID(uuid string) error {
	if !printable(uuid) {
		return fmt.Errorf("UUID %.40q", uuid)
	}
	return nil
}
