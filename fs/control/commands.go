package control

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"dmfs/mapper"
)

// A verb carries out one command and returns its reply, "" for ok.
type verb func(ctx context.Context, s *Session, a *args) (string, error)

// verbs is the list of all commands.
var verbs = map[string]verb{
	"create":      create,
	"load":        load,
	"reload":      load,
	"resume":      resume,
	"suspend":     suspend,
	"clear":       clearInactive,
	"remove":      remove,
	"remove_all":  removeAll,
	"rename":      rename,
	"setuuid":     setUUID,
	"setgeometry": setGeometry,
	"message":     message,
	"concise":     concise,
	"flush":       flush,
	"query":       query,
	"wait":        wait,
	"targets":     targets,
	"version":     version,
	"on":          on,
}

// args are the words of a command that are not used up yet.
type args struct {
	*command
	words []string
	// dev is the device that on has chosen, in place of a name among the words; create leaves there what it made.
	dev *mapper.Device
}

// next uses up the next word.
func (a *args) next(what string) (string, error) {
	if len(a.words) == 0 {
		return "", mapper.BadArg("missing argument", "want %s", what)
	}
	w := a.words[0]
	a.words = a.words[1:]
	return w, nil
}

// end checks that nothing is left.
func (a *args) end() error {
	if len(a.words) > 0 {
		return mapper.BadArg("unexpected word", "%s", mapper.ShowArg(a.words[0]))
	}
	if a.braces {
		return mapper.BadArg("unexpected table", "this command takes none")
	}
	return nil
}

// flags uses up words as long as they are among those of set, which it sets to true.
func (a *args) flags(set map[string]*bool) {
	for len(a.words) > 0 && set[a.words[0]] != nil {
		*set[a.words[0]] = true
		a.words = a.words[1:]
	}
}

// device uses up a name and returns its device.
func (a *args) device(s *Session) (*mapper.Device, error) {
	if a.dev != nil {
		return a.dev, nil
	}
	name, err := a.next("the name of a device")
	if err != nil {
		return nil, err
	}
	d := s.m.ByName(name)
	if d == nil {
		return nil, fmt.Errorf("%s: %w", name, mapper.ErrNotFound)
	}
	return d, nil
}

// table returns the table: the words that are left, as one segment, or what was in braces. ok is false
// if there is neither.
func (a *args) table() (specs []mapper.Spec, ok bool, err error) {
	if a.braces {
		a.braces = false
		if err := a.end(); err != nil {
			return nil, false, err
		}
		specs, err := mapper.ParseTable(strings.Join(a.block, "\n"))
		return specs, true, err
	}
	if len(a.words) == 0 {
		return nil, false, nil
	}
	spec, err := mapper.ParseSpec(a.words)
	a.words = nil
	return []mapper.Spec{spec}, true, err
}

func clearInactive(ctx context.Context, s *Session, a *args) (string, error) {
	d, err := a.device(s)
	if err != nil {
		return "", err
	}
	if err := a.end(); err != nil {
		return "", err
	}
	return "", d.Clear(ctx)
}

func create(ctx context.Context, s *Session, a *args) (string, error) {
	n := mapper.NewDevice{Minor: -1}
	var err error
	if n.Name, err = a.next("a name"); err != nil {
		return "", err
	}
	for len(a.words) > 0 {
		key, value, isOption := strings.Cut(a.words[0], "=")
		switch {
		case a.words[0] == "ro":
			n.ReadOnly = true
		case a.words[0] == "notable":
			n.NoTable = true
		case isOption && key == "uuid":
			n.UUID = value
		case isOption && key == "minor":
			if n.Minor, err = strconv.Atoi(value); err != nil || n.Minor < 0 {
				return "", mapper.BadArg("invalid minor number", "%q", value)
			}
		default:
			return createTable(ctx, s, n, a)
		}
		a.words = a.words[1:]
	}
	return createTable(ctx, s, n, a)
}

func createTable(ctx context.Context, s *Session, n mapper.NewDevice, a *args) (string, error) {
	specs, ok, err := a.table()
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", n.Name, err)
	case ok && n.NoTable:
		return "", mapper.BadArg("unexpected table", "notable makes a device without one")
	case !ok && !n.NoTable:
		return "", mapper.BadArg("missing table", "want START LENGTH TARGET ARGS, or segments in braces, or notable")
	}
	n.Table = specs
	if a.dev, err = s.m.Create(ctx, n); err != nil {
		return "", fmt.Errorf("%s: %w", n.Name, err)
	}
	return "", nil
}

func load(ctx context.Context, s *Session, a *args) (string, error) {
	d, err := a.device(s)
	if err != nil {
		return "", err
	}
	readOnly := false
	a.flags(map[string]*bool{"ro": &readOnly})
	specs, ok, err := a.table()
	if err == nil && !ok {
		err = mapper.BadArg("missing table", "want START LENGTH TARGET ARGS, or segments in braces")
	}
	if err == nil {
		err = d.Load(ctx, specs, readOnly)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", d.Name(), err)
	}
	return "", nil
}

