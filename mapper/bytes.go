package mapper

import (
	"context"
	"fmt"
	"io"
)

// This file owns byte ranges: what is above counts bytes, what is below whole logical blocks.
// A read of part of a block reads the block into a bounce buffer. A write of part of a block reads
// it, changes it and writes it back, alone in its region (rangelock.go), so that two writes
// to different bytes never lose each other.

// Size returns the size of the live table in bytes, 0 without one.
func (d *Device) Size() int64 { return d.Sectors().Bytes() }

// ReadAt reads len(p) bytes from byte off on. At the end of the device it reads fewer and the error is
// io.EOF. p is the caller's again when it returns. ctx ends the wait for a resume.
func (d *Device) ReadAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	err = d.pass(ctx, func(t *Table) (err error) {
		n, err = t.readAt(ctx, p, off)
		return err
	})
	return n, err
}

// WriteAt writes p from byte off on; with fua it is durable on return. At the end of the device it writes
// what fits and the error is ErrNoSpace. p is only read. ctx ends the wait for a resume.
func (d *Device) WriteAt(ctx context.Context, p []byte, off int64, fua bool) (n int, err error) {
	err = d.pass(ctx, func(t *Table) (err error) {
		n, err = t.writeAt(ctx, p, off, fua)
		return err
	})
	return n, err
}

// Flush makes durable, through the whole stack, what was written before.
func (d *Device) Flush(ctx context.Context) error {
	return d.pass(ctx, func(t *Table) error { return t.flush(ctx, 0) })
}

// Zero makes n bytes from byte off on read as zeroes, cut at the end of the device. Space is freed where
// the stack can, unless noUnmap.
func (d *Device) Zero(ctx context.Context, off, n int64, noUnmap bool) error {
	return d.pass(ctx, func(t *Table) error { return t.zeroAt(ctx, off, n, noUnmap) })
}

// clip returns how many of n bytes from off on lie within the device.
func (t *Table) clip(off, n int64) int64 {
	size := t.Sectors().Bytes()
	if off < 0 || off >= size {
		return 0
	}
	return min(n, size-off)
}

