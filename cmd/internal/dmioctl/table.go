package dmioctl

import (
	"context"
	"strconv"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
	"dmfs/mapper"
)

// load puts a table into the inactive slot: target_count segments, the first at data_start.
//
//	offset  size  field of a segment
//	0       8     sector_start
//	8       8     length, in sectors
//	16      4     status, always 0
//	20      4     next: bytes from this segment to the following one; of a status from the first one, also in the last
//	24      16    target_type
//	40      n     parameters, NUL
func (s *Server) load(ctx context.Context, p *params) error {
	d, err := s.find(ctx, p)
	if err != nil {
		return err
	}
	c, err := d.change(p, "load")
	if err != nil {
		return err
	}
	if p.flag(flagReadOnly) {
		c.add("ro")
	}
	c.add("{")
	if err := s.segments(c, p); err != nil {
		clear(c.text)
		return err
	}
	c.line()
	doc, err := s.on(ctx, c.add("}"))
	if err != nil {
		return err
	}
	p.setFlags(flagInactive, true)
	s.setStatus(p, doc.Devices[0])
	return nil
}

// segments writes p's table into c. That is no more than a few times as long as the buffer, though segments may overlap: next of the
// following segment has a zero byte, which ends the parameters of this one, unless it is more than 16 MiB.
func (s *Server) segments(c *command, p *params) error {
	count := p.u32(atTargets)
	switch {
	case count == 0:
		return unix.EINVAL
	case count > mapper.MaxSegments:
		return unix.EOVERFLOW
	}
	at, next := 0, int(p.u32(atDataStart))
	for range count {
		at += next
		params, ok := p.text(at+specLen, 2*specLen)
		if next < specLen || !ok {
			return unix.EINVAL
		}
		spec := p.buf[at:]
		next = int(order.Uint32(spec[specNext:]))
		c.line()
		c.add(strconv.FormatUint(order.Uint64(spec), 10), strconv.FormatUint(order.Uint64(spec[specLength:]), 10))
		if err := c.word(cString(spec[specType : specType+specTypeLen])); err != nil {
			return err
		}
		for _, w := range splitWords(params) {
			if err := s.disk(c, w); err != nil {
				return err
			}
		}
	}
	return nil
}

// slotWords returns what query and wait are asked for, to tell what p wants to know of a table.
func slotWords(p *params) []string {
	words := []string{"status"}
	if p.flag(flagStatusTable) {
		words = []string{"table", "showkeys"} // as the kernel, which leaves it to dmsetup to hide them
	}
	if p.flag(flagQueryInactive) {
		words = append(words, "inactive")
	}
	if p.flag(flagNoFlush) {
		words = append(words, "noflush")
	}
	return words
}

func (s *Server) table(ctx context.Context, p *params) error {
	d, err := s.find(ctx, p)
	if err != nil {
		return err
	}
	c := newCommand("query")
	if err := c.word(d.selector); err != nil {
		return err
	}
	return s.answerLines(ctx, p, c.add(slotWords(p)...))
}

// wait returns when the device's event counter is not what p says, with what table tells.
func (s *Server) wait(ctx context.Context, p *params) error {
	d, err := s.find(ctx, p)
	if err != nil {
		return err
	}
	c := newCommand("wait")
	if err := c.word(d.selector); err != nil {
		return err
	}
	c.add(strconv.FormatUint(uint64(p.u32(atEventNr)), 10))
	words := slotWords(p)
	if words[0] == "status" {
		words = words[1:] // it needs no asking for
	}
	return s.answerLines(ctx, p, c.add(words...))
}

// answerLines asks c and writes the state of the device and the lines of its table into p.
func (s *Server) answerLines(ctx context.Context, p *params, c *command) error {
	if p.flag(flagIMA) && !p.flag(flagStatusTable) {
		return unix.EINVAL // nothing is measured here
	}
	d, err := s.query(ctx, c)
	if err != nil {
		return err
	}
	s.setStatus(p, d)
	lines := d.Status
	if p.flag(flagStatusTable) {
		lines = d.Table
	}
	if p.flag(flagQueryInactive) && d.Inactive || !p.flag(flagQueryInactive) && d.Live {
		s.putLines(p, lines)
	}
	return nil
}

// putLines writes as many lines as fit.
func (s *Server) putLines(p *params, lines []control.Line) {
	out := p.results()
	at := 0
	for _, l := range lines {
		if len(out)-at <= specLen {
			p.setFlags(flagBufferFull, true)
			break
		}
		spec := out[at:]
		order.PutUint32(spec[specStatus:], 0)
		order.PutUint64(spec, l.Start)
		order.PutUint64(spec[specLength:], l.Len)
		typ := spec[specType : specType+specTypeLen-1]
		clear(typ[copy(typ, l.Target):])
		text := s.told(l.Params)
		if len(text)+1 >= len(spec)-specLen {
			p.setFlags(flagBufferFull, true)
			break
		}
		putString(spec[specLen:], text)
		p.setSize(headerLen + at + specLen + len(text) + 1)
		at = align(at + specLen + len(text) + 1)
		order.PutUint32(spec[specNext:], uint32(at))
	}
	p.setU32(atTargets, uint32(len(lines)))
}

// deps lists the numbers of what a table stands on, in the kernel's order: the last first. What has no number is left out.
//
//	offset  size  field
//	0       4     count
//	8       8*n   dev
func (s *Server) deps(ctx context.Context, p *params) error {
	d, err := s.find(ctx, p)
	if err != nil {
		return err
	}
	s.setStatus(p, d.Device)
	if p.flag(flagQueryInactive) && !d.Inactive || !p.flag(flagQueryInactive) && !d.Live {
		return nil
	}
	var devs []uint64
	for _, dep := range d.Deps {
		if dev, ok := s.number(dep); ok {
			devs = append(devs, dev)
		}
	}
	out := p.results()
	needed := depsEntry + 8*len(devs)
	if len(out) < needed {
		p.setFlags(flagBufferFull, true)
		return nil
	}
	order.PutUint32(out, uint32(len(devs)))
	for i, dev := range devs {
		order.PutUint64(out[needed-8*(i+1):], dev)
	}
	p.setSize(headerLen + needed)
	return nil
}

// number returns the number that the caller knows a disk by.
func (s *Server) number(d control.Dep) (uint64, bool) {
	text := d.Path
	if text == "" {
		text = strconv.FormatUint(uint64(d.Major), 10) + ":" + strconv.FormatUint(uint64(d.Minor), 10)
	}
	major, minor, ok := parseNumber(s.t.Word(text))
	return encodeDev(major, minor), ok
}
