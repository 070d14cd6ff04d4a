package luks

import (
	"errors"
	"fmt"
	"slices"

	"dmfs/mapper"
)

// A Reencryption is what a header says of one that has begun and not ended. The data that was dealt with, and that which was not, are
// segments of the header; from where to where the whole goes is here.
//
// What is on a disk can be changed by whoever has the disk. Mode, direction, place and the segments here are covered by a digest that only
// whoever has the keys can make, see [Header.Authenticate]. The segments of the header are not: so they must follow from the ones here,
// in everything but how far it has come, see checkLayout.
type Reencryption struct {
	Mode      string        // "reencrypt", "encrypt" or "decrypt"
	Direction string        // "forward" or "backward"
	Shift     mapper.Sector // by how much data is moved, 0 if it stays
	Previous  Segment       // all of the data, as it was
	Final     Segment       // all of the data, as it is going to be
	Moved     *Segment      // the begin of the data, which was put out of the way of a header; nil if it was not

	version int // of the metadata
	area    area
	digest  string // "" if there is none
}

// An area is what the key slot of a reencryption says of its place, in which what a crash would destroy is kept.
type area struct {
	span
	kind       string
	hash       string // of checksums
	sectorSize uint64 // bytes that a checksum is of
	shift      uint64 // bytes
}

// has says what an area of a kind has besides; unknown kinds have nothing.
func (a area) has() (checksum, shift bool) {
	checksum = a.kind == "checksum" || a.kind == "datashift-checksum"
	shift = a.kind == "datashift" || a.kind == "datashift-checksum" || a.kind == "datashift-journal"
	return checksum, shift
}

// reencryptVersions are the requirements of reencryptions whose metadata is known, and its version.
var reencryptVersions = map[string]int{"online-reencrypt": 1, "online-reencrypt-v2": 2, "online-reencrypt-v3": 3}

// isKnownReencrypt reports whether a requirement is a reencryption whose metadata is known.
func isKnownReencrypt(r string) bool { return reencryptVersions[r] != 0 }

// readReencrypt reads the slot that says what a reencryption does.
func (m *metadata) readReencrypt(name string, o, a object, place span, keySize uint64) error {
	m.reencrypting++
	r := &m.reencryption
	r.area.span = place
	var e [3]error
	r.Mode, e[0] = o.text("mode")
	r.Direction, e[1] = o.text("direction")
	r.area.kind, e[2] = a.text("type")
	if err := errors.Join(e[:]...); err != nil {
		return err
	}
	digests := m.digestsOf("keyslots", name)
	switch {
	case keySize != 1:
		return o.bad("key_size", "%d: want 1", keySize)
	case !slices.Contains([]string{"reencrypt", "encrypt", "decrypt"}, r.Mode):
		return o.bad("mode", "%.32q: want reencrypt, encrypt or decrypt", r.Mode)
	case r.Direction != "forward" && r.Direction != "backward":
		return o.bad("direction", "%.32q: want forward or backward", r.Direction)
	case len(digests) > 1:
		return o.bad("digest", "%d digests have this key slot, want one", len(digests))
	case len(digests) == 1:
		r.digest = digests[0]
	}
	return r.readArea(a)
}

func (r *Reencryption) readArea(a object) error {
	checksum, shift := r.area.has()
	if checksum {
		var hashErr, err error
		r.area.hash, hashErr = a.text("hash")
		r.area.sectorSize, err = a.number("sector_size")
		if err := errors.Join(hashErr, err); err != nil {
			return err
		}
		if n := r.area.sectorSize; n < mapper.SectorSize || n&(n-1) != 0 {
			return a.bad("sector_size", "%d: want a power of two from a sector up", n)
		}
	}
	switch {
	case !shift && a.has("shift_size"):
		return a.bad("shift_size", "an area of type %.32q has none", r.area.kind)
	case !shift:
		return nil
	}
	var err error
	var whole bool
	if r.area.shift, err = a.digits("shift_size"); err != nil {
		return err
	}
	if r.Shift, whole = sectorsOf(r.area.shift); !whole || r.Shift == 0 {
		return a.bad("shift_size", "%d: want whole sectors", r.area.shift)
	}
	return nil
}

// keep takes a segment that a reencryption keeps, with the flags that say which it is. Others that are kept are left alone.
func (m *metadata) keep(o object, s Segment, flags []string) error {
	for _, f := range flags {
		at := map[string]**Segment{"backup-previous": &m.previous, "backup-final": &m.final, "backup-moved-segment": &m.moved}[f]
		if at == nil {
			continue
		}
		if *at != nil {
			return o.bad("flags", "a second segment is %s", f)
		}
		*at = &s
	}
	return nil
}

// checkReencryption checks that requirements, key slot and segments of a reencryption are there together.
func (m *metadata) checkReencryption() error {
	online := slices.ContainsFunc(m.requirements, isOnlineReencrypt)
	i := slices.IndexFunc(m.requirements, isKnownReencrypt)
	switch {
	case m.reencrypting > 1:
		return fmt.Errorf("keyslots: %d of a reencryption", m.reencrypting)
	case m.reencrypting == 1 && !online:
		return errors.New("keyslots: one of a reencryption, which config/requirements do not name")
	case i < 0:
		return nil
	case m.previous == nil || m.final == nil:
		return errors.New("segments: those that a reencryption keeps are missing")
	case m.reencrypting == 0:
		return errors.New("keyslots: none of a reencryption, which config/requirements name")
	}
	r := &m.reencryption
	r.version = reencryptVersions[m.requirements[i]]
	r.Previous, r.Final, r.Moved = *m.previous, *m.final, m.moved
	m.h.Reencryption = r
	if r.area.kind == "none" {
		m.h.Notes = append(m.h.Notes, "its reencryption keeps nothing for a crash (resilience none): if there was one, the header does not say how far it came, and part of the data is read with the wrong key")
	}
	return nil
}

