package flakey

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// Type is the flakey target.
var Type = mapper.Type{Name: "flakey", Version: [3]int{1, 5, 0}, New: newTarget}

type target struct {
	disk          mapper.Disk
	start, length mapper.Sector
	up, down      uint32 // seconds; their sum is at least 1 and fits
	began         time.Time
	features      features
	damaged       atomic.Uint64 // requests that chance decided about
}

var (
	_ mapper.Areaser = (*target)(nil)
	_ mapper.Tabler  = (*target)(nil)
)

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	if len(s.Args) < 4 {
		return nil, mapper.BadArg("Invalid argument count", "%d arguments: want DISK OFFSET UP DOWN, and perhaps features", len(s.Args))
	}
	start, ok := args.Uint64(s.Args[1])
	if !ok {
		return nil, mapper.BadArg("Invalid device sector", "offset %q: want a number of sectors", s.Args[1])
	}
	t := &target{start: mapper.Sector(start), length: s.Len, began: time.Now()}
	if t.up, ok = args.ScanUint32(s.Args[2]); !ok {
		return nil, mapper.BadArg("Invalid up interval", "%q: want a number of seconds", s.Args[2])
	}
	if t.down, ok = args.ScanUint32(s.Args[3]); !ok {
		return nil, mapper.BadArg("Invalid up interval", "down interval %q: want a number of seconds", s.Args[3])
	}
	switch sum := t.up + t.down; {
	case sum == 0:
		return nil, mapper.BadArg("Total (up + down) interval is zero", "%d+%d seconds, in 32 bits", t.up, t.down)
	case sum < t.up:
		return nil, mapper.BadArg("Interval overflow", "%d+%d seconds: want 32 bits", t.up, t.down)
	}
	var err error
	if t.features, err = parseFeatures(s.Args[4:]); err != nil {
		return nil, err
	}
	if t.disk, err = args.Open(ctx, h, s.Args[0], "Device lookup failed"); err != nil {
		return nil, err
	}
	t.features.drawSeed(h)
	return t, nil
}

// isDown reports whether the device is down.
func (t *target) isDown() bool {
	if t.up == 0 || t.down == 0 {
		return t.up == 0
	}
	second := uint64(time.Since(t.began) / time.Second)
	return second%uint64(t.up+t.down) >= uint64(t.up)
}

// Submit passes r on while the device is up, and does what the features say while it is down.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	r.Start += t.start
	if r.Op == mapper.OpFlush {
		r.Start = 0
	}
	if !t.isDown() {
		return t.disk.Submit(ctx, r)
	}
	f := &t.features
	if r.Op == mapper.OpRead {
		if f.errorReads {
			return mapper.ErrIO
		}
		err := t.disk.Submit(ctx, r)
		if err == nil {
			t.damage(r, r.Data)
		}
		return err
	}
	switch {
	case f.dropWrites:
		return nil
	case f.errorWrites:
		return mapper.ErrIO
	case r.Op != mapper.OpWrite || !f.damagesWrites():
		return t.disk.Submit(ctx, r)
	}
	buf := mapper.GetBuffer(len(r.Data)) // what is written belongs to the caller
	defer buf.Free()
	copy(buf.Data, r.Data)
	t.damage(r, buf.Data)
	r.Data = buf.Data
	return t.disk.Submit(ctx, r)
}

// Areas returns the one range.
func (t *target) Areas() []mapper.Area {
	return []mapper.Area{{Disk: t.disk, Start: t.start, Len: t.length}}
}

// Table returns DISK OFFSET UP DOWN COUNT FEATURE*, with a blank at the end.
func (t *target) Table(bool) []string {
	features := t.features.words()
	words := []string{mapper.DiskName(t.disk), strconv.FormatUint(uint64(t.start), 10), decimal(t.up), decimal(t.down), strconv.Itoa(len(features))}
	return append(append(words, features...), "")
}

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
