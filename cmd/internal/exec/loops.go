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
	"sync"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/exec/loopdev"
	"dmfs/mapper"
)

// minLoops is how many loop devices there are at least, as with the kernel.
const minLoops = 8

// maxLoops bounds them.
const maxLoops = 1 << 18

// loopUUID is how the uuid of a bound loop device begins. A device has a uuid from when somebody binds it, once, so that of two who try at a
// time only one succeeds, in whatever session they are.
const loopUUID = "DMFS-LOOP-"

// limited is in the uuid of a loop device that was bound with a limit to its size.
const limited = "limited-"

// loops are the loop devices of the mount.
type loops struct {
	s *supervisor

	mu    sync.Mutex // guards what follows
	added map[uint32]bool
	limit map[uint64]bool // by ID of the device: those that were limited after they had been bound
	// cleared are those that are as good as unbound: their user has let go, and the last close, which may be his, does it.
	cleared map[uint64]bool
}

func newLoops(s *supervisor) *loops {
	return &loops{s: s, added: make(map[uint32]bool), limit: make(map[uint64]bool), cleared: make(map[uint64]bool)}
}

func loopName(n uint32) string { return reserved + "loop" + strconv.Itoa(int(n)) }

// numbers returns the loop devices that there are.
func (l *loops) numbers() []uint32 {
	var list []uint32
	for n := range uint32(minLoops) {
		list = append(list, n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range l.added {
		list = append(list, n)
	}
	return list
}

// exists reports whether there is such a loop device, bound or not.
func (l *loops) exists(n uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return n < minLoops || l.added[n]
}

// makeUnbound makes what stands for a loop device that nobody has bound: its I/O fails, until a file takes the place.
func (l *loops) makeUnbound(ctx context.Context, n uint32) error {
	_, err := l.s.mount.Do(ctx, fmt.Sprintf("create %s minor=%d 0 1 error", loopName(n), loopInMount+n))
	if err != nil && !errors.Is(err, unix.EBUSY) { // another was faster
		return err
	}
	_, err = l.s.refresh(ctx)
	return err
}

// bound reports whether a loop device is bound.
func bound(d *device) bool { return strings.HasPrefix(d.UUID, loopUUID) }

// sweep removes what stands for loop devices that nobody has bound or open.
func (l *loops) sweep(ctx context.Context) {
	if _, err := l.s.world.look(ctx); err != nil {
		return
	}
	for _, d := range l.s.world.all() {
		if d.number.major == loopMajor && !bound(d) && d.OpenCount == 0 {
			_, _ = l.s.mount.Do(ctx, "remove "+d.Name) // somebody may have opened it
		}
	}
}

// Free implements loopdev.Control.
func (l *loops) Free() (uint32, error) {
	if _, err := l.s.refresh(context.Background()); err != nil {
		return 0, err
	}
	for n := range uint32(maxLoops) {
		if d := l.s.world.at(number{loopMajor, n}); d != nil && bound(d) || l.s.host[number{loopMajor, n}] {
			continue
		}
		return n, l.Add(n)
	}
	return 0, unix.ENOSPC
}

// Add implements loopdev.Control.
func (l *loops) Add(n uint32) error {
	if n >= maxLoops {
		return unix.EINVAL
	}
	l.mu.Lock()
	l.added[n] = true
	l.mu.Unlock()
	return l.s.tree.loop(n)
}

// Remove implements loopdev.Control.
func (l *loops) Remove(n uint32) error {
	if d := l.s.world.at(number{loopMajor, n}); d != nil && (bound(d) || d.OpenCount > 0) {
		return unix.EBUSY
	}
	if !l.exists(n) {
		return unix.ENODEV
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.added, n)
	return nil
}

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
	s := loopdev.Status{ReadOnly: d.ReadOnly, AutoClear: d.DeferredRemove, File: l.s.backing(d)}
	var st unix.Stat_t
	if unix.Stat(s.File, &st) == nil {
		s.Dev, s.Inode = st.Dev, st.Ino
	}
	s.Offset, s.Block, err = l.layout(d)
	if l.isLimited(d) {
		s.SizeLimit = uint64(mapper.Sector(d.Sectors).Bytes())
	}
	return s, err
}

func (l loop) isLimited(d *device) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limit[d.ID] || strings.HasPrefix(d.UUID, loopUUID+limited)
}

// layout returns where in its file a loop device begins and its logical block, both in bytes.
func (l loop) layout(d *device) (offset uint64, block uint32, err error) {
	text, err := l.s.mount.Do(l.ctx, "query name="+d.Name+" table")
	if err != nil {
		return 0, 0, err
	}
	list, err := parseDocument(text)
	if err != nil || len(list) != 1 || len(list[0].Table) != 1 {
		return 0, 0, fmt.Errorf("%s is no loop device: %w", d.Name, unix.ENXIO)
	}
	words, err := mapper.SplitArgs(list[0].Table[0].Params)
	if err != nil || len(words) < 2 {
		return 0, 0, fmt.Errorf("%s is no loop device: %w", d.Name, unix.ENXIO)
	}
	start, err := mapper.ParseSector(words[1])
	if len(words) > 2 && err == nil {
		var sectors mapper.Sector
		sectors, err = mapper.ParseSector(words[2])
		block = uint32(sectors.Bytes())
	}
	return uint64(start.Bytes()), block, err
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
	return errors.Join(err, failed)
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
	return err
}

// loopTable returns the table of a loop device on a disk of so many bytes: one whose blocks are larger than sectors takes whole blocks alone.
func loopTable(disk string, size int64, s loopdev.Status) (string, error) {
	unit := uint64(max(s.Block, mapper.SectorSize))
	if s.Offset%unit != 0 || s.Offset > uint64(max(size, 0)) {
		return "", unix.EINVAL
	}
	bytes := uint64(size) - s.Offset
	if s.SizeLimit != 0 {
		bytes = min(bytes, s.SizeLimit)
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
	status.Block = have.Block
	if have.Offset != status.Offset || have.SizeLimit != status.SizeLimit {
		l.mu.Lock()
		l.limit[d.ID] = status.SizeLimit != 0
		l.mu.Unlock()
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
	_, failed := l.s.refresh(l.ctx)
	return errors.Join(err, failed)
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
	_, failed := l.s.refresh(l.ctx)
	return errors.Join(err, failed)
}

// Clear implements loopdev.Loop: the last close unbinds it, which may be the caller's.
func (l loop) Clear() error {
	d, err := l.bound()
	if err == nil {
		l.setCleared(d, true)
		err = l.do("remove", d, "deferred")
	}
	_, failed := l.s.refresh(l.ctx)
	l.s.lookSoon()
	return errors.Join(err, failed)
}
