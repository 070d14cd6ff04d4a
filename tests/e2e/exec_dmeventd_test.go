package e2e

import (
	"strings"
	"syscall"
	"testing"
)

// dmeventd extends a thin pool and a snapshot that fill up, and replaces a failed leg of a raid1. It does so when the command that started it has
// ended, for all sessions, of which the next finds it; and goes when it is told, or killed, with all that was kept for it.
func TestExecDmeventd(t *testing.T) {
	forEach(t, "lvm dmeventd thin_check", func(t *testing.T, b *bench) {
		b.image("a.img", 80<<11)
		b.image("b.img", 60<<11)
		t.Cleanup(func() {
			if pid := b.named("dmeventd"); pid != 0 { // it would keep the session
				syscall.Kill(pid, syscall.SIGKILL)
			}
		})
		const monitoring = `
			sed -i 's/monitoring=0/monitoring=1 raid_fault_policy="allocate" thin_pool_autoextend_threshold=70 thin_pool_autoextend_percent=50 snapshot_autoextend_threshold=70/' /etc/lvm/lvmlocal.conf
			until_is() { want=$1 n=0; shift; until [ "$("$@" 2>/dev/null | tr -d ' ')" = "$want" ]; do sleep 0.2; n=$((n+1)); [ $n -lt 100 ] || { "$@"; exit 1; }; done; }
			`
		b.session("-b a.img -b b.img", monitoring+`
			for i in 0 1 2; do dmsetup create pv$i --table "0 32768 linear /dev/sdb $((i*32768+8192))"; done
			vgcreate -q vg /dev/sda; vgcreate -q wg /dev/mapper/pv0 /dev/mapper/pv1 /dev/mapper/pv2
			lvcreate -qy --type raid1 -m 1 -L 8M -n raid wg /dev/mapper/pv0 /dev/mapper/pv1
			lvcreate -qy -L 20M -T vg/pool; lvcreate -qy -V 100M -T vg/pool -n thin
			lvcreate -qy -L 8M -n lin vg; lvcreate -qy -s -L 4M -n snap vg/lin
			until_is 100.00 lvs --noheadings -o sync_percent wg/raid`)
		if b.named("dmeventd") == 0 {
			t.Fatal("dmeventd has not outlived the command")
		}
		out := b.session("", monitoring+`
			lvs --noheadings -o lv_name,seg_monitor vg wg | sed 's/  */ /g'
			dd if=/dev/zero of=/dev/vg/thin bs=1M count=15 conv=fsync status=none
			until_is 32.00m lvs --noheadings -o lv_size vg/pool
			dd if=/dev/zero of=/dev/vg/lin bs=1M count=3 conv=fsync status=none
			dmsetup load pv1 --table '0 32768 error'; dmsetup suspend --noflush pv1; dmsetup resume pv1
			dd if=/dev/zero of=/dev/wg/raid bs=64k count=4 oflag=direct status=none
			until_is '/dev/mapper/pv2(1)' lvs -a --noheadings -o devices wg/raid_rimage_1
			until_is 8.00m lvs --noheadings -o lv_size vg/snap
			lvchange -qq --monitor n vg wg 2>/dev/null; kill "$(cat /run/dmeventd.pid)"`)
		says(t, out, " raid monitored", " pool monitored", " snap monitored")
		gone := func() bool { return b.named("dmeventd") == 0 && b.named("dmfs-exec") == 0 }
		b.waitFor("the end of dmeventd", gone)
		b.session("", monitoring+`lvchange -qq --monitor y vg 2>/dev/null; kill -9 "$(cat /run/dmeventd.pid)"`)
		b.waitFor("the end of dmeventd, killed", gone)
		b.session("", "vgchange -q -an vg wg 2>/dev/null; dmsetup remove pv0 pv1 pv2")
		b.waitFor("the disk's end", func() bool { return strings.Contains(b.run(program, "ls"), "No devices found") })
	})
}
