package exec

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/exec/loopdev"
	"dmfs/mapper"
	mapperdisk "dmfs/mapper/disk"
)

// A loop is one of them on behalf of a caller.
type loop struct {
	*loops
	ctx context.Context
	c   *call
	n   uint32
	fd  uint64 // the caller's descriptor of it
}

var _ loopdev.Loop = loop{}

// Number implements loopdev.Loop.
func (l loop) Number() uint32 { return l.n }

// now returns the device as it is now.
func (l loop) now() (*device, error) {
	if _, err := l.s.refresh(l.ctx); err != nil {
		return nil, err
	}
	d := l.s.world.at(number{loopMajor, l.n})
	if d == nil {
		return nil, unix.ENXIO
	}
	return d, nil
}

// bound returns the device if it is bound, else ENXIO.
func (l loop) bound() (*device, error) {
	d, err := l.now()
	if err == nil && (!bound(d) || l.isCleared(d)) {
		err = unix.ENXIO
	}
	return d, err
}

// isCleared reports whether a loop device was let go in this session.
func (l *loops) isCleared(d *device) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cleared[d.ID]
}

// setCleared says whether it was.
func (l *loops) setCleared(d *device, cleared bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cleared {
		l.cleared[d.ID] = true
	} else {
		delete(l.cleared, d.ID)
	}
}

// Status implements loopdev.Loop.
func (l loop) Status() (loopdev.Status, error) {
	d, err := l.bound()
	if err != nil {
		return loopdev.Status{}, err
	}
	s := loopdev.Status{ReadOnly: d.ReadOnly, AutoClear: d.DeferredRemove, PartScan: l.scans(d), File: l.s.backing(d)}
	var st unix.Stat_t
	if unix.Stat(s.File, &st) == nil {
		s.Dev, s.Inode = st.Dev, st.Ino
	}
	s.Offset, s.Block, s.Direct, err = l.layout(d)
	if l.isLimited(d) {
		s.SizeLimit = uint64(mapper.Sector(d.Sectors).Bytes())
	}
	return s, err
}

// isLimited reports whether the size of a loop device is limited.
func (l *loops) isLimited(d *device) bool { return l.said(l.limit, d, limited) }

// scans reports whether the partition table of a loop device counts.
func (l *loops) scans(d *device) bool { return l.said(l.scan, d, scanned) }

// said returns what map says of d, or else its uuid.
func (l *loops) said(since map[uint64]bool, d *device, mark string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if yes, ok := since[d.ID]; ok {
		return yes
	}
	return strings.Contains(d.UUID, "-"+mark)
}

// say has d be limited and its partition table count, or not.
func (l *loops) say(d *device, s loopdev.Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit[d.ID], l.scan[d.ID] = s.SizeLimit != 0, s.PartScan
}

// layout returns where in its file a loop device begins and its logical block, both in bytes, and whether its I/O is direct.
func (l loop) layout(d *device) (offset uint64, block uint32, direct bool, err error) {
	text, err := l.s.mount.Do(l.ctx, "query name="+d.Name+" table")
	if err != nil {
		return 0, 0, false, err
	}
	list, err := parseDocument(text)
	if err != nil || len(list) != 1 || len(list[0].Table) != 1 {
		return 0, 0, false, fmt.Errorf("%s is no loop device: %w", d.Name, unix.ENXIO)
	}
	words, err := mapper.SplitArgs(list[0].Table[0].Params)
	if err != nil || len(words) < 2 {
		return 0, 0, false, fmt.Errorf("%s is no loop device: %w", d.Name, unix.ENXIO)
	}
	start, err := mapper.ParseSector(words[1])
	if len(words) > 2 && err == nil {
		var sectors mapper.Sector
		sectors, err = mapper.ParseSector(words[2])
		block = uint32(sectors.Bytes())
	}
	return uint64(start.Bytes()), block, strings.HasPrefix(words[0], mapper.DirectPrefix), err
}

// backing returns what a device stands on that stands for a file: the file, or a device node.
func (s *supervisor) backing(d *device) string {
	if len(d.Deps) == 0 {
		return ""
	}
	dep := d.Deps[0]
	if dep.Path != "" {
		return dep.Path
	}
	if below := s.world.ofMount(dep.Major, dep.Minor); below != nil {
		return "/dev/" + below.node
	}
	return "/dev/" + dep.BlockName
}

