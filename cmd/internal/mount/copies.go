package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// copyPatience is how long the daemon of a mount that was detached has before it is looked whether another mount
// namespace has a copy of the mount.
const copyPatience = time.Second

// finish returns when the daemon of m, which was detached, has ended. It does not by itself while another mount
// namespace has a copy of the mount that did not follow the unmount: a session of dmfs exec or a container, where mounts are
// private. If nobody uses a copy the daemon is told to end; else it serves whoever does, and note says who.
func finish(ctx context.Context, m Mount, daemon process, note func(string)) error {
	patience, cancel := context.WithTimeout(ctx, copyPatience)
	defer cancel()
	err := daemon.wait(patience)
	if err == nil || ctx.Err() != nil {
		return err
	}
	s := system{proc: "/proc"}
	if users := s.copyUsers(m); len(users) > 0 {
		note(fmt.Sprintf("%s is unmounted here, but in use in another mount namespace; its daemon, pid %d, serves it until that ends\n  %s",
			m.Point, daemon.pid, strings.Join(users, "\n  ")))
		return nil
	}
	if err := unix.Kill(daemon.pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("tell the daemon to end, pid %d: %w", daemon.pid, err)
	}
	return daemon.wait(ctx)
}

// copyUsers names the processes that use m in other mount namespaces, a line each, as far as this user may look into them.
func (s system) copyUsers(m Mount) []string {
	var users []string
	entries, _ := os.ReadDir(s.proc)
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		dir := path.Join(s.proc, e.Name())
		copies := mountsOf(dir, m.Device)
		if len(copies) == 0 {
			continue
		}
		var uses []string
		fds, _ := os.ReadDir(dir + "/fd")
		for _, fd := range fds {
			target, err := os.Readlink(path.Join(dir, "fd", fd.Name()))
			for _, c := range copies {
				if err == nil && within(target, c.Point) && onMount(path.Join(dir, "fdinfo", fd.Name()), c) {
					uses = append(uses, "has "+target+" open")
				}
			}
		}
		for _, file := range mapped(dir+"/maps", m) {
			uses = append(uses, "has "+file+" mapped")
		}
		if len(uses) > 0 {
			comm, _ := os.ReadFile(dir + "/comm")
			users = append(users, fmt.Sprintf("pid %s (%s) %s", e.Name(), strings.TrimSpace(string(comm)), strings.Join(uses, ", ")))
		}
	}
	if len(users) > maxHolders {
		users = append(users[:maxHolders:maxHolders], fmt.Sprintf("and %d more", len(users)-maxHolders))
	}
	return users
}

// mountsOf returns the mounts of that device in the mount namespace of the process with that directory in /proc.
func mountsOf(dir, device string) []Mount {
	f, err := os.Open(path.Join(dir, "mountinfo"))
	if err != nil {
		return nil
	}
	defer f.Close()
	all, _ := parseMounts(f)
	var found []Mount
	for _, m := range all {
		if m.Device == device {
			found = append(found, m)
		}
	}
	return found
}
