package multipath

import (
	"slices"
	"strconv"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// A kind describes a path selector as the kernel's path_selector_type does.
type kind struct {
	name                  string
	tableWords, infoWords int // of each path
	make                  func(words []string) (selector, error)
	frontAgain            bool // a reinstated path is the next to be chosen, not the last
}

// A selector chooses among the paths of one group. Its methods are called with the target's mu held, or by the constructor.
type selector interface {
	// add reads the arguments of a path.
	add(h mapper.Host, p *path, words []string) error
	// pick returns the path for a request of n bytes, nil if none is active.
	pick(g *group, n int64) *path
	// own returns the selector's arguments, with their number.
	own() []string
	// words returns those of a path, for a table or for a status.
	words(p *path, status bool) []string
}

// kinds are the selectors by name.
var kinds = map[string]*kind{
	"round-robin":             {name: "round-robin", tableWords: 1, make: plain(roundRobin{}), frontAgain: true},
	"queue-length":            {name: "queue-length", tableWords: 1, infoWords: 1, make: plain(queueLength{})},
	"service-time":            {name: "service-time", tableWords: 2, infoWords: 2, make: plain(serviceTime{})},
	"historical-service-time": {name: "historical-service-time", tableWords: 1, infoWords: 3, make: newHistorical},
	"io-affinity":             {name: "io-affinity", tableWords: 1, infoWords: 1, make: newAffinity},
}

// plain makes selectors that have nothing of their own. Like the kernel's they pass over arguments.
func plain(s selector) func([]string) (selector, error) {
	return func([]string) (selector, error) { return s, nil }
}

// drop takes p out of the order.
func (g *group) drop(p *path) {
	g.order = slices.DeleteFunc(g.order, func(q *path) bool { return q == p })
	g.valid.Store(int32(len(g.order)))
}

// put puts p, which is active again, where its selector wants it.
func (g *group) put(p *path) {
	if g.kind.frontAgain {
		g.order = slices.Insert(g.order, 0, p)
	} else {
		g.order = append(g.order, p)
	}
	g.valid.Store(int32(len(g.order)))
}

// best returns the first path that no other one beats, and makes it the last among equals.
func (g *group) best(better func(a, b *path) bool) *path {
	if len(g.order) == 0 {
		return nil
	}
	at := 0
	for i := 1; i < len(g.order); i++ {
		if better(g.order[i], g.order[at]) {
			at = i
		}
	}
	p := g.order[at]
	copy(g.order[at:], g.order[at+1:])
	g.order[len(g.order)-1] = p
	return p
}

// repeatCount reads the number of requests after which a path would be left. Above one it is one; 0 is echoed.
func repeatCount(h mapper.Host, p *path, selector string, words []string, most int) error {
	if len(words) > most {
		return mapper.BadArg(selector+" ps: incorrect number of arguments", "%d for path %s, want at most %d", len(words), p.name, most)
	}
	p.repeat, p.weight = 1, 1
	if len(words) == 0 {
		return nil
	}
	n, ok := args.Uint64(words[0])
	if !ok {
		return mapper.BadArg(selector+" ps: invalid repeat count", "%q", words[0])
	}
	if n > 1 {
		h.LogFrom("multipath "+selector, "repeat_count > 1 is deprecated, using 1 instead")
	}
	p.repeat = min(n, 1)
	return nil
}

// A roundRobin takes one path after the other.
type roundRobin struct{}

func (roundRobin) add(h mapper.Host, p *path, words []string) error {
	return repeatCount(h, p, "round-robin", words, 1)
}

func (roundRobin) pick(g *group, _ int64) *path {
	return g.best(func(*path, *path) bool { return false })
}

func (roundRobin) own() []string { return []string{"0"} }

func (roundRobin) words(p *path, status bool) []string {
	if status {
		return nil
	}
	return []string{number(p.repeat)}
}

// A queueLength takes the path with the fewest requests in flight.
type queueLength struct{}

func (queueLength) add(h mapper.Host, p *path, words []string) error {
	return repeatCount(h, p, "queue-length", words, 1)
}

func (queueLength) pick(g *group, _ int64) *path {
	return g.best(func(a, b *path) bool { return a.load.Load() < b.load.Load() })
}

func (queueLength) own() []string { return []string{"0"} }

func (queueLength) words(p *path, status bool) []string {
	if status {
		return []string{number(uint64(p.load.Load()))}
	}
	return []string{number(p.repeat)}
}

// A serviceTime takes the path that would be done first if each moved bytes at its relative throughput.
type serviceTime struct{}

// maxThroughput is the largest relative throughput.
const maxThroughput = 100

func (serviceTime) add(h mapper.Host, p *path, words []string) error {
	if err := repeatCount(h, p, "service-time", words, 2); err != nil {
		return err
	}
	if len(words) < 2 {
		return nil
	}
	n, ok := args.Uint64(words[1])
	if !ok || n > maxThroughput {
		return mapper.BadArg("service-time ps: invalid relative_throughput value", "%q: want a number from 0 to %d", words[1], maxThroughput)
	}
	p.weight = n
	return nil
}

func (serviceTime) pick(g *group, n int64) *path {
	return g.best(func(a, b *path) bool { return faster(a, b, n) })
}

// faster reports whether a would carry out another n bytes before b does. A path of throughput 0 is used only if
// there are no others. Among equals the one with more throughput counts as faster.
func faster(a, b *path, n int64) bool {
	// In flight is what requests lend, so far below 2^56 bytes: nothing overflows.
	x, y := uint64(a.bytes.Load()), uint64(b.bytes.Load())
	switch {
	case a.weight == b.weight:
		return x < y
	case x == y, a.weight == 0, b.weight == 0:
		return a.weight > b.weight
	}
	x, y = (x+uint64(n))*b.weight, (y+uint64(n))*a.weight
	if x != y {
		return x < y
	}
	return a.weight > b.weight
}

func (serviceTime) own() []string { return []string{"0"} }

func (serviceTime) words(p *path, status bool) []string {
	if status {
		return []string{number(uint64(p.bytes.Load())), number(p.weight)}
	}
	return []string{number(p.repeat), number(p.weight)}
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
