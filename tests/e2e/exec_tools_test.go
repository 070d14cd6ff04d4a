package e2e

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// quick is for cryptsetup to lose no time with passphrases.
const quick = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000"

// stamps writes a file of so many KiB in which no two sectors are alike.
func (b *bench) stamps(name string, kib int) []byte {
	b.t.Helper()
	data := make([]byte, kib<<10)
	for i := range data {
		data[i] = byte(i ^ i>>9*7 ^ i>>17*31)
	}
	b.file(name, string(data))
	return data
}

// A file is a disk to the tools that look at disks and make file systems, and what they write is in the file.
func TestExecBlocks(t *testing.T) {
	forEach(t, "mkfs.ext4 e2fsck debugfs blkid lsblk wipefs blockdev blkdiscard dmsetup", func(t *testing.T, b *bench) {
		b.image("a.img", 32<<11)
		b.image("b.img", 8)
		must(t, os.Chmod(b.image("ro.img", 8), 0o444))
		b.stamps("stamps", 64)
		out := b.session("--block a.img=data -b b.img=sdc -b ro.img", `
			mkfs.ext4 -q /dev/data; e2fsck -fn /dev/sda; debugfs -w -R 'write stamps stamps' /dev/sda; blkid -o value -s TYPE /dev/sda
			wipefs --noheadings -O type /dev/data; lsblk -nro NAME,MAJ:MIN,SIZE; blockdev --getsize64 /dev/sda; blockdev --getss --getpbsz --getra /dev/sda
			blockdev --setra 1024 /dev/sda; blockdev --getra /dev/data; cat /sys/block/sda/queue/read_ahead_kb
			dmsetup create up --table '0 65536 linear 8:0 0'; ls /sys/block/sda/holders; lsblk -nro NAME /dev/sda
			mkfs.ext4 -q -F /dev/sda || echo in use
			dmsetup remove up
			printf x >/dev/sdc; blkdiscard -z /dev/sdc; cmp -n 4096 /dev/sdc /dev/zero
			cat /proc/partitions /proc/devices`)
		says(t, out, "ext4\n", "sda 8:0 32M", "sdc 8:32 4K", "33554432\n", "\n1024\n+ cat", "\n512\n", "up", "in use", "8        0      32768 sda", "device-mapper")
		b.run("e2fsck", "-fn", "a.img")
		b.run("debugfs", "-R", "dump stamps out", "a.img")
		b.run("cmp", "stamps", "out")
		says(t, b.run(program, "ls"), "No devices found")
	})
}

// Two sessions with one file have one disk, which stays until neither has it and nothing stands on it.
func TestExecShared(t *testing.T) {
	forEach(t, "dmsetup", func(t *testing.T, b *bench) {
		b.image("a.img", 2048)
		b.run("mkfifo", "fifo")
		first, out := b.start(program, "exec", "--block", "a.img", "--", "sh", "-c", "echo ready; read go <fifo; ls -l /dev/mapper; dmsetup table")
		b.waitFor("ready", func() bool { return strings.Contains(out.String(), "ready") })
		b.session("--block a.img", "dmsetup create both --table '0 8 linear /dev/sda 0'; printf both | dd of=/dev/mapper/both conv=notrunc status=none; sleep 1.2")
		b.fails(125, "is /dev/sda already", program, "exec", "--block", "a.img=sdb", "--", "true")
		b.run("sh", "-c", "echo go >fifo")
		must(t, first.Wait())
		says(t, out.String(), " both", "both: 0 8 linear 8:0 0")
		// It stands on the disk still, as when the kernel's tools have ended.
		says(t, b.session("", "dmsetup deps -o devname both; head -c 4 /dev/mapper/both; dmsetup remove both; test -b /dev/sda"), "(sda)", "both")
		b.waitFor("the disk's end", func() bool { return strings.Contains(b.run(program, "ls"), "No devices found") })
	})
}

