package multipath

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// Message changes the state of a path, of a group or of the whole. Words are in any case.
func (t *target) Message(_ context.Context, words []string) (string, error) {
	t.mu.Lock()
	suspended := t.suspended
	t.mu.Unlock()
	if suspended {
		return "", &mapper.ArgError{Detail: "the device is suspended: resume it first", Errno: unix.EBUSY}
	}
	verb := strings.ToLower(words[0])
	if len(words) == 1 {
		switch verb {
		case "queue_if_no_path":
			t.setQueueing(true)
			return "", nil
		case "fail_if_no_path":
			t.setQueueing(false)
			return "", nil
		}
	}
	if len(words) != 2 {
		return "", mapper.BadArg(fmt.Sprintf("Invalid multipath message arguments. Expected 2 arguments, got %d.", len(words)),
			"want queue_if_no_path, fail_if_no_path, fail_path DISK, reinstate_path DISK, switch_group N, disable_group N or enable_group N")
	}
	switch verb {
	case "switch_group":
		return "", t.switchGroup(words[1])
	case "disable_group":
		return "", t.bypass(words[1], true)
	case "enable_group":
		return "", t.bypass(words[1], false)
	case "fail_path":
		return "", t.eachPath(words[1], t.failPath)
	case "reinstate_path":
		return "", t.eachPath(words[1], t.reinstatePath)
	}
	return "", mapper.BadArg("Unrecognised multipath message received: "+words[0],
		"want fail_path, reinstate_path, switch_group, disable_group, enable_group, queue_if_no_path or fail_if_no_path")
}

// setQueueing says whether requests wait while no path is left.
func (t *target) setQueueing(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.suspending {
		t.saved = on // a suspend is under way: the resume brings it
		t.queueing = t.queueing && on
	} else {
		t.queueing = on
	}
	t.wake()
}

// group returns the group of that number. It is called with mu held.
func (t *target) group(word, who string) (*group, error) {
	n, ok := args.Uint64(word)
	if !ok || n == 0 || n > uint64(len(t.groups)) {
		return nil, mapper.BadArg("invalid PG number supplied to "+who, "%q: the table has %d groups, which count from 1", word, len(t.groups))
	}
	return t.groups[n-1], nil
}

// switchGroup makes a group the next one, and ends the bypass of it and of those before it, as the kernel does.
func (t *target) switchGroup(word string) error {
	t.mu.Lock()
	g, err := t.group(word, "switch_pg_num")
	if err == nil {
		for _, before := range t.groups[:g.number] {
			before.bypassed = false
		}
		t.current, t.next = nil, g
	}
	t.mu.Unlock()
	if err == nil {
		t.host.Event()
	}
	return err
}

// bypass makes a group a last resort, or a normal one again.
func (t *target) bypass(word string, on bool) error {
	t.mu.Lock()
	g, err := t.group(word, "bypass_pg")
	if err == nil {
		g.bypassed = on
		t.current = nil
	}
	t.mu.Unlock()
	if err == nil {
		t.host.Event()
	}
	return err
}

// eachPath does something to each path over the disk of that name.
func (t *target) eachPath(name string, do func(p *path)) error {
	disk, err := t.host.Find(name)
	if err != nil {
		return lookupError(name, err)
	}
	found := false
	for _, g := range t.groups {
		for _, p := range g.paths {
			if p.disk == disk {
				do(p)
				found = true
			}
		}
	}
	if !found {
		return &mapper.ArgError{Detail: fmt.Sprintf("%q is no path of this table", name)} // of which the kernel says nothing
	}
	return nil
}

// lookupError is the refusal of a name that leads nowhere.
func lookupError(name string, err error) error {
	detail := err.Error()
	var arg *mapper.ArgError
	if errors.As(err, &arg) {
		detail = arg.Detail
	}
	return &mapper.ArgError{Reason: "message: error getting device " + name, Detail: detail, Errno: mapper.Errno(err)}
}