// numberKeys numbers the volume keys: of a reencryption that of the data as it was comes first.
func (m *metadata) numberKeys() error {
	if r := m.h.Reencryption; r != nil {
		m.h.number(&r.Previous)
		m.h.number(&r.Final)
		if r.Moved != nil {
			m.h.number(r.Moved)
		}
	}
	for i := range m.h.Segments {
		s := &m.h.Segments[i]
		if s.Key = -1; m.h.Reencryption == nil || !s.Hot { // what is hot has two
			m.h.number(s)
		}
	}
	return nil
}

// mayOpen refuses, by name, what cannot be authenticated or does not follow from what can.
func (r *Reencryption) mayOpen(h *Header) error {
	checksum, shift := r.area.has()
	known := checksum || shift || r.area.kind == "none" || r.area.kind == "journal"
	from, to := "crypt", "crypt"
	switch r.Mode {
	case "encrypt":
		from = "linear"
	case "decrypt":
		to = "linear"
	}
	segments := append(slices.Clone(h.Segments), r.Previous, r.Final)
	if r.Moved != nil {
		segments = append(segments, *r.Moved)
	}
	switch {
	case r.digest == "":
		return errors.New("there is no digest that authenticates its state: cryptsetup repair makes one")
	case !known:
		return fmt.Errorf("what it keeps for a crash is of type %.32q, which is not known here", r.area.kind)
	case r.Previous.Type != from || r.Final.Type != to:
		return fmt.Errorf("its mode is %s, of a segment of type %.32q to one of type %.32q", r.Mode, r.Previous.Type, r.Final.Type)
	case r.Moved != nil && (r.Moved.Type != from || r.Moved.Key != r.Previous.Key):
		return fmt.Errorf("the segment of type %.32q that it moved has another key than the others, or is of another type", r.Moved.Type)
	case slices.ContainsFunc(segments, func(s Segment) bool { return s.Integrity != nil }):
		return errors.New("a segment is authenticated: that is not known here")
	case slices.ContainsFunc(segments, func(s Segment) bool { return s.shared && !s.Hot }):
		return errors.New("a segment has more than one digest")
	}
	return r.checkLayout(h.Segments)
}

// Parts of the data, in the order in which they follow each other when a reencryption goes forward.
const (
	partMoved = iota
	partNew
	partHot
	partOld
)

// checkLayout checks that segments are what a reencryption makes of the data: each part at most once, the moved one first, then those in its
// direction, with the place, cipher, IVs and key that the authenticated segments give to that part of the data.
func (r *Reencryption) checkLayout(segments []Segment) error {
	order := []int{partMoved, partNew, partHot, partOld}
	if r.Direction == "backward" {
		slices.Reverse(order[1:])
	}
	if len(segments) > len(order) {
		return fmt.Errorf("there are %d segments, more than it makes", len(segments))
	}
	next, at, hot := 0, mapper.Sector(0), 0
	for n, s := range segments {
		if s.Hot {
			hot++
		}
		if hot > 1 || s.Hot && s.Size == 0 {
			return fmt.Errorf("segment %d is one more in which it was interrupted, or has no size", n)
		}
		step := slices.IndexFunc(order[next:], func(part int) bool { return r.isPart(s, part, at) })
		if step < 0 {
			return fmt.Errorf("segment %d does not follow from what it was and what it is going to be", n)
		}
		next += step + 1
		at += s.Size
	}
	return nil
}

// isPart reports whether s is a part of the data that begins at a sector of it.
func (r *Reencryption) isPart(s Segment, part int, at mapper.Sector) bool {
	first := at == 0 && r.Moved != nil
	switch {
	case part == partMoved && s.Hot:
		return first && s.follows(r.Final, 0) // at the end the moved part is dealt with, when all the others are
	case part == partMoved:
		return first && s.follows(*r.Moved, 0) && s.Size == r.Moved.Size
	case part == partHot:
		return s.Hot && s.follows(r.Final, at)
	case s.Hot:
		return false
	case part == partNew:
		return s.follows(r.Final, at) && s.Key == r.Final.Key
	}
	return !first && s.follows(r.Previous, at) && s.Key == r.Previous.Key // where the moved part was there is a header
}

// follows reports whether s is what whole is from one of its sectors on.
func (s Segment) follows(whole Segment, at mapper.Sector) bool {
	part := whole.part(at, s.Size)
	return s.Type == part.Type && s.Offset == part.Offset && s.Cipher == part.Cipher && s.SectorSize == part.SectorSize && s.IVTweak == part.IVTweak
}

// DataSectors returns how many sectors the data has on a disk with so many, 0 if none: what is moved leaves a gap, which is behind the data,
// before it, or in it.
func (r *Reencryption) DataSectors(disk mapper.Sector) mapper.Sector {
	first := r.Final.Offset
	if r.Direction == "forward" {
		first += r.Shift
	}
	return disk - min(first, disk)
}
