package dmioctl

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
)

func (s *Server) status(ctx context.Context, p *params) error {
	d, err := s.find(ctx, p)
	if err != nil {
		return err
	}
	s.setStatus(p, d.Device)
	return nil
}

// armPoll would have poll(2) on the caller's open file wait for the next event: that file is not ours.
func (s *Server) armPoll(context.Context, *params) error { return nil }

func (s *Server) create(ctx context.Context, p *params) error {
	c := newCommand("on").add("new", "create")
	if err := c.word(p.name()); err != nil {
		return err
	}
	if p.uuid() != "" {
		if err := c.word("uuid=" + p.uuid()); err != nil {
			return err
		}
	}
	if p.flag(flagPersistentDev) {
		_, minor := decodeDev(p.dev())
		c.add(fmt.Sprintf("minor=%d", minor))
	}
	d, err := s.query(ctx, c.add("notable"))
	if err != nil {
		return err
	}
	p.setFlags(flagInactive, false)
	s.setStatus(p, d)
	return nil
}

func (s *Server) remove(ctx context.Context, p *params) error {
	d, err := s.find(ctx, p)
	if err != nil {
		return err
	}
	c, err := d.change(p, "remove")
	if err != nil {
		return err
	}
	if p.flag(flagDeferredRemove) {
		c.add("deferred")
	}
	doc, err := s.on(ctx, c)
	if err == nil && doc.Removed {
		p.setFlags(flagDeferredRemove, false)
		p.happened(d.Device)
	}
	return err
}

// removeAll removes what is not in use, from the top down, and leaves what is hidden alone.
func (s *Server) removeAll(ctx context.Context, p *params) error {
	p.setSize(0)
	for {
		removed := false
		var doc control.Document
		if err := s.ask(ctx, &doc, newCommand("query")); err != nil {
			return err
		}
		for _, d := range doc.Devices {
			if s.t.Hidden(d.Name, d.UUID) || d.OpenCount > 0 && (d.DeferredRemove || !p.flag(flagDeferredRemove)) {
				continue
			}
			f := found{d, "name=" + d.Name}
			c, err := f.change(p, "remove")
			if err != nil {
				return err
			}
			if p.flag(flagDeferredRemove) {
				c.add("deferred")
			}
			switch err := s.ask(ctx, &control.Document{}, c); {
			case err == nil:
				removed = true
			case ctx.Err() != nil:
				return err
			}
			// Another caller may have removed or opened it meanwhile.
		}
		if !removed {
			return nil
		}
	}
}

// rename gives the device of p's name another, or a uuid if it has none. The new one is text that begins at data_start.
func (s *Server) rename(ctx context.Context, p *params) error {
	selector, verb, most := "name=", "rename", nameLen-1
	if p.flag(flagUUID) {
		selector, verb, most = "uuid=", "setuuid", uuidLen-1
	}
	text, ok := p.text(int(p.u32(atDataStart)), minimumLen)
	if !ok || len(text) == 0 || len(text) > most || verb == "rename" && bytes.IndexByte(text, '/') >= 0 {
		return unix.EINVAL
	}
	d, err := s.selected(ctx, p, "name="+p.name())
	if err != nil {
		// Whether the new name is taken comes first.
		if s.exists(ctx, selector+string(text)) {
			return unix.EBUSY
		}
		return err
	}
	c, err := d.change(p, verb)
	if err == nil {
		err = c.word(string(text))
	}
	if err != nil {
		return err
	}
	doc, err := s.on(ctx, c)
	if err != nil {
		return err
	}
	p.happened(d.Device)
	s.setStatus(p, doc.Devices[0])
	return nil
}

// exists reports whether there is a device, hidden or not.
func (s *Server) exists(ctx context.Context, selector string) bool {
	c := newCommand("query")
	if c.word(selector) != nil {
		return false
	}
	_, err := s.query(ctx, c)
	return err == nil
}

// suspend suspends or resumes.
func (s *Server) suspend(ctx context.Context, p *params) error {
	d, err := s.find(ctx, p)
	if err != nil {
		return err
	}
	verb := "resume"
	if p.flag(flagSuspend) {
		verb = "suspend"
	}
	c, err := d.change(p, verb)
	if err != nil {
		return err
	}
	if p.flag(flagSkipLockFS) {
		c.add("nolockfs")
	}
	if p.flag(flagNoFlush) {
		c.add("noflush")
	}
	doc, err := s.on(ctx, c)
	if err != nil {
		return err
	}
	if verb == "resume" {
		p.setFlags(flagInactive, false)
		if doc.Resumed {
			p.happened(d.Device)
		}
	}
	s.setStatus(p, doc.Devices[0])
	return nil
}

func (s *Server) clear(ctx context.Context, p *params) error {
	d, err := s.find(ctx, p)
	if err != nil {
		return err
	}
	c, err := d.change(p, "clear")
	if err != nil {
		return err
	}
	doc, err := s.on(ctx, c)
	if err != nil {
		return err
	}
	p.setFlags(flagInactive, false)
	s.setStatus(p, doc.Devices[0])
	return nil
}

// setGeometry takes text at data_start: cylinders, heads, sectors and start, and nothing behind.
func (s *Server) setGeometry(ctx context.Context, p *params) error {
	d, err := s.find(ctx, p)
	if err != nil {
		return err
	}
	text, ok := p.text(int(p.u32(atDataStart)), minimumLen)
	if !ok {
		return unix.EINVAL
	}
	c, err := d.change(p, "setgeometry")
	if err != nil {
		return err
	}
	for range 4 {
		for len(text) > 0 && isSpace(text[0]) {
			text = text[1:]
		}
		n := 0
		for n < len(text) && text[n] >= '0' && text[n] <= '9' {
			n++
		}
		if n == 0 {
			return unix.EINVAL
		}
		c.add(string(text[:n]))
		text = text[n:]
	}
	if len(text) > 0 {
		return unix.EINVAL
	}
	if _, err := s.on(ctx, c); err != nil {
		return err
	}
	p.setSize(0)
	return nil
}

// message sends the words after a sector at data_start to the target there, or to the core.
//
//	offset  size  field, from data_start
//	0       8     sector
//	8       n     message, NUL
func (s *Server) message(ctx context.Context, p *params) error {
	start := int(p.u32(atDataStart))
	out := p.results()
	d, err := s.find(ctx, p)
	if err != nil {
		return err
	}
	text, ok := p.text(start+messageText, minimumLen+messageText)
	if !ok {
		return unix.EINVAL
	}
	words := splitWords(text)
	if len(words) == 0 {
		return unix.EINVAL
	}
	c, err := d.change(p, "message")
	if err != nil {
		return err
	}
	c.add(fmt.Sprintf("room=%d", len(out)), fmt.Sprint(order.Uint64(p.buf[start:])))
	for _, w := range words {
		if err := s.disk(c, w); err != nil {
			return err
		}
	}
	doc, err := s.on(ctx, c)
	if err != nil {
		return err
	}
	s.setStatus(p, doc.Devices[0])
	p.answer(out, words[0], doc.Reply)
	return nil
}
