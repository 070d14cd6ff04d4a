package dmioctl

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
	"dmfs/mapper"
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
	if err := s.ask(ctx, &doc, newCommand("query")); err != nil {
		return err
	}
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
	const devLen = 8
	out := p.results()
	if len(out) < max(needed, devLen) {
		p.setFlags(flagBufferFull, true)
		return nil
	}
	p.setSize(headerLen + needed)
	order.PutUint64(out, 0)
	for i, d := range listed {
		s.putEntry(out, d, withUUIDs, i == len(listed)-1)
		out = out[entrySize(d, withUUIDs):]
	}
	return nil
}

func (s *Server) putEntry(out []byte, d control.Device, withUUID, last bool) {
	next := uint32(0)
	if !last {
		next = uint32(entrySize(d, withUUID))
	}
	order.PutUint64(out, encodeDev(s.t.Major(), d.Minor))
	order.PutUint32(out[8:], next)
	putString(out[devEntryLen:], d.Name)
	rest := out[align(devEntryLen+len(d.Name)+1):]
	order.PutUint32(rest, d.EventNr)
	flags := uint32(0)
	switch {
	case withUUID && d.UUID != "":
		flags = entryHasUUID
		putString(rest[8:], d.UUID)
	case withUUID:
		flags = entryHasNoUUID
	}
	order.PutUint32(rest[4:], flags)
}

func entrySize(d control.Device, withUUID bool) int {
	n := align(devEntryLen+len(d.Name)+1) + 8
	if withUUID && d.UUID != "" {
		n += align(len(d.UUID) + 1)
	}
	return n
}

func (s *Server) listVersions(ctx context.Context, p *params) error { return s.versions(ctx, p, "") }

func (s *Server) targetVersion(ctx context.Context, p *params) error {
	if p.name() == "" {
		return unix.EINVAL
	}
	return s.versions(ctx, p, p.name())
}

// versions lists the target types, those last registered first, or the one of that name.
//
//	offset  size  field of an entry, which is aligned to 8 bytes
//	0       4     next: bytes from this entry to the next, 0 in the last
//	4       12    version: 3 × u32
//	16      n     name, NUL
func (s *Server) versions(ctx context.Context, p *params, name string) error {
	var list []control.TargetVersion
	if err := s.ask(ctx, &list, newCommand("targets")); err != nil {
		return err
	}
	slices.Reverse(list)
	if name != "" {
		list = slices.DeleteFunc(list, func(t control.TargetVersion) bool { return t.Name != name })
		if len(list) == 0 {
			return unix.EINVAL
		}
	}
	needed := 0
	for _, t := range list {
		needed += targetEntry + len(t.Name) + 1 + alignment - 1 // a bound, which is what is told
	}
	out := p.results()
	if len(out) < needed {
		p.setFlags(flagBufferFull, true)
		return nil
	}
	p.setSize(headerLen + needed)
	for i, t := range list {
		size := align(targetEntry + len(t.Name) + 1)
		next := uint32(size)
		if i == len(list)-1 {
			next = 0
		}
		order.PutUint32(out, next)
		for j, n := range t.Version {
			order.PutUint32(out[4+4*j:], uint32(n))
		}
		putString(out[targetEntry:], t.Name)
		out = out[min(size, len(out)):]
	}
	return nil
}

// answer writes the reply to a message, if it has one: some to the core have, even if it is empty.
func (p *params) answer(out []byte, verb, reply string) {
	if reply == "" && !repliesAlways[strings.ToLower(verb)] {
		return
	}
	p.setFlags(flagDataOut, true)
	if !mapper.ReplyFits(reply, len(out)) {
		p.setFlags(flagBufferFull, true)
		return
	}
	putString(out, reply)
	p.setSize(headerLen + len(reply) + 1)
}

// repliesAlways are the messages to the core whose reply counts as one also when it is empty.
var repliesAlways = map[string]bool{
	"@stats_create": true, "@stats_clear": true, "@stats_list": true, "@stats_print": true, "@stats_print_clear": true,
}

// parseNumber parses MAJ:MIN.
func parseNumber(s string) (major, minor uint32, ok bool) {
	a, b, ok := strings.Cut(s, ":")
	x, err1 := strconv.ParseUint(a, 10, 12)
	y, err2 := strconv.ParseUint(b, 10, 20)
	return uint32(x), uint32(y), ok && err1 == nil && err2 == nil
}
