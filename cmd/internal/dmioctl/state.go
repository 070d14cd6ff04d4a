package dmioctl

import (
	"context"
	"encoding/json"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
)

// ask carries out a command, wipes it, and decodes the reply.
func (s *Server) ask(ctx context.Context, into any, c *command) error {
	// The mount does not keep the text, which may be a key's, so that wiping it is safe and is enough.
	reply, err := s.m.Do(ctx, unsafe.String(unsafe.SliceData(c.text), len(c.text)))
	clear(c.text)
	if err != nil {
		return err
	}
	text := []byte(reply)
	defer clear(text)
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the mount's reply makes no sense: %w", err)
	}
	return nil
}

// query asks for the state of one device.
func (s *Server) query(ctx context.Context, c *command) (control.Device, error) {
	doc, err := s.on(ctx, c)
	if err != nil {
		return control.Device{}, err
	}
	return doc.Devices[0], nil
}

// on carries out a command that answers with the state of one device.
func (s *Server) on(ctx context.Context, c *command) (doc control.Document, err error) {
	if err := s.ask(ctx, &doc, c); err != nil {
		return doc, err
	}
	if len(doc.Devices) != 1 {
		return doc, fmt.Errorf("the mount told of %d devices: %w", len(doc.Devices), unix.EIO)
	}
	return doc, nil
}

// selector returns how the control file names the device that p means: by uuid, name or number, and only one of them.
func (s *Server) selector(p *params) (string, error) {
	name, uuid, dev := p.name(), p.uuid(), p.dev()
	switch {
	case uuid != "" && (name != "" || dev != 0), name != "" && dev != 0:
		return "", unix.ENXIO
	case uuid != "":
		return "uuid=" + uuid, nil
	case name != "":
		return "name=" + name, nil
	}
	major, minor := decodeDev(dev)
	if dev == 0 || major != s.t.Major() {
		return "", unix.ENXIO
	}
	return fmt.Sprintf("minor=%d", minor), nil
}

// A found device is one that was looked up, and how.
type found struct {
	control.Device
	selector string
}

// lookUp returns the device that p means.
func (s *Server) lookUp(ctx context.Context, p *params) (found, error) {
	selector, err := s.selector(p)
	if err != nil {
		return found{}, err
	}
	return s.selected(ctx, p, selector)
}

// selected returns the device that selector, which may have the caller's words, chooses.
func (s *Server) selected(ctx context.Context, p *params, selector string) (found, error) {
	c := newCommand("query")
	if c.word(selector) != nil {
		return found{}, unix.ENXIO // no device is called so
	}
	if p.flag(flagQueryInactive) {
		c.add("inactive")
	}
	d, err := s.query(ctx, c)
	if err == nil && s.t.Hidden(d.Name, d.UUID) {
		err = unix.ENXIO
	}
	return found{d, selector}, err
}

// find is lookUp, and leaves in p what was found: name, uuid, and whether there is an inactive table.
func (s *Server) find(ctx context.Context, p *params) (found, error) {
	d, err := s.lookUp(ctx, p)
	if err != nil {
		return d, err
	}
	p.setText(atName, nameLen, d.Name)
	p.setText(atUUID, uuidLen, d.UUID)
	p.setFlags(flagInactive, d.Inactive)
	return d, nil
}

// change returns the begin of a command that changes d; its verb follows.
func (d found) change(p *params, verb string) (*command, error) {
	c := newCommand("on")
	if err := c.word(d.selector); err != nil {
		return nil, err
	}
	if p.flag(flagQueryInactive) {
		c.add("inactive")
	}
	return c.add(verb), nil
}

// setStatus writes the state of d into p.
func (s *Server) setStatus(p *params, d control.Device) {
	p.setFlags(flagSuspend|flagReadOnly|flagActive|flagInternal, false)
	p.setFlags(flagSuspend, d.Suspended)
	if d.DeferredRemove {
		p.setFlags(flagDeferredRemove, true)
	}
	order.PutUint64(p.buf[atDev:], encodeDev(s.t.Major(), d.Minor))
	p.setU32(atOpenCount, uint32(d.OpenCount))
	p.setU32(atEventNr, d.EventNr)
	p.setFlags(flagActive, d.Live)
	p.setU32(atTargets, 0)
	if p.flag(flagQueryInactive) && d.Inactive || !p.flag(flagQueryInactive) && d.Live {
		p.setU32(atTargets, uint32(d.Targets))
		p.setFlags(flagReadOnly, d.ReadOnly)
	}
}
