package dmsetup

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"dmfs/fs/control"
)

// The numbers of a line of @stats_print, in its order. Times are in nanoseconds.
const (
	statReads = iota
	statReadsMerged
	statReadSectors
	statReadTime
	statWrites
	statWritesMerged
	statWriteSectors
	statWriteTime
	statInProgress
	statIOTicks
	statQueueTicks
	statReadTicks
	statWriteTicks
	statNumbers
)

// counters are what was counted in an area, or in several.
type counters struct {
	n         [statNumbers]uint64
	histogram []uint64
}

func (c *counters) requests() uint64 { return c.n[statReads] + c.n[statWrites] }

func (c *counters) add(other counters) {
	for i := range c.n {
		c.n[i] += other.n[i]
	}
	if c.histogram == nil {
		c.histogram = make([]uint64, len(other.histogram))
	}
	for i := range min(len(c.histogram), len(other.histogram)) {
		c.histogram[i] += other.histogram[i]
	}
}

// parseCounters reads the reply to @stats_print: a line for each area, START+LEN NUMBERS… [BINS].
func (g *statRegion) parseCounters(reply string) {
	g.counts = nil
	unit := uint64(millisecond)
	if g.precise {
		unit = 1
	}
	for line := range strings.Lines(reply) {
		w := strings.Fields(line)
		if len(w) <= statNumbers {
			continue
		}
		var c counters
		for i := range c.n {
			c.n[i], _ = strconv.ParseUint(w[1+i], 10, 64)
			switch i {
			case statReadTime, statWriteTime, statIOTicks, statQueueTicks, statReadTicks, statWriteTicks:
				c.n[i] *= unit
			}
		}
		if len(w) > 1+statNumbers {
			for bin := range strings.SplitSeq(w[1+statNumbers], ":") {
				n, _ := strconv.ParseUint(bin, 10, 64)
				c.histogram = append(c.histogram, n)
			}
		}
		g.counts = append(g.counts, c)
	}
}

// A statKind is what a row of a report is about.
type statKind int

const (
	areaRow statKind = iota
	regionRow
	groupRow
)

func (k statKind) String() string { return [...]string{"area", "region", "group"}[k] }

// A statObject is what a row of a report is about.
type statObject struct {
	kind    statKind
	name    string
	region  *statRegion   // of a group the first one
	area    int           // 0 unless kind is areaRow
	members []*statRegion // of a group
}

func (o *statObject) regionIDs() string {
	if o.kind == groupRow {
		return formatIDs(o.region.members)
	}
	return strconv.Itoa(o.region.id)
}

// regionID is a list for a group, which then comes after all regions.
func (o *statObject) regionID() cell {
	if o.kind == groupRow {
		return cell{o.regionIDs(), math.MaxUint64}
	}
	return numberCell(uint64(o.region.id))
}

func (o *statObject) groupID() cell {
	if o.region.group == nil {
		return cell{"-", math.MaxUint64}
	}
	return numberCell(uint64(o.region.group.id))
}

func (o *statObject) start() uint64 { return o.region.start }

func (o *statObject) length() (sectors uint64) {
	if o.kind != groupRow {
		return o.region.len
	}
	for _, g := range o.members {
		sectors += g.len
	}
	return sectors
}

// areaOffset is in sectors. That of a region's row is what dmstats makes of an area whose number is a flag of its own.
func (o *statObject) areaOffset() uint64 {
	const wholeRegion = 1 << 49
	switch o.kind {
	case areaRow:
		return uint64(o.area) * o.region.step
	case regionRow:
		return o.region.step * wholeRegion
	}
	return 0
}

func (o *statObject) areaStart() uint64 { return o.region.start + o.areaOffset() }

func (o *statObject) areaLen() uint64 {
	if o.kind == groupRow {
		return o.length()
	}
	return o.region.step
}

func (o *statObject) areas() int {
	if o.kind == groupRow {
		return 1
	}
	return o.region.areas()
}

// counters returns what was counted.
func (o *statObject) counters() *counters {
	var sum counters
	regions := []*statRegion{o.region}
	if o.kind == groupRow {
		regions = o.members
	}
	for _, g := range regions {
		for i, c := range g.counts {
			if o.kind != areaRow || i == o.area {
				sum.add(c)
			}
		}
	}
	return &sum
}

// rows says which rows a report has: kinds, and whether a region of one area needs none beside the area's.
type statRows struct {
	kinds      []statKind
	skipSingle bool
}

func (s *session) statRows(standard statRows) statRows {
	var asked []statKind
	for i, name := range []string{"area", "region", "group"} {
		if s.opts.has(name) {
			asked = append(asked, statKind(i))
		}
	}
	if asked != nil {
		return statRows{kinds: asked}
	}
	return standard
}