// freezing takes the flags of suspend and resume. nolockfs has nothing to do here: there is no file
// system in this process to freeze, and what was written is flushed unless noflush.
func freezing(s *Session, a *args) (d *mapper.Device, noFlush bool, err error) {
	if d, err = a.device(s); err != nil {
		return nil, false, err
	}
	var noLockFS bool
	a.flags(map[string]*bool{"noflush": &noFlush, "nolockfs": &noLockFS})
	return d, noFlush, a.end()
}

func suspend(ctx context.Context, s *Session, a *args) (string, error) {
	d, noFlush, err := freezing(s, a)
	if err != nil {
		return "", err
	}
	return "", d.Suspend(ctx, noFlush)
}

func resume(ctx context.Context, s *Session, a *args) (string, error) {
	d, noFlush, err := freezing(s, a)
	if err != nil {
		return "", err
	}
	return "", d.Resume(ctx, mapper.ResumeOptions{NoFlush: noFlush})
}

func remove(ctx context.Context, s *Session, a *args) (string, error) {
	d, err := a.device(s)
	if err != nil {
		return "", err
	}
	var o mapper.RemoveOptions
	a.flags(map[string]*bool{"force": &o.Force, "deferred": &o.Deferred})
	if err := a.end(); err != nil {
		return "", err
	}
	return "", s.m.RemoveDevice(ctx, d, o)
}

func removeAll(ctx context.Context, s *Session, a *args) (string, error) {
	var o mapper.RemoveOptions
	a.flags(map[string]*bool{"force": &o.Force, "deferred": &o.Deferred})
	if err := a.end(); err != nil {
		return "", err
	}
	return "", s.m.RemoveAll(ctx, o)
}

func rename(_ context.Context, s *Session, a *args) (string, error) {
	return "", pair(a, "the name of a device", "its new name", s.m.Rename)
}

func setUUID(_ context.Context, s *Session, a *args) (string, error) {
	return "", pair(a, "the name of a device", "a uuid", s.m.SetUUID)
}

func pair(a *args, first, second string, f func(x, y string) error) error {
	var x string
	var err error
	if a.dev != nil {
		x = a.dev.Name()
	} else if x, err = a.next(first); err != nil {
		return err
	}
	y, err := a.next(second)
	if err != nil {
		return err
	}
	if err := a.end(); err != nil {
		return err
	}
	return f(x, y)
}

func setGeometry(_ context.Context, s *Session, a *args) (string, error) {
	d, err := a.device(s)
	if err != nil {
		return "", err
	}
	var n [4]uint64
	for i, what := range []string{"cylinders", "heads", "sectors", "the start sector"} {
		w, err := a.next(what)
		if err != nil {
			return "", err
		}
		if n[i], err = strconv.ParseUint(w, 10, 64); err != nil {
			return "", mapper.BadArg("Unable to interpret geometry settings.", "%s", mapper.ShowArg(w))
		}
	}
	if err := a.end(); err != nil {
		return "", err
	}
	return "", d.SetGeometry(mapper.Geometry{Cylinders: n[0], Heads: n[1], Sectors: n[2], Start: n[3]})
}

func message(ctx context.Context, s *Session, a *args) (string, error) {
	d, err := a.device(s)
	if err != nil {
		return "", err
	}
	room := math.MaxInt
	if len(a.words) > 0 {
		if text, ok := strings.CutPrefix(a.words[0], "room="); ok {
			if room, err = strconv.Atoi(text); err != nil || room < 0 {
				return "", mapper.BadArg("invalid room", "%s, want bytes", mapper.ShowArg(text))
			}
			a.words = a.words[1:]
		}
	}
	return send(ctx, d, a.words, room)
}

// Message sends the words SECTOR WORDS… to d.
func Message(ctx context.Context, d *mapper.Device, words []string) (string, error) {
	return send(ctx, d, words, math.MaxInt)
}

func send(ctx context.Context, d *mapper.Device, words []string, room int) (string, error) {
	if len(words) == 0 {
		return "", mapper.BadArg("missing argument", "want a sector")
	}
	sector, err := mapper.ParseSector(words[0])
	if err != nil {
		return "", err
	}
	return d.MessageWithin(ctx, sector, words[1:], room)
}

func flush(ctx context.Context, s *Session, a *args) (string, error) {
	if len(a.words) == 0 {
		return "", s.m.Flush(ctx)
	}
	d, err := a.device(s)
	if err != nil {
		return "", err
	}
	if err := a.end(); err != nil {
		return "", err
	}
	return "", d.Flush(ctx)
}

func targets(_ context.Context, s *Session, a *args) (string, error) {
	if err := a.end(); err != nil {
		return "", err
	}
	list := []TargetVersion{}
	for _, t := range s.m.Types() {
		list = append(list, TargetVersion{Name: t.Name, Version: t.Version})
	}
	return document(list)
}

func version(_ context.Context, s *Session, a *args) (string, error) {
	if err := a.end(); err != nil {
		return "", err
	}
	return document(s.version)
}

func document(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}
