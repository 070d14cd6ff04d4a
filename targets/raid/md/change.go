package md

import (
	"time"

	"dmfs/mapper"
)

// A Change is what an update says anew.
type Change struct {
	Events    uint64
	Resync    mapper.Sector // in sync up to there; Done if clean
	Recovered mapper.Sector // of this member; Done if all
	Failed    []bool        // by place in the array
	Time      time.Time
}

// Apply changes the superblock. What it says of members that have not failed stays as it is.
func (s *Super) Apply(c Change) {
	s.Events, s.Resync, s.Recovered = c.Events, c.Resync, c.Recovered
	if s.Version == "0.90" {
		s.applyOld(c)
	} else {
		s.applyNew(c)
	}
}

// Bytes returns the superblock, padded with zeroes to a multiple of unit bytes. It is the caller's.
func (s *Super) Bytes(unit int) []byte {
	b := make([]byte, (len(s.raw)+unit-1)/unit*unit)
	copy(b, s.raw)
	return b
}

func (s *Super) applyNew(c Change) {
	b := s.raw
	le.PutUint64(b[192:], uint64(c.Time.Unix()))
	le.PutUint64(b[200:], c.Events)
	le.PutUint64(b[208:], uint64(c.Resync))
	s.features &^= hasRecovery
	if c.Recovered != Done {
		s.features |= hasRecovery
		le.PutUint64(b[152:], uint64(c.Recovered))
	}
	le.PutUint32(b[8:], s.features)
	for at := newSize; at+2 <= len(b); at += 2 {
		if role := int(le.Uint16(b[at:])); role < len(c.Failed) && c.Failed[role] {
			le.PutUint16(b[at:], Failed)
		}
	}
	le.PutUint32(b[216:], s.sumNew())
}

func (s *Super) applyOld(c Change) {
	s.putWord(32, uint32(c.Time.Unix()))
	s.putWord(39, uint32(c.Events))
	s.putWord(40, uint32(c.Events>>32))
	s.putWord(41, uint32(c.Events))
	s.putWord(42, uint32(c.Events>>32))
	state := s.word(33) &^ oldClean
	if c.Resync == Done {
		state |= oldClean
		s.putWord(43, 0xffffffff)
	} else {
		s.putWord(43, uint32(min(c.Resync, 1<<32-2)))
	}
	s.putWord(33, state)
	active, failed, spare := uint32(0), uint32(0), uint32(0)
	for i := range mostOld {
		at := firstDisk + i*diskWords
		switch role := s.roleOld(at); {
		case s.word(at) == 0 && s.word(at+1) == 0 && s.word(at+4) == 0 && i > 0: // there is none
		case role < len(c.Failed) && c.Failed[role]:
			s.putWord(at+4, diskFailed)
			failed++
		case role < Journal:
			active++
		case role == Failed:
			failed++
		case s.word(at+4)&diskRemoved == 0:
			spare++
		}
	}
	for i, n := range []uint32{active, active + spare, failed, spare} {
		s.putWord(34+i, n)
	}
	s.putWord(38, s.sumOld())
}
