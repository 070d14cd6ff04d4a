package delay

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// Type is the delay target.
var Type = mapper.Type{Name: "delay", Version: [3]int{1, 3, 0}, New: newTarget}

// Classes of requests, in the order of a table line.
const (
	reads = iota
	writes
	flushes
	classes
)

type target struct {
	length  mapper.Sector
	class   [classes]class
	given   int // how many classes the table line had
	waiting [classes]atomic.Int64
	// released is closed while nothing shall wait.
	released atomic.Pointer[chan struct{}]
}

// A class of requests goes to disk, from start on, after delay.
type class struct {
	disk  mapper.Disk
	start mapper.Sector
	delay time.Duration
	word  string // delay as listings print it
}

var (
	_ mapper.Areaser       = (*target)(nil)
	_ mapper.Tabler        = (*target)(nil)
	_ mapper.Statuser      = (*target)(nil)
	_ mapper.PreSuspender  = (*target)(nil)
	_ mapper.SuspendUndoer = (*target)(nil)
	_ mapper.Resumer       = (*target)(nil)
)

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	n := len(s.Args)
	if n != 3 && n != 6 && n != 9 {
		return nil, mapper.BadArg("Requires exactly 3, 6 or 9 arguments",
			"%d arguments: want DISK OFFSET DELAY for reads, and perhaps for writes and flushes", n)
	}
	t := &target{length: s.Len, given: n / 3}
	for i := range classes {
		if i >= t.given {
			t.class[i] = t.class[i-1]
			continue
		}
		c, err := parseClass(ctx, h, s.Args[3*i:3*i+3])
		if err != nil {
			return nil, err
		}
		t.class[i] = c
	}
	t.Resume()
	return t, nil
}

// parseClass reads DISK OFFSET DELAY.
func parseClass(ctx context.Context, h mapper.Host, words []string) (c class, err error) {
	start, ok := args.Uint64(words[1])
	if !ok {
		return c, mapper.BadArg("Invalid device sector", "offset %q: want a number of sectors", words[1])
	}
	c.start = mapper.Sector(start)
	if c.delay, c.word, ok = parseDelay(words[2]); !ok {
		return c, mapper.BadArg("Invalid delay", "%q: want milliseconds up to %d, or a number and us, ms, s, m or h", words[2], uint32(math.MaxUint32))
	}
	c.disk, err = args.Open(ctx, h, words[0], "Device lookup failed")
	return c, err
}

// longest is the longest delay, also with a unit: what the kernel can be told.
const longest = math.MaxUint32 * time.Millisecond

var units = []struct {
	name string
	unit time.Duration
}{ // a name that ends as another does comes first
	{"us", time.Microsecond}, {"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute}, {"h", time.Hour},
}

// parseDelay reads a number of milliseconds, or a number with a unit, and returns how listings print it.
func parseDelay(s string) (d time.Duration, word string, ok bool) {
	number, name, unit := s, "", time.Millisecond
	for _, u := range units {
		if rest, found := strings.CutSuffix(s, u.name); found {
			number, name, unit = rest, u.name, u.unit
			break
		}
	}
	n, ok := args.Uint64(number)
	if !ok || n > uint64(longest/unit) {
		return 0, "", false
	}
	return time.Duration(n) * unit, strconv.FormatUint(n, 10) + name, true
}

// Submit waits as long as the class of r does and passes it on.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	i := writes
	switch r.Op {
	case mapper.OpRead:
		i = reads
	case mapper.OpFlush:
		i = flushes
	}
	c := &t.class[i]
	if c.delay > 0 {
		if err := t.wait(ctx, i); err != nil {
			return err
		}
	}
	if r.Op == mapper.OpFlush {
		return t.flush(ctx, r)
	}
	r.Start += c.start
	return c.disk.Submit(ctx, r)
}

// wait returns when the delay of class i is over or nothing shall wait. The error is ctx's.
func (t *target) wait(ctx context.Context, i int) error {
	released := *t.released.Load()
	select {
	case <-released:
		return nil
	default:
	}
	t.waiting[i].Add(1)
	defer t.waiting[i].Add(-1)
	timer := time.NewTimer(t.class[i].delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-released:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// flush makes durable what was written, wherever flushes go.
func (t *target) flush(ctx context.Context, r mapper.Request) error {
	to, written := t.class[flushes].disk, t.class[writes].disk
	if to == written {
		return to.Submit(ctx, r)
	}
	disks := [2]mapper.Disk{written, to}
	return mapper.FanOut(len(disks), len(disks), func(i int) error { return disks[i].Submit(ctx, r) })
}

// PreSuspend sends what waits on its way. What comes until Resume does not wait.
func (t *target) PreSuspend(bool) {
	released := *t.released.Load()
	select {
	case <-released:
	default:
		close(released)
	}
}

// PreSuspendUndo makes requests wait again.
func (t *target) PreSuspendUndo() { t.Resume() }

// Resume makes requests wait.
func (t *target) Resume() {
	c := make(chan struct{})
	t.released.Store(&c)
}

// Areas returns the range of each class.
func (t *target) Areas() []mapper.Area {
	areas := make([]mapper.Area, t.given)
	for i := range areas {
		areas[i] = mapper.Area{Disk: t.class[i].disk, Start: t.class[i].start, Len: t.length}
	}
	return areas
}

// Table returns DISK OFFSET DELAY of each class that was given.
func (t *target) Table(bool) []string {
	var words []string
	for i := range t.given {
		c := &t.class[i]
		words = append(words, mapper.DiskName(c.disk), strconv.FormatUint(uint64(c.start), 10), c.word)
	}
	return words
}

// Status returns READS WRITES FLUSHES.
func (t *target) Status(context.Context, bool) (string, error) {
	return fmt.Sprint(t.waiting[reads].Load(), t.waiting[writes].Load(), t.waiting[flushes].Load()), nil
}
