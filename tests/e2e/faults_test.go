package e2e

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"testing"
)

// writeTo writes to a device, and flushes it if asked.
func (b *bench) writeTo(device string, data []byte, off int64, flush bool) {
	b.t.Helper()
	f, err := os.OpenFile(b.mnt+"/"+device, os.O_RDWR, 0)
	must(b.t, err)
	defer f.Close()
	_, err = f.WriteAt(data, off)
	must(b.t, err)
	if flush {
		must(b.t, f.Sync())
	}
}

// When the daemon is killed, what was flushed is on the disk below powercut, and what was not is not; and the log of log-writes
// replays to the last flush.
func TestKilledDaemonOfTestTargets(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"power.img", "data.img", "log.img", "replayed.img"} {
		b.image(name, 2048)
	}
	b.mount("")
	b.control("create power 0 2048 powercut " + b.path("power.img") + " 0\n")
	b.control("create traced 0 2048 log-writes " + b.path("data.img") + " " + b.path("log.img") + "\n")
	flushed, lost := random(2000, 8), random(2000, 9)
	for _, device := range []string{"power", "traced"} {
		b.writeTo(device, flushed, 777, true)
		b.writeTo(device, lost, 50000, false)
	}
	must(t, syscall.Kill(b.daemon(), syscall.SIGKILL))
	b.waitFor("the daemon is gone", func() bool { return len(b.daemons()) == 0 })
	b.run(program, "umount", b.mnt)
	b.run(program, "log-replay", "log.img", "replayed.img")
	for _, name := range []string{"power.img", "replayed.img"} {
		have, err := os.ReadFile(b.path(name))
		must(t, err)
		if !bytes.Equal(have[777:2777], flushed) {
			t.Errorf("%s: what was flushed is lost", name)
		}
		if bytes.Contains(have, lost[:512]) {
			t.Errorf("%s: what was not flushed is there", name)
		}
	}
}

// A power cut through the mount: what is read after it is what survived, on a file that was open all the time.
func TestPowerCutOfAnOpenFile(t *testing.T) {
	b := newBench(t)
	b.image("power.img", 2048)
	b.mount("")
	b.control("create power 0 2048 powercut " + b.path("power.img") + " 0\n")
	f, err := os.OpenFile(b.mnt+"/power", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	flushed, lost := random(4096, 8), random(4096, 9)
	_, err = f.WriteAt(flushed, 0)
	must(t, err)
	must(t, f.Sync())
	_, err = f.WriteAt(lost, 0)
	must(t, err)
	if out := b.run(program, "message", "power", "0", "cut", "keep=none"); !strings.Contains(out, "dirty=8 kept=0 older=0 lost=8") {
		t.Errorf("the reply is %q", out)
	}
	have := make([]byte, 4096)
	if _, err := f.ReadAt(have, 0); err == nil {
		t.Error("a read without power")
	}
	if err := f.Sync(); err == nil {
		t.Error("a flush without power")
	}
	b.run(program, "message", "power", "0", "restore")
	if _, err := f.ReadAt(have, 0); err != nil || !bytes.Equal(have, flushed) {
		t.Errorf("after the cut: %v", err)
	}
}
