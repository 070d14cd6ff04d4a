package exec

import (
	"testing"

	"dmfs/fs/control"
)

func TestLetters(t *testing.T) {
	for i, want := range map[uint32]string{0: "a", 25: "z", 26: "aa", 27: "ab", 701: "zz", 702: "aaa"} {
		if got := letters(i); got != want || letterIndex(want) != i {
			t.Errorf("%d: %s and %d, want %s", i, got, letterIndex(want), want)
		}
	}
}

func TestHiddenAs(t *testing.T) {
	const part = partInMount + 3
	for _, tt := range []struct {
		name  string
		minor uint32
		want  hidden
	}{
		{"dmfs-sda", 0, hidden{number{8, 0}, "sda", "", 0}},
		{"dmfs-sdc", 5, hidden{number{8, 32}, "sdc", "", 0}},
		{"dmfs-loop0", 0, hidden{number{7, 0}, "loop0", "", 0}},
		{"dmfs-loop17", 0, hidden{number{7, 17}, "loop17", "", 0}},
		{"dmfs-sdb1", part, hidden{number{8, 17}, "sdb1", "sdb", 1}},
		{"dmfs-sdb15", part, hidden{number{8, 31}, "sdb15", "sdb", 15}},
		{"dmfs-sdb16", part, hidden{number{259, 3}, "sdb16", "sdb", 16}},
		{"dmfs-loop17p255", part, hidden{number{259, 3}, "loop17p255", "loop17", 255}},
	} {
		if got, ok := hiddenAs(tt.name, tt.minor); !ok || got != tt.want {
			t.Errorf("%s: %+v, %v, want %+v", tt.name, got, ok, tt.want)
		}
		if h := tt.want; h.disk != "" && partNode(h.disk, h.part) != h.node {
			t.Errorf("%s is called %s", h.node, partNode(h.disk, h.part))
		}
	}
	for _, name := range []string{
		"dmfs-loop01", "dmfs-sd", "dmfs-sdA", "sda", "dmfs-sdabcd", "dmfs-loop9999999", "xdmfs-sda", "dmfs-sda0", "dmfs-sda01", "dmfs-sda256", "dmfs-sda999",
		"dmfs-loop1p", "dmfs-loop1p0", "dmfs-loop01p1",
	} {
		if got, ok := hiddenAs(name, part); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got, ok := hiddenAs("dmfs-sda1", 0); ok {
		t.Errorf("somebody's device that is called like a partition: %+v", got)
	}
}

func TestPartOf(t *testing.T) {
	h, _ := hiddenAs("dmfs-loop3p2", partInMount)
	if got, want := partOf(h, partUUID+"loop3p2-2048"), (part{"loop3", 2, 2048}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := partOf(h, "another"); got.start != 0 {
		t.Errorf("%+v", got)
	}
}

func TestParseBlock(t *testing.T) {
	for text, want := range map[string]Block{
		"a.img": {File: "a.img"}, "a.img=sdb": {File: "a.img", Name: "sdb"}, "a=b=c": {File: "a=b", Name: "c"},
		"=x": {}, "": {}, "a=": {}, "a=../x": {}, "a=.x": {}, "a=mapper/x": {}, "a=sda1": {}, "a=loop0p1": {},
	} {
		got, err := ParseBlock(text)
		if (err != nil) != (want == Block{}) || err == nil && got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
}

func TestVolumeOf(t *testing.T) {
	const ids = "LVM-1Dx2l2QtZlwsP7g1Axf758xnTguIFprG4Gm8zQGdycIneeVgrP24xPcLg1fVNIp6"
	for _, tt := range []struct{ name, uuid, group, lv string }{
		{"vg-lv", ids, "vg", "lv"}, {"my--vg-a--b", ids, "my-vg", "a-b"}, {"vg-lv", ids + "-real", "", ""}, {"vg-p_tmeta", ids, "", ""},
		{"vg-r_rimage_0", ids, "", ""}, {"vg", ids, "", ""}, {"..-x", ids, "", ""}, {"vg-lv", "CRYPT-LUKS2-x", "", ""}, {"-x", ids, "", ""},
	} {
		d := &device{Device: control.Device{Name: tt.name, UUID: tt.uuid}}
		if group, lv, ok := volumeOf(d); group != tt.group || lv != tt.lv || ok != (tt.lv != "") {
			t.Errorf("%s %s: %q %q %v", tt.name, tt.uuid, group, lv, ok)
		}
	}
}

func TestOpenDescriptor(t *testing.T) {
	c := new(call)
	c.TID = 77
	for name, want := range map[string]string{
		"/dev/stdin": "/proc/77/fd/0", "/dev/fd/5": "/proc/77/fd/5", "/proc/self/fd/6": "/proc/77/fd/6", "/proc/9/task/8/fd/7": "/proc/9/fd/7",
		"/proc/self/fd": "", "/proc/self/fd/6/x": "", "/dev/sda": "", "/proc/x/fd/1": "",
	} {
		if got, ok := openDescriptor(c, name); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v, want %q", name, got, ok, want)
		}
	}
}
