package mapper

import "context"

// What is allocated can be asked at any time: the table is held, the gate is not passed, so that a suspended
// device anywhere in a stack does not make stat(2) wait.

// maxExtentSteps bounds how many changes between data and holes Allocated looks at in one disk or target; what
// is beyond counts as data.
const maxExtentSteps = 1 << 16

// A Measurer is a disk, or a target, that knows how much of a range is data without looking for the holes.
type Measurer interface {
	// Allocated returns how many of the n sectors from s on are data. ok is false if it cannot tell.
	Allocated(s, n Sector) (data Sector, ok bool)
}

// An extentWalk remembers what the disks below said last, so that a walk along a striped device does not ask
// them for each chunk. It serves one call.
type extentWalk struct{ last map[Disk]diskRun }

// A diskRun is a stretch [start, end) of a disk that is data, or hole, all the same.
type diskRun struct {
	start, end Sector
	data       bool
}

// table returns how far from sector s on t is data, or hole, all the same, at most up to max sectors.
// s and max lie within the table, max >= 1.
func (w *extentWalk) table(ctx context.Context, t *Table, s, max Sector) (run Sector, data bool, err error) {
	seg := t.find(s)
	max = min(max, seg.end-s)
	switch target := seg.target.(type) {
	case Extenter:
		return target.Extent(ctx, s-seg.start, max)
	case Remapper:
		disk, at, n := target.Remap(s - seg.start)
		return w.disk(ctx, disk, at, min(max, n))
	}
	return max, true, nil
}

// disk is table for what a target stands on. What lies past the end of the disk counts as data.
func (w *extentWalk) disk(ctx context.Context, d Disk, s, max Sector) (run Sector, data bool, err error) {
	if dev, ok := d.(*Device); ok {
		t, release := dev.hold(LiveSlot)
		defer release()
		if t == nil || s >= t.Sectors() {
			return max, true, nil
		}
		return w.table(ctx, t, s, min(max, t.Sectors()-s))
	}
	e, ok := d.(Extenter)
	size := d.Sectors()
	if !ok || s >= size {
		return max, true, nil
	}
	have, ok := w.last[d]
	if !ok || s < have.start || s >= have.end {
		n, data, err := e.Extent(ctx, s, size-s)
		if err != nil {
			return 0, false, err
		}
		have = diskRun{s, s + n, data}
		if w.last == nil {
			w.last = make(map[Disk]diskRun)
		}
		w.last[d] = have
	}
	return min(max, have.end-s), have.data, nil
}

// Seek returns the first byte at or after off that is in data, or with data false in a hole. The end of the
// device counts as a hole. If there is none, and if off is past the end, ok is false.
func (d *Device) Seek(ctx context.Context, off int64, data bool) (at int64, ok bool, err error) {
	t, release := d.hold(LiveSlot)
	defer release()
	if t == nil || off < 0 || off >= t.Sectors().Bytes() {
		return 0, false, nil
	}
	var w extentWalk
	size := t.Sectors()
	for s := SectorsOf(off); s < size; {
		run, isData, err := w.table(ctx, t, s, size-s)
		if err != nil {
			return 0, false, err
		}
		if isData == data {
			return max(off, s.Bytes()), true, nil
		}
		s += run
		if ctx.Err() != nil {
			return 0, false, context.Cause(ctx)
		}
	}
	return size.Bytes(), !data, nil
}

// Allocated returns how many bytes of the device are data. What it cannot tell counts as data.
func (d *Device) Allocated(ctx context.Context) int64 {
	t, release := d.hold(LiveSlot)
	defer release()
	if t == nil {
		return 0
	}
	return t.allocated(ctx, 0, t.Sectors()).Bytes()
}

// allocated returns how many of the n sectors from s on are data. Of a target that only forwards the areas
// are asked as wholes if all of it is in the range, else it is walked.
func (t *Table) allocated(ctx context.Context, s, n Sector) (sum Sector) {
	for end := s + n; s < end; {
		seg := t.find(s)
		stop := min(end, seg.end)
		_, forwards := seg.target.(Remapper)
		a, lists := seg.target.(Areaser)
		whole := s == seg.start && stop == seg.end
		if m, ok := seg.target.(Measurer); ok && whole {
			if data, ok := m.Allocated(0, seg.end-seg.start); ok {
				sum += data
				s = stop
				continue
			}
		}
		if forwards && lists && whole {
			for _, area := range a.Areas() {
				sum += allocatedOn(ctx, area)
			}
		} else {
			sum += walkAllocated(s, stop, func(w *extentWalk, s, max Sector) (Sector, bool, error) {
				return w.table(ctx, t, s, max)
			})
		}
		s = stop
	}
	return sum
}

func allocatedOn(ctx context.Context, a Area) Sector {
	if dev, ok := a.Disk.(*Device); ok {
		t, release := dev.hold(LiveSlot)
		defer release()
		if t == nil || a.Start >= t.Sectors() {
			return a.Len
		}
		return t.allocated(ctx, a.Start, min(a.Len, t.Sectors()-a.Start))
	}
	if m, ok := a.Disk.(Measurer); ok {
		if data, ok := m.Allocated(a.Start, a.Len); ok {
			return data
		}
	}
	return walkAllocated(a.Start, a.Start+a.Len, func(w *extentWalk, s, max Sector) (Sector, bool, error) {
		return w.disk(ctx, a.Disk, s, max)
	})
}

// walkAllocated sums up the data in [s, end), of which at tells stretch by stretch.
func walkAllocated(s, end Sector, at func(w *extentWalk, s, max Sector) (run Sector, data bool, err error)) (sum Sector) {
	var w extentWalk
	for range maxExtentSteps {
		if s >= end {
			return sum
		}
		run, data, err := at(&w, s, end-s)
		if err != nil {
			break
		}
		if data {
			sum += run
		}
		s += run
	}
	return sum + end - s
}
