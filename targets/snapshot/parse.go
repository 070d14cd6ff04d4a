package snapshot

import (
	"context"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// minArgs are ORIGIN COW TYPE CHUNK.
const minArgs = 4

// defaultChunk is what a persistent store that has no size yet gets when the table line has 0.
const defaultChunk mapper.Sector = 32

// badChunk returns what is wrong with a size of chunks, in the kernel's words, for a store on these disks; "" if nothing is.
func badChunk(n mapper.Sector, disks ...mapper.Disk) string {
	if n&(n-1) != 0 {
		return "Chunk size is not a power of 2"
	}
	for _, d := range disks {
		if n%d.Limits().LogicalSectors() != 0 {
			return "Chunk size is not a multiple of device blocksize"
		}
	}
	if n > math.MaxInt32>>mapper.SectorShift {
		return "Chunk size is too high"
	}
	return ""
}

// parse reads ORIGIN COW TYPE CHUNK [COUNT FEATURE*], in the order in which the kernel complains.
func (s *snapshot) parse(ctx context.Context, h mapper.Host, a []string) (origin mapper.Disk, err error) {
	if len(a) < minArgs {
		return nil, mapper.BadArg("requires 4 or more arguments", "%d: want ORIGIN STORE P|PO|N CHUNK", len(a))
	}
	if origin, err = args.Open(ctx, h, a[0], "Cannot get origin device"); err != nil {
		return nil, err
	}
	if s.cow, err = args.Open(ctx, h, a[1], "Cannot get COW device"); err != nil {
		return nil, err
	}
	switch {
	case s.cow == origin:
		return nil, mapper.BadArg("COW device cannot be the same as origin device", "%s keeps what the other loses", a[1])
	case s.cow.Limits().ReadOnly:
		return nil, &mapper.ArgError{Reason: "Cannot get COW device", Errno: unix.EROFS,
			Detail: "a store is written to, by writes to the origin, too: for a snapshot that is read-only put a device over its disk"}
	}
	st, err := s.parseStore(h, a[2], a[3], origin)
	if err != nil {
		return nil, err
	}
	s.content = newContent(st)
	return origin, s.parseFeatures(a[minArgs:])
}

// parseStore reads TYPE CHUNK. What the kernel says of them it says in one way.
func (s *snapshot) parseStore(h mapper.Host, kind, size string, origin mapper.Disk) (store, error) {
	refuse := func(detail string, args ...any) error {
		return mapper.BadArg("Couldn't create exception store", detail, args...)
	}
	n, ok := args.Uint32(size)
	if !ok {
		return nil, refuse("%q: want the sectors of a chunk", size)
	}
	g := geometry{disk: s.cow, chunk: mapper.Sector(n)}
	if reason := badChunk(g.chunk, s.cow, origin); n != 0 && reason != "" {
		return nil, refuse("%s: %d sectors", reason, n)
	}
	letter, option := strings.ToUpper(kind[:min(1, len(kind))]), kind[min(1, len(kind)):]
	switch {
	case letter == "N":
		return &transient{geometry: g}, nil
	case letter != "P":
		return nil, refuse("%q: want P, PO or N", kind)
	case option != "" && !strings.EqualFold(option[:1], "O"):
		h.LogFrom(module, "Unsupported persistent store option: %s", option)
		return nil, refuse("%q: want P, PO or N", kind)
	}
	s.overflow = option != ""
	p := &persistent{geometry: g, host: h, supplied: n != 0}
	if n == 0 {
		p.chunk = max(defaultChunk, s.cow.Limits().LogicalSectors())
	}
	return p, nil
}

// parseFeatures reads [COUNT FEATURE*].
func (s *snapshot) parseFeatures(words []string) error {
	if len(words) == 0 {
		return nil
	}
	const most = 2
	n, ok := args.ScanUint32(words[0])
	if !ok || n > most || int(n) > len(words)-1 {
		return mapper.BadArg("Invalid number of feature arguments", "%q: want how many of the %d words that follow are features, at most %d", words[0], len(words)-1, most)
	}
	for _, w := range words[1 : 1+n] {
		switch strings.ToLower(w) {
		case "discard_zeroes_cow":
			s.zeroes = true
		case "discard_passdown_origin":
			s.passdown = true
		default:
			return mapper.BadArg("Unrecognised feature requested", "%q: want discard_zeroes_cow or discard_passdown_origin", w)
		}
	}
	if s.passdown && !s.zeroes {
		return mapper.BadArg("discard_passdown_origin feature depends on discard_zeroes_cow", "")
	}
	return nil
}

// features returns the features with their number.
func (s *snapshot) features() (words []string) {
	if s.zeroes {
		words = append(words, "discard_zeroes_cow")
	}
	if s.passdown {
		words = append(words, "discard_passdown_origin")
	}
	if len(words) > 0 {
		words = append([]string{strconv.Itoa(len(words))}, words...)
	}
	return words
}
