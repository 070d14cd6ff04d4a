package multipath

import (
	"context"
	"strconv"
	"strings"
)

// Table returns the arguments in the kernel's spelling, which ends in a blank. The group is the one that is to be
// used, which need not be the one that was loaded.
func (t *target) Table(bool) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	words := t.featureWords()
	if t.setup.handler == "" {
		words = append(words, "0")
	} else {
		words = append(words, "1", t.setup.handler)
	}
	words = append(words, strconv.Itoa(len(t.groups)), strconv.Itoa(t.groupNumber()))
	for _, g := range t.groups {
		words = append(words, g.kind.name)
		words = append(words, g.selector.own()...)
		words = append(words, strconv.Itoa(len(g.paths)), strconv.Itoa(g.kind.tableWords))
		for _, p := range g.paths {
			words = append(words, p.name)
			words = append(words, g.selector.words(p, false)...)
		}
	}
	return append(words, "")
}

// featureWords returns the features with their number.
func (t *target) featureWords() []string {
	words := []string{""}
	if t.queueing {
		words = append(words, "queue_if_no_path")
	}
	if t.setup.initRetries > 0 {
		words = append(words, "pg_init_retries", number(t.setup.initRetries))
	}
	if t.setup.initDelay != defaultDelay {
		words = append(words, "pg_init_delay_msecs", number(t.setup.initDelay))
	}
	if t.setup.retain {
		words = append(words, "retain_attached_hw_handler")
	}
	if t.setup.bio {
		words = append(words, "queue_mode", "bio")
	}
	words[0] = strconv.Itoa(len(words) - 1)
	return words
}

// groupNumber returns the number of the group that is to be used, else of the current one, else of the first, if there is one.
func (t *target) groupNumber() int {
	switch {
	case t.next != nil:
		return t.next.number
	case t.current != nil:
		return t.current.number
	}
	return min(1, len(t.groups))
}

// Status returns the state of groups and paths. There is never a group to be initialised, so the second number is 0.
func (t *target) Status(context.Context, bool) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh := "0"
	if t.fresh {
		fresh = "1"
	}
	words := []string{"2", fresh, "0", "0", strconv.Itoa(len(t.groups)), strconv.Itoa(t.groupNumber())}
	for _, g := range t.groups {
		words = append(words, t.letter(g))
		words = append(words, g.selector.own()...)
		words = append(words, strconv.Itoa(len(g.paths)), strconv.Itoa(g.kind.infoWords))
		for _, p := range g.paths {
			state := "F"
			if p.active {
				state = "A"
			}
			words = append(words, p.name, state, number(uint64(p.fails)))
			words = append(words, g.selector.words(p, true)...)
		}
	}
	return strings.Join(words, " ") + " ", nil
}

// letter returns the state of g: disabled, active or enabled.
func (t *target) letter(g *group) string {
	switch {
	case g.bypassed:
		return "D"
	case g == t.current:
		return "A"
	}
	return "E"
}
