package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Both units, that of the system and that of a user, do under systemd what they promise: ready when the mount serves, started again over the
// stale mount of a daemon that was killed, and stopped in order. The systemd is the host's, in a guest of user-mode Linux.
func TestUnitsUnderSystemd(t *testing.T) {
	requireRoot(t)
	requireTool(t, "linux.uml")
	const systemd = "/lib/systemd/systemd"
	if _, err := os.Stat(systemd); err != nil {
		t.Skip("needs " + systemd)
	}
	requireTool(t, "fusermount3")
	b := newBench(t)
	binary, err := os.ReadFile(program)
	must(t, err)
	must(t, os.WriteFile(b.path("dmfs"), binary, 0o755))
	repo, err := filepath.Abs("../..")
	must(t, err)
	for _, name := range []string{"systemd-init.sh", "systemd-judge.sh"} {
		script, err := os.ReadFile(filepath.Join("testdata", name))
		must(t, err)
		head, rest, _ := strings.Cut(string(script), "\n")
		must(t, os.WriteFile(b.path(name), fmt.Appendf(nil, "%s\nDIR=%s REPO=%s\n%s", head, b.dir, repo, rest), 0o755))
	}

	const limit = 4 * time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "linux.uml", "mem=512M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init="+b.path("systemd-init.sh"),
		"con=null", "con0=fd:0,fd:1", "quiet", "loglevel=1", "panic=1", "random.trust_cpu=on", "umid=systemd", "uml_dir="+b.path("uml"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, _ := cmd.CombinedOutput() // how the guest ended is of no interest
	got := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		if result, ok := strings.CutPrefix(strings.TrimSpace(line), "RESULT "); ok {
			name, text, _ := strings.Cut(result, ": ")
			got[name] = strings.TrimSpace(text)
		}
	}
	want := map[string]string{"manager": "0"}
	for manager, point := range map[string]string{"system": "/run/dmfs/data", "user": "/run/user/65534/dmfs/data"} {
		want[manager+" start"] = "0"
		want[manager+" state"] = "Type=notify StatusText=serving " + point + " ActiveState=active"
		want[manager+" data"] = "hello"
		want[manager+" killed"] = "NRestarts=1 ActiveState=active hello"
		want[manager+" stop"] = "0 Result=success ActiveState=inactive mounted=0"
	}
	for name, text := range want {
		if got[name] != text {
			t.Errorf("%s: %q, want %q", name, got[name], text)
		}
	}
	if t.Failed() {
		t.Logf("the guest said\n%s", out)
	}
}
