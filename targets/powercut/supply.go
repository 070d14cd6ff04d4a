package powercut

import (
	"slices"
	"sync"
)

// supplies are the power supplies of a mount that have a name and are in use.
type supplies struct {
	mu     sync.Mutex
	byName map[string]*supply
}

// A supply gives power to targets, which lose it at the same instant: its mutex guards the caches of all of them.
type supply struct {
	name string // "": of one target alone
	used int    // by targets; guarded by supplies.mu

	mu      sync.Mutex
	members []*target // in the order they were made
	off     bool
	cuts    uint64 // so far; a request that finds another number than when it began has seen a cut
	last    cut
	armed   armedCut
}

// A cut is what is asked for.
type cut struct {
	seed uint64
	keep keep
}

// An armedCut waits for a request. The zero value is none.
type armedCut struct {
	cut
	seeded bool    // with the seed of whoever asked
	target *target // whose requests count
	after  uint64  // so many, this one included; 0: not armed
	op     string
}

// join adds a target to the supply of that name, or to one of its own if it is empty.
func (all *supplies) join(name string, t *target) *supply {
	all.mu.Lock()
	defer all.mu.Unlock()
	s := all.byName[name]
	if s == nil || name == "" {
		s = &supply{name: name}
	}
	if name != "" {
		all.byName[name] = s
	}
	s.used++
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = append(s.members, t)
	return s
}

// leave takes a target out of its supply.
func (all *supplies) leave(t *target) {
	all.mu.Lock()
	defer all.mu.Unlock()
	s := t.supply
	if s.used--; s.used == 0 && s.name != "" {
		delete(all.byName, s.name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members = slices.DeleteFunc(s.members, func(m *target) bool { return m == t })
	if s.armed.target == t {
		s.armed = armedCut{}
	}
}

// trip cuts the power. What becomes of each member's cache is decided by whoever holds its wire next. mu is held.
func (s *supply) trip(c cut) {
	s.off, s.last, s.armed = true, c, armedCut{}
	s.cuts++
	for i, m := range s.members {
		m.unsettled, m.rank = true, uint64(i)
	}
}

// list returns the members.
func (s *supply) list() []*target {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.members)
}
