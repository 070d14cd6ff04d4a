package exec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/exec/blockdev"
	"dmfs/cmd/internal/exec/parttable"
	"dmfs/mapper"
)

// partUUID is how the uuid of a partition begins. What it is called follows, and its first sector.
const partUUID = "DMFS-PART-"

// A part says what a partition is a part of. It is a device of the mount, linear on that of its disk, which therefore stays as long as it has partitions; so
// partitions go before it, see dropParts and tidyParts.
type part struct {
	disk   string // the disk's node
	number uint32
	start  mapper.Sector // on the disk
}

func partOf(h hidden, uuid string) part {
	text, _ := strings.CutPrefix(uuid, partUUID+h.node+"-")
	start, _ := strconv.ParseUint(text, 10, 64) // whoever makes devices of such names himself has partitions that begin anywhere
	return part{h.disk, h.part, mapper.Sector(start)}
}

// partNode returns what a partition of a disk is called.
func partNode(disk string, number uint32) string {
	if c := disk[len(disk)-1]; c >= '0' && c <= '9' {
		disk += "p"
	}
	return disk + strconv.Itoa(int(number))
}

// parts returns the partitions of d by their numbers.
func (w *world) parts(d *device) map[uint32]*device {
	found := make(map[uint32]*device)
	for _, p := range w.all() {
		if p.part.disk == d.node && d.whole() {
			found[p.part.number] = p
		}
	}
	return found
}

// inUse reports whether any of them has users.
func inUse(parts map[uint32]*device) bool {
	for _, p := range parts {
		if p.OpenCount > 0 {
			return true
		}
	}
	return false
}

// releaseWait is how long it may take until the mount knows that a file has been closed.
const releaseWait = 100 * time.Millisecond

// unusedParts returns the partitions of d when nobody uses one of them, or EBUSY.
func (s *supervisor) unusedParts(ctx context.Context, d *device) (map[uint32]*device, error) {
	for end := time.Now().Add(releaseWait); ; {
		if _, err := s.world.look(ctx); err != nil {
			return nil, err
		}
		parts := s.world.parts(d)
		switch {
		case !inUse(parts):
			return parts, nil
		case time.Now().After(end):
			return nil, unix.EBUSY
		}
		time.Sleep(releaseWait / 10)
	}
}

// scan has d have the partitions that its table tells: none, if it has no table or a malformed one. EBUSY is that one of those that it has is used.
func (s *supervisor) scan(ctx context.Context, d *device) error {
	list, err := s.readTable(d)
	var bad parttable.FormatError
	if err != nil && !errors.Is(err, parttable.ErrNone) && !errors.As(err, &bad) {
		return err
	}
	have, err := s.unusedParts(ctx, d)
	if err != nil {
		return err
	}
	missing := list[:0]
	for _, p := range list {
		if old := have[p.Number]; old != nil && old.part.start == p.Start && old.Sectors == uint64(p.Len) && old.ReadOnly == d.ReadOnly {
			delete(have, p.Number)
		} else {
			missing = append(missing, p)
		}
	}
	for _, old := range have {
		if err := s.removePart(ctx, old, ""); err != nil {
			return err
		}
	}
	for _, p := range missing {
		if err := s.addPart(ctx, d, p); err != nil {
			return err
		}
	}
	return nil
}

// regain has d have the partitions that its table tells when it becomes a disk, also if it is one still of which some were in use when the last session ended.
// Those that tools have since made and removed stay as they are.
func (s *supervisor) regain(ctx context.Context, d *device) error {
	have := s.world.parts(d)
	left := len(have) == 0
	for _, p := range have {
		if p.DeferredRemove {
			left = true
			if _, err := s.mount.Do(ctx, "message "+p.Name+" 0 @cancel_deferred_remove"); err != nil {
				return err
			}
		}
	}
	if !left {
		return nil
	}
	list, err := s.readTable(d)
	for _, p := range list {
		if have[p.Number] == nil {
			err = errors.Join(err, s.addPart(ctx, d, p))
		}
	}
	return err
}

// readTable reads the partition table of d.
func (s *supervisor) readTable(d *device) ([]parttable.Partition, error) {
	fd, err := unix.Openat(s.mount.root, d.Name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: d.Name, Err: err}
	}
	f := os.NewFile(uintptr(fd), d.Name)
	defer f.Close() //nolint:errcheck // nothing was written to it
	return parttable.Read(f, mapper.Sector(d.Sectors), max(d.Limits.LogicalBlock, mapper.SectorSize))
}

func partTable(d *device, p parttable.Partition) string {
	mode := ""
	if d.ReadOnly {
		mode = "ro "
	}
	return fmt.Sprintf("%s0 %d linear %s %d", mode, p.Len, d.inMount(), p.Start)
}

// addPart makes a partition of d. EBUSY is that it has one of that number.
func (s *supervisor) addPart(ctx context.Context, d *device, p parttable.Partition) error {
	node := partNode(d.node, p.Number)
	const tries = 20 // other sessions take numbers meanwhile
	for range tries {
		minor, err := s.freePart()
		if err != nil {
			return err
		}
		_, err = s.mount.Do(ctx, fmt.Sprintf("create %s%s uuid=%s%s-%d minor=%d %s", reserved, node, partUUID, node, p.Start, minor, partTable(d, p)))
		_, failed := s.world.look(ctx)
		if !errors.Is(err, unix.EBUSY) || failed != nil || s.world.called(reserved+node) != nil {
			return errors.Join(err, failed)
		}
	}
	return unix.EBUSY
}

