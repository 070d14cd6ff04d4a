package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"dmfs/mapper"
)

// maxErrors bounds how many mistakes one file is told about.
const maxErrors = 10

// A parser turns the decoded TOML into a Config.
type parser struct {
	*Config
	mounts []string            // forms of the mount point's path
	keys   []toml.Key          // all keys, as they stand in the file
	below  map[string][]string // of keys: by the path of a table, its own keys in the order of the file
	errs   []error
	byUUID map[string]string // device names
}

// fail records a mistake at the value of key.
func (p *parser) fail(key []string, format string, args ...any) {
	if p.full() {
		return
	}
	p.failAt(p.lineNear(key), fmt.Errorf(format, args...))
}

// full reports whether enough mistakes were found; finding the line of each costs a parse.
func (p *parser) full() bool { return len(p.errs) >= maxErrors }

// failAt records a mistake at a line of the file.
func (p *parser) failAt(line int, err error) {
	if !p.full() {
		p.errs = append(p.errs, &Error{p.Path, line, err})
	}
}

// lineNear returns the line of key, or if it is only implied by longer keys, that of the first of those.
func (p *parser) lineNear(key []string) int {
	if line := p.src.line(key); line != 0 {
		return line
	}
	for _, k := range p.keys {
		if len(k) > len(key) && toml.Key(key).String() == k[:len(key)].String() {
			if line := p.src.line(k); line != 0 {
				return line
			}
		}
	}
	return 0
}

// file takes the whole document apart.
func (p *parser) file(root map[string]any) {
	p.indexKeys()
	for _, k := range p.children(nil, root) {
		switch k {
		case "disks", "devices", "keys", "certificates":
		default:
			p.fail([]string{k}, "unknown key %q: want [disks], [devices.NAME], [keys] or certificates", k)
		}
	}
	if disks, ok := p.table(root, "disks"); ok {
		for _, name := range p.children([]string{"disks"}, disks) {
			if p.full() {
				return
			}
			p.disk(name, disks[name])
		}
	}
	p.keyring(root)
	if devices, ok := p.table(root, "devices"); ok {
		for _, name := range p.children([]string{"devices"}, devices) {
			if p.full() {
				return
			}
			p.device(name, devices[name])
		}
	}
	for i := range p.Devices {
		if name := p.Devices[i].Name; p.isDisk(name) {
			p.fail([]string{"disks", name}, "%q names a disk and a device: a table that says %q would be ambiguous", name, name)
		}
	}
}

// table returns root's table of that name.
func (p *parser) table(root map[string]any, name string) (map[string]any, bool) {
	v, ok := root[name]
	if !ok {
		return nil, false
	}
	t, ok := v.(map[string]any)
	if !ok {
		p.fail([]string{name}, "%s: want a table, found %s", name, kind(v))
	}
	return t, ok
}

// children returns the keys of the table at path, in the order of the file.
func (p *parser) children(path []string, table map[string]any) []string {
	var names []string
	for _, name := range p.below[toml.Key(path).String()] {
		if _, ok := table[name]; ok {
			names = append(names, name)
		}
	}
	return names
}

// indexKeys fills in p.below. Tables that are only implied by longer keys are in it too.
func (p *parser) indexKeys() {
	p.below = make(map[string][]string)
	seen := make(map[string]bool)
	for _, k := range p.keys {
		for i := range k {
			if path := k[:i+1].String(); !seen[path] {
				seen[path] = true
				table := k[:i].String()
				p.below[table] = append(p.below[table], k[i])
			}
		}
	}
}

// disk adds one entry of [disks].
func (p *parser) disk(name string, value any) {
	key := []string{"disks", name}
	if err := checkDiskName(name); err != nil {
		p.fail(key, "disk %q: %w", name, err)
		return
	}
	var d mapper.DiskConfig
	switch v := value.(type) {
	case string:
		d.Path = v
	case map[string]any:
		if _, ok := v["path"]; !ok {
			p.fail(key, "disk %s: path is missing", name)
			return
		}
		for _, k := range p.children(key, v) {
			what := "disk " + name
			switch k {
			case "path":
				p.value(&d.Path, v[k], what, append(key, k))
			case "direct":
				p.value(&d.Direct, v[k], what, append(key, k))
			case "readonly":
				p.value(&d.ReadOnly, v[k], what, append(key, k))
			default:
				p.fail(append(key, k), "%s: unknown key %q: want path, direct or readonly", what, k)
			}
		}
	default:
		p.fail(key, "disk %s: want a path or { path = … }, found %s", name, kind(value))
		return
	}
	if !strings.Contains(d.Path, "://") || strings.ContainsRune(d.Path, 0) {
		d.Path = p.path(key, "disk "+name, d.Path)
	}
	p.Disks[name] = d
}

