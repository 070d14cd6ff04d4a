package multipath

import (
	"math"
	"math/bits"
	"sync"
	"time"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// A historical selector keeps, for each path, a moving average of how long a request takes, and takes the path on which a request
// is likely to be done first: average times requests in flight. Averages are fixed-point numbers with fixedBits bits after the point, as
// the status prints them.
//
// The average forgets with time: a request that took long says more about the present than many that took little. How
// much of the old average stays after a request that took d is the base weight to the power of d in units of 16.8 ms, at least one.
//
// A path that has not finished a request for its average times the number of paths is stale: if it is idle it gets one request, to see
// whether it has become better, and if it is not idle it gets no more than the others have.
type historical struct {
	weights   [weightCount]uint64
	threshold uint64 // averages that differ by less than this factor are equal
	started   time.Time
}

// A history is what a historical selector knows of a path.
type history struct {
	mu         sync.Mutex
	average    uint64 // nanoseconds, fixed-point
	lastDone   int64  // nanoseconds since the selector was made
	staleAfter int64  // likewise
}

const (
	fixedBits     = 10
	fixedOne      = 1 << fixedBits
	defaultBase   = 972 // 0.95
	weightCount   = 64
	bucketBits    = 24 // of nanoseconds
	crowdedAbove  = fixedOne
	maxAverage    = math.MaxUint64 >> fixedBits
	selectorError = "path selector constructor failed"
)

// newHistorical reads BASE_WEIGHT and THRESHOLD_MULTIPLIER, both of which may be left out.
func newHistorical(words []string) (selector, error) {
	base, threshold := uint64(defaultBase), uint64(0)
	if len(words) > 2 {
		return nil, mapper.BadArg(selectorError, "historical-service-time: %d arguments, want at most BASE_WEIGHT THRESHOLD_MULTIPLIER", len(words))
	}
	for i, to := range []*uint64{&base, &threshold}[:len(words)] {
		n, ok := args.Uint64(words[i])
		if !ok || n > math.MaxUint32 {
			return nil, mapper.BadArg(selectorError, "historical-service-time: %q: want a number", words[i])
		}
		*to = n
	}
	if base >= fixedOne {
		return nil, mapper.BadArg(selectorError, "historical-service-time: a base weight of %d: want at most %d", base, fixedOne-1)
	}
	s := &historical{threshold: threshold, started: time.Now()}
	for i := range weightCount - 1 {
		s.weights[i] = power(base, i+1)
	}
	return s, nil // and the last weight is 0: what is so long ago is forgotten
}

// power returns the fixed-point number x to the power of n, rounded at each squaring as the kernel does.
func power(x uint64, n int) uint64 {
	result := uint64(fixedOne)
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			result = (result*x + fixedOne/2) >> fixedBits
		}
		x = (x*x + fixedOne/2) >> fixedBits
	}
	return result
}

func (s *historical) add(_ mapper.Host, p *path, words []string) error {
	if len(words) > 1 {
		return mapper.BadArg("historical-service-time ps: incorrect number of arguments", "%d for path %s, want at most 1", len(words), p.name)
	}
	if len(words) == 1 {
		if _, ok := args.Uint64(words[0]); !ok {
			return mapper.BadArg("historical-service-time ps: invalid repeat count", "%q", words[0])
		}
	}
	p.history.average = fixedOne
	return nil
}

func (s *historical) pick(g *group, _ int64) *path {
	now := time.Since(s.started).Nanoseconds()
	return g.best(func(a, b *path) bool { return s.compare(a, b, now) < 0 })
}

// compare is negative if a is better than b, positive if b is, and 0 if they are equal.
func (s *historical) compare(a, b *path, now int64) int64 {
	averageA, staleA := a.history.get()
	averageB, staleB := b.history.get()
	loadA, loadB := a.load.Load(), b.load.Load()
	if hi, lo := bits.Mul64(s.threshold, min(averageA, averageB)); hi > 0 || max(averageA, averageB) <= lo {
		return loadA - loadB
	}
	if loadA == 0 && staleA < now || loadB == 0 && staleB < now || loadA == 0 && loadB == 0 {
		// An idle path that is stale; of two idle ones the one that is so for longer.
		switch {
		case loadA == 0 && loadB == 0:
			return staleA - staleB
		case loadA == 0:
			return -1
		}
		return 1
	}
	betterB := averageA > averageB
	if loadA != loadB {
		if loadA >= crowdedAbove || loadB >= crowdedAbove {
			averageA, averageB = averageA>>fixedBits, averageB>>fixedBits // so that the products fit
		}
		betterB = uint64(1+loadA)*averageA > uint64(1+loadB)*averageB
	}
	switch {
	case betterB && staleB < now, !betterB && staleA < now:
		return loadA - loadB
	case betterB:
		return 1
	}
	return -1
}

func (h *history) get() (average uint64, staleAfter int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.average, h.staleAfter
}

// finished notes that a request of p, begun at that time, has ended. Requests that were in flight together count as if one had followed
// the other. It is called without the target's mu.
func (s *historical) finished(p *path, began, ended time.Time) {
	start, now := began.Sub(s.started).Nanoseconds(), ended.Sub(s.started).Nanoseconds()
	h := &p.history
	h.mu.Lock()
	defer h.mu.Unlock()
	took := uint64(max(0, now-max(start, h.lastDone)))
	h.lastDone = max(now, h.lastDone)
	keep := s.weights[min(took>>bucketBits, weightCount-1)]
	took = min(took, maxAverage>>fixedBits) << fixedBits
	h.average = (min(h.average, maxAverage)*keep + min(took, maxAverage)*(fixedOne-keep) + fixedOne/2) >> fixedBits
	h.staleAfter = h.lastDone + int64(p.group.valid.Load())*int64(h.average>>fixedBits)
}

func (s *historical) own() []string {
	return []string{"2", number(s.weights[0]), number(s.threshold)}
}

func (s *historical) words(p *path, status bool) []string {
	if !status {
		return []string{"0"}
	}
	average, stale := p.history.get()
	return []string{number(average), number(uint64(p.load.Load())), number(uint64(stale))}
}
