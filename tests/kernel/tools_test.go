package kernel

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What the distribution's tools are told, on either side. The images lie in the working directory.
const (
	attach = `
devices=
for name in a b c; do devices="$devices $(losetup -f --show $name.img)"; done
`
	detach = `
vgchange -q -an vg >&2
for device in $devices; do losetup -d $device; done
`
	// makeAll makes a volume group with volumes of all kinds, and a container, with data that the snapshots have in part from before, and all
	// have in part from after.
	makeAll = attach + `
exec 3>&1 >&2
vgcreate -q vg $devices
lvcreate -qy -L 8M -n linear vg; lvcreate -qy --type raid1 -m 1 -L 8M -n raid vg
lvcreate -qy -L 12M -T vg/pool; lvcreate -qy -V 64M -T vg/pool -n thin
for lv in linear raid thin; do dd if=one of=/dev/vg/$lv bs=64k conv=notrunc,fsync status=none; done
lvcreate -qy -s -L 8M -n snap vg/linear; lvcreate -qy -s -n thinsnap vg/thin
for lv in linear raid thin; do dd if=two of=/dev/vg/$lv bs=64k seek=8 conv=notrunc,fsync status=none; done
until [ "$(lvs --noheadings -o sync_percent vg/raid | tr -d ' ')" = 100.00 ]; do sleep 0.1; done
cryptsetup -q luksFormat --pbkdf pbkdf2 --pbkdf-force-iterations 1000 luks.img pass
cryptsetup open --key-file pass luks.img secret
dd if=two of=/dev/mapper/secret bs=64k conv=notrunc,fsync status=none; cryptsetup close secret
exec >&3 3>&-
` + detach
	// showAll prints what there is: the contents, and what the tools tell of it.
	showAll = attach + `
vgchange -q -ay -K vg >&2
for name in linear snap raid raid_rimage_0 raid_rimage_1 thin thinsnap; do echo "$name $(sha256sum </dev/mapper/vg-$name)"; done
cryptsetup open --key-file pass luks.img secret; echo "secret $(sha256sum </dev/mapper/secret)"; cryptsetup close secret
lvs -a --noheadings --nosuffix --units s -o lv_name,segtype,lv_size,lv_uuid,sync_percent,data_percent,metadata_percent,thin_id,transaction_id,lv_health_status vg
vgs --noheadings -o vg_uuid,vg_seqno vg
` + detach
	// inGuest has a script of these run on copies of the images in the guest's memory, and leaves the images in $TO.
	inGuest = `
export DM_DISABLE_UDEV=1 LVM_SYSTEM_DIR=/run/lvm-system LVM_SUPPRESS_FD_WARNINGS=1
mkdir -p /run/lvm-system /run/lock/lvm /run/cryptsetup /run/tools /dev/mapper
cat >$LVM_SYSTEM_DIR/lvm.conf <<EOC
activation { monitoring=0 udev_sync=0 udev_rules=0 }
devices { obtain_device_list_from_udev=0 external_device_info_source="none" use_devicesfile=0 hints="none" }
global { use_lvmpolld=0 use_lvmlockd=0 event_activation=0 }
backup { backup=0 archive=0 }
EOC
cd /run/tools
cp --sparse=always $FROM/* .
`
	outOfGuest = `
cp --sparse=always *.img $TO/
rm -f /run/tools/*
`
)

// A toolbox is a dmfs mount, with a session in which the tools run.
type toolbox struct {
	t       *testing.T
	program string
	dir     string
}

func newToolbox(t *testing.T) *toolbox {
	t.Helper()
	for _, tool := range []string{"lvm", "cryptsetup", "losetup", "thin_check", "unshare"} {
		if _, err := exec.LookPath(tool); err != nil {
			if _, err := os.Stat("/usr/sbin/" + tool); err != nil {
				t.Skip("needs " + tool)
			}
		}
	}
	if out, err := exec.Command("unshare", "-Urm", "true").CombinedOutput(); err != nil {
		t.Skipf("needs user namespaces: unshare -Urm: %s", bytes.TrimSpace(out))
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs /dev/fuse: %v", err)
	}
	f.Close()
	b := &toolbox{t, filepath.Join(t.TempDir(), "dmfs"), t.TempDir()}
	build := exec.Command("go", "build", "-o", b.program, "dmfs/cmd/dmfs")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	mnt := filepath.Join(b.dir, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	b.run("mount", mnt)
	t.Cleanup(func() { b.run("umount", mnt) })
	return b
}

// run runs dmfs and returns what it printed.
func (b *toolbox) run(args ...string) string {
	b.t.Helper()
	cmd := exec.Command(b.program, args...)
	cmd.Dir = b.dir
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.WaitDelay = time.Minute
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("dmfs %s: %v\n%s%s", args[0], err, out.Bytes(), said.Bytes())
	}
	return out.String()
}

// session runs a script in a session, in the directory of the images.
func (b *toolbox) session(images, script string) string {
	b.t.Helper()
	return b.run("exec", "-m", filepath.Join(b.dir, "mnt"), "--", "env", "-C", images, "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "sh", "-euc", script)
}

// inKernel runs a script in the kernel. The images are afterwards what it made of them.
func inKernel(t *testing.T, images, script string) string {
	t.Helper()
	to := t.TempDir()
	out, err := boot(t).Shell(inGuest+script+outOfGuest, Images{From: images, To: to})
	if err != nil {
		t.Fatal(err)
	}
	made, err := filepath.Glob(filepath.Join(to, "*.img"))
	if err != nil || len(made) == 0 {
		t.Fatalf("the guest left %q, %v", made, err)
	}
	for _, name := range made {
		if err := os.Rename(name, filepath.Join(images, filepath.Base(name))); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// newImages makes a directory with empty images and the data to be written, of which no two blocks are alike.
func newImages(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, size := range map[string]int64{"a.img": 40 << 20, "b.img": 40 << 20, "c.img": 40 << 20, "luks.img": 20 << 20} {
		f, err := os.Create(filepath.Join(dir, name))
		if err == nil {
			err = f.Truncate(size)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	for i, name := range []string{"one", "two"} {
		data := make([]byte, 3<<20)
		rand.NewChaCha8([32]byte{byte(i)}).Read(data) //nolint:errcheck // it does not fail
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "pass"), []byte("a passphrase"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What LVM and cryptsetup make in a session they find in the kernel, byte for byte, and the other way round: a group with a linear volume and its
// snapshot, raid1, a thin pool with a volume and its snapshot, and a container.
func TestToolsCrossOpen(t *testing.T) {
	boot(t)
	b := newToolbox(t)
	type side func(t *testing.T, images, script string) string
	session := func(t *testing.T, images, script string) string { b.t = t; return b.session(images, script) }
	for name, order := range map[string][2]side{"made in a session": {session, inKernel}, "made in the kernel": {inKernel, session}} {
		t.Run(name, func(t *testing.T) {
			images := newImages(t)
			want := order[0](t, images, makeAll+showAll)
			got := order[1](t, images, showAll)
			if got != want {
				t.Errorf("where it was made\n%swhere it was opened\n%s", want, got)
			}
			sums := make(map[string]string)
			for line := range strings.Lines(got) {
				if f := strings.Fields(line); len(f) == 3 && f[2] == "-" {
					sums[f[0]] = f[1]
				}
			}
			if len(sums) != 8 || sums["linear"] == sums["snap"] || sums["thin"] == sums["thinsnap"] || sums["raid_rimage_0"] != sums["raid_rimage_1"] || sums["raid"] != sums["linear"] {
				t.Errorf("the contents are not what was written:\n%s", got)
			}
		})
	}
}
