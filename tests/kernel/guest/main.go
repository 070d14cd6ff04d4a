// Guest is the init of the kernel that scenarios are compared with: it plays those that the host asks for, by ioctl.
//
// It speaks with the host over its console, a line each: "play N" is answered with "played N". Scenario N is the file N.in of
// the directory that the host gave in the kernel's command line as dmfs_job=DIR; what came of it is N.out, whose first line
// is "played", "cannot: WHY" or "broken: WHY". Disks that find their content in N.from/NAME begin with that, and if there is
// a directory N.to they are left there. "call N" is for a golden of package ioctls, whose calls are carried out; "sh N" for a shell script, which
// is told the two directories as FROM and TO. When the console ends, the guest powers off.
package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/tests/scenario"
)

// job is where the host's directory is mounted. What the guest makes itself is in memory, in /run.
const job = "/run/job"

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "this is the init of a guest, started by tests/kernel")
		os.Exit(2)
	}
	err := run()
	if err != nil {
		fmt.Printf("guest: %v\n", err)
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) //nolint:errcheck // it does not return
}

// run sets up the guest and serves the host.
func run() error {
	if err := setUp(); err != nil {
		return err
	}
	d, err := newDriver()
	if err != nil {
		return err
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	fmt.Printf("ready %s\n", strings.TrimSpace(string(release)))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		what, number, _ := strings.Cut(lines.Text(), " ")
		do := map[string]func(*driver, string) string{"play": play, "call": callAll, "sh": shell}[what]
		if do == nil {
			return fmt.Errorf("%q: want play N, call N or sh N", lines.Text())
		}
		if err := os.WriteFile(filepath.Join(job, number+".out"), []byte(do(d, number)), 0o644); err != nil {
			return err
		}
		fmt.Printf("played %s\n", number)
	}
	return lines.Err()
}

// play plays scenario number and returns what the host is told.
func play(d *driver, number string) string {
	text, err := os.ReadFile(filepath.Join(job, number+".in"))
	if err != nil {
		return "broken: " + err.Error()
	}
	s, err := scenario.Parse(number, string(text))
	if err != nil {
		return "broken: " + err.Error()
	}
	d.from, d.to = filepath.Join(job, number+".from"), filepath.Join(job, number+".to")
	t, err := scenario.Play(s, d)
	switch {
	case scenario.IsCannot(err):
		return "cannot: " + err.Error()
	case err != nil:
		return "broken: " + err.Error() + "\n" + t.Text()
	}
	return "played\n" + t.Text()
}

// setUp mounts what the guest needs, loads the modules, and makes the console transparent.
func setUp() error {
	for _, m := range []struct{ kind, point string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/run"}} {
		if err := unix.Mount(m.kind, m.point, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.point, err)
		}
	}
	for _, dir := range []string{job, nodes, images} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	dir, modules, err := arguments()
	if err != nil {
		return err
	}
	if err := unix.Mount("none", job, "hostfs", 0, dir); err != nil {
		return fmt.Errorf("mount the job directory %s: %w", dir, err)
	}
	// Only what kills the guest goes to the console; the rest is read from the log.
	if err := os.WriteFile("/proc/sys/kernel/printk", []byte("1 4 1 1"), 0o644); err != nil {
		return err
	}
	if err := transparent(); err != nil {
		return fmt.Errorf("console: %w", err)
	}
	return loadModules(modules)
}

// arguments returns dmfs_job and dmfs_modules from the kernel's command line.
func arguments() (dir, modules string, err error) {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", "", err
	}
	for _, w := range strings.Fields(string(text)) {
		if v, ok := strings.CutPrefix(w, "dmfs_job="); ok {
			dir = v
		}
		if v, ok := strings.CutPrefix(w, "dmfs_modules="); ok {
			modules = v
		}
	}
	return dir, modules, nil
}

// transparent keeps the terminal from echoing and changing lines.
func transparent() error {
	t, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Lflag &^= unix.ECHO | unix.ICANON
	t.Oflag &^= unix.OPOST
	return unix.IoctlSetTermios(0, unix.TCSETS, t)
}
