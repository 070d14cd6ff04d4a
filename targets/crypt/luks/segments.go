package luks

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"dmfs/mapper"
)

// readSegments reads the segments. Those that a reencryption keeps for itself come behind the others.
func (m *metadata) readSegments() error {
	next, kept := 0, false
	err := m.segments.numbered(func(n int, name string, o object) error {
		if n != next {
			return fmt.Errorf("segments: %d is missing", next)
		}
		next++
		s, flags, err := m.readSegment(name, o)
		switch {
		case err != nil:
			return err
		case slices.ContainsFunc(flags, isBackup):
			kept = true
			return m.keep(o, s, flags)
		case kept:
			return fmt.Errorf("segments/%d: it stands behind one of a reencryption", n)
		}
		m.h.Segments = append(m.h.Segments, s)
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(m.h.Segments) == 0:
		return errors.New("segments: there is none")
	}
	return m.checkOrder()
}

// checkOrder checks that segments have their places alone.
func (m *metadata) checkOrder() error {
	all := m.h.Segments
	for i, a := range all {
		if a.Size == 0 && i < len(all)-1 {
			return fmt.Errorf("segments/%d: only the last may have dynamic size", i)
		}
		for j, b := range all[:i] {
			if (b.Size == 0 || a.Offset < b.Offset+b.Size) && (a.Size == 0 || b.Offset < a.Offset+a.Size) {
				return fmt.Errorf("segments/%d and %d overlap", j, i)
			}
		}
	}
	return nil
}

// isBackup reports whether a flag says that a segment is kept by a reencryption, and not mapped.
func isBackup(flag string) bool { return strings.HasPrefix(flag, "backup-") }

// readSegment reads one, with its flags.
func (m *metadata) readSegment(name string, o object) (s Segment, flags []string, err error) {
	if s.Type, err = o.text("type"); err != nil {
		return s, nil, err
	}
	offset, err := o.digits("offset")
	if err != nil {
		return s, nil, err
	}
	text, err := o.text("size")
	if err != nil {
		return s, nil, err
	}
	size := uint64(0)
	if text != "dynamic" {
		if size, err = o.digits("size"); err == nil && size == 0 {
			err = o.bad("size", "0: want bytes, or dynamic")
		}
		if err != nil {
			return s, nil, err
		}
	}
	var wholeOffset, wholeSize bool
	s.Offset, wholeOffset = sectorsOf(offset)
	s.Size, wholeSize = sectorsOf(size)
	if !wholeOffset || !wholeSize {
		return s, nil, o.bad("offset", "%d and size %d: want whole sectors", offset, size)
	}
	if flags, err = o.optionalTexts("flags"); err != nil {
		return s, nil, err
	}
	s.Hot = slices.Contains(flags, "in-reencryption")
	switch s.Type {
	case "crypt", "hw-opal-crypt":
		err = m.readCrypt(name, o, &s, size)
	}
	return s, flags, err
}

// readCrypt reads what a segment that is encrypted has besides.
func (m *metadata) readCrypt(name string, o object, s *Segment, size uint64) error {
	var e [3]error
	var unit uint64
	s.IVTweak, e[0] = o.digits("iv_tweak")
	s.Cipher, e[1] = o.text("encryption")
	unit, e[2] = o.number("sector_size")
	if err := errors.Join(e[:]...); err != nil {
		return err
	}
	if _, whole := sectorsOf(unit); !whole || unit == 0 {
		return o.bad("sector_size", "%d: want a multiple of %d", unit, mapper.SectorSize)
	}
	if size%unit != 0 {
		return o.bad("size", "%d: want whole sectors of %d bytes", size, unit)
	}
	s.SectorSize = int(unit)
	if o.has("integrity") {
		if err := s.readIntegrity(o); err != nil {
			return err
		}
	}
	digests := m.digestsOf("segments", name)
	if len(digests) == 0 {
		return o.bad("digest", "no digest has this segment")
	}
	s.digest, s.shared = digests[0], len(digests) > 1
	return nil
}

func (s *Segment) readIntegrity(o object) error {
	i, err := o.object("integrity")
	if err != nil {
		return err
	}
	s.Integrity = new(Integrity)
	var e [4]error
	s.Integrity.Type, e[0] = i.text("type")
	s.Integrity.JournalEncryption, e[1] = i.text("journal_encryption")
	s.Integrity.JournalIntegrity, e[2] = i.text("journal_integrity")
	if i.has("key_size") {
		var n uint64
		n, e[3] = i.number("key_size")
		s.Integrity.KeySize = int(n)
	}
	return errors.Join(e[:]...)
}

// MayOpen refuses, by name, what is in the header and is not understood here, and what must be recovered before it may be written to.
func (h *Header) MayOpen(readOnly bool) error {
	for _, r := range h.Requirements {
		if h.Reencryption == nil || !isKnownReencrypt(r) {
			return unmet(r)
		}
	}
	for n, s := range h.Segments {
		switch {
		case s.Type != "crypt" && s.Type != "linear":
			return fmt.Errorf("segment %d is of type %.32q: crypt and linear are known", n, s.Type)
		case s.Type == "crypt" && !printable(s.Cipher):
			return fmt.Errorf("segment %d: cipher %.64q", n, s.Cipher)
		case s.Key > 0 && h.Reencryption == nil:
			return fmt.Errorf("segment %d has another key than the one before, as while it is reencrypted", n)
		case s.Integrity != nil && len(h.Segments) > 1:
			return fmt.Errorf("segment %d is authenticated and not the only one", n)
		}
	}
	if h.Reencryption == nil {
		return nil
	}
	if err := h.Reencryption.mayOpen(h); err != nil {
		return fmt.Errorf("the container is being reencrypted, and %w", err)
	}
	if h.Interrupted() && !readOnly {
		return errors.New("the container was being reencrypted, and that was interrupted while data was written: cryptsetup repair recovers it, " +
			"on a block device or with dmfs exec; until then it opens --readonly")
	}
	return nil
}

// unmet says what a requirement is about. None is met here.
func unmet(r string) error {
	switch {
	case r == "offline-reencrypt" || isOnlineReencrypt(r):
		return fmt.Errorf("the container is being reencrypted (requirement %.64q), which must be finished first: cryptsetup reencrypt --resume-only", r)
	case strings.HasPrefix(r, "opal"), r == "inline-hw-tags":
		return fmt.Errorf("the container uses what only the kernel and the drive can do (requirement %.64q)", r)
	}
	return fmt.Errorf("the container has the requirement %.64q, which is not known here: a newer cryptsetup made it", r)
}
