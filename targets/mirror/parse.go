package mirror

import (
	"context"
	"math/bits"
	"slices"
	"strconv"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// Type is the mirror target.
var Type = mapper.Type{Name: "mirror", Version: [3]int{1, 14, 0}, New: newTarget}

// mostLegs is the largest number of legs, as in the kernel.
const mostLegs = 9

// mostRegions bounds the memory of a mirror: two bits for each region.
const mostRegions = 1 << 28

// A syncMode says whether the legs are copied at the first resume.
type syncMode uint8

const (
	syncIfNeeded syncMode = iota // what the log does not call clean; all, with a core log
	syncAlways                   // "sync"
	syncNever                    // "nosync"
)

// logModule is by what name the kernel's log lines call the code of the dirty log.
const logModule = "dirty region log"

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	if len(s.Args) < 2 {
		return nil, mapper.BadArg("Insufficient mirror log arguments", "%d arguments: want LOG COUNT and the arguments of the log", len(s.Args))
	}
	count, ok := args.ScanUint32(s.Args[1])
	if !ok {
		return nil, mapper.BadArg("Invalid mirror log argument count", "%q: want a number", s.Args[1])
	}
	rest := s.Args[2:]
	if uint64(count) > uint64(len(rest)) {
		return nil, mapper.BadArg("Insufficient mirror log arguments", "%d arguments, want %d", len(rest), count)
	}
	t := &target{host: h, length: s.Len, regions: make(map[int]*region), holds: make(chan struct{}), stopWork: func() {}}
	t.wake, t.wakeCleaner = make(chan struct{}, 1), make(chan struct{}, 1)
	var err error
	if t.log, err = newLog(ctx, h, s.Len, s.Args[0], rest[:count]); err != nil {
		return nil, err
	}
	t.shift = uint(bits.TrailingZeros32(t.log.size))
	rest = rest[count:]
	legs, ok := uint32(0), false
	if len(rest) > 0 {
		legs, ok = args.ScanUint32(rest[0])
	}
	if !ok || legs < 2 || legs > mostLegs {
		return nil, mapper.BadArg("Invalid number of mirrors", "want 2 to %d", mostLegs)
	}
	if rest = rest[1:]; len(rest) < 2*int(legs) {
		return nil, mapper.BadArg("Too few mirror arguments", "%d arguments follow, want DISK OFFSET for each of %d legs", len(rest), legs)
	}
	t.legs = make([]leg, legs)
	for i := range t.legs {
		if err := t.openLeg(ctx, i, rest[2*i], rest[2*i+1]); err != nil {
			return nil, err
		}
	}
	if err := t.parseFeatures(rest[2*legs:]); err != nil {
		return nil, err
	}
	// Without handle_errors, and with nosync, the legs may differ where they are called alike: then two reads must see the same leg.
	t.balance = t.handleErrors && t.log.mode != syncNever
	t.inSync = t.log.synced == t.log.count
	t.noteSync()
	return t, nil
}

// badLog is the kernel's reason for everything that is wrong with a log; its own log tells more.
const badLog = "Error creating mirror dirty log"

// newLog makes the log of a segment of that many sectors.
func newLog(ctx context.Context, h mapper.Host, length mapper.Sector, kind string, words []string) (*dirtyLog, error) {
	refuse := func(reason, detail string) error {
		h.LogFrom(logModule, "%s", reason)
		if detail == "" {
			detail = reason
		}
		return mapper.BadArg(badLog, "%s", detail)
	}
	l := &dirtyLog{kind: kind, host: h, turn: make(chan struct{}, 1)}
	switch kind {
	case "core":
	case "disk":
		if len(words) < 2 || len(words) > 3 {
			return nil, refuse("wrong number of arguments to disk dirty region log", "want DISK REGION [sync|nosync]")
		}
		var err error
		if l.disk, err = args.OpenInvalid(ctx, h, words[0], badLog); err != nil {
			return nil, err
		}
		words = words[1:]
	default:
		return nil, refuse(`Module for logging type "`+kind+`" not found.`,
			"log "+mapper.QuoteArg(kind)+": want core or disk; logs of clusters and of userspace daemons need what is not here")
	}
	if len(words) < 1 || len(words) > 2 {
		return nil, refuse("wrong number of arguments to dirty region log", "want REGION [sync|nosync]")
	}
	if len(words) == 2 {
		switch words[1] {
		case "sync":
			l.mode = syncAlways
		case "nosync":
			l.mode = syncNever
		default:
			return nil, refuse("unrecognised sync argument to dirty region log: "+words[1], "")
		}
	}
	size, ok := args.ScanUint32(words[0])
	if !ok || size < 2 || mapper.Sector(size) > length || size&(size-1) != 0 {
		return nil, refuse("invalid region size "+words[0], "region size "+mapper.QuoteArg(words[0])+": want a power of two from 2 on and no more than the segment")
	}
	n := (length + mapper.Sector(size) - 1) / mapper.Sector(size)
	if n > mostRegions {
		return nil, refuse("couldn't allocate sync bitset", strconv.FormatUint(uint64(n), 10)+" regions: want larger ones, so that there are no more than "+strconv.Itoa(mostRegions))
	}
	l.size, l.count = size, int(n)
	if need, have := l.imageSectors(); l.disk != nil && need > have {
		return nil, refuse("log device "+mapper.DiskName(l.disk)+" too small: need "+strconv.FormatInt(need.Bytes(), 10)+" bytes", "")
	}
	l.allocate()
	return l, nil
}

func (t *target) openLeg(ctx context.Context, i int, name, offset string) error {
	start, ok := args.Uint64(offset)
	if !ok {
		return mapper.BadArg("Invalid offset", "offset %q of leg %d: want a number of sectors", offset, i)
	}
	disk, err := args.Open(ctx, t.host, name, "Device lookup failure")
	if err != nil {
		return err
	}
	if block := disk.Limits().LogicalSectors(); mapper.Sector(t.log.size)%block != 0 {
		return mapper.BadArg(badLog, "region size %d: want a multiple of the %d sectors of a block of %s", t.log.size, block, mapper.DiskName(disk))
	}
	t.legs[i].disk, t.legs[i].start = disk, mapper.Sector(start)
	if !slices.Contains(t.disks, disk) {
		t.disks = append(t.disks, disk)
	}
	return nil
}

// parseFeatures reads [COUNT FEATURE*], the end of the line.
func (t *target) parseFeatures(words []string) error {
	if len(words) == 0 {
		return nil
	}
	n, ok := args.ScanUint32(words[0])
	if !ok {
		return mapper.BadArg("Invalid number of features", "%q: want a number", words[0])
	}
	words = words[1:]
	if uint64(n) > uint64(len(words)) {
		return mapper.BadArg("Not enough arguments to support feature count", "%d arguments follow, want %d", len(words), n)
	}
	for _, w := range words[:n] {
		switch w {
		case "handle_errors":
			t.handleErrors = true
		case "keep_log":
			t.keepLog = true
		default:
			return mapper.BadArg("Unrecognised feature requested", "%q: want handle_errors or keep_log", w)
		}
	}
	if t.keepLog && !t.handleErrors {
		return mapper.BadArg("keep_log feature requires the handle_errors feature", "want 2 handle_errors keep_log")
	}
	if len(words) > int(n) {
		return mapper.BadArg("Too many mirror arguments", "%q: want nothing more", words[n])
	}
	return nil
}
