package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// members makes the three members of a raid5 of 4 MiB with a bitmap. The first has the superblock and the bitmap that mdadm made of it, the
// others the same with their own numbers.
func (b *bench) members() []string {
	b.t.Helper()
	text, err := os.ReadFile("../../targets/raid/md/testdata/1.2-bitmap.hex")
	must(b.t, err)
	disk := make([]byte, 3<<20)
	for line := range strings.Lines(string(text)) {
		var at int
		where, what, _ := strings.Cut(strings.TrimSpace(line), " ")
		if contents, err := hex.DecodeString(what); err == nil {
			if _, err := fmt.Sscanf(where, "%x", &at); err == nil && where != "size" {
				copy(disk[at:], contents)
			}
		}
	}
	clear(disk[8192+256 : 8192+512]) // no region is out of sync
	le, super := binary.LittleEndian, disk[4096:]
	var names []string
	for i := range 3 {
		le.PutUint32(super[160:], uint32(i))
		super[168] = byte(i)
		le.PutUint32(super[216:], 0)
		sum := uint64(0)
		for at := 0; at < 512; at += 4 {
			sum += uint64(le.Uint32(super[at:]))
		}
		le.PutUint32(super[216:], uint32(sum)+uint32(sum>>32))
		names = append(names, b.file(fmt.Sprintf("member%d.img", i), string(disk)))
	}
	return names
}

// examined says what mdadm reads in a superblock.
func (b *bench) examined(member string) (state, events string) {
	b.t.Helper()
	for line := range strings.Lines(b.run("mdadm", "--examine", member)) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), " : "); name {
		case "State":
			state = value
		case "Events":
			events = value
		}
	}
	return state, events
}

// The members of a software RAID are opened in any order, written to, and closed. After a crash the array is read-only until it is told
// otherwise, and then resynced; without a member it is, too.
func TestOpenRAID(t *testing.T) {
	requireTool(t, "mdadm")
	b := newBench(t)
	b.mount("")
	members := b.members()
	open := func(options ...string) string {
		t.Helper()
		return b.run(program, append(append([]string{"open"}, options...), "array")...)
	}
	if plan := b.run(program, "open", "--print", members[2], members[0], members[1], "array"); !strings.HasPrefix(plan, "array: 0 8192 md 3 ") {
		t.Errorf("the plan is %q", plan)
	}
	open(members[2], members[0], members[1])
	data := random(4<<20, 7)
	must(t, os.WriteFile(b.mnt+"/array", data, 0o600))
	if state, _ := b.examined(members[1]); state != "active" {
		t.Errorf("while it is written to, mdadm says %q", state)
	}
	b.run(program, "close", "array")
	for _, m := range members {
		if state, events := b.examined(m); state != "clean" || events != "2" {
			t.Errorf("%s: once closed, mdadm says %q, events %s", m, state, events)
		}
	}

	open(members...)
	if got, err := os.ReadFile(b.mnt + "/array"); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%v, or not what was written", err)
	}
	copy(data, random(1<<20, 8))
	f, err := os.OpenFile(b.mnt+"/array", os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(data[:1<<20], 0)
	must(t, err)
	must(t, f.Sync())
	must(t, syscall.Kill(b.daemon(), syscall.SIGKILL))
	_ = f.Close()
	b.waitFor("the daemon's end", func() bool { return len(b.daemons()) == 0 })
	b.run(program, "umount", b.mnt)
	b.mount("")
	if said := open(members...); !strings.Contains(said, "read-only") {
		t.Errorf("after a crash: %q", said)
	}
	if f, err := os.OpenFile(b.mnt+"/array", os.O_RDWR, 0); err == nil { // as root
		if _, err := f.WriteAt(data[:512], 0); err == nil {
			t.Error("an array that was not closed can be written to")
		}
		_ = f.Close()
	}
	b.run(program, "close", "array")
	open(append([]string{"--force"}, members...)...)
	b.waitFor("the resync", func() bool { return strings.Contains(b.run(program, "status", "array"), " AAA 4096/4096 idle 0 ") })
	b.run(program, "message", "array", "0", "check")
	time.Sleep(10 * time.Millisecond)
	b.waitFor("the check", func() bool { return strings.Contains(b.run(program, "status", "array"), " AAA 4096/4096 idle 0 ") })
	if got, err := os.ReadFile(b.mnt + "/array"); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("after the crash: %v, or not what was flushed", err)
	}
	b.run(program, "close", "array")

	if said := open(members[0], members[2]); !strings.Contains(said, "member 1 is missing") {
		t.Errorf("without a member: %q", said)
	}
	b.run(program, "close", "array")
	open("--force", members[0], members[2])
	must(t, os.WriteFile(b.mnt+"/array", data[:512], 0o600))
	b.run(program, "close", "array")
	b.fails(1, "old data: leave it out", program, append(append([]string{"open"}, members...), "array")...)
	if state, _ := b.examined(members[0]); state != "clean" {
		t.Errorf("once closed without a member, mdadm says %q", state)
	}
	open("--force", members[1], members[2], members[0])
	if got, err := os.ReadFile(b.mnt + "/array"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("without a member: %v, or not what was written", err)
	}
	b.run(program, "close", "array")
	if said := b.fails(1, "Insufficient redundancy", program, "open", members[2], "array"); strings.Contains(said, "read-only") {
		t.Errorf("of an array that is refused it says that it is read-only: %q", said)
	}
	b.fails(1, "no superblock", program, "open", members[0], b.image("foreign.img", 4096), "array")
	b.fails(1, "not for md", program, append(append([]string{"open", "--allow-discards"}, members...), "array")...)
}
