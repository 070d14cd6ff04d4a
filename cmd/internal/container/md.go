package container

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"dmfs/targets/raid/md"
)

// mdPrefix begins the uuid of the device of an array.
const mdPrefix = "MD-"

// openMembers opens the members of a software RAID, of which data is the first. found is false, and nothing was done, if data is none and
// Options.Type does not say that it is.
func openMembers(ctx context.Context, env Env, o Options, data *disk) (found bool, err error) {
	first, err := md.Read(data, data.size)
	switch {
	case errors.Is(err, md.ErrNone) && o.Type != "md" && len(o.More) == 0:
		return false, nil
	case err != nil:
		return true, fmt.Errorf("%s: %w", data.name, err)
	}
	if err := o.suits("md"); err != nil {
		return true, err
	}
	names, supers := []string{data.name}, []*md.Super{first}
	for _, name := range o.More {
		d, err := openDisk(ctx, name)
		if err != nil {
			return true, err
		}
		s, err := md.Read(d, d.size)
		d.close() //nolint:errcheck // it was only read
		if err != nil {
			return true, fmt.Errorf("%s: %w", d.name, err)
		}
		names, supers = append(names, d.name), append(supers, s)
	}
	p, doubt, err := planMembers(env, o, names, supers)
	if err != nil {
		return true, err
	}
	mnt, err := p.mount(env, o, data)
	if err != nil {
		return true, err
	}
	if err := p.finish(env, o, mnt, nil); err != nil {
		return true, err
	}
	if doubt != nil {
		env.Complain(doubt)
	}
	return true, nil
}

// planMembers makes the plan of an array. What is not whole is read-only, unless told; doubt says why, for when it is open.
func planMembers(env Env, o Options, names []string, supers []*md.Super) (p *plan, doubt, err error) {
	a, err := md.Assemble(names, supers, o.Force)
	if err != nil {
		return nil, nil, err
	}
	for _, left := range a.Left {
		env.Complain(left)
	}
	readOnly := o.ReadOnly
	why := ""
	switch missing := a.Missing(); {
	case len(missing) > 0:
		why = md.Gone(missing)
	case a.Dirty:
		why = "the array was not closed, or was never in sync"
	}
	if why != "" && !readOnly && !o.Force {
		doubt = fmt.Errorf("%s: %s is read-only; --force has it written to, and what is there brought in sync", why, o.Name)
		readOnly = true
	}
	id := fmt.Sprintf("%x", a.Array)
	d := device{Name: o.Name, UUID: mdPrefix + id + "-" + o.Name, ReadOnly: readOnly}
	for _, s := range a.Specs(why != "" && !readOnly) {
		d.Lines = append(d.Lines, line{Spec: s})
	}
	return &plan{Kind: "MD", UUID: strings.Join([]string{id[:8], id[8:16], id[16:24], id[24:]}, ":"), Devices: []device{d}}, doubt, nil
}
