package dmsetup

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// groupTag begins the auxiliary data of a group's first region: DMS_GROUP=ALIAS:REGIONS#DATA.
const groupTag = "DMS_GROUP="

// A statRegion is a range of a device that is watched.
type statRegion struct {
	id               int
	start, len, step uint64 // sectors
	program, aux     string
	precise          bool
	bounds           []uint64    // of the histogram, in nanoseconds; none without one
	counts           []counters  // by area, once they are read
	alias            string      // of the group that begins here
	members          []int       // of that group; nil if there is none
	group            *statRegion // the first region of the group that this is in; nil if it is in none
}

func (g *statRegion) areas() int { return int((g.len-1)/max(g.step, 1) + 1) }

func (g *statRegion) bins() int {
	if len(g.bounds) == 0 {
		return 0
	}
	return len(g.bounds) + 1
}

// userData returns the auxiliary data without what dmstats keeps there.
func (g *statRegion) userData() string {
	data := g.aux
	if strings.HasPrefix(data, groupTag) {
		_, data, _ = strings.Cut(data, "#")
	}
	return choose(data == "-", "", data)
}

// parseRegions reads the reply to @stats_list: ID: START+LEN STEP PROGRAM AUX [precise_timestamps] [histogram:BOUNDS].
func parseRegions(reply string) []*statRegion {
	var regions []*statRegion
	for line := range strings.Lines(reply) {
		g := &statRegion{}
		var extent string
		w := strings.Fields(line)
		if len(w) < 4 {
			continue
		}
		extent = w[1]
		if _, err := fmt.Sscanf(w[0]+" "+extent+" "+w[2], "%d: %d+%d %d", &g.id, &g.start, &g.len, &g.step); err != nil || g.len == 0 {
			continue
		}
		g.program, w = choose(w[3] == "-", "", w[3]), w[4:]
		unit := uint64(millisecond)
		for len(w) > 0 && (w[len(w)-1] == "precise_timestamps" || strings.HasPrefix(w[len(w)-1], "histogram:")) {
			last := w[len(w)-1]
			w = w[:len(w)-1]
			if bounds, ok := strings.CutPrefix(last, "histogram:"); ok {
				g.bounds, _ = parseBounds(bounds)
				continue
			}
			g.precise, unit = true, 1
		}
		for i := range g.bounds {
			g.bounds[i] *= unit
		}
		g.aux = strings.Join(w, " ")
		regions = append(regions, g)
	}
	for _, g := range regions {
		tag, ok := strings.CutPrefix(g.aux, groupTag)
		if !ok {
			continue
		}
		tag, _, _ = strings.Cut(tag, "#")
		alias, list, _ := strings.Cut(tag, ":")
		ids, err := parseIDs(list)
		if err != nil {
			continue
		}
		g.alias, g.members = alias, ids
		for _, id := range ids {
			if member := find(regions, id); member != nil {
				member.group = g
			}
		}
	}
	return regions
}

func find(regions []*statRegion, id int) *statRegion {
	i := slices.IndexFunc(regions, func(g *statRegion) bool { return g.id == id })
	if i < 0 {
		return nil
	}
	return regions[i]
}

// membersOf returns the regions of a group, nil if there is no such.
func membersOf(regions []*statRegion, id int) (members []*statRegion) {
	for _, g := range regions {
		if g.group != nil && g.group.id == id {
			members = append(members, g)
		}
	}
	return members
}

// maxIDs bounds how many regions a list may have.
const maxIDs = 1 << 16