// freePart returns a minor number in the mount for a partition.
func (s *supervisor) freePart() (uint32, error) {
	taken := make(map[uint32]bool)
	for _, d := range s.world.all() {
		taken[d.Minor] = true
	}
	for minor := uint32(partInMount); minor < loopInMount; minor++ {
		if !taken[minor] && !s.host[number{partMajor, minor - partInMount}] {
			return minor, nil
		}
	}
	return 0, unix.ENOSPC
}

// removePart removes a partition; with "deferred" when its last user has gone.
func (s *supervisor) removePart(ctx context.Context, p *device, how string) error {
	_, err := s.mount.Do(ctx, "remove "+p.Name+" "+how)
	if errors.Is(err, unix.ENXIO) {
		return nil // another was faster
	}
	return err
}

// dropParts removes the partitions of d, those that are used when they are not any more.
func (s *supervisor) dropParts(ctx context.Context, d *device) error {
	var errs []error
	for _, p := range s.world.parts(d) {
		errs = append(errs, s.removePart(ctx, p, "deferred"))
	}
	return errors.Join(errs...)
}

// tidyParts removes the partitions of disks that are to go with their last user, and have none but their partitions, which nobody uses either. At the end of
// the session those of --block go even if they are used, once they are not: nobody is left who would look.
func (s *supervisor) tidyParts(ctx context.Context, end bool) {
	for _, d := range s.world.all() {
		if parts := s.world.parts(d); d.DeferredRemove && len(parts) > 0 && d.OpenCount == len(parts) && (!inUse(parts) || end && d.number.major == diskMajor) {
			_ = s.dropParts(ctx, d) // somebody may have opened one; the next look finds them again
		}
	}
}

// letGo gives the disks of --block back, so that they go unless others use them.
func (s *supervisor) letGo(ctx context.Context) {
	for _, fd := range s.held {
		unix.Close(fd) //nolint:errcheck // nothing was written through it
	}
	for end := time.Now().Add(releaseWait); ; time.Sleep(releaseWait / 10) {
		if _, err := s.world.look(ctx); err != nil {
			return
		}
		s.tidyParts(ctx, true)
		waits := func(d *device) bool {
			return d.DeferredRemove && len(s.world.parts(d)) > 0 && d.OpenCount > len(s.world.parts(d))
		}
		if !slices.ContainsFunc(s.world.all(), waits) || time.Now().After(end) {
			return
		}
	}
}

// A partitioned is a disk that can have partitions, on behalf of a caller.
type partitioned struct {
	s   *supervisor
	ctx context.Context
	d   *device
}

var _ blockdev.Partitioned = partitioned{}

// show has what was done be seen in the session.
func (p partitioned) show(err error) error {
	return errors.Join(err, p.s.show(p.ctx))
}

// now returns the partition of that number, nil if there is none, and the others.
func (p partitioned) now(number uint32) (one *device, others map[uint32]*device, err error) {
	if _, err := p.s.world.look(p.ctx); err != nil {
		return nil, nil, err
	}
	others = p.s.world.parts(p.d)
	one = others[number]
	delete(others, number)
	return one, others, nil
}

func overlap(parts map[uint32]*device, p parttable.Partition) bool {
	for _, other := range parts {
		if p.Start < other.part.start+mapper.Sector(other.Sectors) && other.part.start < p.Start+p.Len {
			return true
		}
	}
	return false
}

// Rescan implements blockdev.Partitioned.
func (p partitioned) Rescan() error {
	if p.d.number.major == loopMajor && (!bound(p.d) || !p.s.loops.scans(p.d)) {
		return unix.EINVAL
	}
	return p.show(p.s.scan(p.ctx, p.d))
}

// Add implements blockdev.Partitioned.
func (p partitioned) Add(new parttable.Partition) error {
	have, others, err := p.now(new.Number)
	switch {
	case err != nil:
		return err
	case !p.has(new):
		return unix.EINVAL
	case have != nil || overlap(others, new):
		return unix.EBUSY
	}
	return p.show(p.s.addPart(p.ctx, p.d, new))
}

// has reports whether all of a partition is on the disk.
func (p partitioned) has(part parttable.Partition) bool {
	size := mapper.Sector(p.d.Sectors)
	return bound(p.d) == (p.d.number.major == loopMajor) && part.Start < size && part.Len <= size-part.Start
}

// Delete implements blockdev.Partitioned.
func (p partitioned) Delete(number uint32) error {
	have, _, err := p.now(number)
	switch {
	case err != nil:
		return err
	case have == nil:
		return unix.ENXIO
	}
	return p.show(p.s.removePart(p.ctx, have, ""))
}

// Resize implements blockdev.Partitioned.
func (p partitioned) Resize(to parttable.Partition) error {
	have, others, err := p.now(to.Number)
	switch {
	case err != nil:
		return err
	case have == nil:
		return unix.ENXIO
	case have.part.start != to.Start || !p.has(to):
		return unix.EINVAL
	case overlap(others, to):
		return unix.EBUSY
	}
	_, err = p.s.mount.Do(p.ctx, "load "+have.Name+" "+partTable(p.d, to))
	if err == nil {
		_, err = p.s.mount.Do(p.ctx, "resume "+have.Name)
	}
	return p.show(err)
}
