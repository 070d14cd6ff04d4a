package integrity

import (
	"bytes"
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// errDamaged says that the journal was not written like this; the device fails then.
var errDamaged = errors.New("the journal is damaged")

// load reads the journal from the disk.
func (j *journal) load(ctx context.Context) error {
	g := &j.t.geometry
	at := mapper.Sector(g.start + superSectors)
	for rest := j.mem; len(rest) > 0; {
		n := min(len(rest), mapper.MaxBuffer)
		r := mapper.Request{Op: mapper.OpRead, Start: at, Count: mapper.SectorsOf(int64(n)), Data: rest[:n]}
		if err := j.t.metaDisk.Submit(ctx, r); err != nil {
			return err
		}
		at += r.Count
		rest = rest[n:]
	}
	if j.cipher != nil {
		j.decrypt()
	}
	return nil
}

// A survey is what the commit ids of a journal say.
type survey struct {
	isEmpty bool
	used    [4]bool
	last    [4]int // section that has an id last
}

// seqOf returns which commit id a sector has, -1 if none.
func (j *journal) seqOf(section, n int) int {
	have := le.Uint64(j.sector(section, n)[journalData:])
	for seq := range j.ids {
		if j.id(section, n, seq) == have {
			return seq
		}
	}
	return -1
}

func (j *journal) survey() (v survey, ok bool) {
	g := &j.t.geometry
	v.isEmpty = true
	for s := range g.sections {
		for n := range g.sectionSectors {
			seq := j.seqOf(s, n)
			if seq < 0 {
				return v, false
			}
			v.used[seq], v.last[seq] = true, s
		}
		for e := s * g.sectionEntries; e < (s+1)*g.sectionEntries && v.isEmpty; e++ {
			v.isEmpty = le.Uint32(j.entry(e)[4:]) == unusedMark
		}
	}
	return v, true
}

// replay finds what of the journal was committed, writes it where it belongs, and makes the journal ready. The oldest section is the one behind the last that
// has the newest commit id; from there on all are replayed whose commit ids follow each other, up to one that was not written as a whole.
func (j *journal) replay(ctx context.Context) error {
	g := &j.t.geometry
	if err := j.load(ctx); err != nil {
		return err
	}
	v, ok := j.survey()
	if !ok {
		j.t.fail("journal commit id", unix.EIO)
		return nil
	}
	free := 0
	if !v.used[3] {
		for free = 3; free > 0 && !v.used[free-1]; free-- {
		}
	} else {
		for free < 4 && v.used[free] {
			free++
		}
		if free == 4 {
			j.t.fail("journal commit ids", unix.EIO)
			return nil
		}
	}
	newest := (free + 3) % 4
	want := (newest + 3) % 4
	if !v.used[want] && v.used[(want+3)%4] {
		v.isEmpty = true
	}
	start := v.last[newest] + 1
	if start >= g.sections {
		start = 0
		want = (want + 1) % 4
	}
	n, s := 0, start
	for ; n < g.sections && j.isWhole(s, want); n++ {
		if s++; s == g.sections {
			s, want = 0, (want+1)%4
		}
	}
	clean := n == g.sections && (j.t.line.mode == 'J' || v.isEmpty)
	if j.t.host.ReadOnly() && !(v.isEmpty && clean) {
		return errUnclean
	}
	if !v.isEmpty {
		if err := j.apply(ctx, start, n); err != nil {
			if errors.Is(err, errDamaged) {
				return nil // the device fails, and says so
			}
			return err
		}
	}
	if clean {
		j.seq = want
		j.begin(start)
		return nil
	}
	erase := (newest + 2) % 4
	if err := j.erase(ctx, start, erase); err != nil {
		return err
	}
	j.seq = (erase + 1) % 4
	j.begin(0)
	return nil
}

// erase writes sections without entries. The first and the last, seen from start, are written alone, so that
// an erasure that was interrupted is not taken for something committed.
func (j *journal) erase(ctx context.Context, start, seq int) error {
	n := j.t.geometry.sections
	if err := j.clearSections(ctx, start, 1, seq); err != nil || n < 2 {
		return err
	}
	if err := j.clearSections(ctx, (start+1)%n, n-2, seq); err != nil {
		return err
	}
	return j.clearSections(ctx, (start+n-1)%n, 1, seq)
}

// isWhole reports whether all sectors of a section have one commit id.
func (j *journal) isWhole(section, seq int) bool {
	for n := range j.t.geometry.sectionSectors {
		if le.Uint64(j.sector(section, n)[journalData:]) != j.id(section, n, seq) {
			return false
		}
	}
	return true
}

// apply writes what n sections from start on hold where it belongs. Before that it verifies all of it.
func (j *journal) apply(ctx context.Context, start, n int) error {
	g := &j.t.geometry
	var runs []run
	for i := range n {
		s := (start + i) % g.sections
		if !j.goodMAC(s) {
			j.t.fail("journal mac", unix.EILSEQ)
			return errDamaged
		}
		first := len(runs)
		var err error
		runs = j.runs(runs, s*g.sectionEntries, (s+1)*g.sectionEntries, func(e int) (uint64, bool) {
			at := le.Uint64(j.entry(e))
			if le.Uint32(j.entry(e)[4:]) == unusedMark || at >= g.provided {
				return 0, false
			}
			if at&(1<<g.blockShift-1) != 0 {
				err = errDamaged
			}
			return at, err == nil
		})
		if err != nil {
			j.t.fail("invalid sector in journal", unix.EIO)
			return err
		}
		if err := j.verify(runs[first:]); err != nil {
			return err
		}
	}
	for _, r := range runs {
		if err := j.store(ctx, r); err != nil {
			return err
		}
	}
	return j.t.flushTags(ctx, true)
}

// verify compares the tags of entries with their data.
func (j *journal) verify(runs []run) error {
	if j.t.hash == nil {
		return nil
	}
	var room [maxTag]byte
	tag := room[:j.t.geometry.tagSize]
	for _, r := range runs {
		for e := r.first; e < r.first+r.n; e++ {
			j.restore(e)
			j.t.someTags(tag, j.block(e), le.Uint64(j.entry(e)))
			if !bytes.Equal(tag, j.tag(e)) {
				j.t.fail("tag mismatch when replaying journal", unix.EILSEQ)
				return errDamaged
			}
		}
	}
	return nil
}
