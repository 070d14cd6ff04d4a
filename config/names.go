package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
)

// checkDiskName says why name cannot be a disk's: in a table it would be taken for something else.
func checkDiskName(name string) error {
	switch {
	case name == "":
		return errors.New("a disk needs a name")
	case strings.Contains(name, "/"):
		return errors.New("a name must not contain a slash: a table would take it for a path")
	case isNumberPair(name):
		return errors.New("a table would take this name for a MAJOR:MINOR")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("a name must not contain control characters")
	}
	return nil
}

// isNumberPair reports whether s reads as MAJOR:MINOR.
func isNumberPair(s string) bool {
	major, minor, ok := strings.Cut(s, ":")
	return ok && isDigits(major) && isDigits(minor)
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// mountForms returns the paths under which the mount point may be written.
func mountForms(mountPoint string) []string {
	if mountPoint == "" {
		return nil
	}
	abs, err := filepath.Abs(mountPoint)
	if err != nil {
		return nil
	}
	forms := []string{abs}
	if real, err := filepath.EvalSymlinks(abs); err == nil && real != abs {
		forms = append(forms, real)
	}
	return forms
}

// deviceOf returns the name of the device that a word of a table may mean, "" if it can mean none.
func (p *parser) deviceOf(word string) string {
	if !strings.Contains(word, "/") {
		if isDigits(word) || p.isDisk(word) {
			return ""
		}
		return word
	}
	if !filepath.IsAbs(word) {
		word = filepath.Join(p.Dir, word)
	}
	dir, name := filepath.Split(filepath.Clean(word))
	dir = filepath.Clean(dir)
	if dir == "/dev/mapper" {
		return name
	}
	for _, m := range p.mounts {
		if dir == m {
			return name
		}
	}
	return ""
}

// order sorts the devices so that each comes after those it uses, and refuses rings.
func (p *parser) order() {
	index := make(map[string]int, len(p.Devices))
	for i := range p.Devices {
		index[p.Devices[i].Name] = i
	}
	for i := range p.Devices {
		p.findUses(&p.Devices[i], index)
	}
	o := ordering{p: p, index: index, state: make([]visit, len(p.Devices))}
	for i := range p.Devices {
		if !o.place(i) {
			return
		}
	}
	p.Devices = o.sorted
}

// findUses fills in d.Uses.
func (p *parser) findUses(d *Device, index map[string]int) {
	seen := make(map[string]bool)
	for _, s := range d.Table {
		for _, word := range s.Args {
			name := p.deviceOf(word)
			if _, ok := index[name]; ok && !seen[name] {
				seen[name] = true
				d.Uses = append(d.Uses, name)
			}
		}
	}
}

// A visit is how far ordering is with a device.
type visit uint8

const (
	unseen visit = iota
	open         // the devices it uses are being placed
	placed
)

// An ordering is a depth-first walk along Uses. It keeps its own stack, because a chain may be as long
// as a file allows.
type ordering struct {
	p      *parser
	index  map[string]int
	state  []visit
	sorted []Device
}

// place appends device i after all it uses. It reports false, having recorded the mistake, on a ring.
func (o *ordering) place(i int) bool {
	type frame struct{ device, next int }
	if o.state[i] != unseen {
		return true
	}
	o.state[i] = open
	stack := []frame{{device: i}}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		d := o.p.Devices[top.device]
		if top.next == len(d.Uses) {
			o.state[top.device] = placed
			o.sorted = append(o.sorted, d)
			stack = stack[:len(stack)-1]
			continue
		}
		use := o.index[d.Uses[top.next]]
		top.next++
		switch o.state[use] {
		case unseen:
			o.state[use] = open
			stack = append(stack, frame{device: use})
		case open:
			var ring []string
			for _, f := range stack {
				if f.device == use || len(ring) > 0 {
					ring = append(ring, o.p.Devices[f.device].Name)
				}
			}
			o.fail(ring)
			return false
		}
	}
	return true
}

// maxRing bounds how many devices of a ring are named.
const maxRing = 16

// fail reports the ring, each device using the next and the last the first, at the line of the segment
// that uses the first.
func (o *ordering) fail(ring []string) {
	last := &o.p.Devices[o.index[ring[len(ring)-1]]]
	segment := 0
	for i, s := range last.Table {
		for _, word := range s.Args {
			if o.p.deviceOf(word) == ring[0] {
				segment = i
			}
		}
	}
	shown := append([]string(nil), ring...)
	if len(shown) > maxRing {
		shown = append(shown[:maxRing:maxRing], "…")
	}
	shown = append(shown, ring[0])
	err := segmentError(segment, last.Table[segment], "devices in a ring", "%s", strings.Join(shown, " → "))
	o.p.failAt(o.p.src.segmentLine(last.Name, segment), fmt.Errorf("device %s: %w", last.Name, err))
}