// objects returns the rows of a device in dmstats' order: areas, regions, groups.
func (s *session) statObjects(d control.Device, regions []*statRegion, rows statRows) []*statObject {
	var list []*statObject
	name := func(g *statRegion) string {
		if g.group != nil && g.group.alias != "" {
			return g.group.alias
		}
		return s.show(d.Name)
	}
	for _, kind := range rows.kinds {
		for _, g := range regions {
			switch {
			case kind == areaRow:
				for i := range g.areas() {
					list = append(list, &statObject{kind: kind, name: name(g), region: g, area: i})
				}
			case kind == regionRow && !(rows.skipSingle && g.areas() == 1):
				list = append(list, &statObject{kind: kind, name: name(g), region: g})
			case kind == groupRow && g.members != nil:
				list = append(list, &statObject{kind: kind, name: name(g), region: g, members: membersOf(regions, g.id)})
			}
		}
	}
	return list
}

const (
	listFields      = "stats_name,group_id,region_id,obj_type,region_start,region_len,area_count,area_len,program_id"
	listLongFields  = "stats_name,group_id,region_id,obj_type,region_start,region_len,area_count,area_id,area_start,area_len,program_id"
	listBinFields   = "stats_name,group_id,region_id,obj_type,region_start,region_len,area_count,area_len,hist_bins,hist_bounds"
	reportFields    = "stats_name,group_id,region_id,obj_type,area_id,area_start,area_len,reads_merged_per_sec,writes_merged_per_sec,reads_per_sec,writes_per_sec,read_size_per_sec,write_size_per_sec,avg_request_size,queue_size,util,await,read_await,write_await"
	reportBinFields = "stats_name,group_id,region_id,obj_type,region_start,region_len,area_count,area_len,util,await,hist_count_bounds"
	reportPctFields = "stats_name,group_id,region_id,obj_type,region_start,region_len,area_count,area_len,util,await,hist_percent_bounds"
)

func (s *session) statsList(operands []string) error {
	fields, rows := listFields, statRows{[]statKind{regionRow, groupRow}, false}
	switch {
	case s.opts.has("histogram"):
		fields = listBinFields
	case s.opts.has("verbose"):
		fields, rows = listLongFields, statRows{[]statKind{areaRow, regionRow, groupRow}, true}
	}
	return s.repeat(func() error {
		return s.statsTable(operands, []string{regionFields.id}, fields, s.statRows(rows), false)
	})
}

func (s *session) statsReport(operands []string) error {
	fields := reportFields
	switch {
	case s.opts.has("histogram") && s.opts.has("relative"):
		fields = reportPctFields
	case s.opts.has("histogram"):
		fields = reportBinFields
	}
	rows := s.statRows(statRows{[]statKind{areaRow, regionRow, groupRow}, true})
	return s.repeat(func() error {
		return s.statsTable(operands, []string{statsFields.id, regionFields.id}, fields, rows, true)
	})
}

// repeat makes a report as often as --count asks, and measures how long it was since the last.
func (s *session) repeat(f func() error) error {
	s.sampling = s.interval()
	for left := s.rounds(); ; left-- {
		began := time.Now()
		if err := f(); err != nil || left == 1 {
			return err
		}
		s.printf("\n")
		select {
		case <-time.After(s.interval()):
		case <-s.ctx.Done():
			return nil
		}
		s.sampling = time.Since(began)
	}
}

// statsTable prints one report about devices. all is the sections that the word all in -o stands for. With counts the counters are read,
// and cleared by that, so that the next report is of what happened since.
func (s *session) statsTable(operands []string, all []string, fields string, rows statRows, counts bool) error {
	rep, err := s.newStatsReport(fields, all)
	if rep == nil {
		return err
	}
	g := newGraph(nil, s.show)
	failed := s.forDevices(operands, nil, "info", func(d control.Device, _ string) error {
		r := ref{name: d.Name}
		regions, err := s.regionsOf(r)
		if err != nil {
			return err
		}
		for _, region := range regions {
			if !counts {
				break
			}
			reply, err := s.tell(r, "@stats_print_clear", strconv.Itoa(region.id))
			if err != nil {
				return err
			}
			region.parseCounters(reply)
		}
		for _, o := range s.statObjects(d, regions, rows) {
			row := s.deviceObject(g, d)
			row.stat = o
			if err := rep.add(row); err != nil {
				return err
			}
		}
		return nil
	})
	rep.print()
	if failed == nil && rep.failed {
		failed = errFailed
	}
	return failed
}

