package inject

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// A kind is what a rule does to a request.
type kind uint8

const (
	fail kind = iota
	stall
	lost
	misdirect
	corrupt
	torn
	kinds // how many there are
)

var kindNames = [kinds]string{"error", "stall", "lost", "misdirect", "corrupt", "torn"}

func (k kind) String() string { return kindNames[k] }

// ops are sets of operations.
type ops uint8

const (
	read ops = 1 << iota
	write
	discard
	flush
	anyOp = read | write | discard | flush
)

// opNames are in the order in which they are printed.
var opNames = []struct {
	name string
	op   ops
}{{"any", anyOp}, {"read", read}, {"write", write}, {"discard", discard}, {"flush", flush}}

// opOf returns the set of the one operation.
func opOf(op mapper.Op) ops {
	switch op {
	case mapper.OpRead:
		return read
	case mapper.OpDiscard:
		return discard
	case mapper.OpFlush:
		return flush
	}
	return write
}

// kindOps say which operations a kind has if its rule says nothing, and which it may have.
var kindOps = [kinds]struct{ usual, may ops }{
	fail: {anyOp, anyOp}, stall: {anyOp, anyOp}, lost: {write | discard, write | discard | flush},
	misdirect: {read | write, read | write}, corrupt: {read | write, read | write}, torn: {write, write},
}

// errnos are those that a disk fails with.
var errnos = map[string]error{
	"EIO": mapper.ErrIO, "ENOSPC": mapper.ErrNoSpace, "ENODATA": mapper.ErrMedium,
	"EILSEQ": mapper.ErrProtection, "ETIMEDOUT": mapper.ErrTimeout,
}

// A rule chooses requests and what happens to them.
type rule struct {
	id    uint64
	kind  kind
	words []string // as the table prints it

	ops        ops
	start, end mapper.Sector // [start, end); end 0: all
	nth, every uint64        // 0: not given
	p          float64       // 0: not given
	count      uint64        // 0: no bound

	err  error         // of error and torn; nil: torn is acknowledged
	time time.Duration // of a stall; 0: until it is released
	by   int64         // of misdirect, in sectors
	bits int           // of corrupt
	unit int           // of torn, bytes

	// Guarded by target.mu.
	rnd               *rand.Rand
	matched, injected uint64
	released          chan struct{} // closed to end the stalls under way
}

// maxBits bounds bits=.
const maxBits = 4096

// parseRules reads rules that follow each other. block is the logical block in bytes.
func parseRules(words []string, block int) ([]*rule, error) {
	var rules []*rule
	for len(words) > 0 {
		n := 1
		for n < len(words) && strings.Contains(words[n], "=") {
			n++
		}
		r, err := parseRule(words[:n], block)
		if err != nil {
			return nil, err
		}
		rules, words = append(rules, r), words[n:]
	}
	return rules, nil
}

const badRule = "Invalid rule"

// parseRule reads one rule.
func parseRule(words []string, block int) (*rule, error) {
	r := &rule{kind: kinds, bits: 1, unit: block, released: make(chan struct{})}
	for k, name := range kindNames {
		if words[0] == name {
			r.kind = kind(k)
		}
	}
	if r.kind == kinds {
		return nil, mapper.BadArg(badRule, "%q: want %s", words[0], strings.Join(kindNames[:], ", "))
	}
	r.ops = kindOps[r.kind].usual
	if r.kind == fail {
		r.err = mapper.ErrIO
	}
	given := make(map[string]string)
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		if mapper.QuoteArg(w) != w {
			return nil, mapper.BadArg(badRule, "%s: %q: want no blanks, quotes and separators", r.kind, w)
		}
		if _, twice := given[key]; twice {
			return nil, mapper.BadArg(badRule, "%s: %s is given twice", r.kind, key)
		}
		given[key] = value
		set := keys[key]
		if set.parse == nil || set.kinds&(1<<r.kind) == 0 {
			return nil, mapper.BadArg(badRule, "%s has no %q", r.kind, key)
		}
		if !set.parse(r, value) {
			return nil, mapper.BadArg(badRule, "%s: %s=%s: want %s", r.kind, key, value, set.want)
		}
	}
	r.words = append([]string{r.kind.String()}, words[1:]...)
	return r, r.check(block, given)
}

// check finds keys that do not go together.
func (r *rule) check(block int, given map[string]string) error {
	chosen := 0
	for _, key := range []string{"nth", "every", "p"} {
		if _, ok := given[key]; ok {
			chosen++
		}
	}
	_, hasBy := given["by"]
	switch {
	case chosen > 1:
		return mapper.BadArg(badRule, "%s: want at most one of nth, every and p", r.kind)
	case r.ops&^kindOps[r.kind].may != 0:
		return mapper.BadArg(badRule, "%s: op=%s: it has %s only", r.kind, r.ops, kindOps[r.kind].may)
	case r.end != 0 && r.ops == flush:
		return mapper.BadArg(badRule, "%s: sectors: a flush touches none", r.kind)
	case r.kind == misdirect && !hasBy:
		return mapper.BadArg(badRule, "misdirect: want by=+N or by=-N")
	case r.kind == misdirect && mapper.Sector(max(r.by, -r.by)).Bytes()%int64(block) != 0:
		return mapper.BadArg(badRule, "misdirect: by=%s: want a multiple of the logical block, %d sectors", given["by"], mapper.SectorsOf(int64(block)))
	}
	return nil
}

