package nbd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// An export is what a server said of what it exports.
type export struct {
	size               uint64 // bytes
	flags              uint16
	least, likes, most uint32 // block sizes in bytes: minimum, preferred, maximum
	structured         bool   // replies may be structured
	allocation         uint32 // the number of the context in which holes are told
	tellsHoles         bool   // there is one
}

// A protocolError says how a server broke the protocol. The connection is of no use after it.
type protocolError struct{ what string }

func (e *protocolError) Error() string { return "the server breaks the NBD protocol: " + e.what }

func broken(format string, args ...any) error { return &protocolError{fmt.Sprintf(format, args...)} }

// An optionError is a server's refusal of an option.
type optionError struct {
	reply uint32
	text  string
}

func (e *optionError) Error() string {
	what := map[uint32]string{
		repErrUnsup: "the server does not know the option", repErrPolicy: "the server does not allow it",
		repErrInvalid: "the server finds the option malformed", repErrTLS: "the server wants TLS, which is not supported here",
		repErrUnknown: "the server has no such export", repErrDown: "the server is shutting down",
		repErrBlock: "the server wants its block size obeyed",
	}[e.reply]
	if what == "" {
		what = fmt.Sprintf("the server refuses with code %#x", e.reply)
	}
	if e.text != "" {
		what += fmt.Sprintf(" (%q)", e.text)
	}
	return what
}

// Unwrap returns the errno.
func (e *optionError) Unwrap() error {
	switch e.reply {
	case repErrUnknown:
		return unix.ENOENT
	case repErrPolicy, repErrTLS:
		return unix.EACCES
	}
	return unix.EIO
}

// A greeter speaks the handshake.
type greeter struct {
	r io.Reader
	w io.Writer
}

// handshake gets as far as the transmission phase of an export. What follows is read from r.
func handshake(r *bufio.Reader, w io.Writer, name string) (e export, err error) {
	g := greeter{r, w}
	flags, err := g.greet()
	if err != nil {
		return e, err
	}
	if flags&flagFixed != 0 {
		if e.structured, err = g.tryOption(optStructured, nil, nil); err == nil && e.structured {
			err = g.askForHoles(&e, name)
		}
		if err != nil {
			return e, err
		}
		err = g.askFor(&e, name)
		var refused *optionError
		switch {
		case err == nil:
			return e, e.check()
		case !errors.As(err, &refused) || refused.reply != repErrUnsup:
			return e, err
		}
	}
	if err := g.exportName(&e, name, flags&flagNoZeroes == 0); err != nil {
		return e, err
	}
	return e, e.check()
}

// greet exchanges flags and returns those that both sides have.
func (g greeter) greet() (uint32, error) {
	var head [18]byte
	if _, err := io.ReadFull(g.r, head[:16]); err != nil {
		return 0, fmt.Errorf("waiting for the greeting: %w", err)
	}
	if binary.BigEndian.Uint64(head[:]) != magicServer {
		return 0, broken("it greets with % x: this is no NBD server", head[:8])
	}
	switch second := binary.BigEndian.Uint64(head[8:]); second {
	case magicOption:
	case magicOldstyle:
		return 0, broken("it speaks the oldstyle handshake, which has no export names and is obsolete")
	default:
		return 0, broken("it greets with %#x", second)
	}
	if _, err := io.ReadFull(g.r, head[16:]); err != nil {
		return 0, fmt.Errorf("waiting for the greeting: %w", err)
	}
	flags := uint32(binary.BigEndian.Uint16(head[16:])) & (flagFixed | flagNoZeroes)
	_, err := g.w.Write(binary.BigEndian.AppendUint32(nil, flags))
	return flags, err
}

// option sends an option and takes the replies up to the last. A refusal is *optionError.
func (g greeter) option(code uint32, data []byte, each func(reply uint32, data []byte) error) error {
	b := binary.BigEndian.AppendUint64(nil, magicOption)
	b = binary.BigEndian.AppendUint32(b, code)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	if _, err := g.w.Write(append(b, data...)); err != nil {
		return err
	}
	for range maxOptionCount {
		reply, data, err := g.reply(code)
		switch {
		case err != nil:
			return err
		case reply == repAck && len(data) > 0:
			return broken("%d bytes with the end of option %d", len(data), code)
		case reply == repAck:
			return nil
		case reply&repError != 0:
			return &optionError{reply, string(data)}
		case each == nil:
			return broken("reply %d to option %d", reply, code)
		}
		if err := each(reply, data); err != nil {
			return err
		}
	}
	return broken("more than %d replies to option %d", maxOptionCount, code)
}

