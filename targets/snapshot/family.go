package snapshot

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"dmfs/mapper"
	"dmfs/targets/internal/cell"
)

// A family is the origins of one mount, by their disks, and what stands on them.
type family struct {
	mu      sync.Mutex // also guards the lists of the origins, and what snapshots say of themselves
	origins map[mapper.Disk]*origin
}

// An origin is a disk of which there are snapshots, or that is written through a snapshot-origin.
type origin struct {
	disk mapper.Disk
	// writes is held together by whoever writes to the disk, from the copying on, and alone by whoever begins to look on: a write that was
	// not copied has ended by then.
	writes cell.Lock

	users int         // targets; guarded by family.mu
	snaps []*snapshot // the largest chunks first; guarded by family.mu
}

// join returns the origin on disk. leave gives it back.
func (f *family) join(disk mapper.Disk) *origin {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.origins[disk]
	if o == nil {
		o = &origin{disk: disk}
		f.origins[disk] = o
	}
	o.users++
	return o
}

func (f *family) leave(o *origin) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.users--; o.users == 0 {
		delete(f.origins, o.disk)
	}
}

// watchers returns the snapshots of o that keep what is overwritten. Merging ones do not.
func (f *family) watchers(o *origin) []*snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*snapshot
	for _, s := range o.snaps {
		if s.active && !s.merges && s.isValid() {
			list = append(list, s)
		}
	}
	return list
}

// copyWidth bounds how many snapshots copy at a time.
const copyWidth = 4

// protect has all snapshots of o keep the sectors from start on before they are overwritten. The caller holds o.writes. What goes
// wrong is the snapshot's loss, which is told there.
func (f *family) protect(ctx context.Context, o *origin, start, n mapper.Sector) error {
	list := f.watchers(o)
	return mapper.FanOut(len(list), copyWidth, func(i int) error { return list[i].keep(ctx, start, n) })
}

// enlist adds s to its origin. It does not look on until it is active.
func (f *family) enlist(s *snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.origin.snaps = append(s.origin.snaps, s)
	s.origin.sort()
}

func (o *origin) sort() {
	slices.SortStableFunc(o.snaps, func(a, b *snapshot) int { return cmp.Compare(b.chunk(), a.chunk()) })
}

// delist takes s from its origin, when nobody writes.
func (f *family) delist(s *snapshot) {
	// With a context without end there is no error, and writes do end.
	_ = s.origin.writes.Lock(context.Background())
	defer s.origin.writes.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(s.origin.snaps, s); i >= 0 {
		s.origin.snaps = slices.Delete(s.origin.snaps, i, i+1)
	}
}

// sharing finds who else of s's origin has its store: one that is active, one that waits to take it over, and one that merges, whatever
// its store.
func (f *family) sharing(s *snapshot) (source, heir, merging *snapshot) {
	for _, other := range s.origin.snaps {
		if other.merges && other != s {
			merging = other
		}
		switch {
		case other.cow != s.cow:
		case other.active:
			source = other
		default:
			heir = other
		}
	}
	return source, heir, merging
}