// A loop device is one file from when it is bound until its last user has let go, also to those who had it open before.
func TestExecLoops(t *testing.T) {
	forEach(t, "losetup dmsetup lsblk", func(t *testing.T, b *bench) {
		b.image("a.img", 2048)
		b.image("b.img", 4096)
		out := b.session("", `
			exec 3<>/dev/loop0
			test "$(blockdev --getsize64 /dev/loop0)" = 0
			losetup -a; losetup -f; losetup /dev/loop0 a.img; losetup -j a.img; losetup -n -l -O NAME,BACK-FILE,AUTOCLEAR
			printf early >&3; test $(head -c 5 a.img) = early; test $(head -c 5 /dev/loop0) = early
			losetup /dev/loop0 b.img || echo busy
			dmsetup create on --table '0 2048 linear /dev/loop0 0'
			losetup -d /dev/loop0; exec 3>&-
			printf later | dd of=/dev/mapper/on conv=notrunc status=none; test $(head -c 5 a.img) = later
			dmsetup remove on; sleep 0.3; test -z "$(losetup -a)"
			test "$(losetup -f --show -o 4096 --sizelimit 8192 a.img)" = /dev/loop0; blockdev --getsize64 /dev/loop0
			losetup -n -l -O OFFSET,SIZELIMIT; truncate -s 2M a.img; losetup -d /dev/loop0; sleep 0.3
			losetup -f a.img; truncate -s 3M a.img; losetup -c /dev/loop0; blockdev --getsize64 /dev/loop0; losetup -r -f b.img; printf x >/dev/loop1 || echo read-only
			losetup -D; sleep 0.3; losetup -a; rm a.img`)
		says(t, out, "busy", "\n8192\n", "4096      8192", "\n3145728\n", "read-only")
		says(t, b.run(program, "ls"), "No devices found")
	})
}

// cryptsetup's containers: what it writes, dmfs open reads, and the other way round.
func TestExecCryptsetup(t *testing.T) {
	forEach(t, "cryptsetup", func(t *testing.T, b *bench) {
		b.stamps("stamps", 2048)
		b.file("pass", "a passphrase")
		for _, name := range []string{"luks1", "luks2"} {
			b.image(name, 64<<11)
			out := b.session("", `
				cryptsetup -q luksFormat --type `+name+` `+quick+` `+name+` pass
				cryptsetup open --key-file pass `+name+` c; cryptsetup status c
				dd if=stamps of=/dev/mapper/c conv=notrunc status=none; cmp -n 2097152 stamps /dev/mapper/c
				cryptsetup resize --size 4096 --key-file pass c; blockdev --getsz /dev/mapper/c
				cryptsetup luksSuspend c; cryptsetup luksResume --key-file pass c; cmp stamps /dev/mapper/c
				cryptsetup close c; test ! -e /dev/mapper/c`)
			says(t, out, "loop:", "\n4096\n")
			b.run(program, "open", "--key-file", "pass", name, "c")
			b.run("cmp", "-n", "2097152", "stamps", b.mnt+"/c")
			b.run(program, "close", "c")
		}
		b.image("plain", 8192)
		b.session("", `
			cryptsetup open --type plain --cipher aes-xts-plain64 --key-size 512 --key-file stamps plain p; cp stamps /dev/mapper/p; cryptsetup close p
			cryptsetup open --type plain --cipher aes-xts-plain64 --key-size 512 --key-file stamps plain p; cmp -n 2097152 stamps /dev/mapper/p; cryptsetup close p`)
		b.image("tags", 64<<11)
		b.session("", `
			cryptsetup -q luksFormat --integrity hmac-sha256 `+quick+` tags pass
			cryptsetup open --key-file pass tags t; dd if=stamps of=/dev/mapper/t conv=notrunc status=none; cryptsetup close t
			cryptsetup open --key-file pass tags t; cmp -n 2097152 stamps /dev/mapper/t; cryptsetup close t`)
	})
}