func (g greeter) reply(code uint32) (reply uint32, data []byte, err error) {
	var head [20]byte
	if _, err := io.ReadFull(g.r, head[:]); err != nil {
		return 0, nil, fmt.Errorf("waiting for the reply to option %d: %w", code, err)
	}
	magic, to := binary.BigEndian.Uint64(head[:]), binary.BigEndian.Uint32(head[8:])
	reply, size := binary.BigEndian.Uint32(head[12:]), binary.BigEndian.Uint32(head[16:])
	switch {
	case magic != magicReply:
		return 0, nil, broken("a reply to an option begins with %#x", magic)
	case to != code:
		return 0, nil, broken("a reply to option %d, which was not asked", to)
	case size > maxOptionReply:
		return 0, nil, broken("a reply of %d bytes to option %d", size, code)
	}
	data = make([]byte, size)
	if _, err := io.ReadFull(g.r, data); err != nil {
		return 0, nil, fmt.Errorf("reading the reply to option %d: %w", code, err)
	}
	return reply, data, nil
}

// tryOption is option for what the server may refuse.
func (g greeter) tryOption(code uint32, data []byte, each func(reply uint32, data []byte) error) (ok bool, err error) {
	err = g.option(code, data, each)
	var refused *optionError
	if errors.As(err, &refused) {
		if refused.reply == repErrTLS {
			return false, err
		}
		return false, nil
	}
	return err == nil, err
}

// askForHoles selects the context in which a block status tells holes.
func (g greeter) askForHoles(e *export, name string) error {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(metaAllocation)))
	b = append(b, metaAllocation...)
	found := false
	_, err := g.tryOption(optSetMeta, b, func(reply uint32, data []byte) error {
		if reply != repMeta || len(data) < 4 {
			return broken("reply %d of %d bytes to a choice of contexts", reply, len(data))
		}
		if string(data[4:]) == metaAllocation {
			e.allocation, found = binary.BigEndian.Uint32(data), true
		}
		return nil
	})
	e.tellsHoles = found
	return err
}

// askFor asks for the export by NBD_OPT_GO, after which the transmission phase begins.
func (g greeter) askFor(e *export, name string) error {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, infoBlock)
	found := false
	err := g.option(optGo, b, func(reply uint32, data []byte) error {
		if reply != repInfo || len(data) < 2 {
			return broken("reply %d of %d bytes to the choice of an export", reply, len(data))
		}
		kind, data := binary.BigEndian.Uint16(data), data[2:]
		switch {
		case kind == infoExport && len(data) == 10:
			e.size, e.flags, found = binary.BigEndian.Uint64(data), binary.BigEndian.Uint16(data[8:]), true
		case kind == infoBlock && len(data) == 12:
			e.least, e.likes, e.most = binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[4:]), binary.BigEndian.Uint32(data[8:])
			if e.least == 0 {
				return broken("a minimum block of 0 bytes")
			}
		case kind == infoExport, kind == infoBlock:
			return broken("information %d of %d bytes", kind, len(data))
		}
		return nil // other information is for people
	})
	if err == nil && !found {
		return broken("it tells no size of the export")
	}
	return err
}

// exportName asks for the export in the old way, to which there is no refusal but to hang up.
func (g greeter) exportName(e *export, name string, zeroes bool) error {
	b := binary.BigEndian.AppendUint64(nil, magicOption)
	b = binary.BigEndian.AppendUint32(b, optExportName)
	b = binary.BigEndian.AppendUint32(b, uint32(len(name)))
	if _, err := g.w.Write(append(b, name...)); err != nil {
		return err
	}
	var reply [10 + 124]byte
	size := 10
	if zeroes {
		size = len(reply)
	}
	if _, err := io.ReadFull(g.r, reply[:size]); err != nil {
		return fmt.Errorf("the server hung up: it may have no such export: %w", err)
	}
	e.size, e.flags = binary.BigEndian.Uint64(reply[:]), binary.BigEndian.Uint16(reply[8:])
	return nil
}

// check fills in what the server left out and refuses what cannot be.
func (e *export) check() error {
	if e.flags&hasFlags == 0 {
		e.flags = 0
	}
	if e.least == 0 {
		e.least, e.likes, e.most = 1, 4096, maxPayload
	}
	block := max(e.least, mapper.SectorSize)
	switch {
	case e.size > uint64(mapper.MaxSectors.Bytes()):
		return broken("an export of %d bytes", e.size)
	case e.size < uint64(block):
		return fmt.Errorf("the export has %d bytes, less than one block: %w", e.size, unix.EINVAL)
	case e.least&(e.least-1) != 0 || e.least > 64<<10:
		return broken("a minimum block of %d bytes", e.least)
	case e.likes&(e.likes-1) != 0 || e.likes < e.least:
		return broken("a preferred block of %d bytes", e.likes)
	case e.most < block:
		return broken("a maximum block of %d bytes", e.most)
	}
	e.most = min(e.most, maxPayload) / block * block
	return nil
}
