package inject

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// Status returns the counts and the rules.
func (t *target) Status(context.Context, bool) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := fmt.Sprintf("seed=%d requests=%d injected=%d stalled=%d rules=%d", t.seed, t.requests.Load(), t.injected(), t.stalled, len(t.rules))
	for _, r := range t.rules {
		text += " " + r.text()
	}
	return text, nil
}

// injected returns how many faults were made. mu is held.
func (t *target) injected() (n uint64) {
	for _, made := range t.made {
		n += made
	}
	return n
}

const badMessage = "Invalid message"

// Message answers arm, disarm, release, list and counters.
func (t *target) Message(_ context.Context, words []string) (string, error) {
	command := ""
	if len(words) > 0 {
		command, words = words[0], words[1:]
	}
	switch {
	case command == "arm" && len(words) > 0:
		return t.arm(words)
	case command == "disarm" && len(words) == 1:
		return t.disarm(words[0])
	case command == "release" && len(words) == 0:
		t.mu.Lock()
		defer t.mu.Unlock()
		return fmt.Sprintf("released %d", t.release()), nil
	case command == "list" && len(words) == 0:
		return t.list(), nil
	case command == "counters" && (len(words) == 0 || len(words) == 1 && words[0] == "reset"):
		return t.counters(len(words) == 1), nil
	}
	return "", mapper.BadArg(badMessage, "%q: want arm KIND [KEY=VALUE]*, disarm ID|all, release, list or counters [reset]",
		strings.Join(append([]string{command}, words...), " "))
}

func (t *target) arm(words []string) (string, error) {
	rules, err := parseRules(words, t.block())
	if err != nil {
		return "", err
	}
	if len(rules) != 1 {
		return "", mapper.BadArg(badMessage, "%d rules: want one at a time", len(rules))
	}
	id, err := t.add(rules[0])
	return fmt.Sprintf("armed %d", id), err
}

func (t *target) disarm(which string) (string, error) {
	id, ok := args.Uint64(which)
	if !ok && which != "all" {
		return "", mapper.BadArg(badMessage, "disarm %q: want the number of a rule, or all", which)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before := len(t.rules)
	t.rules = slices.DeleteFunc(t.rules, func(r *rule) bool {
		gone := which == "all" || r.id == id
		if gone {
			r.release()
		}
		return gone
	})
	if n := before - len(t.rules); n > 0 || which == "all" {
		return fmt.Sprintf("disarmed %d", n), nil
	}
	return "", mapper.BadArg(badMessage, "disarm %s: there is no such rule", which)
}

func (t *target) list() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := make([]string, len(t.rules))
	for i, r := range t.rules {
		lines[i] = r.text()
	}
	return strings.Join(lines, "\n")
}

// counters returns the counts of requests and faults, and sets them to zero if asked.
func (t *target) counters(reset bool) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := fmt.Sprintf("requests=%d injected=%d", t.requests.Load(), t.injected())
	for k, made := range t.made {
		text += fmt.Sprintf(" %s=%d", kind(k), made)
	}
	if reset {
		t.requests.Store(0)
		t.made = [kinds]uint64{}
	}
	return text
}