// A container gets another key while it is open; and one that is not, also if that is stopped in the middle and begun again.
func TestExecReencrypt(t *testing.T) {
	forEach(t, "cryptsetup", func(t *testing.T, b *bench) {
		b.stamps("stamps", 16<<10)
		b.file("pass", "a passphrase")
		b.image("luks", 64<<11)
		b.session("", `
			key() { cryptsetup luksDump luks | sed -n '/Digest:/{n;p}'; }
			cryptsetup -q luksFormat `+quick+` luks pass; first=$(key)
			cryptsetup open --key-file pass luks c; dd if=stamps of=/dev/mapper/c conv=notrunc status=none
			cryptsetup -q reencrypt `+quick+` --key-file pass --active-name c luks
			cmp -n 16777216 stamps /dev/mapper/c; cryptsetup close c; second=$(key); test "$first" != "$second"
			cryptsetup -q reencrypt --force-offline-reencrypt `+quick+` --key-file pass --hotzone-size 1M luks & sleep 0.2; kill -9 $! || true; wait $! || true
			cryptsetup -q repair --key-file pass luks || true
			cryptsetup -q reencrypt --force-offline-reencrypt --resume-only --key-file pass luks || echo it had not begun, or ended
			cryptsetup open --key-file pass luks c; cmp -n 16777216 stamps /dev/mapper/c; cryptsetup close c`)
	})
}

// A re-encryption of an open container that is killed leaves what it was at suspended, as with the kernel; the mount can be unmounted all the
// same. Once it is closed and repaired, nothing is lost, and the re-encryption goes on.
func TestExecReencryptKilled(t *testing.T) {
	forEach(t, "cryptsetup dmsetup", func(t *testing.T, b *bench) {
		b.stamps("stamps", 32<<10)
		b.file("pass", "a passphrase")
		b.image("luks", 96<<11)
		const killed = `
			cryptsetup open --key-file pass luks c
			cryptsetup -q reencrypt --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file pass --active-name c --hotzone-size 1M luks &
			set +x; until kill -STOP $!; sleep 0.1; dmsetup info -c --noheadings -o suspended,name | grep -q Suspended.*hotzone; do kill -CONT $!; sleep 0.01; done
			kill -9 $!; wait $! || set -x
			dmsetup info -c --noheadings -o suspended,name
			timeout -k 1 0.5 dd if=/dev/mapper/c of=/dev/null bs=1M && echo nothing was suspended
			`
		const repaired = `
			cryptsetup -q repair --key-file pass luks
			cryptsetup open --key-file pass luks c; cmp -n 33554432 stamps /dev/mapper/c`
		b.session("", `cryptsetup -q luksFormat `+quick+` luks pass; cryptsetup open --key-file pass luks c
			dd if=stamps of=/dev/mapper/c conv=notrunc status=none; cryptsetup close c`)
		b.try("timeout", "60", program, "exec", "--", "sh", "-exc", killed)
		says(t, b.run(program, "info", "-c", "--noheadings", "-o", "suspended,name"), "Suspended:c-hotzone")
		b.run("timeout", "20", program, "umount", b.mnt)
		b.run(program, "mount", b.mnt)
		b.session("", repaired+`
			cryptsetup -q reencrypt `+quick+` --key-file pass --active-name c --resume-only luks
			cmp -n 33554432 stamps /dev/mapper/c; cryptsetup close c`)
		b.try("timeout", "60", program, "exec", "--", "sh", "-exc", killed)
		b.session("", `dmsetup info -c --noheadings -o suspended,name | sed -n s/Suspended://p | xargs -n 1 dmsetup resume; cryptsetup close c`+repaired+`
			cryptsetup close c; cryptsetup -q reencrypt --force-offline-reencrypt --key-file pass --resume-only luks
			cryptsetup open --key-file pass luks c; cmp -n 33554432 stamps /dev/mapper/c; cryptsetup close c`)
	})
}

