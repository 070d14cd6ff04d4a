package integrity

import (
	"context"
	"fmt"

	"dmfs/mapper"
)

// A run is entries of committed sections whose blocks follow each other on the device.
type run struct{ first, n int }

// writeBack puts what is committed where it belongs, and frees the sections.
func (j *journal) writeBack(ctx context.Context) error {
	select {
	case j.writing <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-j.writing }()
	if err := j.t.failure(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	j.mu.RLock()
	start, n := j.committed, j.nCommitted
	j.mu.RUnlock()
	if n == 0 {
		return nil
	}
	g := &j.t.geometry
	var runs []run
	for i := range n {
		s := (start + i) % g.sections
		runs = j.runs(runs, s*g.sectionEntries, (s+1)*g.sectionEntries, func(e int) (uint64, bool) {
			return le.Uint64(j.entry(e)), j.states[e].Load() == full
		})
	}
	err := mapper.FanOut(len(runs), writeWidth, func(i int) error { return j.writeRun(ctx, runs[i]) })
	if err == nil {
		err = j.t.flushTags(ctx, true)
	}
	if err != nil {
		return fmt.Errorf("copying from journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range n {
		s := (start + i) % g.sections
		for e := s * g.sectionEntries; e < (s+1)*g.sectionEntries; e++ {
			if j.states[e].Load() == full {
				j.unlink(e)
				j.states[e].Store(unused)
			}
			le.PutUint32(j.entry(e)[4:], unusedMark)
		}
	}
	j.committed = (j.committed + n) % g.sections
	j.nCommitted -= n
	j.free += n * g.sectionEntries
	j.wake(nil)
	return nil
}

// wake tells who waits for room that there is some, or why not. mu is held.
func (j *journal) wake(err error) {
	j.stuck = err
	close(j.room)
	j.room = make(chan struct{})
}

// runs appends to list the runs of the entries from first to end that are used.
func (j *journal) runs(list []run, first, end int, used func(e int) (uint64, bool)) []run {
	g := &j.t.geometry
	block := uint64(1) << g.blockShift
	for e := first; e < end; {
		s, ok := used(e)
		if !ok {
			e++
			continue
		}
		n := 1
		for ; e+n < end; n++ {
			next, ok := used(e + n)
			if !ok || next != s+uint64(n)*block || !g.meta && next>>g.areaShift != s>>g.areaShift {
				break
			}
		}
		list = append(list, run{e, n})
		e += n
	}
	return list
}

// writeRun puts the blocks of a run where they belong, but for those that a newer committed one replaces.
func (j *journal) writeRun(ctx context.Context, r run) error {
	g := &j.t.geometry
	s := le.Uint64(j.entry(r.first))
	held, err := j.t.hold(ctx, mapper.Request{Start: mapper.Sector(s), Count: mapper.Sector(r.n) << g.blockShift}, false)
	if err != nil {
		return err
	}
	defer j.t.letGo(held)
	j.mu.RLock()
	var parts []run
	parts = j.runs(parts, r.first, r.first+r.n, func(e int) (uint64, bool) { return j.sectors[e], !j.superseded(e) })
	j.mu.RUnlock()
	for _, part := range parts {
		if err := j.store(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// store writes data and tags of a run of entries to their place.
func (j *journal) store(ctx context.Context, r run) error {
	g := &j.t.geometry
	s := le.Uint64(j.entry(r.first))
	for e := r.first; e < r.first+r.n; e++ {
		j.restore(e)
		at, off := g.tagPlace(s + uint64(e-r.first)<<g.blockShift)
		if err := j.t.cache.store(ctx, j.tag(e), at, off); err != nil {
			return err
		}
	}
	from := (r.first/g.sectionEntries*g.sectionSectors + journalHead + r.first%g.sectionEntries<<g.blockShift) * mapper.SectorSize
	data := j.mem[from:][:r.n*mapper.SectorSize<<g.blockShift]
	return j.t.line.data.Submit(ctx, mapper.Request{
		Op: mapper.OpWrite, Start: mapper.Sector(g.dataSector(s)), Count: mapper.SectorsOf(int64(len(data))), Data: data,
	})
}

// empty commits and writes back.
func (j *journal) empty(ctx context.Context) error {
	if err := j.commit(ctx); err != nil {
		return err
	}
	return j.writeBack(ctx)
}

// clearSections writes n sections without entries from start on.
func (j *journal) clearSections(ctx context.Context, start, n, seq int) error {
	if n == 0 {
		return nil
	}
	g := &j.t.geometry
	for i := range n {
		s := (start + i) % g.sections
		for k := range g.sectionSectors {
			p := j.sector(s, k)
			clear(p[:journalData])
			le.PutUint64(p[journalData:], j.id(s, k, seq))
		}
		for e := s * g.sectionEntries; e < (s+1)*g.sectionEntries; e++ {
			le.PutUint32(j.entry(e)[4:], unusedMark)
		}
	}
	return j.writeSections(ctx, start, n)
}

// settle leaves the journal on the disk without anything to replay, for the next who opens it.
func (j *journal) settle(ctx context.Context) error {
	if err := j.empty(ctx); err != nil {
		return err
	}
	if !j.wrote {
		return nil
	}
	at := j.freeSection
	if err := j.clearSections(ctx, at, j.t.geometry.sections-at, j.seq); err != nil {
		return err
	}
	return j.clearSections(ctx, 0, at, (j.seq+1)%len(j.ids))
}
