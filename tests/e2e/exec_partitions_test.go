package e2e

import (
	"strings"
	"syscall"
	"testing"
)

// makeTables gives a.img a table with primary and logical partitions and g.img a GPT.
const makeTables = `
	printf '2048,16384\n,20480,E\n43008,2048\n' | sfdisk -q a.img; printf '24576,4096\n' | sfdisk -q --append a.img
	printf 'label: gpt\n2048,4096\n,8192\n,\n' | sfdisk -q g.img
`

// The partitions of a loop device are disks like others, which go with it.
func TestExecPartitions(t *testing.T) {
	forEach(t, "losetup sfdisk lsblk partx blkid mkfs.ext4 e2fsck dmsetup lvm", func(t *testing.T, b *bench) {
		b.image("a.img", 32<<11)
		b.image("g.img", 32<<11)
		b.stamps("stamps", 64)
		out := b.session("", makeTables+`
			losetup -P /dev/loop0 a.img; losetup -nlO PARTSCAN /dev/loop0; cat /sys/block/loop0/loop/partscan
			lsblk -nro NAME,SIZE,TYPE /dev/loop0; cd /sys/class/block/loop0p5; cat partition start size ro uevent; ls /sys/block; cd "$OLDPWD"
			test "$(stat -c %Hr:%Lr /dev/loop0p5)" = "$(cat /sys/block/loop0/loop0p5/dev)"
			blockdev --getsz /dev/loop0p1 /dev/loop0p2 /dev/loop0p5; grep loop0p3 /proc/partitions; grep blkext /proc/devices
			dd if=stamps of=/dev/loop0p1 bs=64k conv=notrunc status=none; dd if=a.img skip=2048 count=128 status=none | cmp - stamps
			mkfs.ext4 -q /dev/loop0p5; e2fsck -fn /dev/loop0p5; blkid /dev/loop0p5; dd if=stamps of=/dev/loop0p3 bs=1k seek=1020 conv=notrunc status=none || echo too small
			pvcreate -q /dev/loop0p1; vgcreate -q vg /dev/loop0p1; lvcreate -qn l -L 4M vg; lsblk -nro NAME,TYPE,PKNAME /dev/loop0
			ls -l /sys/block/loop0/loop0p1/holders /sys/block/dm-0/slaves; mkfs.ext4 -qF /dev/loop0 || echo claimed; blockdev --rereadpt /dev/loop0 || echo busy
			losetup -d /dev/loop0; lsblk -nro NAME; echo -; vgchange -qan vg; sleep 0.3; losetup -a; ls /dev/loop0*
			losetup /dev/loop1 g.img; blockdev --rereadpt /dev/loop1 || echo not scanned; test ! -e /dev/loop1p1
			partx -a /dev/loop1; partx -s -o NR,START,SECTORS -g /dev/loop1; partx -d --nr 2 /dev/loop1; lsblk -nro NAME,SIZE /dev/loop1
			partx -a --nr 2 /dev/loop1; dmsetup create up --table '0 8 linear /dev/loop1p2 0'; partx -d --nr 2 /dev/loop1 || echo in use; dmsetup remove up
			losetup -d /dev/loop1; sleep 0.3; ls /sys/class/block`)
		says(t, out, "1\n+ cat /sys/block/loop0/loop/partscan\n1\n", "loop0 32M loop\nloop0p1 8M part\nloop0p2 1K part\nloop0p3 1M part\nloop0p5 2M part\n",
			"\n5\n24576\n4096\n0\nMAJOR=259\n", "DEVTYPE=partition\nPARTN=5\n", "\n16384\n2\n4096\n", "1024 loop0p3", "259 blkext", `TYPE="ext4"`, "too small",
			"loop0p1 part loop0\nvg-l lvm loop0p1\n", "holders:\n", "dm-0 -> ../../../dm-0", "loop0p1 -> ../../loop0/loop0p1", "claimed", "busy", "loop0\nloop0p1\nvg-l\n+ echo -",
			"not scanned", "1  2048    4096\n 2  6144    8192\n 3 14336 ", "loop1 32M\nloop1p1 2M\nloop1p3 ", "in use")
		_, after, _ := strings.Cut(out, "+ echo -")
		if strings.Contains(after, "/dev/loop0p") || !strings.HasSuffix(out, "loop7\n") {
			t.Errorf("something is left:\n%s", out)
		}
		says(t, b.run(program, "ls"), "No devices found")
	})
}

