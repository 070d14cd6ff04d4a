package dmswitch

import (
	"context"
	"fmt"
	"math"
	"strings"

	"dmfs/mapper"
)

// Message carries out set_region_mappings.
func (t *target) Message(ctx context.Context, words []string) (string, error) {
	if !strings.EqualFold(words[0], "set_region_mappings") {
		return "", mapper.BadArg("Unrecognised message received.", "%q: want set_region_mappings", words[0])
	}
	t.messages.Lock()
	defer t.messages.Unlock()
	region := uint64(0) // the last that was named
	for _, w := range words[1:] {
		var err error
		if strings.HasPrefix(w, "R") || strings.HasPrefix(w, "r") {
			region, err = t.repeat(ctx, w, region)
		} else {
			region, err = t.assign(w, region)
		}
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

// refuse names the word that is wrong, in the kernel's words.
func refuse(w, want string) error {
	return mapper.BadArg(fmt.Sprintf("invalid set_region_mappings argument: '%s'", w), "want %s, in hexadecimal", want)
}

// assign carries out [REGION]:PATH and returns the region.
func (t *target) assign(w string, region uint64) (uint64, error) {
	name, number, ok := strings.Cut(w, ":")
	path, ok2 := hex(number)
	if !ok || !ok2 {
		return 0, refuse(w, "REGION:PATH")
	}
	region++
	if name != "" {
		if region, ok = hex(name); !ok {
			return 0, refuse(w, "REGION:PATH")
		}
	}
	if region >= t.table.regions {
		return 0, mapper.BadArg(fmt.Sprintf("invalid set_region_mappings region number: %d >= %d", region, t.table.regions), "")
	}
	if path >= uint64(len(t.paths)) {
		return 0, mapper.BadArg(fmt.Sprintf("invalid set_region_mappings device: %d >= %d", path, len(t.paths)), "")
	}
	t.table.set(region, path)
	return region, nil
}

// repeat carries out RLAST,COUNT after region and returns the last region it wrote. It may take seconds, and ends with ctx.
func (t *target) repeat(ctx context.Context, w string, region uint64) (uint64, error) {
	first, second, _ := strings.Cut(w[1:], ",")
	last, ok := hex(first)
	count, ok2 := hex(second)
	if !ok || !ok2 {
		return 0, refuse(w, "RLAST,COUNT")
	}
	if last-1 > region { // of 0 that is the most there is
		return 0, mapper.BadArg(fmt.Sprintf("invalid set_region_mappings cycle length: %d > %d", last-1, region), "")
	}
	if region >= t.table.regions || count >= t.table.regions-region {
		return 0, mapper.BadArg(fmt.Sprintf("invalid set_region_mappings region number: %d + %d >= %d", region, count, t.table.regions), "")
	}
	for i := range count {
		if i%(1<<20) == 0 && ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		region++
		t.table.set(region, t.table.path(region-last))
	}
	return region, nil
}

// hex reads a hexadecimal number of at least one digit and at most 64 bits.
func hex(s string) (n uint64, ok bool) {
	for i := range len(s) {
		var digit byte
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			digit = c - '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			digit = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		if n > math.MaxUint64>>4 {
			return 0, false
		}
		n = n<<4 | uint64(digit)
	}
	return n, s != ""
}
