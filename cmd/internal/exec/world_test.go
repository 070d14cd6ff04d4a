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

func TestHiddenNumber(t *testing.T) {
	for name, want := range map[string]number{
		"dmfs-sda": {8, 0}, "dmfs-sdc": {8, 32}, "dmfs-loop0": {7, 0}, "dmfs-loop17": {7, 17},
		"dmfs-loop01": {}, "dmfs-sd": {}, "dmfs-sdA": {}, "sda": {}, "dmfs-sdabcd": {}, "dmfs-loop9999999": {}, "xdmfs-sda": {},
	} {
		if got, _, ok := hiddenNumber(name); ok != (want != number{}) || ok && got != want {
			t.Errorf("%s: %v, %v, want %v", name, got, ok, want)
		}
	}
}

func TestParseBlock(t *testing.T) {
	for text, want := range map[string]Block{
		"a.img": {File: "a.img"}, "a.img=sdb": {File: "a.img", Name: "sdb"}, "a=b=c": {File: "a=b", Name: "c"},
		"=x": {}, "": {}, "a=": {}, "a=../x": {}, "a=.x": {}, "a=mapper/x": {},
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