// The volume key is in the crypt target, and nowhere else: not in the log, nor in what a mount tells, nor for a later table.
func TestExecKeys(t *testing.T) {
	forEach(t, "cryptsetup dmsetup", func(t *testing.T, b *bench) {
		b.image("luks", 64<<11)
		b.file("pass", "a passphrase")
		key := bytes.Repeat([]byte("0123456789abcdef"), 4)
		b.file("key", string(key))
		out := b.session("", `
			cryptsetup -q luksFormat `+quick+` --volume-key-file key luks pass
			cryptsetup open --key-file pass luks c; dmsetup table c; sleep 0.3
			name=$(dmsetup table c | sed 's/.*:64:logon:\([^ ]*\) .*/\1/')
			dmsetup create d --table "0 8 crypt aes-xts-plain64 :64:logon:$name 0 7:0 32768" || echo forgotten
			cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr -d '\0' | grep -ac '[0]123456789abcdef0123456789abcdef0123' || echo unseen
			cryptsetup close c`)
		says(t, out, ":64:logon:cryptsetup:", "forgotten", "unseen")
		told := b.run("cat", b.mnt+"/.dm/log", b.mnt+"/control")
		if strings.Contains(told, "0123456789abcdef0123") || strings.Contains(told, "3031323334353637") {
			t.Errorf("the key is in\n%s", told)
		}
	})
}

// veritysetup and integritysetup, with data.
func TestExecVerity(t *testing.T) {
	forEach(t, "veritysetup integritysetup", func(t *testing.T, b *bench) {
		b.stamps("data", 2048)
		b.image("hash", 1<<11)
		b.image("fec", 1<<11)
		b.image("i", 16<<11)
		out := b.session("", `
			root=$(veritysetup format --fec-device fec data hash | sed -n 's/^Root hash:[[:space:]]*//p')
			veritysetup open --fec-device fec data v hash $root; veritysetup status v; cmp data /dev/mapper/v; veritysetup close v
			veritysetup verify data hash $root
			printf broken | dd of=data bs=1 seek=5000 conv=notrunc status=none
			veritysetup open data v hash $root; cat /dev/mapper/v >/dev/null && exit 1; veritysetup close v
			integritysetup -q format i; integritysetup open i i; integritysetup status i; dd if=data of=/dev/mapper/i conv=notrunc status=none
			integritysetup close i; integritysetup open i i; cmp -n 2097152 data /dev/mapper/i; integritysetup close i`)
		says(t, out, "verified", "INTEGRITY")
	})
}

// integritysetup in every mode, and cryptsetup with its header in another file.
func TestExecIntegrityModes(t *testing.T) {
	forEach(t, "integritysetup cryptsetup", func(t *testing.T, b *bench) {
		b.stamps("stamps", 1024)
		b.file("key", strings.Repeat("k", 32))
		b.file("pass", "a passphrase")
		const (
			hmac   = "--integrity hmac-sha256 --integrity-key-file key --integrity-key-size 32"
			signed = "--journal-integrity hmac-sha256 --journal-integrity-key-file key --journal-integrity-key-size 32"
			secret = signed + " --journal-crypt ctr-aes --journal-crypt-key-file key --journal-crypt-key-size 32"
		)
		for _, mode := range []string{"", hmac, "-B", "-B " + hmac, "-D", "-D " + hmac, signed, secret} {
			b.image("i", 16<<11)
			b.session("", `
				integritysetup -q format i `+mode+`; integritysetup open i i `+mode+`; dd if=stamps of=/dev/mapper/i conv=notrunc status=none
				integritysetup close i; integritysetup open i i `+mode+`; cmp -n 1048576 stamps /dev/mapper/i; integritysetup close i`)
		}
		b.image("data", 8<<11)
		b.image("header", 16<<11)
		b.session("", `
			cryptsetup -q luksFormat `+quick+` --header header data pass; cryptsetup open --key-file pass --header header data d
			dd if=stamps of=/dev/mapper/d conv=notrunc status=none; cryptsetup close d
			cryptsetup open --key-file pass --header header data d; cmp -n 1048576 stamps /dev/mapper/d; cryptsetup close d`)
	})
}

