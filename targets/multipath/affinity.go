package multipath

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// An affinity selector takes the path that the table gives to the processor on which the request is: that of the thread which serves it.
type affinity struct {
	byCPU  []*path // of each processor; nil where the table names none
	misses int     // requests from processors that have no path
}

// A cpuMask is a set of processors, 32 of them in a word.
type cpuMask []uint32

func newAffinity([]string) (selector, error) {
	return &affinity{byCPU: make([]*path, processors())}, nil
}

// processors returns how many processors there may be.
var processors = sync.OnceValue(func() int {
	n := runtime.NumCPU()
	text, err := os.ReadFile("/sys/devices/system/cpu/possible")
	if err != nil {
		return n
	}
	list := strings.TrimSpace(string(text))
	last, err := strconv.Atoi(list[strings.LastIndexAny(list, ",-")+1:])
	if err != nil || last < 0 || last >= 1<<16 {
		return n
	}
	return max(n, last+1)
})

func (s *affinity) add(h mapper.Host, p *path, words []string) error {
	if len(words) != 1 {
		return mapper.BadArg("io-affinity ps: invalid number of arguments", "%d for path %s, want a set of processors", len(words), p.name)
	}
	mask, ok := parseMask(words[0], len(s.byCPU))
	if !ok {
		return mapper.BadArg("io-affinity ps: invalid cpumask", "%q: want a hexadecimal number of at most %d bits, groups of 8 digits apart by commas", words[0], len(s.byCPU))
	}
	p.mask = mask
	found := false
	for cpu := range s.byCPU {
		switch {
		case !mask.has(cpu):
		case s.byCPU[cpu] != nil:
			h.LogFrom("multipath io-affinity", "CPU mapping for %d exists. Ignoring.", cpu)
		default:
			s.byCPU[cpu] = p
			found = true
		}
	}
	if !found {
		return mapper.BadArg("io-affinity ps: No new/valid CPU mapping found", "%q for path %s", words[0], p.name)
	}
	return nil
}

func (s *affinity) pick(*group, int64) *path {
	var p *path
	if cpu := thisCPU(); cpu < len(s.byCPU) {
		p = s.byCPU[cpu]
	}
	if p == nil {
		s.misses++
	} else if p.active {
		return p
	}
	for _, p := range s.byCPU {
		if p != nil && p.active {
			return p
		}
	}
	return nil
}

// thisCPU returns the processor that the caller is on, 0 if the system does not tell.
func thisCPU() int {
	var cpu uint32
	if _, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); errno != 0 {
		return 0
	}
	return int(cpu)
}

func (s *affinity) own() []string { return []string{"0"} }

func (s *affinity) words(p *path, status bool) []string {
	if status {
		return []string{strconv.Itoa(s.misses)}
	}
	return []string{p.mask.text(len(s.byCPU))}
}

// parseMask reads a set of n processors: hexadecimal numbers of at most 32 bits, the lowest last, with commas between them.
func parseMask(text string, n int) (cpuMask, bool) {
	mask := make(cpuMask, (n+31)/32)
	parts := strings.Split(text, ",")
	slices.Reverse(parts)
	for i, part := range parts {
		v, err := strconv.ParseUint(part, 16, 32)
		if err != nil || part[0] == '+' || len(part) > 8 {
			return nil, false
		}
		if i < len(mask) {
			mask[i] = uint32(v)
		} else if v != 0 {
			return nil, false
		}
	}
	if rest := n % 32; rest != 0 && mask[len(mask)-1]>>rest != 0 {
		return nil, false
	}
	return mask, true
}

func (m cpuMask) has(cpu int) bool { return m[cpu/32]>>(cpu%32)&1 != 0 }

// text returns m as the kernel prints a set of n processors: with all digits.
func (m cpuMask) text(n int) string {
	var b strings.Builder
	for i := len(m) - 1; i >= 0; i-- {
		digits := 8
		if rest := n % 32; i == len(m)-1 && rest != 0 {
			digits = (rest + 3) / 4
		}
		fmt.Fprintf(&b, "%0*x", digits, m[i])
		if i > 0 {
			b.WriteByte(',')
		}
	}
	return b.String()
}
