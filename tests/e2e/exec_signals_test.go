package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openerEnv has this program open a device over and over, as TestExecSignals wants it; its value is how often.
const openerEnv = "DMFS_E2E_OPENS"

// openAndCheck opens a device so many times, and fails unless what it gets is that device each time, and nothing else.
func openAndCheck(name string, times int) error {
	var first, st unix.Stat_t
	if err := unix.Stat(name, &first); err != nil {
		return err
	}
	for i := range times {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("time %d: %w", i, err)
		}
		if err := unix.Fstat(fd, &st); err != nil || st.Rdev != first.Rdev || st.Mode != first.Mode {
			return fmt.Errorf("time %d: descriptor %d is no %s: %o %x %v", i, fd, name, st.Mode, st.Rdev, err)
		}
		if err := unix.Close(fd); err != nil {
			return fmt.Errorf("time %d: close %d: %w", i, fd, err)
		}
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	const most = 12 // standard input, output and error, and what Go has
	if len(open) > most {
		return fmt.Errorf("%d descriptors are open", len(open))
	}
	return nil
}

// Whoever opens a device gets that device, however busy the supervisor is: Go interrupts its threads with signals, here some thousand times
// as often as it does in a day.
func TestExecSignals(t *testing.T) {
	forEach(t, "true", func(t *testing.T, b *bench) {
		b.image("a.img", 8)
		opener := b.path("opener") // the tests' directory may be closed to others
		self, err := os.ReadFile("/proc/self/exe")
		must(t, err)
		must(t, os.WriteFile(opener, self, 0o755))
		b.env = append(b.env, openerEnv+"=4000")
		cmd, out := b.start(program, "exec", "--block", "a.img", "--", "sh", "-c", opener+" /dev/sda & "+opener+" /dev/mapper/control & wait; echo over")
		b.waitFor("the supervisor", func() bool { return b.named("dmfs-exec") != 0 })
		pid, ended := b.named("dmfs-exec"), make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		sent := 0
		for over := false; !over; {
			select {
			case err := <-ended:
				must(t, err)
				over = true
			default:
			}
			threads, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*")
			for range 20 {
				for _, thread := range threads {
					tid, _ := strconv.Atoi(filepath.Base(thread))
					if unix.Tgkill(pid, tid, syscall.SIGURG) == nil {
						sent++
					}
				}
			}
		}
		if said := out.String(); strings.TrimSpace(said) != "opened\nopened\nover" {
			t.Errorf("with %d signals:\n%s", sent, said)
		}
	})
}
