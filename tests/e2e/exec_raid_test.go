package e2e

import (
	"os"
	"strings"
	"testing"
)

// dmraid makes sets in the format of Intel's firmware, finds them by the serial numbers of the disks, and maps them, in this session and in the next.
func TestExecDmraid(t *testing.T) {
	forEach(t, "dmraid dmsetup", func(t *testing.T, b *bench) {
		b.stamps("stamps", 1024)
		b.file("yes", "y\n")
		for level, kind := range map[string]string{"1": " mirror core 2 64 nosync 2 8:0 0 8:16 0", "0": " striped 2 256 8:0 0 8:16 0"} {
			b.image("a.img", 32<<11)
			b.image("b.img", 32<<11)
			out := b.session("-b a.img -b b.img", `
				dmraid -f isw -C set --type `+level+` --disk '/dev/sda /dev/sdb' <yes; dmraid -r; dmraid -ay; dmsetup table
				dd if=stamps of=$(ls /dev/mapper/isw_*_set) conv=notrunc status=none; dmraid -an; ls /dev/mapper`)
			says(t, out, `/dev/sda: isw, "isw_`, `/dev/sdb: isw, "isw_`, "was activated", kind, "\ncontrol\n")
			b.session("-b a.img -b b.img", `dmraid -ay; cmp -n 1048576 stamps $(ls /dev/mapper/isw_*_set); dmraid -an`)
		}
		data, err := os.ReadFile(b.path("stamps"))
		must(t, err)
		image, err := os.ReadFile(b.path("a.img"))
		must(t, err)
		if !strings.HasPrefix(string(image), string(data[:512])) {
			t.Error("the first disk does not begin with what was written")
		}
	})
}

// mdadm reads the superblocks of a software RAID on disks as it does in files.
func TestExecMdadm(t *testing.T) {
	forEach(t, "mdadm", func(t *testing.T, b *bench) {
		options := ""
		for _, name := range b.members() {
			options += " -b " + name
		}
		out := b.session(options, "mdadm --examine /dev/sda /dev/sdc; mdadm --examine --scan -e1.2 -c partitions")
		says(t, out, "/dev/sdc:", "Raid Level : raid5", "Device Role : Active device 2", "ARRAY ")
	})
}
