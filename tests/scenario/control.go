package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// refs replaces @NAME@ by how the driver calls NAME.
func (p *player) refs(table []Line) []Line {
	out := slices.Clone(table)
	for i := range out {
		out[i].Params = p.ref(out[i].Params)
	}
	return out
}

func (p *player) ref(text string) string {
	for {
		before, rest, ok := strings.Cut(text, "@")
		name, after, ok2 := strings.Cut(rest, "@")
		if !ok || !ok2 || !p.isDisk(name) && p.find(name) == nil {
			return text
		}
		text = before + p.d.Ref(name) + after
	}
}

// control plays a step that is for the device mapper and not for its data.
func (p *player) control(s Step) (string, error) {
	w := s.Words
	name := w[1]
	flag := func(f string) bool { return slices.Contains(w[2:], f) }
	switch w[0] {
	case "create":
		return "", p.create(s)
	case "load":
		table := p.refs(s.Table)
		err := p.d.Load(name, table, flag("ro"))
		if dev := p.find(name); err == nil && dev != nil {
			dev.inactive, dev.inactiveRO = s.Table, flag("ro")
		}
		return "", err
	case "resume":
		err := p.d.Resume(name, flag("noflush"))
		if dev := p.find(name); err == nil && dev != nil && dev.inactive != nil {
			dev.Table, dev.ReadOnly, dev.inactive = dev.inactive, dev.inactiveRO, nil
		}
		return "", err
	case "suspend":
		return "", p.d.Suspend(name, flag("noflush"))
	case "clear":
		if dev := p.find(name); dev != nil {
			dev.inactive = nil
		}
		return "", p.d.Clear(name)
	case "remove":
		err := p.d.Remove(name, flag("force"), flag("deferred"))
		if dev := p.find(name); err == nil && dev != nil && !flag("deferred") {
			p.devices = slices.DeleteFunc(p.devices, func(d *device) bool { return d == dev })
		}
		return "", err
	case "rename":
		err := p.d.Rename(name, w[2])
		if dev := p.find(name); err == nil && dev != nil {
			dev.Name = w[2]
		}
		return "", err
	case "setuuid":
		err := p.d.SetUUID(name, w[2])
		if dev := p.find(name); err == nil && dev != nil {
			dev.UUID = w[2]
		}
		return "", err
	}
	return p.ask(w, flag("inactive"))
}

// ask plays a step that changes no table.
func (p *player) ask(w []string, inactive bool) (string, error) {
	name := w[1]
	switch w[0] {
	case "setgeometry":
		n, err := numbers(w[2:])
		if err != nil {
			return "", err
		}
		return "", p.d.SetGeometry(name, [4]uint64(n))
	case "message":
		n, err := numbers(w[2:3])
		if err != nil {
			return "", err
		}
		words := slices.Clone(w[3:])
		for i := range words {
			words[i] = p.ref(words[i])
		}
		reply, err := p.d.Message(name, n[0], words)
		return strings.TrimSuffix(reply, "\n"), err // wherever an answer is printed it ends one line
	case "table", "status":
		lines, err := p.d.Lines(name, w[0] == "status", inactive)
		if err == nil && len(lines) == 0 {
			return "none", nil
		}
		return strings.Join(lines, "\n"), err
	case "info":
		i, err := p.d.Info(name)
		return i.text(), err
	case "deps":
		deps, err := p.d.Deps(name)
		return fmt.Sprintf("%d: %s", len(deps), strings.Join(deps, " ")), err
	case "wait":
		n, err := numbers(w[2:])
		if err != nil {
			return "", err
		}
		return "", p.d.Wait(name, uint32(n[0]))
	}
	return "", fmt.Errorf("no such step: %q", w)
}

func (i Info) text() string {
	words := []string{}
	for _, f := range []struct {
		is   bool
		word string
	}{
		{i.Live, "live"}, {i.Inactive, "inactive"}, {i.Suspended, "suspended"}, {i.ReadOnly, "read-only"}, {i.Deferred, "deferred-remove"},
	} {
		if f.is {
			words = append(words, f.word)
		}
	}
	words = append(words, fmt.Sprintf("opens=%d segments=%d events=%d minor=%d uuid=%q", i.Opens, i.Segments, i.Events, i.Minor, i.UUID))
	return strings.Join(words, " ")
}

