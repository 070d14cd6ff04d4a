package dmioctl

import (
	"context"
	"encoding/json"
	"fmt"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
	"dmfs/mapper"
)

// ask sends a command and decodes its reply.
func (s *Server) ask(ctx context.Context, into any, command string) error {
	reply, err := s.m.Do(ctx, command)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(reply), into); err != nil {
		return fmt.Errorf("the mount's reply makes no sense: %w", err)
	}
	return nil
}

// selector returns how the control file names the device that p means: by uuid, name or number, and only one of them.
func (s *Server) selector(p *params) (string, error) {
	name, uuid, dev := p.name(), p.uuid(), p.dev()
	switch {
	case uuid != "" && (name != "" || dev != 0), name != "" && dev != 0:
		return "", unix.ENXIO
	case uuid != "":
		return word("uuid=" + uuid)
	case name != "":
		return word("name=" + name)
	}
	major, minor := decodeDev(dev)
	if dev == 0 || major != s.t.Major() {
		return "", unix.ENXIO
	}
	return fmt.Sprintf("minor=%d", minor), nil
}

// word quotes s for the control file. A line break cannot be written there, and no device has one in its name.
func word(s string) (string, error) {
	for i := range len(s) {
		if s[i] == '\n' {
			return "", unix.ENXIO
		}
	}
	return mapper.QuoteArg(s), nil
}

// find returns the device that p means, with what else words ask for, and writes its name and uuid into p.
func (s *Server) find(ctx context.Context, p *params, words string) (control.Device, error) {
	sel, err := s.selector(p)
	if err != nil {
		return control.Device{}, err
	}
	var doc control.Document
	if err := s.ask(ctx, &doc, "query "+sel+words); err != nil {
		return control.Device{}, err
	}
	if len(doc.Devices) != 1 || s.t.Hidden(doc.Devices[0].Name, doc.Devices[0].UUID) {
		return control.Device{}, unix.ENXIO
	}
	d := doc.Devices[0]
	p.setText(atName, nameLen, d.Name)
	p.setText(atUUID, uuidLen, d.UUID)
	p.setFlags(flagInactive, d.Inactive)
	return d, nil
}

// setStatus writes the state of d into p.
func (s *Server) setStatus(p *params, d control.Device) {
	inactive := p.flag(flagQueryInactive)
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
	if !inactive && d.Live || inactive && d.Inactive {
		p.setU32(atTargets, uint32(d.Targets))
		p.setFlags(flagReadOnly, d.ReadOnly)
	}
}

// status tells the state of a device.
func (s *Server) status(ctx context.Context, p *params) error {
	d, err := s.find(ctx, p, s.slot(p))
	if err != nil {
		return err
	}
	s.setStatus(p, d)
	return nil
}

// slot returns the word for query that p's flags ask for.
func (s *Server) slot(p *params) string {
	if p.flag(flagQueryInactive) {
		return " inactive"
	}
	return ""
}
