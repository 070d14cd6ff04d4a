package dmsetup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dmfs/fs/control"
	"dmfs/mapper"
	"dmfs/tests/dmsetuptest"

	"golang.org/x/sys/unix"
)

// The tests speak to the real core through the real control language, without FUSE: with a few target types of
// their own, which check what the scenarios need, and with disks that say they are block devices.

const recordedMajor = 254

// A coreMount is a mount whose control file is a session of package control.
type coreMount struct{ m *mapper.Manager }

func (c coreMount) Path() string { return "/dev/mapper" }

func (c coreMount) Do(ctx context.Context, command string) (string, error) {
	v := control.Version{Program: "test", Driver: "4.47.0", PID: 1, MountPoint: c.Path(), Major: c.m.Major()}
	session := control.NewSession(c.m, v)
	_, err := session.Write(ctx, []byte(command+"\n"))
	reply, _ := session.Reply()
	if session.Unfinished() {
		err = unix.EINVAL
	}
	if err != nil {
		return "", newRefusal(mapper.Errno(err), reply)
	}
	return reply, nil
}

func newCore(more ...*mapper.Type) coreMount {
	g := &mapper.Registry{}
	for _, t := range slices.Concat(testTypes, more) {
		g.Register(t)
	}
	return coreMount{mapper.NewManager(g, mapper.Options{Major: recordedMajor, MountPoint: "/dev/mapper", Files: ubd{}})}
}

var errLine = errors.New("unwanted")

var testTypes = []*mapper.Type{
	{Name: "error", Version: [3]int{1, 5, 0}, Features: mapper.Wildcard, New: func(context.Context, mapper.Host, mapper.Spec) (mapper.Target, error) {
		return errorTarget{}, nil
	}},
	{Name: "linear", Version: [3]int{1, 4, 0}, New: newLinear},
	{Name: "zero", Version: [3]int{1, 1, 0}, New: func(_ context.Context, _ mapper.Host, s mapper.Spec) (mapper.Target, error) {
		if len(s.Args) > 0 {
			return nil, mapper.BadArg("No arguments required", "%q", s.Args)
		}
		return errorTarget{}, nil
	}},
}

// An errorTarget stands for types without data: the tests never read or write.
type errorTarget struct{}

func (errorTarget) Submit(context.Context, mapper.Request) error { return mapper.ErrIO }

type linearTarget struct {
	errorTarget
	area mapper.Area
}

func newLinear(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	if len(s.Args) != 2 {
		return nil, mapper.BadArg("Invalid argument count", "")
	}
	start, err := strconv.ParseUint(s.Args[1], 10, 64)
	if err != nil {
		return nil, mapper.BadArg("Invalid device sector", "%q", s.Args[1])
	}
	d, err := h.Open(ctx, s.Args[0])
	if err != nil {
		return nil, err
	}
	return linearTarget{area: mapper.Area{Disk: d, Start: mapper.Sector(start), Len: s.Len}}, nil
}

func (t linearTarget) Areas() []mapper.Area { return []mapper.Area{t.area} }

func (t linearTarget) Table(bool) []string {
	return []string{mapper.DiskName(t.area.Disk), fmt.Sprint(uint64(t.area.Start))}
}

// ubd opens the disks that scenarios use, /dev/ubda and /dev/ubdb, and nothing else.
type ubd struct{}

func (ubd) Identify(path string) (mapper.FileID, error) {
	if n := strings.Index("ab", strings.TrimPrefix(path, "/dev/ubd")); n >= 0 && len(path) == len("/dev/ubda") {
		return mapper.FileID{Dev: 1, Ino: uint64(n), Rdev: unix.Mkdev(98, uint32(16*n))}, nil
	}
	return mapper.FileID{}, unix.ENOENT
}

func (ubd) Open(_ context.Context, c mapper.DiskConfig) (mapper.Disk, error) {
	return &ubdDisk{path: c.Path}, nil
}

func (ubd) BlockDevicePath(major, minor uint32) (string, error) {
	if major != 98 {
		return "", unix.ENXIO
	}
	return "/dev/ubd" + string("ab"[minor/16]), nil
}

type ubdDisk struct{ path string }

func (d *ubdDisk) Submit(context.Context, mapper.Request) error { return errLine }
func (d *ubdDisk) Sectors() mapper.Sector                       { return 64 << 11 }
func (d *ubdDisk) Limits() mapper.Limits                        { return mapper.Limits{} }
func (d *ubdDisk) Close() error                                 { return nil }
func (d *ubdDisk) KernelName() string                           { return filepath.Base(d.path) }
func (d *ubdDisk) Path() string                                 { return d.path }
func (d *ubdDisk) DiskName() string                             { return fmt.Sprintf("98:%d", d.minor()) }
func (d *ubdDisk) minor() uint32                                { return 16 * uint32(d.path[len(d.path)-1]-'a') }
func (d *ubdDisk) BlockDevice() (major, minor uint32, ok bool)  { return 98, d.minor(), true }

// invoke runs one call on m.
func invoke(m mount, c dmsetuptest.Call, args0 string, strict bool) dmsetuptest.Result {
	var stdout, stderr bytes.Buffer
	s := &session{
		Env: Env{
			Args0: args0, Stdin: strings.NewReader(c.Stdin), Stdout: &stdout, Stderr: &stderr, Strict: strict,
			Getenv: func(name string) string { return c.Env[name] },
			Mounts: func() ([]string, error) { return []string{m.Path()}, nil },
		},
		ctx:  context.Background(),
		dial: func(string) mount { return m },
	}
	status := s.run(c.Args)
	return dmsetuptest.Result{Stdout: stdout.String(), Stderr: stderr.String(), Status: status}
}

// TestGoldens shows that Strict mode says what the real dmsetup says, byte for byte.
func TestGoldens(t *testing.T) {
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(files) == 0 {
		t.Fatal("no goldens", err)
	}
	t.Chdir("testdata")
	for _, f := range files {
		name := filepath.Base(f)
		t.Run(strings.TrimSuffix(name, ".golden"), func(t *testing.T) {
			core := newCore()
			dmsetuptest.Play(t, name, func(c dmsetuptest.Call) dmsetuptest.Result {
				return invoke(core, c, "dmsetup", true)
			}, dmsetuptest.Options{})
		})
	}
}
