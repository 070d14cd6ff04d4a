package raid

import (
	"math"
	"math/bits"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// A config is a table line without its disks.
type config struct {
	typ      *raidType
	md       bool // the line is of the target md, which has what tables of dm-raid cannot say
	members  int
	chunk    mapper.Sector
	given    map[string]bool // the options of the line, by name
	rebuild  []bool          // by member
	mostly   []bool          // by member: write_mostly
	sleep    int             // daemon_sleep
	minRate  int             // KiB a second and disk
	maxRate  int
	behind   int // KiB
	cache    int // entries of the stripe cache
	region   mapper.Sector
	copies   int
	format   int
	offset   mapper.Sector // data_offset
	delta    int           // delta_disks
	journal  string        // the disk of journal_dev, "" if none
	back     bool          // journal_mode writeback
	find     func(journal string) error
	disks    []string // pairs of names
	layout10 uint32
	notes    []string // what the kernel logs about the line
}

// leastChunk is the smallest chunk in sectors.
const leastChunk = 8

// Modes of a journal.
const (
	writethrough = "writethrough"
	writeback    = "writeback"
)

// leastRoom is the least room on each member for a reshape, in sectors.
const leastRoom = 32

// defaultRegion is the region size in sectors if none is given, unless the array is huge.
const defaultRegion = 8192

// number reads s as kstrtoint(s, 10) does.
func number(s string) (int, bool) {
	s = strings.TrimSuffix(s, "\n")
	n, err := strconv.ParseInt(s, 10, 32)
	return int(n), err == nil && !strings.Contains(s, "_")
}

// parse checks the shape of a table line, in the kernel's order: find is asked for the disk of a journal when it is named. What parse returns with an error
// has only notes. It allocates no more than the line has arguments.
func parse(s mapper.Spec, find func(journal string) error) (*config, error) {
	if len(s.Args) == 0 {
		return nil, mapper.BadArg("No arguments", "want TYPE PARAMETERS CHUNK [OPTIONS] MEMBERS (METADATA DATA)*")
	}
	c := &config{typ: typeNamed(raidTypes, s.Args[0]), given: make(map[string]bool), cache: 256, copies: 2, find: find}
	c.md = s.Type == mdInner
	if c.typ == nil && c.md {
		c.typ = typeNamed(mdTypes, s.Args[0])
	}
	if c.typ == nil {
		return nil, mapper.BadArg("Unrecognised raid_type", "%q", s.Args[0])
	}
	const badParams, badMembers = "Cannot understand number of raid parameters", "Cannot understand number of raid devices parameters"
	rest := s.Args[1:]
	if len(rest) == 0 {
		return nil, mapper.BadArg(badParams, "want it after the type")
	}
	params, ok := args.ScanUint32(rest[0])
	if rest = rest[1:]; !ok || int(params) > len(rest) {
		return nil, mapper.BadArg(badParams, "%q: %d arguments follow", s.Args[1], len(rest))
	}
	tail := rest[params:]
	if len(tail) == 0 {
		return nil, mapper.BadArg(badMembers, "want it after the parameters")
	}
	members, ok := args.ScanUint32(tail[0])
	if tail = tail[1:]; !ok || members < 1 || int(members) > min(len(tail)/2, 254) {
		return nil, mapper.BadArg(badMembers, "METADATA DATA pairs follow for %d members", len(tail)/2)
	}
	if members > maxMembers {
		return nil, mapper.BadArg("Invalid number of supplied raid devices", "%d members: at most %d", members, maxMembers)
	}
	c.members, c.disks = int(members), tail[:2*members]
	if c.members <= c.typ.parity() {
		return nil, mapper.BadArg("Insufficient number of devices", "%d members for %s", c.members, c.typ.name)
	}
	c.rebuild, c.mostly = make([]bool, members), make([]bool, members)
	limit := int(params) - 1
	if params == 0 {
		limit = math.MaxInt // the kernel counts down from 0
	}
	if err := c.parseChunk(rest[0]); err != nil {
		return nil, err
	}
	if err := c.parseOptions(rest[1:], limit); err != nil {
		return c, err
	}
	return c, c.check(s.Len)
}

func (c *config) parseChunk(word string) error {
	n, ok := number(word)
	switch {
	case !ok:
		return mapper.BadArg("Bad numerical argument given for chunk_size", "%q: want a number of sectors", word)
	case c.typ.level == 1:
		if n != 0 {
			c.notes = append(c.notes, "Ignoring chunk size parameter for RAID 1")
		}
		return nil
	case n <= 0 || n&(n-1) != 0:
		return mapper.BadArg("Chunk size must be a power of 2", "%d sectors", n)
	case n < leastChunk:
		return mapper.BadArg("Chunk size value is too small", "%d sectors: at least %d", n, leastChunk)
	}
	c.chunk = mapper.Sector(n)
	return nil
}

// parseOptions reads at most limit words of options.
func (c *config) parseOptions(words []string, limit int) error {
	for i := 0; i < limit; i++ {
		if len(words) == 0 {
			return mapper.BadArg("Not enough raid parameters given", "%d words are missing", limit-i)
		}
		key := strings.ToLower(words[0])
		words = words[1:]
		switch key {
		case "sync", "nosync", "raid10_use_near_sets":
			if c.given[key] {
				name := key
				if key == "raid10_use_near_sets" {
					name = "raid10_use_new_sets"
				}
				return mapper.BadArg("Only one '"+name+"' argument allowed", "")
			}
			c.given[key] = true
			continue
		}
		if len(words) == 0 {
			return mapper.BadArg("Wrong number of raid parameters given", "%q has no value", key)
		}
		value := words[0]
		words = words[1:]
		i++
		if err := c.option(key, value); err != nil {
			return err
		}
	}
	return nil
}

// once notes that an option is given, and refuses it the second time.
func (c *config) once(key, reason string) error {
	if c.given[key] {
		return mapper.BadArg(reason, "")
	}
	c.given[key] = true
	return nil
}

// option reads one option with its value.
func (c *config) option(key, value string) error {
	switch key {
	case "raid10_format":
		if err := c.once(key, "Only one 'raid10_format' argument pair allowed"); err != nil {
			return err
		}
		format, ok := map[string]int{"near": formatNear, "offset": formatOffset, "far": formatFar}[strings.ToLower(value)]
		switch {
		case c.typ.level != 10:
			return mapper.BadArg("'raid10_format' is an invalid parameter for this RAID type", "")
		case !ok:
			return mapper.BadArg("Invalid 'raid10_format' value given", "%q: want near, far or offset", value)
		}
		c.format = format
		return nil
	case "journal_dev":
		if err := c.once(key, "Only one raid4/5/6 set journaling device allowed"); err != nil {
			return err
		}
		if c.typ.parity() == 0 {
			return mapper.BadArg("'journal_dev' is an invalid parameter for this RAID type", "")
		}
		c.journal = value
		return c.find(value)
	case "journal_mode":
		if !c.given["journal_dev"] {
			return mapper.BadArg("raid4/5/6 'journal_mode' is invalid without 'journal_dev'", "journal_dev comes first")
		}
		if err := c.once(key, "Only one raid4/5/6 'journal_mode' argument allowed"); err != nil {
			return err
		}
		c.back = strings.EqualFold(value, writeback)
		if !c.back && !strings.EqualFold(value, writethrough) {
			return mapper.BadArg("Invalid 'journal_mode' argument", "%q: want %s or %s", value, writethrough, writeback)
		}
		return nil
	}
	n, ok := number(value)
	if !ok {
		return mapper.BadArg("Bad numerical argument given in raid params", "%s %q", key, value)
	}
	return c.numeric(key, n)
}

// numeric reads one option whose value is a number.
func (c *config) numeric(key string, n int) error {
	isMember := n >= 0 && n < c.members
	switch key {
	case "rebuild":
		if !isMember {
			return mapper.BadArg("Invalid rebuild index given", "%d: want 0 to %d", n, c.members-1)
		}
		if c.rebuild[n] {
			return mapper.BadArg("rebuild for this index already given", "%d", n)
		}
		c.rebuild[n], c.given[key] = true, true
		return nil
	case "write_mostly":
		switch {
		case c.typ.level != 1:
			return mapper.BadArg("write_mostly option is only valid for RAID1", "")
		case !isMember:
			return mapper.BadArg("Invalid write_mostly index given", "%d: want 0 to %d", n, c.members-1)
		}
		c.mostly[n], c.given[key] = true, true
		return nil
	case "raid10_copies":
		if err := c.once(key, "Only one raid10_copies argument pair allowed"); err != nil {
			return err
		}
		if n < 2 || n > c.members {
			return mapper.BadArg("Bad value for 'raid10_copies'", "%d: want 2 to %d", n, c.members)
		}
		c.copies = n
		return nil
	case "delta_disks":
		if err := c.once(key, "Only one delta_disks argument pair allowed"); err != nil {
			return err
		}
		if abs := max(n, -n); abs < 1 || abs > maxMembers-2*max(c.typ.parity(), 1) {
			return mapper.BadArg("Too many delta_disk requested", "%d", n)
		}
		c.delta = n
		return nil
	}
	return c.amount(key, n)
}

// reshapes refuses what would be a reshape.
func reshapes(detail string, args ...any) error {
	err := mapper.BadArg("Reshape not supported", detail, args...).(*mapper.ArgError)
	err.Errno = unix.EPERM
	return err
}

// amount reads the options that may be any number from 0 on.
func (c *config) amount(key string, n int) error {
	type limit struct {
		into          *int
		twice, reason string
	}
	var region, offset int
	options := map[string]limit{
		"max_write_behind":  {&c.behind, "Only one max_write_behind argument pair allowed", "Max write-behind limit out of range"},
		"daemon_sleep":      {&c.sleep, "Only one daemon_sleep argument pair allowed", "daemon sleep period out of range"},
		"data_offset":       {&offset, "Only one data_offset argument pair allowed", "Bogus data_offset value"},
		"stripe_cache":      {&c.cache, "Only one stripe_cache argument pair allowed", "Bogus stripe cache entries value"},
		"min_recovery_rate": {&c.minRate, "Only one min_recovery_rate argument pair allowed", "min_recovery_rate out of range"},
		"max_recovery_rate": {&c.maxRate, "Only one max_recovery_rate argument pair allowed", "max_recovery_rate out of range"},
		"region_size":       {&region, "Only one region_size argument pair allowed", "Supplied region size is too large"},
	}
	o, ok := options[key]
	if !ok {
		c.notes = append(c.notes, "Unable to parse RAID parameter: "+key)
		return mapper.BadArg("Unable to parse RAID parameter", "%q", key)
	}
	if key == "max_write_behind" && c.typ.level != 1 {
		return mapper.BadArg("max_write_behind option is only valid for RAID1", "")
	}
	if err := c.once(key, o.twice); err != nil {
		return err
	}
	if key == "stripe_cache" && c.typ.parity() == 0 {
		return mapper.BadArg("Inappropriate argument: stripe_cache", "only raid4, 5 and 6 have one")
	}
	const most = 1<<14 - 1 // of write-behind in KiB, md's counter
	bad := n < 0 || key == "max_write_behind" && n/2 > most || key == "data_offset" && n != 0 && (n < leastRoom || n%8 != 0)
	if bad {
		return mapper.BadArg(o.reason, "%s %d", key, n)
	}
	*o.into = n
	c.region, c.offset = c.region+mapper.Sector(region), c.offset+mapper.Sector(offset)
	return nil
}

// check looks at how the options go together, for an array of that many sectors.
func (c *config) check(length mapper.Sector) error {
	mostly := 0
	for _, m := range c.mostly {
		if m {
			mostly++
		}
	}
	switch {
	case c.given["sync"] && c.given["nosync"]:
		return mapper.BadArg("sync and nosync are mutually exclusive", "")
	case c.given["rebuild"] && (c.given["sync"] || c.given["nosync"]):
		return mapper.BadArg("sync/nosync and rebuild are mutually exclusive", "")
	case mostly >= c.members:
		return mapper.BadArg("Can't set all raid1 devices to write_mostly", "")
	case c.maxRate != 0 && c.minRate > c.maxRate:
		return mapper.BadArg("Bogus recovery rates", "min_recovery_rate %d, max_recovery_rate %d", c.minRate, c.maxRate)
	}
	regions, most := length, length
	if c.md {
		most = math.MaxInt32 // one region of md may be larger than the array
		if c.typ.parity() > 0 {
			regions /= mapper.Sector(c.members - c.typ.parity()) // md counts those that there are
		}
	}
	if err := c.checkRegion(regions, most); err != nil {
		return err
	}
	if c.typ.level == 10 {
		if c.copies > c.members {
			return mapper.BadArg("Not enough devices to satisfy specification", "%d copies, %d members", c.copies, c.members)
		}
		nearSets := c.given["raid10_use_near_sets"]
		c.layout10 = layout10(c.format, c.copies, nearSets)
		if nearSets && (c.format == formatDefault || c.format == formatNear) {
			return mapper.BadArg("RAID10 format 'near' and 'raid10_use_near_sets' are incompatible", "")
		}
	}
	return c.checkFlags()
}

// checkRegion chooses the region size, or checks it: at most that many sectors. The bitmap of a parity array describes a member; dm-raid takes it for one of length sectors.
func (c *config) checkRegion(length, most mapper.Sector) error {
	least := length / bitmapMost
	switch {
	case c.typ.level == 0:
		return nil
	case c.region == 0 && least > defaultRegion:
		c.region = 1 << bits.Len64(uint64(least-1))
		c.notes = append(c.notes, "Choosing default region size of "+strconv.FormatUint(uint64(c.region), 10)+" sectors")
	case c.region == 0:
		c.region = defaultRegion
		c.notes = append(c.notes, "Choosing default region size of 4MiB")
	case c.region > most:
		return mapper.BadArg("Supplied region size is too large", "%d sectors of an array of %d", c.region, length)
	case c.region < least:
		c.notes = append(c.notes, "Supplied region_size ("+strconv.FormatUint(uint64(c.region), 10)+" sectors) below minimum ("+strconv.FormatUint(uint64(least), 10)+")")
		return mapper.BadArg("Supplied region size is too small", "%d sectors: at least %d", c.region, least)
	case c.region&(c.region-1) != 0:
		return mapper.BadArg("Region size is not a power of 2", "%d sectors", c.region)
	case c.region < c.chunk && !c.md:
		return mapper.BadArg("Region size is smaller than the chunk size", "%d and %d sectors", c.region, c.chunk)
	}
	return nil
}

// checkFlags refuses options that the level does not have.
func (c *config) checkFlags() error {
	allowed := "sync rebuild daemon_sleep min_recovery_rate max_recovery_rate region_size data_offset delta_disks "
	switch c.typ.level {
	case 0:
		allowed = "data_offset "
	case 1:
		allowed += "nosync write_mostly max_write_behind "
	case 10:
		allowed += "nosync raid10_copies raid10_format raid10_use_near_sets "
	case 5:
		allowed += "nosync stripe_cache journal_dev journal_mode "
	case 6:
		allowed += "stripe_cache journal_dev journal_mode "
	}
	for key := range c.given {
		if !strings.Contains(allowed, key+" ") {
			return mapper.BadArg("Invalid flags combination", "%s does not take %s", c.typ.name, key)
		}
	}
	return nil
}

// options returns the options in the order in which the kernel shows them. journal is how the disk of a journal is shown, layout that of a raid10.
func (c *config) options(journal string, layout uint32) []string {
	var words []string
	add := func(key string, n uint64) {
		if c.given[key] {
			words = append(words, key, strconv.FormatUint(n, 10))
		}
	}
	for _, key := range []string{"sync", "nosync"} {
		if c.given[key] {
			words = append(words, key)
		}
	}
	for m, is := range c.rebuild {
		if is {
			add("rebuild", uint64(m))
		}
	}
	add("daemon_sleep", uint64(c.sleep))
	add("min_recovery_rate", uint64(c.minRate))
	add("max_recovery_rate", uint64(c.maxRate))
	for m, is := range c.mostly {
		if is {
			add("write_mostly", uint64(m))
		}
	}
	add("max_write_behind", uint64(c.behind/2))
	add("stripe_cache", uint64(c.cache))
	add("region_size", uint64(c.region))
	add("raid10_copies", uint64(copiesOf(c.typ.level, layout)))
	if c.given["raid10_format"] {
		words = append(words, "raid10_format", formatName(layout))
	}
	if c.given["delta_disks"] {
		words = append(words, "delta_disks", strconv.Itoa(c.delta))
	}
	add("data_offset", uint64(c.offset))
	if c.given["journal_dev"] {
		words = append(words, "journal_dev", journal)
	}
	if c.given["journal_mode"] {
		words = append(words, "journal_mode", map[bool]string{false: writethrough, true: writeback}[c.back])
	}
	if c.given["raid10_use_near_sets"] {
		words = append(words, "raid10_use_near_sets")
	}
	return words
}
