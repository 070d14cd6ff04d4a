package logreplay

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A Target is what a log is replayed onto.
type Target interface {
	io.WriterAt
	// Zero makes n bytes from off on read as zeroes.
	Zero(off, n int64) error
	// Size returns the size in bytes.
	Size() int64
}

// chunk is how much is copied at a time, in bytes.
const chunk = 1 << 20

// A Replayer applies entries of a log.
type Replayer struct {
	Log       *Log
	NoDiscard bool // discards are passed over
	buf       []byte
}

// Apply does to t what the entry did. An entry that does not fit t is an error, and has no effect.
func (p *Replayer) Apply(t Target, item Item) error {
	if item.N == 0 || item.Kind() == "discard" && p.NoDiscard {
		return nil
	}
	if size := t.Size(); item.Start > size || item.N > size-item.Start {
		return fmt.Errorf("%s: bytes %d to %d are outside the target of %d bytes", item, item.Start, item.Start+item.N, size)
	}
	if !item.HasData() {
		return p.wrap(item, t.Zero(item.Start, item.N))
	}
	if p.buf == nil {
		p.buf = make([]byte, chunk)
	}
	for done := int64(0); done < item.N; {
		part := p.buf[:min(chunk, item.N-done)]
		if n, err := p.Log.r.ReadAt(part, item.data+done); err != nil && n < len(part) {
			return p.wrap(item, err)
		}
		if _, err := t.WriteAt(part, item.Start+done); err != nil {
			return p.wrap(item, err)
		}
		done += int64(len(part))
	}
	return nil
}

func (p *Replayer) wrap(item Item, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", item, err)
	}
	return nil
}

// A File is a regular file or block device as a target.
type File struct {
	*os.File
	size int64
}

// OpenFile opens a target for writing.
func OpenFile(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close() //nolint:errcheck // nothing was written
		return nil, err
	}
	return &File{f, size}, nil
}

// Size returns the size when it was opened.
func (f *File) Size() int64 { return f.size }

// Zero punches a hole, which on block devices zeroes too, and writes zeroes where that cannot be.
func (f *File) Zero(off, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EOPNOTSUPP):
			return err
		}
		break
	}
	zeroes := make([]byte, chunk)
	for done := int64(0); done < n; {
		part := zeroes[:min(chunk, n-done)]
		if _, err := f.WriteAt(part, off+done); err != nil {
			return err
		}
		done += int64(len(part))
	}
	return nil
}
