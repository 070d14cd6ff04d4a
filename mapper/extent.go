package mapper

import "context"

// What is allocated can be asked at any time: the table is held, the gate is not passed, so that a suspended
// device anywhere in a stack does not make stat(2) wait.

// maxExtentSteps bounds how many changes between data and holes Allocated looks at; what is beyond
// counts as data.
const maxExtentSteps = 1 << 16

// Extent implements Extenter: how far from sector s on the device is data, or hole, all the same, at most
// up to max sectors. s and max lie within the device.
func (d *Device) Extent(ctx context.Context, s, max Sector) (run Sector, data bool, err error) {
	t, release := d.hold(LiveSlot)
	defer release()
	if t == nil {
		return 0, false, ErrIO
	}
	return t.extent(ctx, s, max)
}

// extent answers for the stretch that begins at s and does not reach past what one target, or one disk
// below it, can tell.
func (t *Table) extent(ctx context.Context, s, max Sector) (run Sector, data bool, err error) {
	size := t.Sectors()
	if s >= size || max == 0 {
		return 0, false, ErrIO
	}
	seg := t.find(s)
	max = min(max, seg.end-s)
	switch target := seg.target.(type) {
	case Extenter:
		return target.Extent(ctx, s-seg.start, max)
	case Remapper:
		disk, at, n := target.Remap(s - seg.start)
		max = min(max, n)
		if e, ok := disk.(Extenter); ok {
			return e.Extent(ctx, at, max)
		}
	}
	return max, true, nil
}

// Seek returns the first byte at or after off that is in data, or with data false in a hole. The end of the device
// counts as a hole. If there is none, and if off is past the end, ok is false.
func (d *Device) Seek(ctx context.Context, off int64, data bool) (at int64, ok bool, err error) {
	t, release := d.hold(LiveSlot)
	defer release()
	if t == nil {
		return 0, false, nil
	}
	return t.seek(ctx, off, data)
}

func (t *Table) seek(ctx context.Context, off int64, data bool) (int64, bool, error) {
	size := t.Sectors()
	if off < 0 || off >= size.Bytes() {
		return 0, false, nil
	}
	for s := SectorsOf(off); s < size; {
		run, isData, err := t.extent(ctx, s, size-s)
		if err != nil {
			return 0, false, err
		}
		if isData == data {
			return max(off, s.Bytes()), true, nil
		}
		s += run
		if err := ctx.Err(); err != nil {
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
	var sum Sector
	size := t.Sectors()
	steps := 0
	for s := Sector(0); s < size; steps++ {
		if steps == maxExtentSteps {
			return (sum + size - s).Bytes()
		}
		run, data, err := t.extent(ctx, s, size-s)
		if err != nil {
			return (sum + size - s).Bytes()
		}
		if data {
			sum += run
		}
		s += run
	}
	return sum.Bytes()
}
