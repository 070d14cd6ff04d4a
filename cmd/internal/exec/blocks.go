package exec

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// blockUUID is how the uuid of a device begins that stands for a file of --block.
const blockUUID = "DMFS-BLOCK-"

// A Block is a file that is a disk to the command.
type Block struct {
	File string // absolute
	Name string // what it is called in /dev; "" for the next free: sda, sdb …
}

// ParseBlock parses FILE[=NAME].
func ParseBlock(text string) (Block, error) {
	b := Block{File: text}
	if i := strings.LastIndexByte(text, '='); i >= 0 {
		b.File, b.Name = text[:i], text[i+1:]
		if !blockName.MatchString(b.Name) {
			return b, fmt.Errorf("--block %s: %q is no name of a block device: want letters, digits and -_.+", text, b.Name)
		}
		if partName.MatchString(b.Name) {
			return b, fmt.Errorf("--block %s: %s is the name of a partition", text, b.Name)
		}
	}
	if b.File == "" {
		return b, fmt.Errorf("--block %s: no file", text)
	}
	return b, nil
}

var (
	blockName = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.+]{0,60}$`)
	diskName  = regexp.MustCompile(`^sd([a-z]{1,3})$`)
	partName  = regexp.MustCompile(`^(sd[a-z]{1,3}|loop[0-9]+p)[0-9]+$`)
)

// attach has b be a disk, that of another session if one has it, and keeps it so while this process lives.
func (s *supervisor) attach(ctx context.Context, b Block) error {
	st, err := os.Stat(b.File)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() && st.Mode()&(os.ModeDevice|os.ModeCharDevice) != os.ModeDevice {
		return fmt.Errorf("%s is neither a file nor a block device", b.File)
	}
	size, err := sizeOf(b.File)
	if err != nil {
		return err
	}
	sectors := mapper.SectorsOf(size)
	if sectors == 0 {
		return fmt.Errorf("%s has %d bytes, a disk has at least %d", b.File, size, mapper.SectorSize)
	}
	readOnly := unix.Access(b.File, unix.W_OK) != nil
	const tries = 20 // other sessions begin and end meanwhile
	for range tries {
		if _, err := s.world.look(ctx); err != nil {
			return err
		}
		d, err := s.disk(ctx, b, st, uint64(sectors), readOnly)
		if errors.Is(err, unix.EBUSY) {
			continue
		}
		if err != nil {
			return err
		}
		done, err := s.hold(ctx, d, b)
		if done {
			_ = s.regain(ctx, d) // a disk is of use without partitions, too
		}
		if done || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: %w", b.File, unix.EBUSY)
}

func sizeOf(name string) (int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // nothing was written to it
	return f.Seek(0, io.SeekEnd)
}

// disk returns the device that stands for b, after making it if there is none. EBUSY is that somebody else was faster.
func (s *supervisor) disk(ctx context.Context, b Block, file os.FileInfo, sectors uint64, readOnly bool) (*device, error) {
	taken := make(map[string]bool)
	for _, d := range s.world.all() {
		taken[d.node] = true
		if d.number.major != diskMajor || !d.whole() {
			continue
		}
		have, err := os.Stat(s.backing(d))
		if err != nil || !os.SameFile(have, file) {
			continue
		}
		if diskName.MatchString(b.Name) && b.Name != d.node {
			return nil, fmt.Errorf("%s is /dev/%s already, in another session or by another --block", b.File, d.node)
		}
		if sectors > d.Sectors && !readOnly { // it has grown since
			return d, s.grow(ctx, d, b, sectors)
		}
		return d, nil
	}
	name := b.Name
	if !diskName.MatchString(name) {
		for i := uint32(0); ; i++ {
			name = "sd" + letters(i)
			if !taken[name] && !s.host[number{diskMajor, i * diskMinors}] {
				break
			}
		}
	} else if taken[name] {
		return nil, fmt.Errorf("/dev/%s is another file already, in another session or by another --block", name)
	}
	mode := ""
	if readOnly {
		mode = "ro "
	}
	_, err := s.mount.Do(ctx, fmt.Sprintf("create %s%s uuid=%s%s minor=%d %s0 %d linear %s 0",
		reserved, name, blockUUID, rand.Text(), diskInMount+letterIndex(name[len("sd"):]), mode, sectors, mapper.QuoteArg(b.File)))
	if err != nil {
		return nil, fmt.Errorf("--block %s: %w", b.File, err)
	}
	if _, err := s.world.look(ctx); err != nil {
		return nil, err
	}
	d := s.world.called(reserved + name)
	if d == nil {
		return nil, unix.EBUSY
	}
	return d, nil
}

// grow gives the device of a file that has grown its size.
func (s *supervisor) grow(ctx context.Context, d *device, b Block, sectors uint64) error {
	_, err := s.mount.Do(ctx, fmt.Sprintf("load %s 0 %d linear %s 0", d.Name, sectors, mapper.QuoteArg(b.File)))
	if err == nil {
		_, err = s.mount.Do(ctx, "resume "+d.Name)
	}
	return err
}

// holdAll keeps the disks of other sessions, and those that devices stand on that others left, as long as this process lives.
func (s *supervisor) holdAll(ctx context.Context) error {
	if _, err := s.world.look(ctx); err != nil {
		return err
	}
	for _, d := range s.world.all() {
		if d.number.major == diskMajor && d.whole() {
			if _, err := s.hold(ctx, d, Block{}); err != nil { // one that goes at this moment is none of ours
				return err
			}
		}
	}
	return nil
}

// hold opens d, so that it stays as long as this process lives, and no longer than all that hold it. done is false if
// it went meanwhile.
func (s *supervisor) hold(ctx context.Context, d *device, b Block) (done bool, err error) {
	fd, err := unix.Openat(s.mount.root, d.Name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ENXIO {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "open", Path: d.Name, Err: err}
	}
	if _, err := s.mount.Do(ctx, "remove "+d.Name+" deferred"); err != nil {
		unix.Close(fd) //nolint:errcheck // nothing was written through it
		if errors.Is(err, unix.ENXIO) {
			return false, nil
		}
		return false, err
	}
	s.held = append(s.held, fd)
	if b.Name != "" && b.Name != d.node {
		s.aliases[b.Name] = d.node
	}
	return true, nil
}
