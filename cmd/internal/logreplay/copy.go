package logreplay

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A copied is a throw-away copy of a target, in a file that is removed at the end.
type copied struct {
	*File
	path string
}

// untouched is the time that a copy is said to have been changed last, so that it shows if a check changes it.
var untouched = time.Unix(946684800, 0)

// copyOf makes a copy of what f holds: beside it if it is a file, so that the two can share their blocks, else among the
// temporary files.
func copyOf(f *File) (c *copied, err error) {
	dir := os.TempDir()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Mode().IsRegular() {
		dir = filepath.Dir(f.Name())
	}
	temp, err := os.CreateTemp(dir, filepath.Base(f.Name())+".check-*")
	if err != nil {
		return nil, err
	}
	c = &copied{&File{temp, f.size}, temp.Name()}
	if err := c.become(f); err != nil {
		return nil, errors.Join(err, c.remove())
	}
	return c, nil
}

// become makes c hold what f holds.
func (c *copied) become(f *File) error {
	if err := c.Truncate(0); err != nil {
		return err
	}
	if unix.IoctlFileClone(int(c.Fd()), int(f.Fd())) == nil {
		return nil
	}
	if err := c.Truncate(f.size); err != nil {
		return err
	}
	for off := int64(0); off < f.size; {
		start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // holes up to the end
			break
		}
		end := f.size
		if err != nil {
			start = off // it cannot tell what is data
		} else if end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE); err != nil {
			end = f.size
		}
		if err := c.copyRange(f, start, min(end, f.size)); err != nil {
			return err
		}
		off = max(end, off+1)
	}
	return nil
}

// copyRange copies the bytes from start to end, passing over blocks of zeroes.
func (c *copied) copyRange(f *File, start, end int64) error {
	buf := make([]byte, chunk)
	for start < end {
		part := buf[:min(chunk, end-start)]
		if n, err := f.ReadAt(part, start); err != nil && (err != io.EOF || n < len(part)) {
			return err
		}
		if !zeroed(part) {
			if _, err := c.WriteAt(part, start); err != nil {
				return err
			}
		}
		start += int64(len(part))
	}
	return nil
}

func zeroed(p []byte) bool {
	for _, c := range p {
		if c != 0 {
			return false
		}
	}
	return true
}

// seal makes later changes show.
func (c *copied) seal() error { return os.Chtimes(c.path, untouched, untouched) }

// changed reports whether c was changed since it was sealed, or is not what it was in any other way.
func (c *copied) changed() bool {
	st, err := os.Stat(c.path)
	mine, err2 := c.Stat()
	return err != nil || err2 != nil || !os.SameFile(st, mine) || !st.ModTime().Equal(untouched) || st.Size() != c.size
}

func (c *copied) remove() error { return errors.Join(c.Close(), os.Remove(c.path)) }