// A volume group on files: volumes of each kind, their data through snapshots, moves and sessions.
func TestExecLVM(t *testing.T) {
	forEach(t, "lvm mkfs.ext4 e2fsck thin_check", func(t *testing.T, b *bench) {
		b.image("a.img", 160<<11)
		b.image("b.img", 160<<11)
		b.stamps("stamps", 4096)
		out := b.session("-b a.img -b b.img", `
			pvcreate -q /dev/sda /dev/sdb; vgcreate -q vg /dev/sda /dev/sdb
			lvcreate -qy -L 8M -n linear vg /dev/sda; lvcreate -qy -L 8M -i 2 -n striped vg; lvcreate -qy --type mirror -m 1 --mirrorlog core -L 8M -n mirror vg
			lvcreate -qy --type raid1 -m 1 -L 8M -n raid vg; lvcreate -qy -L 24M -T vg/pool; lvcreate -qy -V 64M -T vg/pool -n thin
			for lv in linear striped mirror raid thin; do dd if=stamps of=/dev/vg/$lv conv=notrunc status=none; done
			lvcreate -qy -s -L 8M -n snap vg/linear; lvcreate -qy -s -n thinsnap vg/thin
			dd if=/dev/zero of=/dev/vg/linear bs=1M count=4 conv=notrunc status=none
			dd if=/dev/zero of=/dev/vg/thin bs=1M count=4 conv=notrunc status=none
			cmp -n 4194304 stamps /dev/vg/snap; lvremove -qy vg/snap
			lvs -a --noheadings -o lv_name,segtype vg | sed 's/  */ /g'`)
		says(t, out, " linear linear", "[raid_rimage_0]", "[pool_tmeta]")
		out = b.session("", `
			lvs --noheadings -o lv_name,lv_active vg; vgchange -q -an vg; dmsetup ls; vgchange -q -ay -K vg
			for lv in striped mirror raid thinsnap; do cmp -n 4194304 stamps /dev/vg/$lv; done; cmp -n 4194304 /dev/zero /dev/vg/thin
			dd if=stamps of=/dev/vg/linear conv=notrunc status=none; pvmove -q -n linear /dev/sda /dev/sdb; cmp -n 4194304 stamps /dev/vg/linear
			lvs --noheadings -o lv_name,devices vg | sed 's/  */ /g'
			lvextend -q -L 16M vg/linear; cmp -n 4194304 stamps /dev/vg/linear; blockdev --getsize64 /dev/vg/linear
			mkfs.ext4 -q /dev/vg/linear; lvextend -qr -L 24M vg/linear; e2fsck -fn /dev/vg/linear
			vgchange -q -an vg`)
		says(t, out, "No devices found", " linear /dev/sdb(", "\n16777216\n")
		// All is in the files.
		b.session("-b a.img -b b.img", `
			vgchange -q -ay -K vg; e2fsck -fn /dev/vg/linear; for lv in mirror raid thinsnap; do cmp -n 4194304 stamps /dev/vg/$lv; done
			vgchange -q -an vg; lvremove -qy vg; vgremove -q vg; pvremove -q /dev/sda /dev/sdb; test -z "$(pvs --noheadings)"`)
		b.waitFor("the disks' end", func() bool { return strings.Contains(b.run(program, "ls"), "No devices found") })
	})
}

// Volumes get more stripes while they are used, and fewer again.
func TestExecLVMStripes(t *testing.T) {
	forEach(t, "lvm", func(t *testing.T, b *bench) {
		options := ""
		for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
			b.image(name+".img", 100<<11)
			options += " -b " + name + ".img"
		}
		b.stamps("stamps", 4096)
		const same = `same() { for lv; do cmp -n 4194304 stamps /dev/vg/$lv; done; }
			settled() { n=0; until dmsetup status vg-$1 | grep -q " $2 [Aa]* [0-9/]* idle "; do sleep 0.1; n=$((n+1)); test $n -lt 300; done; lvchange -q --refresh vg/$1; }
			`
		b.session(options, same+`
			pvcreate -q /dev/sd[a-f]; vgcreate -q vg /dev/sd[a-f]
			lvcreate -qy --type raid5 -i 2 -L 8M -n r5 vg; lvcreate -qy --type raid6 -i 3 -L 12M -n r6 vg; lvcreate -qy --type raid10 -i 2 -m 1 -L 8M -n r10 vg
			settled r5 3; settled r6 5; settled r10 4; for lv in r5 r6 r10; do dd if=stamps of=/dev/vg/$lv conv=notrunc status=none; done
			lvconvert -qy --stripes 4 vg/r5; lvconvert -qy --stripes 4 vg/r6; lvconvert -qy --stripes 3 vg/r10; same r5 r6 r10
			settled r5 5; settled r6 6; settled r10 6; same r5 r6 r10; lvs --noheadings -o lv_name,lv_size,stripes --units m vg
			for lv in r5 r6 r10; do dd if=stamps of=/dev/vg/$lv bs=1M seek=7 conv=notrunc status=none; lvchange -qy --syncaction check vg/$lv; done
			settled r5 5; settled r6 6; settled r10 6; test -z "$(lvs --noheadings -o raid_mismatch_count vg | tr -d ' 0\n')"
			lvconvert -qyf --stripes 3 vg/r5; settled r5 4; lvconvert -qyf --stripes 3 vg/r5; same r5; vgchange -q -an vg`)
		b.run(program, "umount", b.mnt)
		b.run(program, "mount", b.mnt)
		b.session(options, same+`vgchange -q -ay vg; same r5 r6 r10; tail -c +7340033 /dev/vg/r10 | cmp -n 4194304 - stamps; vgchange -q -an vg`)
	})
}

