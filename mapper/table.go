package mapper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Table maps a device: segments that follow each other without a gap. It does not change
// once it is built.
type Table struct {
	dev      *Device
	segs     []segment
	ends     []Sector // of segs, to search in
	limits   Limits
	readOnly bool
	disks    []Disk // distinct, in the order the lines named them
	held     map[Disk]func()
	byName   map[string]Disk // as the lines called them; dropped once the table is built
	holders  gate            // control operations that look at the table; close waits for them

	flushDisks []Disk     // distinct disks below targets that only forward
	flushSegs  []*segment // other segments with something to flush
}

// A segment is one line of a table.
type segment struct {
	start, end Sector // of the device
	typ        *Type
	target     Target
	host       *segmentHost
	limits     Limits
}

// Sectors returns the length of the device that t maps.
func (t *Table) Sectors() Sector {
	if len(t.ends) == 0 {
		return 0
	}
	return t.ends[len(t.ends)-1]
}

// find returns the segment that s is in; s < t.Sectors().
func (t *Table) find(s Sector) *segment {
	lo, hi := 0, len(t.ends)-1
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if s < t.ends[mid] {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return &t.segs[lo]
}

// buildTable makes a table for d. The error is what the caller is told; what the kernel would say is
// in the log. When it fails nothing is left open.
func buildTable(ctx context.Context, d *Device, specs []Spec, readOnly bool) (_ *Table, err error) {
	t := &Table{dev: d, readOnly: readOnly}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	log := d.mgr.log
	if len(specs) == 0 {
		log.Printf("device-mapper: ioctl: populate_table: no targets specified")
		return nil, BadArg("no targets specified", "a table has at least one line")
	}
	if len(specs) > MaxSegments {
		return nil, BadArg("too many targets", "a table has at most %d", MaxSegments)
	}
	t.segs = make([]segment, 0, len(specs))
	for i, s := range specs {
		if err := t.add(ctx, s, len(specs)); err != nil {
			log.Printf("device-mapper: table: %s: %s", d.Number(), kernelText(s, err))
			log.Printf("device-mapper: ioctl: error adding target to table")
			var plain *shapeError
			if errors.As(err, &plain) {
				err = &plain.ArgError
			}
			return nil, &SegmentError{Index: i, Spec: s.withoutArgs(), Err: err}
		}
	}
	t.ends = make([]Sector, len(t.segs))
	for i := range t.segs {
		t.ends[i] = t.segs[i].end
	}
	if i, err := t.stackLimits(); err != nil {
		log.Printf("device-mapper: table: %s: %s", d.Number(), err.Error())
		log.Printf("device-mapper: core: Cannot calculate initial queue limits")
		log.Printf("device-mapper: ioctl: unable to set up device queue for new table.")
		return nil, &SegmentError{Index: i, Spec: specs[i].withoutArgs(), Err: err}
	}
	t.planFlush()
	t.byName = nil
	return t, nil
}

// withoutArgs returns s for an error, which may be kept and shown: an argument may be a key.
func (s Spec) withoutArgs() Spec {
	s.Args = nil
	return s
}

// A shapeError refuses a line before its target is asked; the kernel logs it without an errno.
type shapeError struct{ ArgError }

func shape(reason, detail string, args ...any) error {
	return &shapeError{ArgError{Reason: reason, Detail: fmt.Sprintf(detail, args...)}}
}

// kernelText returns the line that the kernel logs when it refuses s.
func kernelText(s Spec, err error) string {
	var plain *shapeError
	if errors.As(err, &plain) {
		return plain.Reason
	}
	reason := err.Error()
	var arg *ArgError
	if errors.As(err, &arg) {
		reason = arg.Reason
	}
	return fmt.Sprintf("%s: %s (-%s)", s.Type, reason, errnoName(Errno(err)))
}

// errnoName returns the name that the kernel has for n: of two for one number not the library's.
func errnoName(n unix.Errno) string {
	if n == unix.EOPNOTSUPP {
		return "EOPNOTSUPP"
	}
	return unix.ErrnoName(n)
}

// add appends the segment of s, n being the number of segments of the whole table. The order of the
// checks is the kernel's.
func (t *Table) add(ctx context.Context, s Spec, n int) error {
	switch {
	case s.Len == 0:
		return shape("zero-length target", "length 0")
	case s.Start > MaxSectors || s.Len > MaxSectors-s.Start:
		return shape("too large device", "start+length is at most %d", MaxSectors)
	}
	typ := t.dev.mgr.registry.Lookup(s.Type)
	switch {
	case typ == nil:
		return shape(s.shownType()+": unknown target type", "%s", t.dev.mgr.registry.hint())
	case len(t.segs) > 0 && t.segs[0].typ.Features&Singleton != 0:
		return shape("target type "+t.segs[0].typ.Name+" must appear alone in table", "the table has %d lines", n)
	case typ.Features&Singleton != 0 && len(t.segs) > 0:
		return BadArg("singleton target type must appear alone in table", "the table has %d lines", n)
	case typ.Features&AlwaysWriteable != 0 && t.readOnly:
		return BadArg("target type may not be included in a read-only table", "load it without read-only")
	case len(t.segs) > 0 && t.segs[0].typ != typ && (typ.Features|t.segs[0].typ.Features)&Immutable != 0:
		return BadArg("immutable target type cannot be mixed with other target types", "the table has %d lines", n)
	}
	var end Sector
	if len(t.segs) > 0 {
		end = t.segs[len(t.segs)-1].end
	}
	if s.Start != end {
		return BadArg("Gap in table", "starts at %d, the line before ends at %d", s.Start, end)
	}
	host := &segmentHost{table: t, typ: typ}
	s.Args = append([]string(nil), s.Args...)
	target, err := typ.New(ctx, host, s)
	if err != nil {
		return err
	}
	t.segs = append(t.segs, segment{start: s.Start, end: s.Start + s.Len, typ: typ, target: target, host: host})
	return nil
}

// stackLimits computes the limits of each segment and of the table. On error it returns the
// index of the segment at fault.
func (t *Table) stackLimits() (int, error) {
	t.limits.MaxWriteZeroes, t.limits.MaxDiscard = MaxSectors, MaxSectors
	tags := make([]TagFormat, 0, len(t.segs))
	for i := range t.segs {
		seg := &t.segs[i]
		areas := seg.areas()
		l := Limits{MaxWriteZeroes: MaxSectors, MaxDiscard: MaxSectors}.Normal()
		if len(areas) == 0 {
			l.MaxWriteZeroes, l.MaxDiscard = 0, 0
		}
		var below []TagFormat
		for _, a := range areas {
			limits := a.Disk.Limits()
			l = l.Stack(limits)
			below = append(below, limits.Tags)
		}
		if seg.typ.Features&PassesTags != 0 {
			l.Tags = alike(below)
		}
		if h, ok := seg.target.(Hinter); ok {
			h.Hints(&l)
		}
		for _, a := range areas {
			if err := t.checkArea(a, l); err != nil {
				return i, err
			}
		}
		seg.limits = l
		t.limits = t.limits.Stack(l)
		tags = append(tags, l.Tags)
	}
	t.limits.Tags = alike(tags)
	t.limits.Split, t.limits.SplitDiscard = 0, false
	t.limits.ReadOnly = t.readOnly
	return t.alignLines()
}

// alignLines finds a line whose end is amid a block of the table, unless the lines that the rest of the block is in have
// blocks small enough for it. As the kernel it reports the line that has too large ones, else the number after the last.
func (t *Table) alignLines() (int, error) {
	block := t.limits.LogicalSectors()
	rest := Sector(0) // of the block that the line before ends in
	for i := range t.segs {
		seg := &t.segs[i]
		length := seg.end - seg.start
		line := i
		tooLarge := rest < length && rest%seg.limits.LogicalSectors() != 0
		if !tooLarge {
			rest = (block - seg.end%block) % block
			line++
		}
		if tooLarge || rest != 0 && line == len(t.segs) {
			return i, BadArg(fmt.Sprintf("table line %d (start sect %d len %d) not aligned to h/w logical block size %d",
				line, seg.start, length, t.limits.LogicalBlock), "")
		}
	}
	return 0, nil
}

// areas returns what seg stands on; a target that does not say stands on all of its disks.
func (seg *segment) areas() []Area {
	if a, ok := seg.target.(Areaser); ok {
		return a.Areas()
	}
	areas := make([]Area, len(seg.host.disks))
	for i, d := range seg.host.disks {
		areas[i] = Area{Disk: d}
	}
	return areas
}

// checkArea finds ranges that do not fit their disk. A disk of size 0 is not checked: a mapped
// device without a table gets one later. Under another table for a device that has one, as when LVM extends a stack, a mapped
// device may be as large as the table that it is about to get.
func (t *Table) checkArea(a Area, l Limits) error {
	size := a.Disk.Sectors()
	if below, ok := a.Disk.(*Device); ok && size != 0 && t.dev.live.Load() != nil {
		size = max(size, below.loaded())
	}
	if size == 0 || a.Len == 0 {
		return nil
	}
	if a.Start >= size || a.Len > size-a.Start {
		return BadArg(fmt.Sprintf("%s too small for target: start=%d, len=%d, dev_size=%d", KernelName(a.Disk), a.Start, a.Len, size), "")
	}
	if n := l.LogicalSectors(); a.Start%n != 0 {
		return BadArg(fmt.Sprintf("start=%d not aligned to h/w logical block size %d of %s", a.Start, l.LogicalBlock, KernelName(a.Disk)), "")
	} else if a.Len%n != 0 {
		return BadArg(fmt.Sprintf("len=%d not aligned to h/w logical block size %d of %s", a.Len, l.LogicalBlock, KernelName(a.Disk)), "")
	}
	return nil
}

// planFlush decides whom a flush goes to: each disk below targets that only forward once, and each
// other target that has anything volatile below. A mapped device below may get another table later, so it is
// always asked.
func (t *Table) planFlush() {
	seen := make(map[Disk]bool)
	for i := range t.segs {
		seg := &t.segs[i]
		if _, ok := seg.target.(Remapper); !ok {
			if seg.limits.VolatileCache || slices.ContainsFunc(seg.host.disks, volatile) {
				t.flushSegs = append(t.flushSegs, seg)
			}
			continue
		}
		for _, d := range seg.host.disks {
			if !seen[d] && volatile(d) {
				seen[d] = true
				t.flushDisks = append(t.flushDisks, d)
			}
		}
	}
}

// volatile reports whether a flush of d may be needed as long as a table stands on it.
func volatile(d Disk) bool {
	_, mapped := d.(*Device)
	return mapped || d.Limits().VolatileCache
}

// close closes the targets and then releases their disks. No request is in flight and nobody finds
// the table any more; who still looks at it is waited for.
func (t *Table) close() {
	if err := t.holders.shut(context.Background()); err != nil {
		panic("mapper: " + err.Error())
	}
	for i := range t.segs {
		if c, ok := t.segs[i].target.(io.Closer); ok {
			if err := c.Close(); err != nil {
				t.dev.mgr.log.Printf("device-mapper: %s: %s: close: %v", t.segs[i].typ.Name, t.dev.Number(), err)
			}
		}
	}
	for _, release := range t.held {
		release()
	}
	t.held = nil
}

// A TableLine is one line of a table or of a status as listings print it: "START LEN TYPE PARAMS",
// where empty PARAMS leave the blank behind TYPE.
type TableLine struct {
	Start, Len Sector
	Type       string
	Params     string
}

// String returns the line.
func (l TableLine) String() string {
	return fmt.Sprintf("%d %d %s %s", l.Start, l.Len, l.Type, l.Params)
}

// lines returns the table as loaded. With names, mapped devices appear by name instead of number, so that
// the lines can be replayed elsewhere.
func (t *Table) lines(showKeys, names bool) []TableLine {
	lines := make([]TableLine, len(t.segs))
	for i := range t.segs {
		seg := &t.segs[i]
		lines[i] = TableLine{Start: seg.start, Len: seg.end - seg.start, Type: seg.typ.Name}
		tabler, ok := seg.target.(Tabler)
		if !ok {
			continue
		}
		words := tabler.Table(showKeys)
		if names {
			words = seg.host.replayable(words)
		}
		lines[i].Params = strings.Join(words, " ")
	}
	return lines
}

// status asks the targets for their status lines.
func (t *Table) status(ctx context.Context, noFlush bool) ([]TableLine, error) {
	lines := make([]TableLine, len(t.segs))
	for i := range t.segs {
		seg := &t.segs[i]
		lines[i] = TableLine{Start: seg.start, Len: seg.end - seg.start, Type: seg.typ.Name}
		if s, ok := seg.target.(Statuser); ok {
			text, err := s.Status(ctx, noFlush)
			if err != nil {
				return nil, fmt.Errorf("status of segment %d: %w", i, err)
			}
			lines[i].Params = text
		}
	}
	return lines, nil
}
