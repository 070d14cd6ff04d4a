package dmioctl

import (
	"context"
	"strings"

	"dmfs/fs/control"
)

// Flags of an entry in the list of devices.
const (
	entryHasUUID = 1 << iota
	entryHasNoUUID
)

// listDevices lists the devices, those whose name and uuid begin as p's.
//
//	offset  size  field of an entry, which is aligned to 8 bytes
//	0       8     dev; 0 says that the list is empty
//	8       4     next: bytes from this entry to the next, 0 in the last
//	12      n     name, NUL
//	aligned 4     event_nr
//	+4      4     1: a uuid follows; 2: there is none; 0: it was not asked for
//	+8      n     uuid, NUL
func (s *Server) listDevices(ctx context.Context, p *params) error {
	var doc control.Document
	if err := s.ask(ctx, &doc, "query"); err != nil {
		return err
	}
	p.buf[atName+nameLen-1] = 0
	p.buf[atUUID+uuidLen-1] = 0
	withUUIDs := p.flag(flagUUID)
	var listed []control.Device
	needed := 0
	for _, d := range doc.Devices {
		if s.t.Hidden(d.Name, d.UUID) || !strings.HasPrefix(d.Name, p.name()) || !strings.HasPrefix(d.UUID, p.uuid()) {
			continue
		}
		listed = append(listed, d)
		needed += entrySize(d, withUUIDs)
	}
	out := p.results()
	if len(out) < max(needed, 8) {
		p.setFlags(flagBufferFull, true)
		return nil
	}
	p.setSize(headerLen + needed)
	order.PutUint64(out, 0)
	for i, d := range listed {
		size := entrySize(d, withUUIDs)
		next := uint32(size)
		if i == len(listed)-1 {
			next = 0
		}
		order.PutUint64(out, encodeDev(s.t.Major(), d.Minor))
		order.PutUint32(out[8:], next)
		putString(out[devEntryLen:], d.Name)
		rest := out[align(devEntryLen+len(d.Name)+1):]
		order.PutUint32(rest, d.EventNr)
		flags := uint32(0)
		switch {
		case withUUIDs && d.UUID != "":
			flags = entryHasUUID
			putString(rest[8:], d.UUID)
		case withUUIDs:
			flags = entryHasNoUUID
		}
		order.PutUint32(rest[4:], flags)
		out = out[size:]
	}
	return nil
}

func entrySize(d control.Device, withUUID bool) int {
	n := align(devEntryLen+len(d.Name)+1) + 8
	if withUUID && d.UUID != "" {
		n += align(len(d.UUID) + 1)
	}
	return n
}

// putString writes s and a NUL.
func putString(b []byte, s string) { b[copy(b, s)] = 0 }