func (t *Table) readAt(ctx context.Context, p []byte, off int64) (int, error) {
	n := t.clip(off, int64(len(p)))
	if err := t.readRange(ctx, p[:n], off); err != nil {
		return 0, err
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// readRange fills p, which lies within the device.
func (t *Table) readRange(ctx context.Context, p []byte, off int64) error {
	block := int64(t.limits.LogicalBlock)
	for len(p) > 0 {
		if skip := off & (block - 1); skip != 0 || int64(len(p)) < block {
			n := min(int64(len(p)), block-skip)
			if err := t.readPart(ctx, p[:n], off); err != nil {
				return err
			}
			p, off = p[n:], off+n
			continue
		}
		n := int64(len(p)) &^ (block - 1)
		err := t.submit(ctx, Request{Op: OpRead, Start: SectorsOf(off), Count: SectorsOf(n), Data: p[:n]})
		if err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// readPart fills p, which is part of one block.
func (t *Table) readPart(ctx context.Context, p []byte, off int64) error {
	block := int64(t.limits.LogicalBlock)
	skip := off & (block - 1)
	buf := GetBuffer(int(block))
	defer buf.Free()
	err := t.submit(ctx, Request{Op: OpRead, Start: SectorsOf(off - skip), Count: SectorsOf(block), Data: buf.Data})
	if err != nil {
		return err
	}
	copy(p, buf.Data[skip:])
	return nil
}

func (t *Table) writeAt(ctx context.Context, p []byte, off int64, fua bool) (int, error) {
	if t.readOnly {
		return 0, ErrReadOnly
	}
	n := t.clip(off, int64(len(p)))
	if n == 0 && len(p) > 0 {
		return 0, fmt.Errorf("write past the end of %s: %w", t.dev.KernelName(), ErrNoSpace)
	}
	short := n < int64(len(p))
	if err := t.writeRange(ctx, p[:n], off, fua); err != nil {
		return 0, err
	}
	if short {
		return int(n), ErrNoSpace
	}
	return int(n), nil
}

// writeRange writes p, which lies within the device.
func (t *Table) writeRange(ctx context.Context, p []byte, off int64, fua bool) error {
	block := int64(t.limits.LogicalBlock)
	var flags Flags
	if fua {
		flags = FlagFUA
	}
	for len(p) > 0 {
		if skip := off & (block - 1); skip != 0 || int64(len(p)) < block {
			n := min(int64(len(p)), block-skip)
			part := p[:n]
			if err := t.changePart(ctx, off, n, flags, func(b []byte) { copy(b, part) }); err != nil {
				return err
			}
			p, off = p[n:], off+n
			continue
		}
		n := int64(len(p)) &^ (block - 1)
		r := Request{Op: OpWrite, Flags: flags, Start: SectorsOf(off), Count: SectorsOf(n), Data: p[:n]}
		if err := t.submitShared(ctx, r); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// submitShared carries out r, which changes whole blocks, apart from read-modify-writes in its regions.
func (t *Table) submitShared(ctx context.Context, r Request) error {
	held, err := t.dev.locks.share(ctx, r.Start, r.Count)
	if err != nil {
		return err
	}
	err = t.submit(ctx, r)
	t.dev.locks.unshare(held)
	return err
}

// changePart reads the block in which the n bytes from off on lie, lets change alter them, and writes
// the block back.
func (t *Table) changePart(ctx context.Context, off, n int64, flags Flags, change func(b []byte)) error {
	block := int64(t.limits.LogicalBlock)
	skip := off & (block - 1)
	buf := GetBuffer(int(block))
	defer buf.Free()
	r := Request{Op: OpRead, Start: SectorsOf(off - skip), Count: SectorsOf(block), Data: buf.Data}
	if err := t.dev.locks.lock(ctx, r.Start); err != nil {
		return err
	}
	defer t.dev.locks.unlock(r.Start)
	if err := t.submit(ctx, r); err != nil {
		return err
	}
	change(buf.Data[skip : skip+n])
	r.Op, r.Flags = OpWrite, flags
	return t.submit(ctx, r)
}

func (t *Table) zeroAt(ctx context.Context, off, n int64, noUnmap bool) error {
	if t.readOnly {
		return ErrReadOnly
	}
	block := int64(t.limits.LogicalBlock)
	var flags Flags
	if noUnmap {
		flags = FlagNoUnmap
	}
	for n = t.clip(off, n); n > 0; {
		if skip := off & (block - 1); skip != 0 || n < block {
			part := min(n, block-skip)
			if err := t.changePart(ctx, off, part, 0, func(b []byte) { clear(b) }); err != nil {
				return err
			}
			off, n = off+part, n-part
			continue
		}
		whole := n &^ (block - 1)
		r := Request{Op: OpWriteZeroes, Flags: flags, Start: SectorsOf(off), Count: SectorsOf(whole)}
		if err := t.submitShared(ctx, r); err != nil {
			return err
		}
		off, n = off+whole, n-whole
	}
	return nil
}

// submitUnaligned carries out a request from a table above whose blocks are smaller than this table's.
func (t *Table) submitUnaligned(ctx context.Context, r Request) error {
	off := r.Start.Bytes()
	switch r.Op {
	case OpRead:
		return t.readRange(ctx, r.Data, off)
	case OpWrite:
		if t.readOnly {
			return ErrReadOnly
		}
		return t.writeRange(ctx, r.Data, off, r.Flags&FlagFUA != 0)
	case OpWriteZeroes:
		return t.zeroAt(ctx, off, r.Count.Bytes(), r.Flags&FlagNoUnmap != 0)
	}
	return ErrNotSupported
}
