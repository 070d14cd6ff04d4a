package dmioctl

import (
	"context"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
	"dmfs/mapper"
	"dmfs/targets"
)

// A coreMount is a mount without FUSE: its control file is a session of package control.
type coreMount struct{ m *mapper.Manager }

func newCore(o mapper.Options) coreMount {
	registry := &mapper.Registry{}
	targets.Register(registry)
	return coreMount{mapper.NewManager(registry, o)}
}

func (c coreMount) Do(ctx context.Context, command string) (string, error) {
	session := control.NewSession(c.m, control.Version{Driver: "4.47.0", Major: c.m.Major()})
	_, err := session.Write(ctx, []byte(command+"\n"))
	reply, _ := session.Reply()
	switch {
	case session.Unfinished():
		return "", unix.EINVAL
	case err != nil:
		return "", mapper.Errno(err)
	}
	return reply, nil
}

// plain translates nothing and hides what is called hidden….
type plain struct{ major uint32 }

func (plain) Disk(word string) string    { return word }
func (plain) Word(disk string) string    { return disk }
func (p plain) Major() uint32            { return p.major }
func (plain) Hidden(name, _ string) bool { return strings.HasPrefix(name, "hidden") }

// noFiles has no disks: only mapped devices are there.
type noFiles struct{}

func (noFiles) Identify(string) (mapper.FileID, error) { return mapper.FileID{}, unix.ENOENT }
func (noFiles) Open(context.Context, mapper.DiskConfig) (mapper.Disk, error) {
	return nil, unix.ENOENT
}
func (noFiles) BlockDevicePath(uint32, uint32) (string, error) { return "", unix.ENXIO }
