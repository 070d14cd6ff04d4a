package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Trees are the directories of a session that its supervisor fills, as descriptors.
type Trees struct {
	Dev     int // /dev
	Devices int // where /sys has a directory for each block device
	Numbers int // /sys/dev/block: links by number
	Block   int // /sys/block: links by name
	Class   int // /sys/class/block: likewise
	Proc    int // its files devices, misc and partitions are those of /proc
}

// list returns the descriptors in the order in which they are sent.
func (t *Trees) list() []*int {
	return []*int{&t.Dev, &t.Devices, &t.Numbers, &t.Block, &t.Class, &t.Proc}
}

// ProcFiles are the files of /proc that Trees.Proc has.
var ProcFiles = []string{"devices", "misc", "partitions"}

const (
	sysDevices = "/sys/devices/virtual/block"
	procDir    = "/run/dmfs/proc"
	// lvmDir is what LVM reads its configuration from and writes its backups to.
	lvmDir = "/etc/lvm"
)

// DevicesDir returns where /sys has a directory for each block device in a session. Where the kernel has none for virtual ones, nothing
// can be mounted, and it is a place that only links lead to.
func DevicesDir() string {
	if _, err := os.Stat(sysDevices); err != nil {
		return "/sys/block/.devices"
	}
	return sysDevices
}

// build mounts everything and returns what the supervisor fills.
func build(j Job) (t Trees, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return t, explainMount("/", err)
	}
	if err := buildRun(j.Locks); err != nil {
		return t, err
	}
	if err := buildDev(); err != nil {
		return t, err
	}
	for _, name := range []string{"/sys/dev/block", "/sys/block", "/sys/class/block"} {
		if err := memory(name); err != nil {
			return t, err
		}
	}
	if j.Devices == sysDevices {
		err = memory(j.Devices)
	} else {
		err = os.Mkdir(j.Devices, 0o755)
	}
	if err != nil {
		return t, err
	}
	for _, name := range ProcFiles {
		if err := bind(path.Join(procDir, name), "/proc/"+name); err != nil {
			return t, err
		}
	}
	if err := buildLVM(); err != nil {
		return t, err
	}
	for i, name := range []string{"/dev", j.Devices, "/sys/dev/block", "/sys/block", "/sys/class/block", procDir} {
		if *t.list()[i], err = unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return t, &os.PathError{Op: "open", Path: name, Err: err}
		}
	}
	return t, nil
}

// memory mounts an empty directory in memory on name.
func memory(name string) error { return memoryOf(name, "") }

// memoryOf does so with further options of tmpfs.
func memoryOf(name, options string) error {
	if err := unix.Mount("dmfs", name, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"+options); err != nil {
		return explainMount(name, err)
	}
	return nil
}

// bind has name show what is at source, with all that is mounted there.
func bind(source, name string) error {
	if err := unix.Mount(source, name, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return explainMount(name, err)
	}
	return nil
}

// explainMount says why a mount was refused and what can be done.
func explainMount(name string, err error) error {
	err = &os.PathError{Op: "mount", Path: name, Err: err}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("mounts in a user namespace are not allowed here: %w; where AppArmor forbids them (Ubuntu), give the program a profile with "+
			"userns, or sysctl kernel.apparmor_restrict_unprivileged_userns=0; in a container, allow mount(2)", err)
	}
	return err
}

// overlay mounts an empty directory on name, with further options of tmpfs, and has it show those old entries that keep chooses. Entries that cannot be
// shown are left out: what the command does not need is not worth failing for.
func overlay(name, options string, keep func(e fs.DirEntry) bool) error {
	entries, err := os.ReadDir(name)
	if err != nil {
		return err
	}
	old, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(old) //nolint:errcheck // nothing was written through it
	if err := memoryOf(name, options); err != nil {
		return err
	}
	for _, e := range entries {
		if keep(e) {
			_ = show(path.Join("/proc/self/fd", strconv.Itoa(old), e.Name()), path.Join(name, e.Name()), e)
		}
	}
	return nil
}

// show has name be what source is.
func show(source, name string, e fs.DirEntry) error {
	if e.Type()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(source)
		if err != nil {
			return err
		}
		return os.Symlink(target, name)
	}
	var err error
	if e.IsDir() {
		err = os.Mkdir(name, 0o755)
	} else {
		err = os.WriteFile(name, nil, 0o600)
	}
	if err != nil {
		return err
	}
	if err := bind(source, name); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// private are the entries of /run that tools keep state in: of this kernel's devices outside, of the session's inside.