// Bind implements loopdev.Loop.
func (l loop) Bind(fd uint32, status loopdev.Status) error {
	disk, size, readOnly, err := l.disk(fd)
	if err != nil {
		return err
	}
	writable, err := l.s.mayWrite(l.c, l.fd)
	if err != nil {
		return err
	}
	table, err := loopTable(disk, size, status)
	if err != nil {
		return err
	}
	d, err := l.now()
	if err != nil {
		return err
	}
	cleared := bound(d) && d.DeferredRemove && d.OpenCount == 1 // by the caller: all who had it are gone
	switch {
	case cleared:
		l.setCleared(d, false)
		err = l.do("message", d, "0 @cancel_deferred_remove")
	case bound(d):
		return unix.EBUSY
	default:
		mark := loopUUID
		if status.SizeLimit != 0 {
			mark += limited
		}
		if status.PartScan {
			mark += scanned
		}
		if err = l.do("setuuid", d, mark+rand.Text()); errors.Is(err, unix.EINVAL) {
			return unix.EBUSY // another was faster
		}
	}
	if err != nil {
		return err
	}
	err = l.load(d, table, readOnly || status.ReadOnly || !writable)
	if err != nil || status.AutoClear {
		err = errors.Join(err, l.do("remove", d, "deferred"))
	}
	_, failed := l.s.refresh(l.ctx)
	if err = errors.Join(err, failed); err == nil {
		l.say(d, status)
		if status.PartScan {
			l.rescan()
		}
	}
	return err
}

// rescan reads the partition table. A loop device is bound, whatever comes of that.
func (l loop) rescan() {
	if d, err := l.now(); err == nil {
		_ = l.s.scan(l.ctx, d)
		_ = l.s.show(l.ctx) // what cannot be shown is tried again
	}
}

// do carries out a command on d.
func (l loop) do(verb string, d *device, rest string) error {
	_, err := l.s.mount.Do(l.ctx, verb+" "+d.Name+" "+rest)
	return err
}

// load gives a loop device another table.
func (l loop) load(d *device, table string, readOnly bool) error {
	if readOnly {
		table = "ro " + table
	}
	err := l.do("load", d, table)
	if err == nil {
		err = l.do("resume", d, "")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loads[d.ID]++
	return err
}

// loopTable returns the table of a loop device on a disk of so many bytes: one whose blocks are larger than sectors takes whole blocks alone. I/O is
// direct if it is to be and can be, see mayDirect.
func loopTable(disk string, size int64, s loopdev.Status) (string, error) {
	unit := uint64(max(s.Block, mapper.SectorSize))
	if s.Offset%unit != 0 || s.Offset > uint64(max(size, 0)) {
		return "", unix.EINVAL
	}
	bytes := uint64(size) - s.Offset
	if s.SizeLimit != 0 {
		bytes = min(bytes, s.SizeLimit)
	}
	if s.Direct && mayDirect(disk, s) {
		disk = mapper.DirectPrefix + disk
	}
	start, n := mapper.SectorsOf(int64(s.Offset)), mapper.SectorsOf(int64(bytes-bytes%unit))
	switch {
	case n == 0:
		return "", unix.EINVAL
	case unit == mapper.SectorSize:
		return fmt.Sprintf("0 %d linear %s %d", n, mapper.QuoteArg(disk), start), nil
	}
	block := mapper.SectorsOf(int64(unit))
	return fmt.Sprintf("0 %d ebs %s %d %d %d", n, mapper.QuoteArg(disk), start, block, block), nil
}

// mayDirect reports whether I/O on a file can be direct for a loop device with that block and offset. What is no file is a device of the mount, which
// has no page cache to go past.
func mayDirect(disk string, s loopdev.Status) bool {
	if !path.IsAbs(disk) {
		return false
	}
	align, err := mapperdisk.DirectAlignment(disk)
	return err == nil && align <= int(max(s.Block, mapper.SectorSize)) && s.Offset%uint64(align) == 0
}

// disk returns what the mount calls the file that a descriptor of the caller's is of, its size in bytes, and whether it can only be read.
func (l loop) disk(fd uint32) (name string, size int64, readOnly bool, err error) {
	f := l.s.descriptor(l.c, uint64(fd))
	switch {
	case f.st.Nlink == 0 && f.st.Mode == 0:
		return "", 0, false, unix.EBADF
	case f.dev != nil:
		return f.dev.inMount(), int64(mapper.Sector(f.dev.Sectors).Bytes()), f.dev.ReadOnly, nil
	case f.ours() || f.st.Mode&unix.S_IFMT != unix.S_IFREG:
		return "", 0, false, unix.EINVAL
	}
	name, err = os.Readlink(path.Join("/proc", strconv.Itoa(int(l.c.TID)), "fd", strconv.Itoa(int(fd))))
	if err != nil {
		return "", 0, false, err
	}
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil || st.Dev != f.st.Dev || st.Ino != f.st.Ino {
		// It was deleted, or lies where only the session sees it: the mount cannot open it.
		return "", 0, false, unix.EOPNOTSUPP
	}
	writable, err := l.s.mayWrite(l.c, uint64(fd))
	return name, st.Size, !writable, err
}

// mayWrite reports whether a descriptor of c's caller was opened for writing.
func (s *supervisor) mayWrite(c *call, fd uint64) (bool, error) {
	text, err := os.ReadFile(path.Join("/proc", strconv.Itoa(int(c.TID)), "fdinfo", strconv.Itoa(int(int32(fd)))))
	if err != nil {
		return false, unix.EBADF
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseUint(strings.TrimSpace(value), 8, 32)
			return flags&unix.O_ACCMODE != unix.O_RDONLY, err
		}
	}
	return false, unix.EBADF
}

