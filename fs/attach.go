package fs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// Device is what a connection to the kernel's FUSE is opened by.
	Device = "/dev/fuse"
	// Helper mounts and unmounts for those who may not.
	Helper = "fusermount3"
	// subType is what the file system is called: fuse.dmfs.
	subType = "dmfs"
)

// attach mounts a FUSE file system as o says and returns its connection.
func attach(o Options) (fd int, err error) {
	if o.Direct {
		return attachDirect(o)
	}
	return attachByHelper(o)
}

// options are the mount options that the kernel and fusermount3 share.
func (o Options) options() []string {
	list := append([]string{"default_permissions"}, o.KernelOptions...)
	if o.AllowOther || o.AllowRoot {
		list = append(list, "allow_other") // the kernel has no allow_root: see tree.admits
	}
	return append(list, fmt.Sprintf("max_read=%d", maxWrite))
}

// mountFlags are the options that mount(2) takes as bits.
var mountFlags = map[string]struct{ set, clear uintptr }{
	"nodev": {set: unix.MS_NODEV}, "dev": {clear: unix.MS_NODEV},
	"nosuid": {set: unix.MS_NOSUID}, "suid": {clear: unix.MS_NOSUID},
	"noexec": {set: unix.MS_NOEXEC}, "exec": {clear: unix.MS_NOEXEC},
}

// attachDirect mounts by mount(2), which needs CAP_SYS_ADMIN in the mount namespace's user namespace.
func attachDirect(o Options) (fd int, err error) {
	fd, err = unix.Open(Device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: Device, Err: err}
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	data := []string{
		fmt.Sprintf("fd=%d", fd), fmt.Sprintf("rootmode=%o", unix.S_IFDIR),
		fmt.Sprintf("user_id=%d", os.Geteuid()), fmt.Sprintf("group_id=%d", os.Getegid()),
	}
	for _, option := range o.options() {
		if f, ok := mountFlags[option]; ok {
			flags = flags&^f.clear | f.set
			continue
		}
		data = append(data, option)
	}
	source := o.Source
	if source == "" {
		source = subType
	}
	if err := unix.Mount(source, o.MountPoint, "fuse."+subType, flags, strings.Join(data, ",")); err != nil {
		unix.Close(fd) //nolint:errcheck // nothing came of it
		return -1, os.NewSyscallError("mount", err)
	}
	return fd, nil
}

// attachByHelper mounts by fusermount3, which any user may, and which sends the connection through a socket.
func attachByHelper(o Options) (fd int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := pair[0], os.NewFile(uintptr(pair[1]), "fusermount3 socket")
	defer unix.Close(ours) //nolint:errcheck // nothing is written to it
	options := append(o.options(), "subtype="+subType)
	if o.Source != "" {
		options = append(options, "fsname="+o.Source)
	}
	escape := strings.NewReplacer(`\`, `\\`, `,`, `\,`)
	for i, option := range options {
		options[i] = escape.Replace(option)
	}
	// The helper's first inherited file is number 3.
	cmd := exec.Command(Helper, "-o", strings.Join(options, ","), "--", o.MountPoint)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3", "LC_ALL=C")
	cmd.ExtraFiles = []*os.File{theirs}
	out, err := cmd.CombinedOutput()
	theirs.Close() //nolint:errcheck // nothing is written to it
	if err != nil {
		if text := strings.TrimSpace(string(out)); text != "" {
			err = errors.New(text)
		}
		return -1, fmt.Errorf("%s: %w", Helper, err)
	}
	return receiveConnection(ours)
}

// receiveConnection takes the file descriptor that fusermount3 sent.
func receiveConnection(socket int) (fd int, err error) {
	var data [8]byte
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, data[:], control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("recvmsg", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err == nil && len(messages) == 1 {
		fds, err := unix.ParseUnixRights(&messages[0])
		if err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	return -1, fmt.Errorf("%s sent no connection", Helper)
}

// Detach unmounts point, lazily if so asked: with umount2(2) where that is permitted, else with fusermount3.
// It wraps EBUSY if the mount is in use.
func Detach(point string, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	err := unix.Unmount(point, flags)
	if err != unix.EPERM {
		return os.NewSyscallError("umount", err)
	}
	option := "-u"
	if lazy {
		option = "-uz"
	}
	cmd := exec.Command(Helper, option, "--", point)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	switch text := strings.TrimSpace(string(out)); {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("umount: %w, and %s, which could do it, is not on PATH: install the package fuse3", unix.EPERM, Helper)
	case strings.Contains(text, "busy"):
		return fmt.Errorf("%s: %w", Helper, unix.EBUSY)
	case text != "":
		return errors.New(text)
	default:
		return fmt.Errorf("%s: %w", Helper, err)
	}
}