// parseIDs parses a list of numbers and ranges: 0,2-5.
func parseIDs(list string) (ids []int, err error) {
	for word := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(word, "-")
		a, err := strconv.ParseUint(first, 10, 31)
		b := a
		if err == nil && isRange {
			b, err = strconv.ParseUint(last, 10, 31)
		}
		if err != nil || b < a || b-a > maxIDs || len(ids) > maxIDs {
			return nil, fmt.Errorf("%q is no list of regions", list)
		}
		for ; a <= b; a++ {
			ids = append(ids, int(a))
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// formatIDs is the reverse: neighbours become ranges.
func formatIDs(ids []int) string {
	var parts []string
	for i := 0; i < len(ids); {
		j := i
		for j+1 < len(ids) && ids[j+1] == ids[j]+1 {
			j++
		}
		part := strconv.Itoa(ids[i])
		if j > i {
			part += "-" + strconv.Itoa(ids[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// join makes a group of regions.
func (s *session) join(r ref, alias string, ids []int, regions []*statRegion) error {
	if len(regions) == 0 {
		return s.failf("Could not create group: no regions found.")
	}
	members, err := s.candidates(regions, ids)
	if err != nil {
		return err
	}
	first := members[0]
	if slices.ContainsFunc(members, func(g *statRegion) bool { return g.precise != first.precise }) {
		s.errorf("WARNING: Grouping regions with different clock resolution: precision may be lost.")
	}
	byStart := slices.SortedStableFunc(slices.Values(members), func(a, b *statRegion) int { return compare(a.start, b.start) })
	for i := 1; i < len(byStart); i++ {
		if a, b := byStart[i-1], byStart[i]; a.start+a.len > b.start {
			s.errorf("WARNING: region IDs %d and %d overlap. Some events will be counted twice.", a.id, b.id)
		}
	}
	_, err = s.tell(r, "@stats_set_aux", strconv.Itoa(first.id), groupTag+alias+":"+formatIDs(ids)+"#"+choose(first.aux == "", "-", first.aux))
	return err
}

// candidates returns the regions of a group that is to be made.
func (s *session) candidates(regions []*statRegion, ids []int) (members []*statRegion, err error) {
	if last := ids[len(ids)-1]; find(regions, last) == nil {
		return nil, s.failf("Invalid region ID: %d", last)
	}
	var bounds []uint64
	for _, id := range ids {
		g := find(regions, id)
		switch {
		case g == nil:
			return nil, s.failf("Invalid region ID: %d", id)
		case g.group != nil:
			return nil, s.failf("Region ID %d already a member of group ID %d", id, g.group.id)
		}
		members = append(members, g)
	}
	for _, g := range members {
		if bounds == nil {
			bounds = g.bounds
		}
		if g.bounds != nil && !slices.Equal(g.bounds, bounds) {
			return nil, s.failf("All region histogram bounds must match exactly")
		}
	}
	return members, nil
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// leaveGroup takes a region that is to be deleted out of its group. A group's first takes the group along.
func (s *session) leaveGroup(r ref, regions []*statRegion, g *statRegion) error {
	if g.group == nil || g.group == g {
		return nil
	}
	left := slices.DeleteFunc(slices.Clone(g.group.members), func(id int) bool { return id == g.id })
	return s.setAux(r, g.group, groupTag+g.group.alias+":"+formatIDs(left)+"#"+choose(g.group.userData() == "", "-", g.group.userData()))
}

func (s *session) setAux(r ref, g *statRegion, aux string) error {
	_, err := s.tell(r, "@stats_set_aux", strconv.Itoa(g.id), aux)
	return err
}

func (s *session) statsGroup(operands []string) error {
	if !s.opts.has("regions") {
		return s.failf("Group requires --regions.")
	}
	list := s.opts.get("regions")
	return s.forStats(operands, true, func(r ref) error {
		regions, err := s.regionsOf(r)
		if err != nil {
			return err
		}
		ids, err := parseIDs(list)
		switch {
		case list == "":
			err = s.failf("Invalid region ID: -1")
		case err != nil:
			err = s.failf("Could not parse list: '%s'", list)
		default:
			err = s.join(r, s.opts.get("alias"), ids, regions)
		}
		if err != nil {
			return s.failf("Could not create group on %s: %s", s.show(r.name), list)
		}
		s.printf("Grouped regions %s as group ID %d on %s\n", list, ids[0], s.show(r.name))
		return nil
	})
}

// noGroup says that a group is none.
func (s *session) noGroup(regions []*statRegion, id int) {
	beyond := len(regions) == 0 || id > regions[len(regions)-1].id
	s.errorf(choose(beyond, "Invalid group ID: %d", "Group ID %d does not exist"), id)
}

func (s *session) statsUngroup(operands []string) error {
	if !s.opts.has("groupid") {
		return s.failf("Please specify group id.")
	}
	id := s.opts.number("groupid")
	return s.forStats(operands, true, func(r ref) error {
		regions, err := s.regionsOf(r)
		if err != nil {
			return err
		}
		s.printf("Removed group ID %d on %s\n", id, s.show(r.name))
		g := find(regions, id)
		if g == nil || g.members == nil {
			s.noGroup(regions, id)
			return s.failf("Could not delete group %d on %s.", id, s.show(r.name))
		}
		return s.setAux(r, g, choose(g.userData() == "", "-", g.userData()))
	})
}
