package integrity

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// readSuper reads the superblock, or makes one in memory if there is none, which it reports. All that follows from it is computed anew.
func (t *target) readSuper(ctx context.Context) (fresh bool, err error) {
	l := t.line
	geometry := t.geometry
	g := &geometry
	raw := mapper.GetBuffer(superBytes)
	p := raw.Data // it is kept
	read := mapper.Request{Op: mapper.OpRead, Start: mapper.Sector(l.start), Count: superSectors, Data: p}
	if l.start > g.metaSectors || g.metaSectors-l.start < superSectors {
		return false, &mapper.ArgError{Reason: "Error reading superblock", Detail: fmt.Sprintf("sector %d is not on the disk", l.start), Errno: unix.EIO}
	}
	if err := t.metaDisk.Submit(ctx, read); err != nil {
		return false, &mapper.ArgError{Reason: "Error reading superblock", Detail: err.Error(), Errno: mapper.Errno(err)}
	}
	g.bufferShift = l.bufferShift
	var s superblock
	if fresh = string(p[:len(magic)]) != magic; fresh {
		if l.mode != 'R' && slices.ContainsFunc(p, func(b byte) bool { return b != 0 }) {
			return false, mapper.BadArg("The device is not initialized", "sector %d holds neither a superblock nor zeroes only: zero 4 KiB there to have it formatted", l.start)
		}
		clear(p)
		if s, err = g.format(l); err != nil {
			return false, mapper.BadArg("Could not initialize superblock", "%v", err)
		}
	} else {
		s = decode(p)
	}
	if t.mac != nil && l.mode != 'R' && !fresh && s.flags&flagFixHMAC != 0 {
		if err := t.checkSuperMAC(p); err != nil {
			return false, err
		}
	}
	if err := s.check(l, g); err != nil {
		return false, err
	}
	if err := g.settle(&s, l); err != nil {
		return false, err
	}
	if fresh {
		s.log2Bit = g.bitShift - g.blockShift
	}
	if t.length > g.provided {
		return false, mapper.BadArg("Not enough provided sectors for requested mapping size", "%d of %d", g.provided, t.length)
	}
	if l.recalculate && s.flags&flagRecalc == 0 {
		s.flags |= flagRecalc
		s.recalc = 0
	}
	if s.flags&flagRecalc != 0 && t.hash == nil {
		return false, mapper.BadArg("Recalculate can only be specified with internal_hash", "")
	}
	if s.flags&flagRecalc != 0 && s.recalc < g.provided && l.unsafeRecalculation(&s) {
		const reason = `Recalculating with HMAC is disabled for security reasons - if you really need it, use the argument "legacy_recalculate"`
		return false, &mapper.ArgError{Reason: reason, Errno: unix.EOPNOTSUPP}
	}
	t.superMu.Lock()
	defer t.superMu.Unlock()
	t.geometry, t.super, t.raw, t.salt = geometry, s, p, nil
	if s.flags&flagFixHMAC != 0 {
		t.salt = bytes.Clone(s.salt[:])
	}
	return fresh, nil
}

// unsafeRecalculation reports whether who can write to the disk could have tags made for what he wrote.
func (l *line) unsafeRecalculation(s *superblock) bool {
	switch {
	case l.legacyRecalculate:
		return false
	case s.flags&flagFixHMAC == 0:
		return l.hash.keyed || l.mac.keyed
	}
	return l.hash.keyed && !l.mac.keyed
}

func (t *target) checkSuperMAC(raw []byte) error {
	have, want, err := t.superMAC(raw)
	if err != nil {
		t.fail(errTooLong.Error(), unix.EINVAL)
		return &mapper.ArgError{Reason: "Error reading superblock", Detail: err.Error()}
	}
	if !equalMAC(have, want) {
		t.fail("superblock mac", unix.EILSEQ)
		return &mapper.ArgError{Reason: "Error reading superblock", Detail: "it does not verify: the key of journal_mac is wrong, or it was changed", Errno: unix.EILSEQ}
	}
	return nil
}

// writeSuper makes the superblock durable.
func (t *target) writeSuper(ctx context.Context) error {
	t.superMu.Lock()
	t.super.setVersion(t.line.mode, t.geometry.meta)
	t.super.encode(t.raw)
	var err error
	if t.mac != nil && t.super.flags&flagFixHMAC != 0 {
		var at, mac []byte
		if at, mac, err = t.superMAC(t.raw); err == nil {
			copy(at, mac)
		}
	}
	buf := mapper.GetBuffer(superBytes)
	defer buf.Free()
	copy(buf.Data, t.raw)
	t.superMu.Unlock()
	if err == nil {
		err = t.metaDisk.Submit(ctx, mapper.Request{
			Op: mapper.OpWrite, Flags: mapper.FlagFUA, Start: mapper.Sector(t.line.start), Count: superSectors, Data: buf.Data,
		})
	}
	if err != nil {
		return fmt.Errorf("writing superblock: %w", err)
	}
	return nil
}

// setFlags changes the flags of the superblock in memory.
func (t *target) setFlags(set, clear uint32) {
	t.superMu.Lock()
	t.super.flags = t.super.flags&^clear | set
	t.superMu.Unlock()
}
