package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"dmfs/mapper"
	mapperdisk "dmfs/mapper/disk"
)

// A disk is what a header is read from: a file, a block device, a mapped device by its file, or a network disk.
type disk struct {
	io.ReaderAt
	name  string // as tables call it: an absolute path or a URI
	size  int64  // bytes
	close func() error
}

// openDisk opens name for reading.
func openDisk(ctx context.Context, name string) (*disk, error) {
	if mapper.IsURI(name) {
		return openNetwork(ctx, name)
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(path) // before it is opened: a FIFO would block
	if err != nil {
		return nil, err
	}
	if kind := st.Mode().Type(); kind != 0 && (kind&os.ModeDevice == 0 || kind&os.ModeCharDevice != 0) {
		return nil, failure(NotThere, "%s is neither a file nor a block device", name)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close() //nolint:errcheck // nothing was written through it
		return nil, err
	}
	return &disk{ReaderAt: f, name: path, size: size, close: f.Close}, nil
}

// openNetwork opens an export of an NBD server.
func openNetwork(ctx context.Context, uri string) (*disk, error) {
	d, err := mapperdisk.Opener{}.Open(ctx, mapper.DiskConfig{Path: uri, ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", uri, err)
	}
	end := func() error { return nil }
	if c, ok := d.(io.Closer); ok {
		end = c.Close
	}
	return &disk{ReaderAt: sectorReader{ctx, d}, name: uri, size: d.Sectors().Bytes(), close: end}, nil
}

// sectors returns the size in whole sectors.
func (d *disk) sectors() mapper.Sector { return mapper.SectorsOf(d.size) }

// A sectorReader reads bytes of a disk that is read by sectors.
type sectorReader struct {
	ctx context.Context
	d   mapper.Disk
}

// ReadAt implements io.ReaderAt.
func (r sectorReader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	size := r.d.Sectors().Bytes()
	if off >= size {
		return 0, io.EOF
	}
	if left := size - off; int64(len(p)) > left {
		p, err = p[:left], io.EOF
	}
	block := int64(max(mapper.SectorSize, r.d.Limits().LogicalBlock))
	begin := off / block * block
	end := min(size, (off+int64(len(p))+block-1)/block*block)
	whole := mapper.GetBuffer(int(end - begin))
	defer whole.Free()
	defer clear(whole.Data)
	request := mapper.Request{Op: mapper.OpRead, Start: mapper.SectorsOf(begin), Count: mapper.SectorsOf(end - begin), Data: whole.Data}
	if failed := r.d.Submit(r.ctx, request); failed != nil {
		return 0, failed
	}
	return copy(p, whole.Data[off-begin:]), err
}
