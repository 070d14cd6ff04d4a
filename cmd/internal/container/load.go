package container

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/dmsetup"
	"dmfs/fs/control"
	"dmfs/mapper"
	"dmfs/targets/crypt/luks"
)

// load makes the devices of a plan in the mount on dir, all or none.
func (p *plan) load(dir string, keys []openedKey) error {
	for i, d := range p.Devices {
		if err := d.create(dir, keys); err != nil {
			for i--; i >= 0; i-- {
				err = errors.Join(err, remove(dir, p.Devices[i].Name, false))
			}
			return err
		}
	}
	return nil
}

// create makes one device. The command has the keys and is in memory for secrets.
func (d *device) create(dir string, keys []openedKey) error {
	begin := "create " + mapper.QuoteArg(d.Name) + " " + mapper.QuoteArg("uuid="+d.UUID)
	if d.ReadOnly {
		begin += " ro"
	}
	parts := []part{{text: begin + " {\n"}}
	for _, l := range d.Lines {
		parts = append(parts, part{text: strconv.FormatUint(uint64(l.Spec.Start), 10) + " " + strconv.FormatUint(uint64(l.Spec.Len), 10) + " " + l.Spec.Type})
		for i, a := range l.Spec.Args {
			switch {
			case i == 1 && l.Null:
				parts = append(parts, part{text: " " + noKey})
			case i == 1 && l.Keyed:
				parts = append(parts, part{text: " "}, part{key: keys[l.Key].secret.Bytes})
			}
			parts = append(parts, part{text: " " + mapper.QuoteArg(a)})
		}
		parts = append(parts, part{text: "\n"})
	}
	parts = append(parts, part{text: "}\n"})
	command, err := join(parts)
	if err != nil {
		return err
	}
	defer command.Release()
	if _, err := dmsetup.Exchange(dir, command.Bytes); err != nil {
		return explain(d.Name, err)
	}
	return nil
}

// A part of a command is a text, or else the digits of a key.
type part struct {
	text string
	key  []byte
}

// join puts the parts of a command together in memory for secrets.
func join(parts []part) (*luks.Secret, error) {
	n := 0
	for _, p := range parts {
		n += len(p.text) + max(hex.EncodedLen(len(p.key)), len(noKey))
	}
	s, err := luks.NewSecret(n)
	if err != nil {
		return nil, err
	}
	at := 0
	for _, p := range parts {
		switch {
		case p.text != "":
			at += copy(s.Bytes[at:], p.text)
		case len(p.key) == 0:
			at += copy(s.Bytes[at:], noKey)
		default:
			at += hex.Encode(s.Bytes[at:], p.key)
		}
	}
	s.Bytes = s.Bytes[:at]
	return s, nil
}

// explain says of a refusal what can be done about it.
func explain(name string, err error) error {
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) {
		return failure(Occupied, "%w: who uses it, or has the name, `dmfs ls --tree` shows", err)
	}
	if !strings.Contains(err.Error(), name) {
		err = fmt.Errorf("%s: %w", name, err)
	}
	var path *fs.PathError
	if errors.Is(err, unix.ENOENT) && !errors.As(err, &path) { // no such cipher: disks that are not there are ENODEV
		return failure(Failed, "%w", err)
	}
	return err
}

// query returns the devices of the mount on dir.
func query(dir string) ([]control.Device, error) {
	reply, err := dmsetup.Exchange(dir, []byte("query\n"))
	if err != nil {
		return nil, err
	}
	var doc control.Document
	if err := json.Unmarshal([]byte(reply), &doc); err != nil {
		return nil, fmt.Errorf("%s does not answer as a mount does: %w", dir, err)
	}
	return doc.Devices, nil
}

// named returns the device of that name, nil if there is none.
func named(devices []control.Device, name string) *control.Device {
	for i := range devices {
		if devices[i].Name == name {
			return &devices[i]
		}
	}
	return nil
}

// checkFree refuses a plan whose names are taken, or whose container is open already, before anybody is asked for a passphrase.
func (p *plan) checkFree(dir, data string) error {
	devices, err := query(dir)
	if err != nil {
		return err
	}
	for _, d := range p.Devices {
		if named(devices, d.Name) != nil {
			return failure(Occupied, "%s exists already in %s: take another NAME, or close it: dmfs close %s", d.Name, dir, d.Name)
		}
	}
	for _, d := range devices {
		same := strings.HasPrefix(d.UUID, "CRYPT-") && strings.Contains(d.UUID, "-"+strings.ReplaceAll(p.UUID, "-", "")+"-")
		onData := slices.ContainsFunc(d.Deps, func(dep control.Dep) bool { return dep.Path == data })
		if same && (onData || p.Moving) {
			return failure(Occupied, "%s is open already, as %s", data, d.Name)
		}
	}
	return nil
}

func remove(dir, name string, deferred bool) error {
	command := "remove " + mapper.QuoteArg(name)
	if deferred {
		command += " deferred"
	}
	_, err := dmsetup.Exchange(dir, []byte(command+"\n"))
	return err
}

// Close removes the device that Open made of a container, and the integrity device below it. Deferred: as soon as nobody uses it.
func Close(dir, name string, deferred bool) error {
	if err := checkName(name); err != nil {
		return err
	}
	devices, err := query(dir)
	if err != nil {
		return err
	}
	d, below := named(devices, name), named(devices, name+integritySuffix)
	switch {
	case d == nil:
		return failure(NotThere, "%s is not mapped in %s: `dmfs ls` lists what is", name, dir)
	case !strings.HasPrefix(d.UUID, "CRYPT-") && !strings.HasPrefix(d.UUID, mdPrefix):
		return fmt.Errorf("%s is not of a container: remove it with `dmfs remove %s`", name, name)
	case below != nil && !strings.HasPrefix(below.UUID, "CRYPT-INTEGRITY-"):
		below = nil
	}
	err = remove(dir, name, deferred)
	switch {
	case errors.Is(err, unix.EBUSY):
		return failure(Occupied, "%s is in use: unmount what is on it, or close it --deferred, as soon as nobody uses it: %w", name, err)
	case err != nil:
		return err
	case below == nil:
		return nil
	}
	if err := remove(dir, below.Name, deferred); err != nil {
		return fmt.Errorf("%s is closed, but not the integrity device below it: %w; remove it with `dmfs remove %s`", name, err, below.Name)
	}
	return nil
}
