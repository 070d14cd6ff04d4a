package dmsetup

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
)

// statsProgram is whose regions are meant if --programid does not say.
const statsProgram = "dmstats"

// statsVerbs are the commands of the verb stats.
var statsVerbs = map[string]func(s *session, devices []string) error{
	"clear": (*session).statsClear, "create": (*session).statsCreate, "delete": (*session).statsDelete, "group": (*session).statsGroup,
	"list": (*session).statsList, "print": (*session).statsPrint, "report": (*session).statsReport, "ungroup": (*session).statsUngroup,
	"update_filemap": (*session).statsFilemap,
}

// stats carries out dmstats' commands: it sends messages that begin with @stats_, and keeps groups and aliases where dmstats does, in the auxiliary
// data of the first region of a group.
func (s *session) stats(operands []string) error {
	if len(operands) == 0 {
		if s.program() != dmstats {
			s.errorf("Incorrect number of arguments.")
		}
		s.statsUsage()
		return errSaid
	}
	switch operands[0] {
	case "help":
		s.statsUsage()
		s.fieldHelp(false)
		return nil
	case "version":
		return s.version(nil)
	}
	if s.opts.has("json") {
		return s.failf("stats: there is no JSON of statistics; --nameprefixes is for programs, too")
	}
	if units := s.opts.get("units"); s.opts.has("units") && (len(units) != 1 || !strings.Contains(sizeUnits, units)) {
		s.errorf("Invalid --units argument.")
		return errSaid
	}
	v := statsVerbs[operands[0]]
	if v == nil {
		s.errorf("Unknown stats command.")
		s.statsUsage()
		s.fieldHelp(false)
		return errFailed
	}
	return v(s, operands[1:])
}

// forStats calls f for each device that a command names. None are all, unless the command wants to be told so.
func (s *session) forStats(operands []string, named bool, f func(r ref) error) error {
	refs, err := s.refs(operands)
	switch {
	case err != nil:
		return err
	case refs == nil && named && !s.opts.has("alldevices"):
		return s.failf("Please specify device(s) or use --alldevices.")
	case refs == nil:
		devices, err := s.queryAll()
		if err != nil {
			return err
		}
		for _, d := range devices {
			refs = append(refs, ref{name: d.Name})
		}
	}
	var failed error
	for _, r := range refs {
		if err := f(r); err != nil {
			failed = err
		}
	}
	return failed
}

// tell sends a message to the core about the statistics of a device and returns its reply.
func (s *session) tell(r ref, words ...string) (string, error) {
	name, err := s.storedName("message", r)
	if err != nil {
		return "", err
	}
	quoted := []string{"message", quote(name), "0"}
	for _, w := range words {
		// As the kernel, which splits messages at blanks.
		for _, part := range strings.Fields(w) {
			quoted = append(quoted, quote(part))
		}
	}
	reply, err := s.send("message", r, quoted...)
	if reply == "ok\n" {
		reply = ""
	}
	return strings.TrimSuffix(reply, "\n"), err
}

// regionsOf returns the regions of a device, of the program that the options name.
func (s *session) regionsOf(r ref) ([]*statRegion, error) {
	words := []string{"@stats_list"}
	if !s.opts.has("allprograms") {
		if program := s.statsProgram(); program != "" {
			words = append(words, program)
		}
	}
	reply, err := s.tell(r, words...)
	if err != nil {
		return nil, err
	}
	return parseRegions(reply), nil
}

func (s *session) statsProgram() string {
	if s.opts.has("programid") {
		return s.opts.get("programid")
	}
	return statsProgram
}

// wantsRegion returns the region that the options name, -1 for all of them.
func (s *session) wantsRegion() (int, error) {
	switch {
	case s.opts.has("allregions"):
		return -1, nil
	case !s.opts.has("regionid"):
		return 0, s.failf("Please specify a --regionid or use --allregions.")
	}
	return s.opts.number("regionid"), nil
}