func (p *player) create(s Step) error {
	n := NewDevice{Name: s.Words[1], Minor: -1, Table: s.Table}
	for _, w := range s.Words[2:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "ro":
			n.ReadOnly = true
		case "notable":
		case "uuid":
			n.UUID = value
		case "minor":
			if _, err := fmt.Sscan(value, &n.Minor); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown option %q", w)
		}
	}
	asked := n
	asked.Table = nil
	if n.Table != nil {
		asked.Table = p.refs(n.Table)
	}
	err := p.d.Create(asked)
	if err == nil {
		// One of that name may have gone by itself.
		p.devices = slices.DeleteFunc(p.devices, func(d *device) bool { return d.Name == n.Name })
		p.devices = append(p.devices, &device{NewDevice: n})
	}
	return err
}

// reopen makes everything again as it is. Devices were made bottom up, so they go in the other order.
func (p *player) reopen() error {
	for _, r := range p.open {
		r()
	}
	clear(p.open)
	for _, dev := range slices.Backward(p.devices) {
		if err := p.d.Remove(dev.Name, false, false); err != nil {
			return fmt.Errorf("removing %s: %w", dev.Name, err)
		}
	}
	if err := p.d.LetGo(); err != nil {
		return err
	}
	for _, dev := range p.devices {
		n := dev.NewDevice
		n.Table = p.refs(n.Table)
		if err := p.d.Create(n); err != nil {
			return fmt.Errorf("making %s again: %w", dev.Name, err)
		}
		dev.inactive = nil
	}
	return nil
}

// again returns the scenario that makes what there is, on disks that have their content.
func (p *player) again(s *Scenario) *Scenario {
	a := &Scenario{Name: s.Name, About: "the devices of " + s.Name + " on its disks", Restless: s.Restless}
	for _, step := range s.Steps {
		if w := step.Words[0]; w == "disk" || w == "scratch" {
			a.Steps = append(a.Steps, step)
		}
	}
	for _, dev := range p.devices {
		if i, err := p.d.Info(dev.Name); err != nil || !i.Live {
			continue
		}
		words := []string{"create", dev.Name}
		if dev.ReadOnly {
			words = append(words, "ro")
		}
		a.Steps = append(a.Steps, Step{Words: words}.WithTable(dev.Table))
	}
	return a
}

// Continue returns a scenario that makes the devices of again, which PlayOn returned, and works on: it writes at the beginning, in the
// middle and at the end of each that may be written to, makes zeroes and flushes. Left alone are what stands on a read-only device, since
// there the kernel and we mean to differ, and multipath, whose paths are different disks in scenarios: which one it takes is its own affair.
func Continue(again *Scenario) *Scenario {
	c := &Scenario{Name: again.Name, About: again.About + ", written on", Steps: slices.Clone(again.Steps)}
	serial := 1 << 20                  // no scenario's own
	leftAlone := make(map[string]bool) // references in tables
	for _, step := range again.Steps {
		if step.Words[0] != "create" {
			continue
		}
		var size uint64
		alone := slices.Contains(step.Words, "ro")
		for _, l := range step.Table {
			size += l.Len
			for word := range strings.FieldsSeq(l.Params) {
				alone = alone || leftAlone[word]
			}
			alone = alone || l.Type == "multipath"
		}
		if step.Table[0].Type == "thin-pool" { // its blocks are those of thin devices
			continue
		}
		if alone {
			leftAlone["@"+step.Words[1]+"@"] = true
			continue
		}
		const grain = 8 // a block of 4096 bytes
		if size < grain {
			continue
		}
		name, middle, end := step.Words[1], size/2&^(grain-1), size&^(grain-1)
		for _, at := range []uint64{0, middle, end - grain} {
			serial++
			c.add("write", name, at, min(3*grain, end-at), serial)
		}
		c.add("zeroout", name, middle/2&^(grain-1), grain)
		c.add("flush", name)
	}
	return c
}

// add appends a step of one line.
func (s *Scenario) add(words ...any) {
	line := strings.TrimSuffix(fmt.Sprintln(words...), "\n")
	s.Steps = append(s.Steps, Step{Words: strings.Fields(line), Lines: []string{line}})
}