// What LVM does to volumes that are in use: other kinds of raid, conversion, merge, extension, reduction, groups split and merged; and what it must refuse.
func TestExecLVMConversions(t *testing.T) {
	forEach(t, "lvm mkfs.ext4 e2fsck resize2fs thin_check", func(t *testing.T, b *bench) {
		options := ""
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			b.image(name+".img", 120<<11)
			options += " -b " + name + ".img"
		}
		b.stamps("stamps", 4096)
		const same = `same() { for lv; do cmp -n 4194304 stamps /dev/vg/$lv; done; }; fill() { for lv; do dd if=stamps of=/dev/vg/$lv conv=notrunc status=none; done; }
			synced() { n=0; until [ "$(lvs --noheadings -o sync_percent vg/$1 | tr -d ' ')" = 100.00 ]; do sleep 0.1; n=$((n+1)); test $n -lt 300; done; }
			`
		b.session(options, same+`
			pvcreate -q /dev/sd[a-e]; vgcreate -q vg /dev/sd[a-e]
			lvcreate -qy --type raid5 -i 2 -L 8M -n r5 vg; lvcreate -qy --type raid6 -i 3 -L 12M -n r6 vg; lvcreate -qy --type raid10 -i 2 -m 1 -L 8M -n r10 vg
			lvcreate -qy -L 8M -n lin vg; fill r5 r6 r10 lin; for lv in r5 r6 r10; do synced $lv; done
			lvcreate -qy -s -L 8M -n snap vg/lin; dd if=/dev/zero of=/dev/vg/lin bs=1M count=4 conv=notrunc status=none; lvconvert -qy --merge vg/snap; same lin
			lvextend -qy -L 16M vg/r5; lvextend -qy -L 20M vg/r10; synced r5; synced r10; same r5 r10; lvreduce -qfy -L 8M vg/r5; same r5
			for lv in r5 r10; do for s in 32k 128k; do lvconvert -qy --stripesize $s vg/$lv; synced $lv; same $lv; done; done
			lvconvert -qy --type raid5_n vg/r5; synced r5; same r5; dmsetup status vg-r5 | grep -q ' raid5_n '; dmsetup table vg-r10 | grep -q ' 256 region_size '
			lvconvert -qy --type raid1 -m 1 vg/lin; synced lin; same lin; lvextend -qy -L 12M vg/lin; synced lin; same lin; lvconvert -qy -m 0 vg/lin; same lin
			lvconvert -qy --type mirror -m 1 --mirrorlog core vg/lin; synced lin; lvconvert -qy --type raid1 vg/lin; lvconvert -qy --type linear vg/lin; same lin r5 r6 r10
			lvcreate -qy -L 8M -T vg/pool; lvcreate -qy -V 32M -T vg/pool -n thin; fill thin
			lvextend -q -L 24M vg/pool; lvextend -q --poolmetadatasize +4M vg/pool; dd if=stamps of=/dev/vg/thin bs=1M seek=8 conv=notrunc status=none; same thin
			mkfs.ext4 -q /dev/vg/lin; lvreduce -qyr -L 4M vg/lin; e2fsck -fn /dev/vg/lin; pvck /dev/sda; vgchange -q -an vg`)
		b.run(program, "umount", b.mnt)
		b.run(program, "mount", b.mnt)
		out := b.session(options, same+`
			vgchange -q -ay vg; same r5 r6 r10 thin; e2fsck -fn /dev/vg/lin
			for type in cache writecache vdo; do lvcreate -qy --type $type -L 8M -n no vg/r5 || echo refused $type; done
			vgchange -q -an vg; lvremove -qy vg/r5 vg/r6 vg/r10 vg/pool
			lvcreate -qy -L 8M -n e vg /dev/sde; fill e; vgchange -q -an vg; vgsplit -q vg wg /dev/sde; vgs --noheadings -o vg_name; vgchange -q -ay wg; cmp -n 4194304 stamps /dev/wg/e
			vgchange -q -an wg; vgmerge -q vg wg; vgchange -q -ay vg; same e; vgchange -q -an vg`)
		says(t, out, "  wg\n", "refused cache\n", "refused writecache\n", "refused vdo\n")
	})
}

