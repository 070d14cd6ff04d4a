package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// StageName is what this program is called (argv[0]) when it is to be Stage.
const StageName = "dmfs-exec-stage"

// settings is the environment variable by which Command tells Stage what to do.
const settings = "DMFS_EXEC_STAGE"

// marker is a file that a session has, and its surroundings have not.
const marker = "/run/dmfs/session"

// Inside reports whether this process is in a session already.
func Inside() bool {
	_, err := os.Lstat(marker)
	return err == nil
}

// A Job is what Stage is told.
type Job struct {
	Socket int // descriptor to send the directories and the listener through
	// Locks is a directory in which all sessions on a mount lock, so that tools in two of them do not write the same metadata.
	Locks   string
	Devices string   // what DevicesDir returned
	Env     []string // KEY=VALUE, beside what the command inherits
}

// Command returns a command that becomes args, a program and its arguments, in namespaces of its own. The caller lets it
// inherit j.Socket, and must not have more descriptors without close-on-exec than it was given itself.
func Command(j Job, args []string) (*exec.Cmd, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{StageName}, args...)
	cmd.Env = append(os.Environ(), settings+"="+string(text))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	users, groups, setgroups := idMaps()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: users, GidMappings: groups, GidMappingsEnableSetgroups: setgroups,
	}
	return cmd, nil
}

// idMaps returns the users and groups of the namespace: the caller as its root, since tools ask for root and have no other
// reason to; or for root, who may, all as they are.
func idMaps() (users, groups []syscall.SysProcIDMap, setgroups bool) {
	if os.Geteuid() == 0 {
		users, err := sameIDs("/proc/self/uid_map")
		groups, err2 := sameIDs("/proc/self/gid_map")
		if err == nil && err2 == nil && mayMapIDs() {
			setgroups, err := os.ReadFile("/proc/self/setgroups")
			return users, groups, err == nil && strings.TrimSpace(string(setgroups)) == "allow"
		}
	}
	return []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}, []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}, false
}

// mayMapIDs reports whether this process may map ids that are not its own.
func mayMapIDs() bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&h, &data[0]); err != nil {
		return false
	}
	const need = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	return data[0].Effective&need == need
}

// sameIDs returns a mapping of all ids of this namespace to themselves.
func sameIDs(path string) ([]syscall.SysProcIDMap, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var ids []syscall.SysProcIDMap
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, fmt.Errorf("%s: unexpected line %q", path, line)
		}
		first, err := strconv.Atoi(f[0])
		size, err2 := strconv.Atoi(f[2])
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		ids = append(ids, syscall.SysProcIDMap{ContainerID: first, HostID: first, Size: size})
	}
	return ids, nil
}

// ExplainStart says why a Command could not be started and what can be done.
func ExplainStart(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("user namespaces are not allowed here: %w; allow them: sysctl kernel.unprivileged_userns_clone=1 where there is "+
			"that setting, an AppArmor profile with userns or sysctl kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu, "+
			"--security-opt seccomp=unconfined for containers; a process in a chroot cannot have any", err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return fmt.Errorf("no more user namespaces are allowed here: %w; raise user.max_user_namespaces and user.max_mnt_namespaces with sysctl", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("this kernel has no user namespaces: %w; it needs CONFIG_USER_NS", err)
	}
	return err
}
