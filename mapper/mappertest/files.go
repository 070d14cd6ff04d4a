package mappertest

import (
	"context"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// Files is a mapper.FileOpener whose files are test disks, for tests that have a Manager. A disk is found by the
// last element of a path, and by MAJOR:MINOR.
type Files struct{ disks []mapper.Disk }

// NewFiles returns files that are called as the disks are, by DiskName.
func NewFiles(disks ...mapper.Disk) *Files { return &Files{disks} }

func (f *Files) find(path string) (int, error) {
	for i, d := range f.disks {
		if mapper.DiskName(d) == filepath.Base(path) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%s: %w", path, unix.ENOENT)
}

// Identify says which disk path leads to.
func (f *Files) Identify(path string) (mapper.FileID, error) {
	i, err := f.find(path)
	return mapper.FileID{Dev: 1, Ino: uint64(i) + 1}, err
}

// Open returns the disk. Closing it does nothing.
func (f *Files) Open(_ context.Context, c mapper.DiskConfig) (mapper.Disk, error) {
	i, err := f.find(c.Path)
	if err != nil {
		return nil, err
	}
	return f.disks[i], nil
}

// BlockDevicePath returns the path of the disk called MAJOR:MINOR.
func (f *Files) BlockDevicePath(major, minor uint32) (string, error) {
	path := fmt.Sprintf("/%d:%d", major, minor)
	_, err := f.find(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, unix.ENXIO)
	}
	return path, nil
}
