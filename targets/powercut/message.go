package powercut

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// counters are of requests, but for kept, older and lost, which are sectors.
type counters struct {
	reads, writes, discards, flushes, fua, failed, cuts uint64
	outcome
}

func (c *counters) request(r mapper.Request) {
	switch r.Op {
	case mapper.OpRead:
		c.reads++
	case mapper.OpFlush:
		c.flushes++
	case mapper.OpDiscard:
		c.discards++
	default:
		c.writes++
		if r.Flags&mapper.FlagFUA != 0 {
			c.fua++
		}
	}
}

func (c *counters) cut(o outcome) {
	c.cuts++
	c.outcome.add(o)
}

func (c *counters) text() string {
	return fmt.Sprintf("reads=%d writes=%d discards=%d flushes=%d fua=%d failed=%d cuts=%d kept=%d older=%d lost=%d torn=%d",
		c.reads, c.writes, c.discards, c.flushes, c.fua, c.failed, c.cuts, c.kept, c.older, c.lost, c.torn)
}

func (c cut) text(o outcome) string {
	return fmt.Sprintf("seed=%d keep=%s dirty=%d kept=%d older=%d lost=%d torn=%d", c.seed, c.keep, o.dirty, o.kept, o.older, o.lost, o.torn)
}

// matches reports whether a request is one of those that an armed cut counts.
func (a *armedCut) matches(op mapper.Op) bool {
	switch {
	case a.after == 0:
		return false
	case a.op == "read":
		return op == mapper.OpRead
	case a.op == "flush":
		return op == mapper.OpFlush
	case a.op == "write":
		return op != mapper.OpRead && op != mapper.OpFlush
	}
	return true
}

// Status returns the state and the counters.
func (t *target) Status(context.Context, bool) (string, error) {
	s := t.supply
	s.mu.Lock()
	defer s.mu.Unlock()
	state, after := "on", uint64(0)
	switch {
	case s.off:
		state = "off"
	case s.armed.target == t:
		state, after = "armed", s.armed.after
	}
	return fmt.Sprintf("%s dirty=%d cache=%d after=%d seed=%d %s", state, uint64(len(t.cache.newest))*uint64(t.block),
		t.cacheSectors, after, s.last.seed, t.count.text()), nil
}

const badMessage = "Invalid message"

// Message answers cut, disarm, restore and counters.
func (t *target) Message(ctx context.Context, words []string) (string, error) {
	if len(words) > 1 && (words[0] == "disarm" || words[0] == "restore") {
		return "", mapper.BadArg(badMessage, "%s takes no words, found %q", words[0], words[1])
	}
	switch {
	case len(words) == 0:
	case words[0] == "cut":
		c, err := t.parseCut(words[1:])
		if err != nil {
			return "", err
		}
		return t.cut(ctx, c)
	case words[0] == "disarm":
		t.supply.mu.Lock()
		defer t.supply.mu.Unlock()
		t.supply.armed = armedCut{}
		return "disarmed", nil
	case words[0] == "restore":
		return t.restore(ctx)
	case words[0] == "counters":
		return t.counters(words[1:])
	}
	return "", mapper.BadArg(badMessage, "%q: want cut, disarm, restore or counters", strings.Join(words, " "))
}

// parseCut reads the words after cut.
func (t *target) parseCut(words []string) (a armedCut, err error) {
	a = armedCut{cut: cut{keep: keepRandom}, target: t, op: "any"}
	seen := make(map[string]bool)
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		if seen[key] {
			return a, mapper.BadArg(badMessage, "%s is given twice", key)
		}
		seen[key] = true
		n, isNumber := args.Uint64(value)
		switch key {
		case "seed":
			if a.seed = n; !isNumber {
				return a, mapper.BadArg(badMessage, "seed %q: want a number below 2^64", value)
			}
		case "keep":
			switch a.keep = keep(value); a.keep {
			case keepNone, keepAll, keepRandom, keepTorn:
			default:
				return a, mapper.BadArg(badMessage, "keep %q: want none, all, random or torn", value)
			}
		case "after":
			if a.after = n; !isNumber || n == 0 {
				return a, mapper.BadArg(badMessage, "after %q: want a number above 0", value)
			}
		case "op":
			switch a.op = value; a.op {
			case "read", "write", "flush", "any":
			default:
				return a, mapper.BadArg(badMessage, "op %q: want read, write, flush or any", value)
			}
		default:
			return a, mapper.BadArg(badMessage, "%q: want seed=N, keep=MODE, after=N or op=OP", w)
		}
	}
	if seen["op"] && !seen["after"] {
		return a, mapper.BadArg(badMessage, "op without after=N")
	}
	a.seeded = seen["seed"]
	return a, nil
}

// drawSeed returns the next seed of the table line, or one by chance. supply.mu is held.
func (t *target) drawSeed() uint64 {
	if !t.given["seed"] {
		return rand.Uint64()
	}
	t.nextSeed++
	return t.nextSeed - 1
}

// cut cuts the power, or arms.
func (t *target) cut(ctx context.Context, a armedCut) (string, error) {
	s := t.supply
	s.mu.Lock()
	if s.off {
		s.mu.Unlock()
		return "", &mapper.ArgError{Reason: "The power is off", Detail: "restore it first"}
	}
	if !a.seeded {
		a.seed = t.drawSeed()
	}
	if a.after > 0 {
		s.armed = a
		s.mu.Unlock()
		return fmt.Sprintf("armed seed=%d keep=%s after=%d op=%s", a.seed, a.keep, a.after, a.op), nil
	}
	s.trip(a.cut)
	s.mu.Unlock()
	if err := s.settled(ctx); err != nil {
		return "", fmt.Errorf("the power is off, and a disk below is busy still: %w", err)
	}
	var sum outcome
	for _, m := range s.list() {
		s.mu.Lock()
		sum.add(m.result)
		s.mu.Unlock()
	}
	return "cut " + a.cut.text(sum), nil
}

// settled waits until all members have decided what survives.
func (s *supply) settled(ctx context.Context) error {
	for _, m := range s.list() {
		if err := m.hold(ctx); err != nil {
			return err
		}
		m.release()
	}
	return nil
}

// restore gives the power back.
func (t *target) restore(ctx context.Context) (string, error) {
	s := t.supply
	if err := s.settled(ctx); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = false
	return "on", nil
}

func (t *target) counters(words []string) (string, error) {
	if len(words) > 1 || len(words) == 1 && words[0] != "reset" {
		return "", mapper.BadArg(badMessage, "counters %q: want nothing or reset", strings.Join(words, " "))
	}
	t.supply.mu.Lock()
	defer t.supply.mu.Unlock()
	text := t.count.text()
	if len(words) == 1 {
		t.count = counters{}
	}
	return text, nil
}
