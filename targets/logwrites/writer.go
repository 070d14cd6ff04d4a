package logwrites

import (
	"context"
	"errors"

	"dmfs/mapper"
)

// errFull says that the log has no room for an entry.
var errFull = errors.New("the log is full")

// A writer appends entries to a log. It is not for concurrent use.
type writer struct {
	disk    mapper.Disk
	block   mapper.Sector // sectors of 512 bytes in one of the log
	next    mapper.Sector // where the next entry goes
	entries uint64
	buf     *mapper.Buffer // what was put and is not written; it ends at next
	filled  int            // bytes of it
}

func newWriter(disk mapper.Disk, block mapper.Sector) *writer {
	return &writer{disk: disk, block: block, next: block}
}

// put appends an entry, which may not be on the disk before flush or super. As in the kernel an entry must end before the
// last sector of the disk, and one that does not moves next all the same, where the status shows it.
func (w *writer) put(e Entry, data []byte) error {
	head := int(w.block.Bytes())
	if w.filled+head+len(data) > mapper.MaxBuffer {
		if err := w.flush(); err != nil {
			return err
		}
	}
	at := w.next
	w.next += w.block + mapper.SectorsOf(int64(len(data)))
	if size := w.disk.Sectors(); size != 0 && w.next >= size {
		full := w.next
		w.next = at
		err := w.flush()
		if w.next = full; err != nil {
			return err
		}
		return errFull
	}
	w.entries++
	if head+len(data) > mapper.MaxBuffer {
		return w.putLarge(at, e, data)
	}
	if w.buf == nil {
		w.buf = mapper.GetBuffer(mapper.MaxBuffer)
	}
	e.Encode(w.buf.Data[w.filled : w.filled+head])
	w.filled += head + copy(w.buf.Data[w.filled+head:], data)
	return nil
}

// putLarge writes an entry whose data is larger than the buffer, which is empty.
func (w *writer) putLarge(at mapper.Sector, e Entry, data []byte) error {
	head := mapper.GetBuffer(int(w.block.Bytes()))
	defer head.Free()
	e.Encode(head.Data)
	if err := w.write(at, head.Data); err != nil {
		return err
	}
	return w.write(at+w.block, data)
}

// write writes to the disk. It is not given up: a log with half an entry is of no use.
func (w *writer) write(at mapper.Sector, data []byte) error {
	r := mapper.Request{Op: mapper.OpWrite, Start: at, Count: mapper.SectorsOf(int64(len(data))), Data: data}
	return w.disk.Submit(context.Background(), r)
}

// flush writes what was put.
func (w *writer) flush() error {
	if w.buf == nil {
		return nil
	}
	at := w.next - mapper.SectorsOf(int64(w.filled))
	err := w.write(at, w.buf.Data[:w.filled])
	w.buf.Free()
	w.buf, w.filled = nil, 0
	return err
}

// super writes what was put, and then the super block, which counts it.
func (w *writer) super() error {
	if err := w.flush(); err != nil {
		return err
	}
	b := mapper.GetBuffer(int(w.block.Bytes()))
	defer b.Free()
	Super{Entries: w.entries, SectorSize: int(w.block.Bytes())}.Encode(b.Data)
	return w.write(0, b.Data)
}