var private = []string{"lock", "lvm", "cryptsetup", "udev", "blkid", "mdadm", "dmfs"}

// buildRun mounts /run. Without udev's control socket in it tools do not wait for udev.
func buildRun(locks string) error {
	err := overlay("/run", "", func(e fs.DirEntry) bool {
		return !slices.Contains(private, e.Name()) && !strings.HasPrefix(e.Name(), "dmeventd")
	})
	if err != nil {
		return err
	}
	for _, dir := range []string{"lock/lvm", "lvm", "cryptsetup", "blkid", "mdadm", "dmfs/proc", FilesDir[len("/run/"):]} {
		if err := os.MkdirAll(path.Join("/run", dir), 0o755); err != nil {
			return err
		}
	}
	for _, name := range append([]string{marker}, procPaths()...) {
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			return err
		}
	}
	for _, dir := range []string{"lock/lvm", "cryptsetup"} {
		source := path.Join(locks, dir)
		if err := os.MkdirAll(source, 0o700); err != nil {
			return err
		}
		if err := bind(source, path.Join("/run", dir)); err != nil {
			return err
		}
	}
	for name, mode := range monitor {
		if err := shareFile(path.Join(locks, name), path.Join("/run", name), mode); err != nil {
			return err
		}
	}
	return os.Chmod("/run/lock", 0o1777)
}

// monitor is what dmeventd is found by, and keeps a second one from running: with the devices, the sessions on a mount share who monitors them.
var monitor = map[string]uint32{"dmeventd-client": unix.S_IFIFO | 0o600, "dmeventd-server": unix.S_IFIFO | 0o600, "dmeventd.pid": unix.S_IFREG | 0o600}

// shareFile has name be the file at source, which is made unless another session has.
func shareFile(source, name string, mode uint32) error {
	if err := unix.Mknod(source, mode, 0); err != nil && err != unix.EEXIST {
		return &os.PathError{Op: "mknod", Path: source, Err: err}
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return err
	}
	return bind(source, name)
}

func procPaths() []string {
	var names []string
	for _, name := range ProcFiles {
		names = append(names, path.Join(procDir, name))
	}
	return names
}

// forwarded are the entries of /dev that a session shares with its surroundings: terminals, memory, and character devices that
// have nothing to do with disks. The others, disks among them, it does not see. /dev/ptmx is not among them: it makes terminals in the pts
// beside it, and a file that is mounted alone has nothing beside it. The supervisor opens it.
var forwarded = []string{
	"null", "zero", "full", "random", "urandom", "tty", "console", "pts", "shm", "mqueue", "hugepages", "fuse", "kvm", "net", "log",
	"fd", "stdin", "stdout", "stderr", "core", "kmsg",
}

// FilesDir is where the files of a session lie that its tools make in /dev.
const FilesDir = "/run/dmfs/files"

// DevBytes is how many bytes the files in /dev can have, all together. The supervisor uses them up, so that nobody can write to one of the empty
// files that stand for devices, by whatever way he got to it past the supervisor: it would be lost.
const DevBytes = 4096

func buildDev() error {
	if err := overlay("/dev", fmt.Sprintf(",size=%d", DevBytes), func(e fs.DirEntry) bool { return slices.Contains(forwarded, e.Name()) }); err != nil {
		return err
	}
	for _, dir := range []string{"mapper", "block", "disk"} {
		if err := os.Mkdir(path.Join("/dev", dir), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// lvmSettings suit a system without udev and without daemons. Whoever wants dmeventd asks for it with --config activation/monitoring=1, and has
// dmeventd's own commands find what they are to do in /etc/lvm/lvmlocal.conf.
const lvmSettings = `
# Of the session of dmfs exec:
activation { monitoring=0 udev_sync=0 udev_rules=0 verify_udev_operations=0 }
devices { obtain_device_list_from_udev=0 external_device_info_source="none" use_devicesfile=0 }
global { use_lvmpolld=0 use_lvmlockd=0 event_activation=0 }
`

// buildLVM has the configuration of LVM be the system's with lvmSettings, and its backups lie in memory.
func buildLVM() error {
	local, err := os.ReadFile(path.Join(lvmDir, "lvmlocal.conf"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = overlay(lvmDir, "", func(e fs.DirEntry) bool {
		return !slices.Contains([]string{"lvmlocal.conf", "backup", "archive", "devices", "cache"}, e.Name())
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // LVM is not installed
	}
	if err != nil {
		return err
	}
	return os.WriteFile(path.Join(lvmDir, "lvmlocal.conf"), append(local, lvmSettings...), 0o644)
}