// The values of fields.

func floatCell(f float64, decimals int) cell {
	return cell{strconv.FormatFloat(f, 'f', decimals, 64), uint64(max(f, 0))}
}

func ratio(a, b uint64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

type valueFunc = func(*session, *object) (cell, error)

func count(i int) valueFunc {
	return func(_ *session, o *object) (cell, error) { return numberCell(o.stat.counters().n[i]), nil }
}

func metric(f func(*session, *counters) float64) valueFunc {
	return func(s *session, o *object) (cell, error) { return floatCell(f(s, o.stat.counters()), 2), nil }
}

func perSecond(i int) valueFunc {
	return metric(func(s *session, c *counters) float64 { return float64(c.n[i]) / s.sampling.Seconds() })
}

func sizePerSecond(i int) valueFunc {
	return func(s *session, o *object) (cell, error) {
		return s.sizeCell(uint64(float64(o.stat.counters().n[i]) / s.sampling.Seconds())), nil
	}
}

func averageSize(s *session, o *object) (cell, error) {
	c := o.stat.counters()
	return s.sizeCell(uint64(ratio(c.n[statReadSectors]+c.n[statWriteSectors], c.requests()))), nil
}

func size(of func(*statObject) uint64) valueFunc {
	return func(s *session, o *object) (cell, error) { return s.sizeCell(of(o.stat)), nil }
}

func queueSize(s *session, c *counters) float64 {
	return float64(c.n[statQueueTicks]) / float64(s.sampling)
}

func throughput(s *session, c *counters) float64 { return float64(c.requests()) / s.sampling.Seconds() }

// utilization is between 0 and 1.
func utilization(s *session, c *counters) float64 {
	return min(float64(c.n[statIOTicks])/float64(s.sampling), 1)
}

// serviceTime is in milliseconds.
func serviceTime(s *session, c *counters) float64 {
	if c.requests() == 0 {
		return 0
	}
	return utilization(s, c) * 1000 / throughput(s, c)
}

// The ways to show the bins of a histogram.
const (
	plainBins = iota
	boundBins
	rangeBins
)

func histogram(relative bool, how int) valueFunc {
	return text(func(s *session, o *object) string {
		c := o.stat.counters()
		total := uint64(0)
		for _, n := range c.histogram {
			total += n
		}
		lower, ranges := s.bounds(o.stat.region), s.ranges(o.stat.region)
		var bins []string
		for i, n := range c.histogram {
			value, width := strconv.FormatUint(n, 10), 6
			if relative {
				value, width = fmt.Sprintf("%.2f%%", 100*ratio(n, total)), 7
			}
			switch {
			case i >= len(lower):
			case how == plainBins:
				bins = append(bins, fmt.Sprintf("%*s", width, value))
			case how == boundBins:
				bins = append(bins, fmt.Sprintf("%6s:%*s", lower[i], width, value))
			default:
				label := fmt.Sprintf("%6s:", ranges[i])
				bins = append(bins, fmt.Sprintf("%s%*s", label, 7+width-len(label), value))
			}
		}
		return strings.Join(bins, choose(how == plainBins, "", ","))
	})
}

// bounds returns where the bins of a histogram begin.
func (s *session) bounds(g *statRegion) []string {
	if len(g.bounds) == 0 {
		return nil
	}
	var list []string
	for _, b := range append([]uint64{0}, g.bounds...) {
		if s.opts.has("notimesuffix") {
			list = append(list, strconv.FormatUint(b, 10))
			continue
		}
		list = append(list, formatTime(b))
	}
	return list
}

// ranges returns from where to where the bins of a histogram reach.
func (s *session) ranges(g *statRegion) []string {
	lower := s.bounds(g)
	list := slices.Clone(lower)
	for i := range lower {
		if i+1 < len(lower) {
			list[i] = lower[i] + "-" + lower[i+1]
		} else {
			list[i] = ">" + lower[i]
		}
	}
	return list
}

func (s *session) boundsText(g *statRegion) string { return strings.Join(s.bounds(g), ",") }
func (s *session) rangesText(g *statRegion) string { return strings.Join(s.ranges(g), ",") }

// formatTime returns nanoseconds in the largest unit that tells them whole.
func formatTime(n uint64) string {
	for _, u := range []struct {
		unit   uint64
		suffix string
	}{{second, "s"}, {millisecond, "ms"}, {microsecond, "us"}} {
		if n%u.unit == 0 {
			return fmt.Sprintf("%d%s", n/u.unit, u.suffix)
		}
	}
	return fmt.Sprintf("%dns", n)
}