func (p *parser) isDisk(name string) bool {
	_, ok := p.Disks[name]
	return ok
}

// device adds one [devices.NAME].
func (p *parser) device(name string, value any) {
	key := []string{"devices", name}
	if err := mapper.CheckName(name); err != nil {
		p.fail(key, "device %q: %w", name, err)
		return
	}
	table, ok := value.(map[string]any)
	if !ok {
		p.fail(key, "device %s: want a table, found %s", name, kind(value))
		return
	}
	d := Device{NewDevice: mapper.NewDevice{Name: name, Minor: -1}}
	what, text := "device "+name, ""
	for _, k := range p.children(key, table) {
		switch k {
		case "uuid":
			p.value(&d.UUID, table[k], what, append(key, k))
		case "readonly":
			p.value(&d.ReadOnly, table[k], what, append(key, k))
		case "table":
			p.value(&text, table[k], what, append(key, k))
		default:
			p.fail(append(key, k), "%s: unknown key %q: want table, uuid or readonly", what, k)
		}
	}
	p.uuid(&d)
	if _, ok := table["table"]; !ok {
		p.fail(key, "%s: table is missing", what)
		return
	}
	p.segments(&d, text)
	p.Devices = append(p.Devices, d)
}

// uuid checks d's uuid, which is unique in the file.
func (p *parser) uuid(d *Device) {
	key := []string{"devices", d.Name, "uuid"}
	if d.UUID == "" {
		return
	}
	if err := mapper.CheckUUID(d.UUID); err != nil {
		p.fail(key, "device %s: %w", d.Name, err)
	}
	if other := p.byUUID[d.UUID]; other != "" {
		p.fail(key, "device %s: uuid %q is that of device %s", d.Name, d.UUID, other)
	}
	if p.byUUID == nil {
		p.byUUID = make(map[string]string)
	}
	p.byUUID[d.UUID] = d.Name
}

// segments parses d's table and checks that its segments follow each other.
func (p *parser) segments(d *Device, text string) {
	specs, err := mapper.ParseTable(text)
	var at *mapper.LineError
	if errors.As(err, &at) {
		p.failAt(p.src.tableLine(d.Name, at.Line), fmt.Errorf("device %s: %w", d.Name, at.Err))
		return
	}
	if len(specs) == 0 {
		p.fail([]string{"devices", d.Name, "table"}, "device %s: the table is empty: want lines of START LENGTH TARGET ARGS", d.Name)
		return
	}
	var end mapper.Sector
	for i, s := range specs {
		var err error
		switch {
		case s.Len == 0:
			err = segmentError(i, s, "zero-length target", "length 0")
		case s.Start > mapper.MaxSectors || s.Len > mapper.MaxSectors-s.Start:
			err = segmentError(i, s, "too large device", "start+length is at most %d", mapper.MaxSectors)
		case i == 0 && s.Start != 0:
			err = segmentError(i, s, "gap", "the first segment starts at 0")
		case s.Start > end:
			err = segmentError(i, s, "gap", "starts at %d, the segment before ends at %d", s.Start, end)
		case s.Start < end:
			err = segmentError(i, s, "overlap", "starts at %d, the segment before ends at %d", s.Start, end)
		}
		if err != nil {
			p.failAt(p.src.segmentLine(d.Name, i), fmt.Errorf("device %s: %w", d.Name, err))
			return
		}
		end = s.Start + s.Len
	}
	d.Table = specs
}

// value stores v in dst, a *string or *bool.
func (p *parser) value(dst, v any, what string, key []string) {
	name := key[len(key)-1]
	switch dst := dst.(type) {
	case *string:
		s, ok := v.(string)
		if !ok {
			p.fail(key, "%s: %s: want a string, found %s", what, name, kind(v))
		}
		*dst = s
	case *bool:
		b, ok := v.(bool)
		if !ok {
			p.fail(key, "%s: %s: want true or false, found %s", what, name, kind(v))
		}
		*dst = b
	}
}

// kind names the TOML type of v.
func kind(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case time.Time:
		return "a date"
	case map[string]any:
		return "a table"
	}
	return "an array"
}