// String returns the operations as rules have them.
func (o ops) String() string {
	var names []string
	for _, n := range opNames {
		if o&n.op == n.op {
			names = append(names, n.name)
			o &^= n.op
		}
	}
	return strings.Join(names, "+")
}

const everyKind = 1<<kinds - 1

// keys are what a rule may say: which kinds it belongs to, how it is read, and what is wanted.
var keys = map[string]struct {
	kinds uint
	parse func(r *rule, value string) bool
	want  string
}{
	"op":      {everyKind, (*rule).parseOp, "read, write, discard, flush, joined by +, or any"},
	"sectors": {everyKind, (*rule).parseSectors, "START+COUNT"},
	"nth":     {everyKind, func(r *rule, v string) bool { return number(v, &r.nth) }, "a number above 0"},
	"every":   {everyKind, func(r *rule, v string) bool { return number(v, &r.every) }, "a number above 0"},
	"p":       {everyKind, (*rule).parseP, "a number above 0, at most 1"},
	"count":   {everyKind, func(r *rule, v string) bool { return number(v, &r.count) }, "a number above 0"},
	"errno":   {1<<fail | 1<<torn, func(r *rule, v string) bool { r.err = errnos[v]; return r.err != nil }, "EIO, ENOSPC, ENODATA, EILSEQ or ETIMEDOUT"},
	"time":    {1 << stall, (*rule).parseTime, "a duration above 0 such as 20ms, at most a day"},
	"by":      {1 << misdirect, (*rule).parseBy, "+SECTORS or -SECTORS, and not 0"},
	"bits":    {1 << corrupt, (*rule).parseBits, fmt.Sprintf("1 to %d", maxBits)},
	"unit":    {1 << torn, (*rule).parseUnit, "a power of two, 16 to 1048576"},
}

func number(value string, n *uint64) (ok bool) {
	*n, ok = args.Uint64(value)
	return ok && *n > 0
}

func (r *rule) parseOp(value string) bool {
	r.ops = 0
	for _, word := range strings.Split(value, "+") {
		before := r.ops
		for _, n := range opNames {
			if word == n.name {
				r.ops |= n.op
			}
		}
		if r.ops == before {
			return false
		}
	}
	return true
}

func (r *rule) parseSectors(value string) bool {
	first, count, _ := strings.Cut(value, "+")
	a, ok1 := args.Uint64(first)
	n, ok2 := args.Uint64(count)
	if !ok1 || !ok2 || n == 0 || a > uint64(mapper.MaxSectors) || n > uint64(mapper.MaxSectors) {
		return false
	}
	r.start, r.end = mapper.Sector(a), mapper.Sector(a+n)
	return true
}

func (r *rule) parseP(value string) bool {
	p, err := strconv.ParseFloat(value, 64)
	r.p = p
	return err == nil && p > 0 && p <= 1
}

func (r *rule) parseTime(value string) bool {
	d, err := time.ParseDuration(value)
	r.time = d
	return err == nil && d > 0 && d <= 24*time.Hour
}

func (r *rule) parseBy(value string) bool {
	if value == "" || value[0] != '+' && value[0] != '-' {
		return false
	}
	n, ok := args.Uint64(value[1:])
	if !ok || n == 0 || n > uint64(mapper.MaxSectors) {
		return false
	}
	if r.by = int64(n); value[0] == '-' {
		r.by = -r.by
	}
	return true
}

func (r *rule) parseBits(value string) bool {
	n, ok := args.Uint64(value)
	r.bits = int(min(n, maxBits+1))
	return ok && n > 0 && n <= maxBits
}

func (r *rule) parseUnit(value string) bool {
	n, ok := args.Uint64(value)
	r.unit = int(min(n, mapper.MaxBuffer+1))
	return ok && n >= 16 && n <= mapper.MaxBuffer && n&(n-1) == 0
}

// spent reports whether r hits no request any more. target.mu is held.
func (r *rule) spent() bool {
	return r.count != 0 && r.injected >= r.count || r.nth != 0 && r.matched >= r.nth
}

// concerns reports whether r is about requests of that operation and in that place.
func (r *rule) concerns(q mapper.Request) bool {
	return r.ops&opOf(q.Op) != 0 && (r.end == 0 || q.Op != mapper.OpFlush && q.Start < r.end && q.End() > r.start)
}

// matches reports whether r is about a request of a segment that is length sectors long, and can be done to it.
func (r *rule) matches(q mapper.Request, length mapper.Sector) bool {
	if !r.concerns(q) {
		return false
	}
	switch r.kind {
	case misdirect:
		at := int64(q.Start) + r.by
		return at >= 0 && at <= int64(length-q.Count)
	case torn:
		return len(q.Data) > r.unit
	}
	return true
}

// hits counts a request that matches and reports whether it is chosen. target.mu is held.
func (r *rule) hits() bool {
	r.matched++
	switch {
	case r.nth != 0:
		return r.matched == r.nth
	case r.every != 0:
		return r.matched%r.every == 0
	case r.p != 0:
		return r.rnd.Float64() < r.p
	}
	return true
}

// text returns the rule as the status has it. target.mu is held.
func (r *rule) text() string {
	state := "armed"
	if r.spent() {
		state = "spent"
	}
	return fmt.Sprintf("rule=%d %s matched=%d injected=%d state=%s", r.id, strings.Join(r.words, " "), r.matched, r.injected, state)
}
