package md

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dmfs/mapper"
)

// An Array is members that belong together.
type Array struct {
	*Super           // of a member that has the most events
	Disks  []int     // by place: which of the supers that were given it is, or -1
	Supers []*Super  // as given
	Dirty  bool      // redundancy may not agree: it was not closed, or not in sync
	Names  []string  // of the disks, as given
	Left   []error   // why disks are left out, with their names
	used   []segment // of levels linear and 0
}

// A segment is a run of sectors of an array of level linear or 0, which are dealt out by chunks to disks.
type segment struct {
	start, len mapper.Sector   // in the array
	disks      []int           // which of the supers that were given
	at         []mapper.Sector // where it begins on each disk, from the start of the disk
}

// Assemble puts the members of an array together. names are what errors call their disks. What does not belong to the others, is mixed up with
// another, failed, has missed changes, or is no member is refused with its name. With force, what failed or has missed changes is left out.
func Assemble(names []string, supers []*Super, force bool) (*Array, error) {
	if len(supers) == 0 {
		return nil, errors.New("no members")
	}
	freshest := 0
	for i, s := range supers {
		if s.Events > supers[freshest].Events {
			freshest = i
		}
	}
	a := &Array{Super: supers[freshest], Disks: slices.Repeat([]int{-1}, supers[freshest].Members), Supers: supers, Names: names}
	present := a.Present()
	for i, s := range supers {
		err := a.admit(i, s, names[freshest], present)
		if err != nil {
			err = fmt.Errorf("%s: %w", names[i], err)
		}
		if force && errors.Is(err, errOld) {
			a.Left = append(a.Left, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		a.Dirty = a.Dirty || s.Resync != Done || s.Recovered != Done
	}
	if a.Level < 1 {
		if missing := a.Missing(); len(missing) > 0 {
			return nil, fmt.Errorf("%s: without redundancy all members are needed", Gone(missing))
		}
		return a, a.deal()
	}
	return a, nil
}

// errOld is why a member is of no use.
var errOld = errors.New("old data: leave it out")

// admit gives disk i its place.
func (a *Array) admit(i int, s *Super, reference string, present []bool) error {
	switch {
	case s.Array != a.Array:
		return fmt.Errorf("it belongs to another array than %s: %x, not %x", reference, s.Array, a.Array)
	case s.Version != a.Version || s.Level != a.Level || s.Layout != a.Layout || s.Chunk != a.Chunk || s.Members != a.Members || s.Dev != a.Dev:
		return fmt.Errorf("its superblock does not describe the array that the one of %s does", reference)
	case s.Role == Spare:
		return errors.New("it is a spare, without data: leave it out")
	case s.Role == Failed:
		return fmt.Errorf("it failed, and has %w", errOld)
	case s.Role >= s.Members:
		return errors.New("it is no member with data: leave it out")
	case s.Events+1 < a.Events: // a crash may leave one between two
		return fmt.Errorf("it has %d events and %s has %d, so it has %w", s.Events, reference, a.Events, errOld)
	case !present[s.Role]:
		return fmt.Errorf("%s says that member %d failed, so it may have %w", reference, s.Role, errOld)
	case a.Disks[s.Role] >= 0:
		return fmt.Errorf("it says that it is member %d, and so does %s: is one a copy of the other?", s.Role, a.Names[a.Disks[s.Role]])
	}
	a.Disks[s.Role] = i
	return nil
}

// Missing returns the places that have no disk.
func (a *Array) Missing() (places []int) {
	for place, i := range a.Disks {
		if i < 0 {
			places = append(places, place)
		}
	}
	return places
}

// Gone says for people that the members at these places, of which there is one at least, are missing.
func Gone(places []int) string {
	last := len(places) - 1
	if last == 0 {
		return fmt.Sprintf("member %d is missing", places[0])
	}
	words := make([]string, last)
	for i := range words {
		words[i] = strconv.Itoa(places[i])
	}
	return fmt.Sprintf("members %s and %d are missing", strings.Join(words, ", "), places[last])
}

// Specs returns the table of the array: segments of linear and striped, or one of the target md, which is told to write in spite of what is missing or
// not in sync if force is set.
func (a *Array) Specs(force bool) []mapper.Spec {
	number := func(n mapper.Sector) string { return strconv.FormatUint(uint64(n), 10) }
	if a.Level >= 1 {
		var words []string
		if force {
			words = append(words, "force")
		}
		words = append(append(words, strconv.Itoa(len(a.Names))), a.Names...)
		return []mapper.Spec{{Len: a.Sectors(), Type: "md", Args: words}}
	}
	var list []mapper.Spec
	for _, u := range a.used {
		spec := mapper.Spec{Start: u.start, Len: u.len, Type: "linear"}
		if len(u.disks) > 1 {
			spec.Type, spec.Args = "striped", []string{strconv.Itoa(len(u.disks)), number(a.Chunk)}
		}
		for k, i := range u.disks {
			spec.Args = append(spec.Args, a.Names[i], number(u.at[k]))
		}
		list = append(list, spec)
	}
	return list
}

// Layouts of level 0: a zone of fewer disks begins with the one whose turn it is counted from the start of the array, or with the first. They
// differ from the second zone on, if that has more than one disk.
const (
	original  = 1
	alternate = 2
)

// deal finds the segments. Those of level 0 are zones: as far as the smallest disk reaches all have a part, then all but that, and so on.
func (a *Array) deal() error {
	start := mapper.Sector(0)
	add := func(n mapper.Sector, from mapper.Sector, disks []int) {
		s := segment{start: start, len: n * mapper.Sector(len(disks)), disks: disks}
		for _, i := range disks {
			s.at = append(s.at, a.Supers[i].Data+from)
		}
		a.used = append(a.used, s)
		start += s.len
	}
	if a.Level == Linear {
		for _, i := range a.Disks {
			if n := a.usable(i); n > 0 {
				add(n, 0, []int{i})
			}
		}
	} else {
		for from := mapper.Sector(0); ; {
			left := slices.DeleteFunc(slices.Clone(a.Disks), func(i int) bool { return a.usable(i) <= from })
			if len(left) == 0 {
				break
			}
			to := a.usable(left[0])
			for _, i := range left {
				to = min(to, a.usable(i))
			}
			first := 0
			if a.Layout == original {
				first = int(start / a.Chunk % mapper.Sector(len(left)))
			}
			add(to-from, from, slices.Concat(left[first:], left[:first]))
			from = to
		}
		if len(a.used) > 1 && len(a.used[1].disks) > 1 && a.Layout != original && a.Layout != alternate {
			return errors.New("its members differ in size, and its layout, which Linux 3.14 changed, is not on record: mdadm --assemble --update=layout-original or layout-alternate records it")
		}
	}
	a.cut(start)
	if len(a.used) == 0 {
		return errors.New("its members have no room")
	}
	return nil
}

// cut takes away what Linux does not count of an array of level 0 with segments of that many sectors: of each member it takes away the bits of the
// size of a chunk less one, which is nothing if chunks are a power of two.
func (a *Array) cut(sectors mapper.Sector) {
	if a.Level != 0 {
		return
	}
	want := mapper.Sector(0)
	for _, i := range a.Disks {
		want += a.usable(i) &^ (a.Chunk - 1)
	}
	for sectors > want {
		last := a.used[len(a.used)-1]
		a.used, sectors = a.used[:len(a.used)-1], last.start
		if want > sectors {
			a.used = append(a.used, last.head(want-sectors, a.Chunk)...)
			return
		}
	}
}

// head returns the first n sectors of a segment: whole rows of chunks, and a segment for each chunk of a row that is not whole.
func (s segment) head(n, chunk mapper.Sector) (list []segment) {
	if len(s.disks) == 1 {
		s.len = n
		return []segment{s}
	}
	width := chunk * mapper.Sector(len(s.disks))
	whole := n - n%width
	if whole > 0 {
		list = append(list, segment{start: s.start, len: whole, disks: s.disks, at: s.at})
	}
	for k := 0; whole < n; k++ {
		part := segment{start: s.start + whole, len: min(chunk, n-whole), disks: s.disks[k : k+1], at: []mapper.Sector{s.at[k] + n/width*chunk}}
		list, whole = append(list, part), whole+part.len
	}
	return list
}

// usable returns how many sectors of disk i the array uses.
func (a *Array) usable(i int) mapper.Sector {
	n := a.Supers[i].Size
	if a.Chunk > 0 {
		n -= n % a.Chunk
	}
	return n
}

// Sectors returns the size of the array.
func (a *Array) Sectors() mapper.Sector {
	dev := a.Dev
	if a.Chunk > 0 {
		dev -= dev % a.Chunk
	}
	switch a.Level {
	case 1:
		return a.Dev
	case 4, 5:
		return dev * mapper.Sector(a.Members-1)
	case 6:
		return dev * mapper.Sector(a.Members-2)
	case 10:
		near, far := mapper.Sector(max(a.Layout&0xff, 1)), mapper.Sector(max(a.Layout>>8&0xff, 1))
		return dev / a.Chunk / far * mapper.Sector(a.Members) / near * a.Chunk
	}
	last := a.used[len(a.used)-1]
	return last.start + last.len
}