func (s *session) statsClear(operands []string) error {
	want, err := s.wantsRegion()
	if err != nil {
		return err
	}
	return s.forStats(operands, false, func(r ref) error {
		regions, err := s.regionsOf(r)
		if err != nil {
			return err
		}
		if want >= 0 && find(regions, want) == nil {
			return s.failf("No such region: %d.", want)
		}
		for _, g := range regions {
			if want >= 0 && g.id != want {
				continue
			}
			if _, err := s.tell(r, "@stats_clear", strconv.Itoa(g.id)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *session) statsPrint(operands []string) error {
	want, err := s.wantsRegion()
	if err != nil {
		return err
	}
	verb := choose(s.opts.has("clear"), "@stats_print_clear", "@stats_print")
	return s.forStats(operands, false, func(r ref) error {
		ids := []int{want}
		if want < 0 {
			regions, err := s.regionsOf(r)
			if err != nil {
				return err
			}
			ids = nil
			for _, g := range regions {
				if ids = append(ids, g.id); s.Strict {
					ids = append(ids, g.id) // dmstats prints each twice
				}
			}
		}
		for _, id := range ids {
			reply, err := s.tell(r, verb, strconv.Itoa(id))
			if err != nil {
				return s.failf("Could not print statistics region.")
			}
			s.printf("%s\n", reply)
		}
		return nil
	})
}

func (s *session) statsDelete(operands []string) error {
	if !s.opts.any("allregions", "regionid", "groupid") {
		return s.failf("Please specify a --regionid or --groupid, or use --allregions.")
	}
	return s.forStats(operands, true, func(r ref) error {
		regions, err := s.regionsOf(r)
		if err != nil {
			if s.opts.has("regionid") {
				s.errorf("Could not obtain region list while deleting region ID %d", s.opts.number("regionid"))
				return s.failf("Could not delete statistics region")
			}
			return err
		}
		switch {
		case s.opts.has("allregions"):
			return s.deleteRegions(r, regions)
		case s.opts.has("groupid"):
			id := s.opts.number("groupid")
			members := membersOf(regions, id)
			if members == nil {
				s.noGroup(regions, id)
				return s.failf("Could not delete statistics group.")
			}
			if err := s.deleteRegions(r, members); err != nil {
				return err
			}
			s.printf("Deleted statistics group %d.\n", id)
			return nil
		}
		id := s.opts.number("regionid")
		g := find(regions, id)
		if g == nil {
			s.errorf("Region ID %d does not exist", id)
			return s.failf("Could not delete statistics region")
		}
		if err := s.leaveGroup(r, regions, g); err != nil {
			return err
		}
		return s.deleteRegions(r, []*statRegion{g})
	})
}

func (s *session) deleteRegions(r ref, regions []*statRegion) error {
	for _, g := range regions {
		if _, err := s.tell(r, "@stats_delete", strconv.Itoa(g.id)); err != nil {
			return s.failf("Could not delete statistics region")
		}
	}
	return nil
}

// statsFilemap refuses what needs the layout of a file on a mapped device: no kernel file system is mounted from one.
func (s *session) statsFilemap([]string) error {
	if !s.opts.has("groupid") {
		return s.failf("--groupid is required to update a filemap group.")
	}
	return s.failf("update_filemap: no file lies on a device of a dmfs mount in a way that could be told")
}

func (s *session) statsCreate(operands []string) error {
	o := s.opts
	switch {
	case o.has("allregions"):
		return s.failf("Cannot use --allregions with create.")
	case o.has("filemap") && len(operands) == 0:
		return s.failf("--filemap requires a file path argument")
	case o.has("filemap"):
		s.errorf("Cannot map file: not a device-mapper device.")
		return s.failf("Could not create regions from file %s.", operands[0])
	case o.has("areas") && o.has("areasize"):
		return s.failf("Please specify one of --areas and --areasize.")
	case o.has("programid") && o.get("programid") == "" && !o.has("force"):
		return s.failf("Creating a region with no program id requires --force.")
	}
	var n newRegions
	for name, to := range map[string]*uint64{"start": &n.start, "length": &n.length, "areasize": &n.areaSize} {
		if !o.has(name) {
			continue
		}
		sectors, ok := parseSize(o.get(name))
		if !ok {
			return s.failf("Invalid %s argument: \"%s\"", name, o.get(name))
		}
		*to = sectors
	}
	n.areas = 1
	if o.has("areas") {
		n.areas = max(o.number("areas"), 1)
	}
	var bad string
	if o.has("bounds") {
		if n.bounds, bad = parseBounds(o.get("bounds")); bad != "" {
			s.errorf("Invalid character in histogram: %s", bad)
			return errFailed
		}
	}
	return s.forStats(operands, true, func(r ref) error { return s.createRegions(r, n) })
}

// newRegions are what create makes, of each device.
type newRegions struct {
	start, length, areaSize uint64 // sectors; 0 where not given
	areas                   int
	bounds                  []uint64 // nanoseconds
}

func (s *session) createRegions(r ref, n newRegions) error {
	d, err := s.query("table", r, "table")
	if errors.Is(err, errMissing) {
		return s.ioctlFailed("table", r, unix.ENXIO)
	}
	if err != nil {
		return err
	}
	ranges := []control.Line{{Start: n.start, Len: n.length}}
	if n.length == 0 {
		ranges[0].Len = d.Sectors
	}
	if s.opts.has("segments") {
		ranges = d.Table
	}
	var made []int
	for _, line := range ranges {
		id, err := s.createRegion(r, n, line.Start, line.Len)
		if err != nil {
			return s.failf("%s: Could not create statistics region.", s.show(d.Name))
		}
		length := max(line.Len, 1)
		step := n.areaSize
		if step == 0 {
			step = (length-1)/uint64(n.areas) + 1
		}
		s.printf("%s: Created new region with %d area(s) as region ID %d\n", s.show(d.Name), (length-1)/step+1, id)
		made = append(made, id)
	}
	if !s.opts.has("segments") || s.opts.has("nogroup") || len(made) == 0 {
		return nil
	}
	regions, err := s.regionsOf(r)
	if err == nil {
		err = s.join(r, s.opts.get("alias"), made, regions)
	}
	if err != nil {
		return err
	}
	with := ""
	if s.opts.has("alias") {
		with = " with alias " + s.opts.get("alias")
	}
	s.printf("Grouped regions %s as group ID %d%s\n", strings.ReplaceAll(strings.Trim(fmt.Sprint(made), "[]"), " ", ","), made[0], with)
	return nil
}

// createRegion makes one region and returns its number.
func (s *session) createRegion(r ref, n newRegions, start, length uint64) (id int, err error) {
	if !slices.IsSorted(n.bounds) {
		s.errorf("Histogram boundaries must be in order of increasing magnitude.")
		return 0, errFailed
	}
	extent, step := "-", fmt.Sprintf("/%d", n.areas)
	if length > 0 {
		extent = fmt.Sprintf("%d+%d", start, length)
	}
	if n.areaSize > 0 {
		step = fmt.Sprint(n.areaSize)
	}
	// A histogram that milliseconds cannot tell takes nanoseconds.
	precise := s.opts.has("precise") || slices.ContainsFunc(n.bounds, func(b uint64) bool { return b%millisecond != 0 })
	var options []string
	if precise {
		options = append(options, "precise_timestamps")
	}
	if len(n.bounds) > 0 {
		unit := uint64(millisecond)
		if precise {
			unit = 1
		}
		var bounds []string
		for _, b := range n.bounds {
			bounds = append(bounds, strconv.FormatUint(b/unit, 10))
		}
		options = append(options, "histogram:"+strings.Join(bounds, ","))
	}
	words := append([]string{"@stats_create", extent, step, strconv.Itoa(len(options))}, options...)
	words = append(words, choose(s.statsProgram() == "", "-", s.statsProgram()), choose(s.opts.get("userdata") == "", "-", s.opts.get("userdata")))
	reply, err := s.tell(r, words...)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(reply)
}

// Units of time, in nanoseconds.
const (
	microsecond = uint64(time.Microsecond)
	millisecond = 1000000
	second      = uint64(time.Second)
)

// parseBounds parses times with commas between them, in nanoseconds where no unit says otherwise. bad is what makes no sense.
func parseBounds(text string) (bounds []uint64, bad string) {
	units := map[string]uint64{"": 1, "ns": 1, "us": microsecond, "ms": millisecond, "s": second}
	for word := range strings.SplitSeq(text, ",") {
		digits := len(word) - len(strings.TrimLeft(word, "0123456789"))
		n, err := strconv.ParseUint(word[:digits], 10, 64)
		unit, known := units[word[digits:]]
		if err != nil || !known || n > math.MaxUint64/unit {
			return nil, word[min(digits, max(len(word)-1, 0)):]
		}
		bounds = append(bounds, n*unit)
	}
	return bounds, ""
}