// SetStatus implements loopdev.Loop.
func (l loop) SetStatus(status loopdev.Status) error {
	d, err := l.bound()
	if err != nil {
		return err
	}
	have, err := l.Status()
	if err != nil {
		return err
	}
	status.Block, status.Direct = have.Block, have.Direct
	status.PartScan = status.PartScan || have.PartScan
	l.say(d, status)
	if have.Offset != status.Offset || have.SizeLimit != status.SizeLimit {
		if err := l.reload(d, status); err != nil {
			return err
		}
	}
	switch {
	case status.AutoClear && !have.AutoClear:
		err = l.do("remove", d, "deferred")
	case !status.AutoClear && have.AutoClear:
		err = l.do("message", d, "0 @cancel_deferred_remove")
	}
	if err = errors.Join(err, l.s.show(l.ctx)); err == nil && status.PartScan && !have.PartScan {
		l.rescan()
	}
	return err
}

// reload takes the size that the file has.
func (l loop) reload(d *device, status loopdev.Status) error {
	dep := d.Deps[0]
	disk, size := dep.Path, int64(0)
	if disk == "" {
		below := l.s.world.ofMount(dep.Major, dep.Minor)
		if below == nil {
			return unix.ENXIO
		}
		disk, size = below.inMount(), mapper.Sector(below.Sectors).Bytes()
	} else {
		var st unix.Stat_t
		if err := unix.Stat(disk, &st); err != nil {
			return err
		}
		size = st.Size
	}
	table, err := loopTable(disk, size, status)
	if err != nil {
		return err
	}
	return l.load(d, table, d.ReadOnly)
}

// Resize implements loopdev.Loop.
func (l loop) Resize() error { return l.change(func(*loopdev.Status) {}) }

// SetBlock implements loopdev.Loop.
func (l loop) SetBlock(bytes uint32) error {
	return l.change(func(s *loopdev.Status) { s.Block = bytes })
}

// SetDirect implements loopdev.Loop.
func (l loop) SetDirect(on bool) error {
	d, err := l.bound()
	if err != nil {
		return err
	}
	s, err := l.Status()
	switch {
	case err != nil || s.Direct == on:
		return err
	case on && (len(d.Deps) == 0 || !mayDirect(d.Deps[0].Path, s)):
		return unix.EINVAL
	}
	return l.change(func(s *loopdev.Status) { s.Direct = on })
}

// change has a loop device be what it is, with a change, on the file as it is.
func (l loop) change(f func(s *loopdev.Status)) error {
	d, err := l.bound()
	if err != nil {
		return err
	}
	status, err := l.Status()
	if err == nil {
		f(&status)
		err = l.reload(d, status)
	}
	return errors.Join(err, l.s.show(l.ctx))
}

// Clear implements loopdev.Loop: the last close unbinds it, which may be the caller's.
func (l loop) Clear() error {
	d, err := l.bound()
	if err == nil {
		l.setCleared(d, true)
		err = errors.Join(l.s.dropParts(l.ctx, d), l.do("remove", d, "deferred"))
	}
	_, failed := l.s.refresh(l.ctx)
	l.s.lookSoon()
	return errors.Join(err, failed)
}
