package mount

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/fs"
)

const fuseConf = "/etc/fuse.conf"

// mayMount reports whether this process has CAP_SYS_ADMIN, as root or in a user namespace of its own.
func mayMount() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// checkPrivilege finds out whether a mount with these options can be made at all, and says what
// would cure it if not.
func checkPrivilege(o Options, direct bool) error {
	if err := checkDevice(); err != nil {
		return err
	}
	if direct {
		return nil
	}
	if _, err := exec.LookPath(fs.Helper); err != nil {
		return fmt.Errorf("%s is not on PATH: install the package fuse3, or mount inside `unshare -Urm`, where none is needed", fs.Helper)
	}
	return checkAllow(o)
}

// checkDevice tries the FUSE device and explains what is wrong with it. fusermount3 opens it with the
// user's own rights, so there is no difference.
func checkDevice() error {
	f, err := os.OpenFile(fs.Device, os.O_RDWR, 0)
	switch {
	case err == nil:
		f.Close()
		return nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: the kernel's FUSE is missing here: run `modprobe fuse` as root; a container needs `--device %s`", err, fs.Device)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: this user may not use FUSE: run `chmod 666 %s` as root, which is the mode that udev gives it", err, fs.Device)
	}
	return err
}

// checkAllow says what stands against allow_other and allow_root for an ordinary user.
func checkAllow(o Options) error {
	if os.Getuid() == 0 || (!o.AllowOther && !o.AllowRoot) {
		return nil
	}
	name := "allow_other"
	if o.AllowRoot {
		name = "allow_root"
	}
	f, err := os.Open(fuseConf)
	if err == nil {
		defer f.Close()
		if allowsOther(f) {
			return nil
		}
	}
	return fmt.Errorf("option %s: %s must contain the line `user_allow_other`; as root: echo user_allow_other >> %s", name, fuseConf, fuseConf)
}

// allowsOther reports whether a fuse.conf lets users make their mounts accessible to others.
func allowsOther(r io.Reader) bool {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == "user_allow_other" {
			return true
		}
	}
	return false
}
