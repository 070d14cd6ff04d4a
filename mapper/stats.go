package mapper

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Statistics of I/O that messages ask for (@stats_create and so on), as the kernel's Documentation/admin-guide/device-mapper/statistics.rst says: regions of a
// device, in areas, each with counters. A request that touches several areas counts in each with its sectors there.

// maxStatBytes bounds what the counters of a device take of memory.
const maxStatBytes = 64 << 20

// stats are the regions of a device.
type stats struct {
	mu      sync.Mutex
	regions []*statRegion // by id; nil where one was deleted
	bytes   int
	// active is those that are not nil, for whoever does I/O; nil while there are none.
	active atomic.Pointer[[]*statRegion]
}

// A statRegion is a range of the device that is watched.
type statRegion struct {
	id               int
	start, end, step uint64 // sectors
	precise          bool   // nanoseconds, not milliseconds
	bounds           []uint64
	program          string

	mu    sync.Mutex
	aux   string
	areas []statArea
}

const (
	statRead = iota
	statWrite
)

// A statArea is the counters of one area. Times are in nanoseconds.
type statArea struct {
	ios, sectors, ticks, ioTicks [2]uint64
	busy, queued                 uint64
	histogram                    []uint64

	inFlight [2]uint64
	stamp    time.Time // of the last look at inFlight
}

// round adds the time since the last look to what is counted while requests are under way.
func (a *statArea) round(now time.Time) {
	since := uint64(max(0, now.Sub(a.stamp)))
	a.stamp = now
	for i, n := range a.inFlight {
		if n > 0 {
			a.ioTicks[i] += since
		}
	}
	if n := a.inFlight[statRead] + a.inFlight[statWrite]; n > 0 {
		a.busy += since
		a.queued += since * n
	}
}

// clear sets the counters to zero. What is under way stays.
func (a *statArea) clear() {
	*a = statArea{histogram: a.histogram, inFlight: a.inFlight, stamp: a.stamp}
	clear(a.histogram)
}

// beginStats counts a request that begins, and returns when that was.
func beginStats(regions []*statRegion, r Request) time.Time {
	now := time.Now()
	for _, g := range regions {
		g.each(r, func(a *statArea, _ uint64) {
			a.round(now)
			a.inFlight[direction(r.Op)]++
		})
	}
	return now
}

// endStats counts a request that has ended.
func endStats(regions []*statRegion, r Request, began time.Time) {
	now := time.Now()
	for _, g := range regions {
		g.each(r, func(a *statArea, sectors uint64) {
			d := direction(r.Op)
			a.round(now)
			a.inFlight[d]--
			a.ios[d]++
			a.sectors[d] += sectors
			took := uint64(max(0, now.Sub(began)))
			a.ticks[d] += took
			if len(a.histogram) > 0 {
				n, _ := slices.BinarySearchFunc(g.bounds, g.unit(took), func(bound, t uint64) int {
					if bound <= t {
						return -1
					}
					return 1
				})
				a.histogram[n]++
			}
		})
	}
}

func direction(op Op) int {
	if op == OpRead {
		return statRead
	}
	return statWrite
}

// unit returns a time in what the region's are told in.
func (g *statRegion) unit(nanoseconds uint64) uint64 {
	if g.precise {
		return nanoseconds
	}
	return nanoseconds / uint64(time.Millisecond)
}

