package integrity

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/secret"
	"dmfs/targets/internal/args"
)

const enomem = unix.ENOMEM

const (
	fixedArgs  = 4
	maxOptions = 18

	defaultInterleave  = 32768
	defaultBuffer      = 128
	defaultWatermark   = 50    // percent
	defaultCommit      = 10000 // milliseconds
	defaultBitShift    = 15    // log2 of the sectors of a bit
	defaultMaxJournal  = 131072
	defaultJournalPart = 7 // log2: the journal is a 128th of the disk
	jiffy              = 10 * time.Millisecond
)

// An algorithm is a name from the table line, and a key. Key and text are in memory for secrets.
type algorithm struct {
	name  string
	given bool
	keyed bool
	text  []byte // the key as it was given, in hexadecimal digits
	key   []byte
}

// A line is what a table line says.
type line struct {
	data, meta     mapper.Disk // meta is nil without meta_device
	start          uint64      // sector where the metadata begin
	tagSize        uint32      // bytes; 0 says that of the hash
	mode           byte        // J, B, D or R
	journalSectors uint32
	interleave     uint32
	bufferShift    uint8
	watermark      uint32 // percent
	commitTime     uint32 // milliseconds
	blockShift     uint8
	bitShift       uint8 // log2 of the sectors of a bit
	flushInterval  time.Duration

	hash, crypt, mac algorithm

	recalculate, resetRecalculate, legacyRecalculate bool
	discard, fixPadding, fixHMAC                     bool

	salt [saltSize]byte // for a disk that is to be formatted
}

// parse reads DISK START TAG MODE N OPTION*, in the order in which the kernel complains. Keys go to memory.
func parse(ctx context.Context, h mapper.Host, memory *secret.Memory, a []string) (l *line, err error) {
	if len(a) <= fixedArgs {
		return nil, mapper.BadArg("Invalid argument count", "%d: want DISK START TAG MODE N OPTION*", len(a))
	}
	l = &line{
		interleave: defaultInterleave, bufferShift: uint8(bits.Len32(defaultBuffer) - 1), watermark: defaultWatermark, commitTime: defaultCommit,
		bitShift: defaultBitShift, flushInterval: defaultCommit * time.Millisecond,
	}
	if l.data, err = args.Open(ctx, h, a[0], "Device lookup failed"); err != nil {
		return nil, err
	}
	var ok bool
	if l.start, ok = args.Uint64(a[1]); !ok {
		return nil, mapper.BadArg("Invalid starting offset", "%s: want a sector", mapper.ShowArg(a[1]))
	}
	if a[2] != "-" {
		if l.tagSize, ok = args.ScanUint32(a[2]); !ok || l.tagSize == 0 {
			return nil, mapper.BadArg("Invalid tag size", "%s: want bytes, or - for the size of the hash", mapper.ShowArg(a[2]))
		}
	}
	if err := checkMode(a[3]); err != nil {
		return nil, err
	}
	l.mode = a[3][0]
	n, ok := args.ScanUint32(a[4])
	if !ok || n > maxOptions || int(n) > len(a)-fixedArgs-1 {
		return nil, mapper.BadArg("Invalid number of feature args", "%s: want the number of options that follow, up to %d", mapper.ShowArg(a[4]), maxOptions)
	}
	for _, word := range a[fixedArgs+1:][:n] {
		if err := l.option(ctx, h, memory, word); err != nil {
			return nil, err
		}
	}
	_, err = rand.Read(l.salt[:])
	return l, err
}

func checkMode(mode string) error {
	const reason = "Invalid mode (expecting J, B, D, R)"
	switch mode {
	case "J", "B", "D", "R":
		return nil
	case "I":
		return mapper.BadArg(reason, "mode I needs a disk that itself has room for a tag beside each block, as a drive formatted with protection information, "+
			"and Linux 6.12; files, block devices and network disks have none here: take J, B or D, which keep the tags on the disk or on meta_device")
	}
	return mapper.BadArg(reason, "%s", mapper.ShowArg(mode))
}

// option reads one option.
func (l *line) option(ctx context.Context, h mapper.Host, memory *secret.Memory, word string) error {
	flags := map[string]*bool{
		"recalculate": &l.recalculate, "reset_recalculate": &l.resetRecalculate, "allow_discards": &l.discard,
		"fix_padding": &l.fixPadding, "fix_hmac": &l.fixHMAC, "legacy_recalculate": &l.legacyRecalculate,
	}
	if flag := flags[word]; flag != nil {
		*flag = true
		l.recalculate = l.recalculate || l.resetRecalculate
		return nil
	}
	name, value, valued := strings.Cut(word, ":")
	unknown := mapper.BadArg("Invalid argument", "%s: no such option, or not such a value", mapper.ShowArg(name))
	if !valued {
		return unknown
	}
	switch name {
	case "internal_hash":
		return l.hash.parse(memory, name, value)
	case "journal_crypt":
		return l.crypt.parse(memory, name, value)
	case "journal_mac":
		return l.mac.parse(memory, name, value)
	case "meta_device":
		var err error
		l.meta, err = args.Open(ctx, h, value, "Device lookup failed")
		return err
	case "sectors_per_bit":
		if n, ok := args.Uint64(value); ok {
			l.bitShift = uint8(max(1, bits.Len64(n)) - 1)
			return nil
		}
		return unknown
	}
	if n, ok := args.ScanUint32(value); ok {
		if known, err := l.number(name, n); known || err != nil {
			return err
		}
	}
	return unknown
}