// kpartx maps the partitions of a file, by a loop device of its own, and of a disk.
func TestExecKpartx(t *testing.T) {
	forEach(t, "kpartx sfdisk", func(t *testing.T, b *bench) {
		b.image("a.img", 8<<11)
		out := b.session("--block a.img", `
			printf '2048,4096\n8192,2048\n' | sfdisk -q a.img
			kpartx -l /dev/sda; kpartx -as /dev/sda; printf stamp | dd of=/dev/mapper/sda2 conv=notrunc status=none; ls /dev/mapper; kpartx -d /dev/sda
			dd if=a.img bs=512 skip=8192 count=1 status=none | head -c 5
			kpartx -avs a.img; ls /dev/mapper; kpartx -dv a.img; ls /dev/mapper; sleep 0.3; losetup -a`)
		says(t, out, "sda1 : 0 4096 /dev/sda 2048", "sda2", "stamp", "loop0p1")
	})
}

// A loop device has the logical block that losetup is told, on a part of a file and on another loop device, and takes whole blocks alone.
func TestExecLoopBlocks(t *testing.T) {
	forEach(t, "losetup blockdev dmsetup", func(t *testing.T, b *bench) {
		b.stamps("stamps", 64)
		b.file("a.img", strings.Repeat("\x00", 100<<10+512))
		out := b.session("", `
			losetup -b 4096 /dev/loop3 a.img; blockdev --getss --getpbsz --getsize64 /dev/loop3; cat /sys/block/loop3/queue/logical_block_size
			dd if=stamps of=/dev/loop3 bs=4k count=5 seek=1 conv=notrunc oflag=direct status=none; dd if=a.img bs=4k skip=1 count=5 status=none | cmp -n 20480 - stamps
			dmsetup create m --table '0 16 linear /dev/loop3 8'; dmsetup create n --table '0 12 linear /dev/loop3 0' || echo not whole blocks
			blockdev --getss /dev/mapper/m; dmsetup remove m
			truncate -s 200K a.img; losetup -c /dev/loop3; blockdev --getsize64 --getss /dev/loop3
			losetup -b 512 /dev/loop3; blockdev --getss /dev/loop3; losetup -b 2048 -o 4096 --sizelimit 16384 /dev/loop4 /dev/loop3; blockdev --getss --getsize64 /dev/loop4
			losetup -nO OFFSET,SIZELIMIT,LOG-SEC /dev/loop4; cmp -n 16384 /dev/loop4 stamps
			losetup -b 4096 -o 512 /dev/loop5 a.img || echo not aligned; losetup -b 8192 /dev/loop5 a.img || echo too large
			losetup -d /dev/loop4; losetup -d /dev/loop3`)
		says(t, out, "+ cat", "\n4096\n4096\n102400\n+", "\n4096\n+ dd", "not whole blocks", "\n4096\n+ dmsetup remove", "\n204800\n4096\n", "\n512\n", "\n2048\n16384\n", "not aligned",
			"too large")
	})
}