// The partitions of a file of --block are found when the session begins, follow what tools write, and go with the disk, also if they are in use when the session ends.
func TestExecDiskPartitions(t *testing.T) {
	forEach(t, "sfdisk lsblk dmsetup partx", func(t *testing.T, b *bench) {
		b.image("a.img", 32<<11)
		b.image("g.img", 32<<11)
		b.image("many.img", 32<<11)
		out := b.session("--block g.img --block many.img=many", makeTables+`
			for i in $(seq 20); do echo "$((i * 2048)),2048"; done | (echo label: gpt; cat) | sfdisk -q /dev/many
			ls /dev/sda*; test "$(stat -c %Hr:%Lr /dev/sdb15)" = 8:31; test "$(stat -c %Hr /dev/sdb16)" = 259; lsblk -nro NAME /dev/sdb | wc -l
			blockdev --rereadpt /dev/sda; lsblk -nro NAME,MAJ:MIN,SIZE /dev/sda
			printf ',8M\n,4M\n' | sfdisk -q /dev/sda; lsblk -nro NAME,SIZE,START /dev/sda
			dmsetup create up --table '0 8 linear /dev/sda2 0'; dmsetup deps -o devname up; echo ',8M' | sfdisk -q --force --no-reread -N 2 /dev/sda; partx -u /dev/sda; blockdev --getsz /dev/sda2
			wipefs -qa /dev/sda || echo not wiped; wipefs -qaf /dev/many; blockdev --rereadpt /dev/many; ls /dev/sdb*
			dmsetup create other --table '0 8 linear 8:2 0'; printf stamp | dd of=/dev/mapper/other conv=notrunc status=none`)
		says(t, out, "/dev/sda\n+ stat", "\n21\n", "sda 8:0 32M\nsda1 8:1 2M\nsda2 8:2 4M\nsda3 8:3 ", "\nsda 32M \nsda1 8M 2048\nsda2 4M 18432\n+ dmsetup", "(sda2)", "not wiped", "/dev/sdb\n+ dmsetup")
		// What stands on a partition keeps that and the disk, and another session has them again.
		says(t, b.run(program, "ls"), "dmfs-sda2", "dmfs-sda\t")
		says(t, b.session("--block g.img", "dmsetup deps -o devname up; head -c 5 /dev/mapper/other; dmsetup remove up; dmsetup remove other; lsblk -nro NAME /dev/sda"), "(sda2)", "stamp", "sda\nsda1\nsda2\n")
		b.waitFor("the disk's end", func() bool { return strings.Contains(b.run(program, "ls"), "No devices found") })
	})
}

// What a session had partitions of that was killed goes with the next one.
func TestExecPartitionsKilled(t *testing.T) {
	forEach(t, "sfdisk losetup", func(t *testing.T, b *bench) {
		b.image("a.img", 32<<11)
		b.image("g.img", 32<<11)
		b.run("sh", "-euc", makeTables)
		cmd, out := b.start(program, "exec", "--block", "g.img", "--", "sh", "-c", "losetup -P /dev/loop3 a.img; echo ready; sleep 100")
		b.waitFor("ready", func() bool { return strings.Contains(out.String(), "ready") })
		b.waitFor("sleep", func() bool { return b.named("sleep") != 0 })
		b.kill("dmfs-exec")
		must(t, cmd.Process.Kill())
		if pid := b.named("sleep"); pid != 0 { // which the client may have ended before
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		cmd.Wait()
		says(t, b.session("", "lsblk -nro NAME; losetup -d /dev/loop3"), "loop3\nloop3p1\nloop3p2\nloop3p3\nloop3p5\nsda\nsda1\nsda2\nsda3\n")
		b.waitFor("the end of all", func() bool { return strings.Contains(b.run(program, "ls"), "No devices found") })
	})
}