// number sets an option that is a number, and reports whether there is one of that name.
func (l *line) number(name string, n uint32) (known bool, err error) {
	switch name {
	case "journal_sectors":
		l.journalSectors = max(1, n)
	case "interleave_sectors":
		l.interleave = n
	case "buffer_sectors":
		const most = 31 - mapper.SectorShift // log2
		l.bufferShift = uint8(min(most, bits.Len32(max(1, n))-1))
	case "journal_watermark":
		l.watermark = n
		return n <= 100, nil
	case "commit_time":
		l.commitTime = n
	case "block_size":
		if n < mapper.SectorSize || n > maxBlock*mapper.SectorSize || n&(n-1) != 0 {
			return true, mapper.BadArg("Invalid block_size argument", "%d: want a power of two from %d to %d", n, mapper.SectorSize, maxBlock*mapper.SectorSize)
		}
		l.blockShift = uint8(bits.Len32(n) - 1 - mapper.SectorShift)
	case "bitmap_flush_interval":
		interval := (time.Duration(n)*time.Millisecond + jiffy - 1) / jiffy * jiffy
		if n > math.MaxInt32 {
			interval = 4294967276 * time.Millisecond // what the kernel makes of it
		}
		l.flushInterval = interval
	default:
		return false, nil
	}
	return true, nil
}

// parse reads NAME[:KEY].
func (a *algorithm) parse(memory *secret.Memory, option, value string) (err error) {
	name, key, keyed := strings.Cut(value, ":")
	*a = algorithm{name: name, given: true, keyed: keyed}
	if !keyed {
		return nil
	}
	bad := mapper.BadArg("Invalid "+option+" argument", "the key is not in pairs of hexadecimal digits")
	const most = 64 << 10 // no table line is that long
	if len(key)%2 != 0 || len(key) > most {
		return bad
	}
	if a.text, err = memory.Alloc(len(key)); err != nil {
		return err
	}
	copy(a.text, key)
	if a.key, err = memory.Alloc(len(key) / 2); err != nil {
		return err
	}
	if _, err := hex.Decode(a.key, a.text); err != nil {
		return bad
	}
	return nil
}

// words returns the option as the table line shows it.
func (a *algorithm) words(option string, showKeys bool) []string {
	if !a.given {
		return nil
	}
	text := option + ":" + a.name
	if a.keyed {
		key := strings.Repeat("0", len(a.text))
		if showKeys {
			key = string(a.text)
		}
		text += ":" + key
	}
	return []string{text}
}

// Table returns the table line with what the options came to, in the kernel's order.
func (t *target) Table(showKeys bool) []string {
	l := t.line
	t.superMu.Lock()
	g, flags := t.geometry, t.super.flags
	t.superMu.Unlock()
	var list []string
	add := func(yes bool, format string, args ...any) {
		if yes {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	add(l.meta != nil, "meta_device:%s", diskName(l.meta))
	add(g.blockShift != 0, "block_size:%d", mapper.SectorSize<<g.blockShift)
	add(flags&flagRecalc != 0, "recalculate")
	add(l.resetRecalculate, "reset_recalculate")
	add(l.discard, "allow_discards")
	add(true, "journal_sectors:%d", g.initial-superSectors)
	add(true, "interleave_sectors:%d", uint32(1)<<g.areaShift)
	add(true, "buffer_sectors:%d", uint32(1)<<g.bufferShift)
	if l.mode == 'J' {
		entries := uint64(g.sections) * uint64(g.sectionEntries)
		add(true, "journal_watermark:%d", ((entries-g.threshold(l.watermark))*100+entries/2)/entries)
		add(true, "commit_time:%d", l.commitTime)
	}
	if l.mode == 'B' {
		add(true, "sectors_per_bit:%d", uint64(1)<<g.bitShift)
		add(true, "bitmap_flush_interval:%d", l.flushInterval/time.Millisecond)
	}
	add(flags&flagFixPadding != 0, "fix_padding")
	add(flags&flagFixHMAC != 0, "fix_hmac")
	add(l.legacyRecalculate, "legacy_recalculate")
	list = append(list, l.hash.words("internal_hash", showKeys)...)
	list = append(list, l.crypt.words("journal_crypt", showKeys)...)
	list = append(list, l.mac.words("journal_mac", showKeys)...)
	return append([]string{
		mapper.DiskName(l.data), strconv.FormatUint(l.start, 10), strconv.Itoa(g.tagSize), string(l.mode), strconv.Itoa(len(list)),
	}, list...)
}

func diskName(d mapper.Disk) string {
	if d == nil {
		return ""
	}
	return mapper.DiskName(d)
}

// threshold returns how few free entries of the journal have it written back.
func (g *geometry) threshold(watermark uint32) uint64 {
	return (uint64(g.sections)*uint64(g.sectionEntries)*uint64(100-watermark) + 50) / 100
}

// Status returns MISMATCHES PROVIDED RECALCULATED.
func (t *target) Status(context.Context, bool) (string, error) {
	recalc := "-"
	t.superMu.Lock()
	defer t.superMu.Unlock()
	if t.super.flags&flagRecalc != 0 {
		recalc = strconv.FormatUint(t.super.recalc, 10)
	}
	return fmt.Sprintf("%d %d %s", t.mismatches.Load(), t.geometry.provided, recalc), nil
}
