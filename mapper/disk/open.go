package disk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/disk/nbd"
)

// Opener opens files and block devices by path and exports of NBD servers by URI. It implements mapper.FileOpener.
type Opener struct{}

var _ mapper.FileOpener = Opener{}

// Identify implements mapper.FileOpener. It refuses what can be no disk, without opening it: a FIFO would
// block.
func (Opener) Identify(path string) (mapper.FileID, error) {
	if mapper.IsURI(path) {
		uri, err := nbd.ParseURI(path)
		return mapper.FileID{URI: uri.String()}, err
	}
	f, err := openPath(path)
	if err != nil {
		return mapper.FileID{}, err
	}
	defer f.Close() //nolint:errcheck // nothing was written through it
	st, err := identify(f, path)
	if err != nil {
		return mapper.FileID{}, err
	}
	return mapper.FileID{Dev: st.Dev, Ino: st.Ino, Rdev: st.Rdev}, nil
}

func openPath(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func identify(f *os.File, path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	kind := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFBLK:
		return st, nil
	case unix.S_IFDIR:
		kind = "a directory"
	case unix.S_IFIFO:
		kind = "a FIFO"
	case unix.S_IFSOCK:
		kind = "a socket"
	case unix.S_IFCHR:
		kind = "a character device"
	}
	return st, &os.PathError{Op: "open", Path: path, Err: fmt.Errorf("is %s, want a file or a block device: %w", kind, unix.ENOTBLK)}
}

// refuseForeign refuses a file of a dmfs mount: one of another mount could stand on a device of this one, and
// then they would wait for each other. What is in the caller's own mount the caller has found out before.
func refuseForeign(f *os.File, dev uint64, path string) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type != unix.FUSE_SUPER_MAGIC {
		return nil //nolint:nilerr // a file system that cannot tell its type is none of ours
	}
	mount := dmfsMount(dev)
	if mount == "" {
		return nil
	}
	return &foreignError{path: path, mount: mount}
}

// A foreignError refuses a file of a dmfs mount.
type foreignError struct{ path, mount string }

func (e *foreignError) Error() string {
	return fmt.Sprintf("%s is a device of the dmfs mount at %s: map it there, two mounts that use each other would wait for each other", e.path, e.mount)
}

// Unwrap returns the errno.
func (e *foreignError) Unwrap() error { return unix.EBUSY }

// dmfsMount returns where the dmfs mount whose files have that st_dev is, "" if it is no dmfs mount.
func dmfsMount(dev uint64) string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // read only
	number := fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if len(fields) > 4 && fields[2] == number && strings.HasPrefix(after, "fuse.dmfs ") {
			return fields[4]
		}
	}
	return ""
}

// BlockDevicePath implements mapper.FileOpener.
func (Opener) BlockDevicePath(major, minor uint32) (string, error) {
	number := fmt.Sprintf("%d:%d", major, minor)
	uevent, err := os.ReadFile("/sys/dev/block/" + number + "/uevent")
	if err != nil {
		return "", &mapper.ArgError{Reason: "Device lookup failed", Detail: "there is no block device " + number, Errno: unix.ENXIO}
	}
	for line := range strings.Lines(string(uevent)) {
		if name, ok := strings.CutPrefix(line, "DEVNAME="); ok {
			return "/dev/" + strings.TrimSpace(name), nil
		}
	}
	return "", &mapper.ArgError{Reason: "Device lookup failed", Detail: "block device " + number + " has no node", Errno: unix.ENXIO}
}

