package logreplay

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"dmfs/targets/logwrites"
)

// A Log is a log that was opened for reading.
type Log struct {
	Name string
	logwrites.Super
	r    io.ReaderAt
	size int64 // bytes
}

// Open reads the super block of a log of size bytes.
func Open(name string, r io.ReaderAt, size int64) (*Log, error) {
	head := make([]byte, logwrites.MinSuper)
	if size < int64(len(head)) {
		return nil, fmt.Errorf("%s: %d bytes are too few for a log", name, size)
	}
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	super, err := logwrites.DecodeSuper(head)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if room := uint64(size)/uint64(super.SectorSize) - 1; size < int64(super.SectorSize) || super.Entries > room {
		return nil, fmt.Errorf("%s: counts %d entries, and is %d bytes long", name, super.Entries, size)
	}
	return &Log{Name: name, Super: super, r: r, size: size}, nil
}

// An Item is an entry and its place.
type Item struct {
	Number uint64 // from 0
	logwrites.Entry
	At       int64 // byte of the log where the entry is
	Start, N int64 // bytes of the device that it changes
	data     int64 // byte of the log where its data is
}

// Kind returns what the entry does: write, discard, flush or mark.
func (i Item) Kind() string {
	switch {
	case i.Flags&logwrites.FlagMark != 0:
		return "mark"
	case i.Flags&logwrites.FlagDiscard != 0:
		return "discard"
	case i.Flags&logwrites.FlagFlush != 0 && i.Count == 0:
		return "flush"
	}
	return "write"
}

// Attributes returns the flags that Kind does not tell: fua, flush, meta.
func (i Item) Attributes() []string {
	list := []string{}
	for _, f := range []struct {
		flag uint64
		name string
	}{{logwrites.FlagFUA, "fua"}, {logwrites.FlagFlush, "flush"}, {logwrites.FlagMetadata, "meta"}} {
		if i.Flags&f.flag != 0 && i.Kind() != f.name {
			list = append(list, f.name)
		}
	}
	return list
}

// String returns "entry N (KIND)" for messages, a mark with its text.
func (i Item) String() string {
	what := strings.Join(append([]string{i.Kind()}, i.Attributes()...), ",")
	if i.Kind() == "mark" {
		what += fmt.Sprintf(" %q", i.Mark)
	}
	return fmt.Sprintf("entry %d (%s)", i.Number, what)
}

// A Reader goes through the entries of a log.
type Reader struct {
	log    *Log
	number uint64
	off    int64
	sector []byte
}

// Entries returns a reader that stands before the first entry.
func (l *Log) Entries() *Reader {
	return &Reader{log: l, off: int64(l.SectorSize), sector: make([]byte, l.SectorSize)}
}

// Next returns the next entry. The error is io.EOF behind the last.
func (r *Reader) Next() (Item, error) {
	if r.number == r.log.Super.Entries {
		return Item{}, io.EOF
	}
	item, err := r.read()
	if err != nil {
		return item, fmt.Errorf("%s: entry %d, at byte %d: %w", r.log.Name, r.number, r.off, err)
	}
	r.number++
	r.off = item.data
	if item.HasData() {
		r.off += item.N
	}
	return item, nil
}

func (r *Reader) read() (item Item, err error) {
	size := int64(r.log.SectorSize)
	if r.off > r.log.size-size {
		return item, fmt.Errorf("it is past the end of the log, which has %d bytes and counts %d entries", r.log.size, r.log.Super.Entries)
	}
	if n, err := r.log.r.ReadAt(r.sector, r.off); err != nil && n < len(r.sector) {
		return item, err
	}
	item = Item{Number: r.number, At: r.off, data: r.off + size}
	if item.Entry, err = logwrites.DecodeEntry(r.sector); err != nil {
		return item, err
	}
	most := uint64(math.MaxInt64 / size)
	if item.Sector > most || item.Count > most || item.Sector+item.Count > most {
		return item, fmt.Errorf("sectors %d+%d: no device is that large", item.Sector, item.Count)
	}
	item.Start, item.N = int64(item.Sector)*size, int64(item.Count)*size
	if item.HasData() && item.N > r.log.size-item.data {
		return item, fmt.Errorf("its data of %d bytes reaches past the end of the log", item.N)
	}
	return item, nil
}

// A Range says which entries are meant. The zero value means all.
type Range struct {
	StartEntry         uint64
	StartMark, EndMark string // "": none; the range begins behind the first, and ends behind the second
	Limit              uint64 // at most so many entries; 0: no bound
	NextFlush, NextFUA bool   // the range ends behind the first of these
}

// ErrNoMark is wrapped when a mark is not in the log.
var ErrNoMark = errors.New("no such mark")

// Each calls f with the entries of a range, in order, until it returns an error.
func (l *Log) Each(rng Range, f func(Item) error) error {
	r := l.Entries()
	started := rng.StartMark == ""
	for done := uint64(0); ; {
		item, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if item.Number < rng.StartEntry {
			continue
		}
		if !started {
			started = item.Kind() == "mark" && item.Mark == rng.StartMark
			continue
		}
		if err := f(item); err != nil {
			return err
		}
		done++
		if rng.endsWith(item) || done == rng.Limit {
			return nil
		}
	}
	switch {
	case !started:
		return fmt.Errorf("%s: %q: %w", l.Name, rng.StartMark, ErrNoMark)
	case rng.EndMark != "":
		return fmt.Errorf("%s: %q: %w behind the start", l.Name, rng.EndMark, ErrNoMark)
	case rng.StartEntry > l.Super.Entries:
		return fmt.Errorf("%s has %d entries, entry %d is not among them", l.Name, l.Super.Entries, rng.StartEntry)
	case rng.NextFlush || rng.NextFUA:
		return fmt.Errorf("%s: no flush or FUA behind the start", l.Name)
	}
	return nil
}

// endsWith reports whether item is the last of the range by what it is.
func (rng Range) endsWith(item Item) bool {
	switch {
	case rng.EndMark != "" && item.Kind() == "mark" && item.Mark == rng.EndMark:
		return true
	case rng.NextFlush && item.Flags&logwrites.FlagFlush != 0:
		return true
	}
	return rng.NextFUA && item.Flags&logwrites.FlagFUA != 0
}
