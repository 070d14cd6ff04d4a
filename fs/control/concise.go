package control

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"dmfs/mapper"
)

// concise creates the devices of a specification as dmsetup and dm-init take it:
// name,uuid,minor,flags,table[,table…][;name,…]. A backslash takes the next character as it is. If one device
// cannot be made, none is.
func concise(ctx context.Context, s *Session, a *args) (string, error) {
	spec := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(a.raw), "concise"))
	if strings.HasPrefix(spec, `"`) {
		words, err := mapper.SplitArgs(spec)
		if err != nil {
			return "", err
		}
		spec = strings.Join(words, " ")
	}
	devices, err := ParseConcise(spec)
	if err != nil {
		return "", err
	}
	var made []string
	for _, n := range devices {
		if _, err = s.m.Create(ctx, n); err != nil {
			err = fmt.Errorf("%s: %w", n.Name, err)
			break
		}
		made = append(made, n.Name)
	}
	if err == nil {
		return "", nil
	}
	for i := len(made) - 1; i >= 0; i-- {
		if e := s.m.Remove(context.WithoutCancel(ctx), made[i], mapper.RemoveOptions{}); e != nil {
			err = errors.Join(err, fmt.Errorf("and removing %s again: %w", made[i], e))
		}
	}
	return "", err
}

// ParseConcise parses a concise specification.
func ParseConcise(spec string) ([]mapper.NewDevice, error) {
	var devices []mapper.NewDevice
	for _, fields := range splitConcise(spec) {
		if len(fields) == 1 && strings.TrimSpace(fields[0]) == "" {
			continue // after a trailing semicolon
		}
		n, err := conciseDevice(fields)
		if err != nil {
			return nil, fmt.Errorf("device %d of the specification: %w", len(devices)+1, err)
		}
		devices = append(devices, n)
	}
	if len(devices) == 0 {
		return nil, mapper.BadArg("empty specification", "want name,uuid,minor,flags,table[,table…]")
	}
	return devices, nil
}

// conciseDevice makes a device of its fields. Errors do not say what is in them: where a comma is missing, a table with its key is taken for another field.
func conciseDevice(fields []string) (mapper.NewDevice, error) {
	const fixed = 4 // name, uuid, minor, flags
	if len(fields) <= fixed {
		return mapper.NewDevice{}, mapper.BadArg("incomplete specification", "%d fields, want name,uuid,minor,flags,table", len(fields))
	}
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	n := mapper.NewDevice{Name: fields[0], UUID: fields[1], Minor: -1}
	if fields[2] != "" {
		minor, err := strconv.ParseUint(fields[2], 10, 20)
		if err != nil {
			return n, mapper.BadArg("invalid minor number", "want name,uuid,minor,flags,table")
		}
		n.Minor = int(minor)
	}
	switch fields[3] {
	case "ro":
		n.ReadOnly = true
	case "", "rw":
	default:
		return n, mapper.BadArg("invalid flags", "want ro or rw in name,uuid,minor,flags,table")
	}
	specs, err := mapper.ParseTable(strings.Join(fields[fixed:], "\n"))
	n.Table = specs
	return n, err
}

// splitConcise splits at unescaped semicolons and, within, at unescaped commas. A backslash goes with
// a separator that it escapes; before anything else it stays, for the words of the table.
func splitConcise(spec string) [][]string {
	devices := [][]string{nil}
	var field strings.Builder
	endField := func() {
		last := len(devices) - 1
		devices[last] = append(devices[last], field.String())
		field.Reset()
	}
	for i := 0; i < len(spec); i++ {
		switch c := spec[i]; {
		case c == '\\' && i+1 < len(spec):
			i++
			if spec[i] != ',' && spec[i] != ';' {
				field.WriteByte('\\')
			}
			field.WriteByte(spec[i])
		case c == ',':
			endField()
		case c == ';':
			endField()
			devices = append(devices, nil)
		default:
			field.WriteByte(c)
		}
	}
	endField()
	return devices
}