// Open implements mapper.FileOpener. c.Path is absolute, or a URI.
func (Opener) Open(ctx context.Context, c mapper.DiskConfig) (mapper.Disk, error) {
	if mapper.IsURI(c.Path) {
		d, err := nbd.Open(ctx, c)
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	handle, err := openPath(c.Path)
	if err != nil {
		return nil, err
	}
	defer handle.Close() //nolint:errcheck // nothing was written through it
	st, err := identify(handle, c.Path)
	if err == nil {
		err = refuseForeign(handle, st.Dev, c.Path)
	}
	if err != nil {
		return nil, err
	}
	flags := unix.O_RDWR | unix.O_CLOEXEC | unix.O_LARGEFILE | unix.O_NOCTTY
	if c.ReadOnly {
		flags = flags&^unix.O_RDWR | unix.O_RDONLY
	}
	if c.Direct {
		flags |= unix.O_DIRECT
	}
	isBlock := st.Mode&unix.S_IFMT == unix.S_IFBLK
	if isBlock && !c.ReadOnly {
		flags |= unix.O_EXCL // refused while mounted or claimed, as the kernel would
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", handle.Fd()), flags, 0)
	if err != nil {
		if c.Direct && errors.Is(err, unix.EINVAL) {
			err = fmt.Errorf("the file system cannot do direct I/O, leave direct out: %w", err)
		}
		return nil, &os.PathError{Op: "open", Path: c.Path, Err: err}
	}
	d := &File{f: os.NewFile(uintptr(fd), c.Path), fd: fd, path: c.Path, direct: c.Direct, block: isBlock}
	if err := d.measure(st, c); err != nil {
		d.f.Close() //nolint:errcheck // nothing was written through it
		return nil, err
	}
	return d, nil
}

// measure finds out size and limits.
func (d *File) measure(st unix.Stat_t, c mapper.DiskConfig) error {
	end, err := unix.Seek(d.fd, 0, unix.SEEK_END)
	if err != nil {
		return &os.PathError{Op: "seek", Path: d.path, Err: err}
	}
	d.size.Store(mapper.SectorsOf(end).Bytes())
	d.zeroable.Store(true)
	d.limits = mapper.Limits{
		LogicalBlock:   mapper.SectorSize,
		PhysicalBlock:  mapper.SectorSize,
		MaxDiscard:     maxAtOnce,
		MaxWriteZeroes: maxAtOnce,
		VolatileCache:  true,
		ReadOnly:       c.ReadOnly,
	}
	if d.block {
		d.name = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		return d.measureBlockDevice(st.Rdev)
	}
	d.name = d.TableWord()
	d.limits.Buffered = !d.direct
	if st.Blksize > 0 {
		d.limits.DiscardGranularity = mapper.SectorsOf(min(int64(st.Blksize), 64<<10))
	}
	if d.direct {
		d.limits.LogicalBlock = directAlignment(d.fd)
	}
	return nil
}

// DirectAlignment returns the block size in bytes that direct I/O on the regular file at path wants. An error is that its file system can do none.
func DirectAlignment(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written to it
	return directAlignment(fd), nil
}

// directAlignment returns the block size in bytes that direct I/O on a regular file wants.
func directAlignment(fd int) int {
	const fallback = 4096
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st)
	align := int(max(st.Dio_offset_align, st.Dio_mem_align))
	if err != nil || st.Mask&unix.STATX_DIOALIGN == 0 || align < mapper.SectorSize || align&(align-1) != 0 {
		return fallback
	}
	return align
}

func (d *File) measureBlockDevice(rdev uint64) error {
	logical, err := unix.IoctlGetInt(d.fd, unix.BLKSSZGET)
	if err != nil {
		return &os.PathError{Op: "BLKSSZGET", Path: d.path, Err: err}
	}
	physical, err := unix.IoctlGetInt(d.fd, unix.BLKPBSZGET)
	if err != nil {
		return &os.PathError{Op: "BLKPBSZGET", Path: d.path, Err: err}
	}
	d.limits.LogicalBlock, d.limits.PhysicalBlock = logical, physical
	d.limits.MinIO = ioctlOrZero(d.fd, unix.BLKIOMIN)
	d.limits.OptIO = ioctlOrZero(d.fd, unix.BLKIOOPT)
	queue := fmt.Sprintf("/sys/dev/block/%d:%d/queue/", unix.Major(rdev), unix.Minor(rdev))
	if n, ok := readNumber(queue + "discard_granularity"); ok {
		d.limits.DiscardGranularity = mapper.SectorsOf(n)
	}
	if n, ok := readNumber(queue + "discard_max_bytes"); ok {
		d.limits.MaxDiscard = min(mapper.SectorsOf(n), maxAtOnce)
	}
	return nil
}

func ioctlOrZero(fd int, request uint) int {
	var n uint32
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(unsafe.Pointer(&n)))
	if errno != 0 {
		return 0
	}
	return int(n)
}

func readNumber(path string) (int64, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	var n int64
	_, err = fmt.Sscan(string(text), &n)
	return n, err == nil && n >= 0
}
