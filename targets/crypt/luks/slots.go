package luks

import (
	"errors"
	"fmt"
)

// readSlots reads the key slots. One of a type that is not known has its place and is left alone.
func (m *metadata) readSlots() error {
	return m.keyslots.numbered(func(n int, name string, o object) error {
		kind, err := o.text("type")
		if err != nil {
			return err
		}
		keySize, err := o.number("key_size")
		if err != nil {
			return err
		}
		area, err := o.object("area")
		if err != nil {
			return err
		}
		var e [3]error
		var r span
		_, e[0] = area.text("type")
		r.offset, e[1] = area.digits("offset")
		r.size, e[2] = area.digits("size")
		if err := errors.Join(e[:]...); err != nil {
			return err
		}
		m.ranges = append(m.ranges, r)
		switch kind {
		case "luks2":
			return m.readSlot(n, name, o, area, Slot{Number: n, KeySize: int(keySize), offset: int64(r.offset), size: int64(r.size)})
		case "reencrypt":
			return m.readReencrypt(name, o, area, r, keySize)
		}
		m.h.Unusable = append(m.h.Unusable, fmt.Sprintf("key slot %d: type %.32q is not known", n, kind))
		return nil
	})
}

// readSlot reads a slot that a passphrase opens.
func (m *metadata) readSlot(n int, name string, o, area object, s Slot) error {
	k, err := o.object("kdf")
	if err != nil {
		return err
	}
	if s.kdf, err = readKDF(k); err != nil {
		return err
	}
	af, err := o.object("af")
	if err != nil {
		return err
	}
	afType, err := af.text("type")
	if err == nil && afType != "luks1" {
		err = af.bad("type", "%.32q: luks1 is known", afType)
	}
	if err != nil {
		return err
	}
	var e [5]error
	var count, areaKey uint64
	var areaType string
	s.afHash, e[0] = af.text("hash")
	count, e[1] = af.number("stripes")
	s.cipher, e[2] = area.text("encryption")
	areaKey, e[3] = area.number("key_size")
	areaType, e[4] = area.text("type")
	if err := errors.Join(e[:]...); err != nil {
		return err
	}
	if areaType != "raw" {
		return area.bad("type", "%.32q: raw is known", areaType)
	}
	digests := m.digestsOf("keyslots", name)
	if len(digests) != 1 {
		return o.bad("digest", "%d digests have this key slot, want one", len(digests))
	}
	s.digest, s.stripes, s.areaKeySize, s.Priority = digests[0], int(count), int(areaKey), 1
	if o.has("priority") {
		p, err := o.number("priority")
		if err != nil || p > 2 {
			return o.bad("priority", "want 0, 1 or 2")
		}
		s.Priority = int(p)
	}
	m.h.addSlot2(s)
	return nil
}

// addSlot2 adds a slot, to the unusable ones if it cannot be opened here.
func (h *Header) addSlot2(s Slot) {
	const mostAreaKey = 1024 // bytes, as of no cipher there is
	_, hashErr := hashNamed(s.afHash)
	var reason string
	switch {
	case s.stripes != stripes:
		reason = fmt.Sprintf("%d stripes, want %d", s.stripes, stripes)
	case s.KeySize == 0 || s.KeySize > mostMaterial/stripes || int64(s.materialSectors().bytes()) > s.size:
		reason = fmt.Sprintf("a key of %d bytes in %d stripes does not fit its area of %d bytes", s.KeySize, s.stripes, s.size)
	case s.areaKeySize == 0 || s.areaKeySize > mostAreaKey:
		reason = fmt.Sprintf("its area is encrypted with a key of %d bytes", s.areaKeySize)
	case hashErr != nil:
		reason = hashErr.Error()
	default:
		h.addSlot(s)
		return
	}
	h.Unusable = append(h.Unusable, fmt.Sprintf("key slot %d: %s", s.Number, reason))
}

// readKDF reads a key derivation. One that is not known is left for kdf.check to refuse.
func readKDF(o object) (kdf, error) {
	var k kdf
	var e [5]error
	if k.kind, e[0] = o.text("type"); e[0] != nil {
		return k, e[0]
	}
	switch k.kind {
	case "pbkdf2":
		k.hash, e[0] = o.text("hash")
		k.iterations, e[1] = o.number("iterations")
	case "argon2i", "argon2id":
		k.time, e[0] = o.number("time")
		k.memory, e[1] = o.number("memory")
		k.threads, e[2] = o.number("cpus")
	default:
		return k, nil
	}
	k.salt, e[4] = o.base64("salt")
	return k, errors.Join(e[:]...)
}