// each calls f with each area that r touches, and how many sectors of it.
func (g *statRegion) each(r Request, f func(a *statArea, sectors uint64)) {
	from, to := max(uint64(r.Start), g.start), min(uint64(r.End()), g.end)
	if from >= to {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for from < to {
		i := (from - g.start) / g.step
		next := min(to, g.start+(i+1)*g.step)
		f(&g.areas[i], next-from)
		from = next
	}
}

// badStats refuses a message, as the kernel does.
func (d *Device) badStats(name, detail string) error {
	reason := "Invalid parameters for message " + name
	d.mgr.log.Printf("device-mapper: stats: %s", reason)
	return &ArgError{Reason: reason, Detail: detail}
}

// ReplyFits reports whether a message's reply fits in room bytes with its NUL. Like the kernel it takes one that fills them for cut.
func ReplyFits(reply string, room int) bool { return len(reply)+1 < room }

// largestRegion is what the kernel wants room for before it makes a region, so that no number of one is lost.
const largestRegion = "2147483647"

// statMessage answers the message args, which begins with @stats_.
func (d *Device) statMessage(args []string, room int) (reply string, err error) {
	s, name := &d.stats, strings.ToLower(args[0])
	wants := map[string][]int{
		"@stats_create": {3, 4, 5, 6, 7, 8, 9, 10}, "@stats_delete": {2}, "@stats_clear": {2}, "@stats_list": {1, 2},
		"@stats_print": {2, 4}, "@stats_print_clear": {2, 4}, "@stats_set_aux": {3},
	}[name]
	switch {
	case wants == nil:
		return "", d.refuseMessage("Unsupported message sent to DM core: "+args[0], "")
	case !slices.Contains(wants, len(args)):
		return "", d.badStats(args[0], fmt.Sprintf("%d arguments", len(args)-1))
	case name == "@stats_create":
		g, detail := parseStats(args[1:], uint64(d.Sectors()))
		if detail != "" {
			return "", d.badStats(args[0], detail)
		}
		if !ReplyFits(largestRegion, room) {
			return largestRegion, nil
		}
		id, err := s.add(g)
		return strconv.Itoa(id), err
	case name == "@stats_list":
		return s.list(args[1:]), nil
	}
	id, ok := scanStat(args[1], math.MaxInt32)
	if !ok {
		return "", d.badStats(args[0], ShowArg(args[1])+": want the number of a region")
	}
	first, n := uint64(0), uint64(math.MaxUint64)
	if len(args) == 4 {
		var ok1, ok2 bool
		first, ok1 = scanStat(args[2], math.MaxUint64)
		n, ok2 = scanStat(args[3], math.MaxUint64)
		if !ok1 || !ok2 {
			return "", d.badStats(args[0], "want the first area, and how many")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if id >= uint64(len(s.regions)) || s.regions[id] == nil {
		return "", fmt.Errorf("there is no region %d: %w", id, unix.ENOENT)
	}
	g := s.regions[id]
	switch name {
	case "@stats_delete":
		s.regions[id] = nil
		s.bytes -= g.bytes()
		s.publish()
	case "@stats_set_aux":
		g.mu.Lock()
		defer g.mu.Unlock()
		g.aux = args[2]
	case "@stats_clear":
		g.clear()
	default:
		reply = g.print(first, n, name == "@stats_print_clear", room)
	}
	return reply, nil
}

// scanStat reads a number of digits alone.
func scanStat(s string, most uint64) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= most && s[0] != '+'
}

// parseStats reads RANGE STEP [COUNT OPTION*] [PROGRAM [AUX]]. detail says what is wrong, "" if nothing is.
func parseStats(a []string, size uint64) (g *statRegion, detail string) {
	g = &statRegion{program: "-", aux: "-"}
	length := max(size, 1)
	if a[0] != "-" {
		start, rest, ok := strings.Cut(a[0], "+")
		var ok1, ok2 bool
		g.start, ok1 = scanStat(start, math.MaxUint64)
		length, ok2 = scanStat(rest, math.MaxUint64)
		if !ok || !ok1 || !ok2 {
			return nil, ShowArg(a[0]) + ": want - or START+LENGTH, in sectors"
		}
	}
	if g.end = g.start + length; g.end <= g.start {
		return nil, ShowArg(a[0]) + ": the range is empty, or too long"
	}
	var ok bool
	if parts, divides := strings.CutPrefix(a[1], "/"); divides {
		n, fine := scanStat(parts, math.MaxUint32)
		if ok = fine && n > 0; ok {
			g.step = (length + n - 1) / n
			if length > math.MaxUint64-n {
				g.step = length/n + 1
			}
		}
	} else {
		g.step, ok = scanStat(a[1], math.MaxUint64)
	}
	if !ok || g.step == 0 {
		return nil, ShowArg(a[1]) + ": want the sectors of an area, or / and a number of areas"
	}
	a = a[2:]
	if len(a) > 0 {
		if n, isCount := scanStat(a[0], math.MaxUint32); isCount {
			if n > uint64(len(a)-1) {
				return nil, fmt.Sprintf("%d options, and %d words follow", n, len(a)-1)
			}
			if detail := g.options(a[1 : 1+n]); detail != "" {
				return nil, detail
			}
			a = a[1+n:]
		}
	}
	for _, to := range []*string{&g.program, &g.aux} {
		if len(a) > 0 {
			*to, a = a[0], a[1:]
		}
	}
	if len(a) > 0 {
		return nil, ShowArg(a[0]) + ": nothing follows AUX"
	}
	return g, ""
}

// options reads the options of a region.
func (g *statRegion) options(words []string) (detail string) {
	for _, w := range words {
		bounds, isHistogram := cutPrefixFold(w, "histogram:")
		switch {
		case strings.EqualFold(w, "precise_timestamps"):
			g.precise = true
		case isHistogram && g.bounds == nil:
			last := uint64(0)
			for b := range strings.SplitSeq(bounds, ",") {
				n, ok := scanStat(b, math.MaxUint64)
				if !ok || n <= last {
					return ShowArg(w) + ": want growing numbers with commas between them"
				}
				last = n
				g.bounds = append(g.bounds, n)
			}
		default:
			return ShowArg(w) + ": want precise_timestamps, or histogram: once"
		}
	}
	return ""
}

func cutPrefixFold(s, prefix string) (rest string, ok bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// count returns how many areas the region has.
func (g *statRegion) count() uint64 { return (g.end-g.start-1)/g.step + 1 }

// bytes returns what the counters take, more or less.
func (g *statRegion) bytes() int {
	const area = 160
	n := g.count()
	if n > maxStatBytes/area {
		return maxStatBytes + 1
	}
	return int(n) * (area + 8*(len(g.bounds)+1))
}

// add gives g the lowest free id and has it watched.
func (s *stats) add(g *statRegion) (id int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	need := g.bytes()
	if need > maxStatBytes-s.bytes {
		return 0, fmt.Errorf("counters of %d areas: more than %d MiB for this device: %w", g.count(), maxStatBytes>>20, unix.ENOMEM)
	}
	g.areas = make([]statArea, g.count())
	for i := range g.areas {
		if len(g.bounds) > 0 {
			g.areas[i].histogram = make([]uint64, len(g.bounds)+1)
		}
	}
	g.id = slices.Index(s.regions, nil)
	if g.id < 0 {
		g.id = len(s.regions)
		s.regions = append(s.regions, nil)
	}
	s.regions[g.id] = g
	s.bytes += need
	s.publish()
	return g.id, nil
}

// publish has I/O see the regions. mu is held.
func (s *stats) publish() {
	active := slices.DeleteFunc(slices.Clone(s.regions), func(g *statRegion) bool { return g == nil })
	if len(active) == 0 {
		s.active.Store(nil)
		return
	}
	s.active.Store(&active)
}

// list returns a line for each region, of one program if it is named.
func (s *stats) list(program []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, g := range s.regions {
		if g == nil || len(program) > 0 && program[0] != g.program {
			continue
		}
		g.mu.Lock()
		fmt.Fprintf(&b, "%d: %d+%d %d %s %s", g.id, g.start, g.end-g.start, g.step, g.program, g.aux)
		g.mu.Unlock()
		if g.precise {
			b.WriteString(" precise_timestamps")
		}
		if len(g.bounds) > 0 {
			b.WriteString(" histogram:" + joinNumbers(g.bounds, ","))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func joinNumbers(list []uint64, between string) string {
	var b strings.Builder
	for i, n := range list {
		if i > 0 {
			b.WriteString(between)
		}
		b.WriteString(strconv.FormatUint(n, 10))
	}
	return b.String()
}

// clear sets the counters of all areas to zero.
func (g *statRegion) clear() { g.print(0, math.MaxUint64, true, math.MaxInt) }

// print returns the counters of n areas from first on, a line each, and clears them if it is told to and the reply fits in room.
func (g *statRegion) print(first, n uint64, clears bool, room int) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	count := uint64(len(g.areas))
	end := count
	if first+n >= first {
		end = min(end, first+n)
	}
	var b strings.Builder
	now := time.Now()
	for i := min(first, end); i < end; i++ {
		a := &g.areas[i]
		a.round(now)
		fmt.Fprintf(&b, "%d+%d", g.start+i*g.step, g.step) // as if the last were whole, too
		for d := range 2 {
			// The second is how many were merged: requests are not.
			fmt.Fprintf(&b, " %d 0 %d %d", a.ios[d], a.sectors[d], g.unit(a.ticks[d]))
		}
		fmt.Fprintf(&b, " %d %d %d %d %d", a.inFlight[statRead]+a.inFlight[statWrite],
			g.unit(a.busy), g.unit(a.queued), g.unit(a.ioTicks[statRead]), g.unit(a.ioTicks[statWrite]))
		if len(a.histogram) > 0 {
			b.WriteString(" " + joinNumbers(a.histogram, ":"))
		}
		b.WriteByte('\n')
	}
	if clears && ReplyFits(b.String(), room) {
		for i := min(first, end); i < end; i++ {
			g.areas[i].clear()
		}
	}
	return b.String()
}
