// Package corpus opens disks that the kernel and the standard tools wrote, and compares tables, status and content with what the kernel
// showed of them.
package corpus

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"dmfs/mapper"
	"dmfs/targets"
	"dmfs/targets/raid/md"
	"dmfs/tests/scenario"
	"dmfs/tests/scenario/inprocess"
)

// looseStatus are the targets whose status is of one run, with the reason.
var looseStatus = map[string]string{
	"cache": "it counts hits and promotions", "raid": "it tells how far a resync is", "writecache": "it counts I/O",
	"era": "opening begins an era",
}

// settles are the targets whose status was taken when they had done what they do by themselves.
var settles = map[string]bool{"snapshot-merge": true, "mirror": true}

// patience bounds the wait for that.
const patience = 30 * time.Second

// dirs returns the directories of cases: the fixtures, and the large collection if it is there.
func dirs(t *testing.T) []string {
	t.Helper()
	roots := []string{filepath.Join("..", "images")}
	if beside := os.Getenv("DMFS_CORPUS"); beside != "" {
		roots = append(roots, beside)
	} else {
		roots = append(roots, filepath.Join("..", "..", "..", "shared", "corpus"))
	}
	var cases []string
	for _, root := range roots {
		found, err := filepath.Glob(filepath.Join(root, "*", "expect.sha256"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			dir := filepath.Dir(f)
			known := func(other string) bool { return filepath.Base(other) == filepath.Base(dir) }
			if !slices.ContainsFunc(cases, known) {
				cases = append(cases, dir)
			}
		}
	}
	return cases
}

// A case that cannot be opened yet is told by name and is not counted as passed.
func TestCorpus(t *testing.T) {
	cases := dirs(t)
	if len(cases) == 0 {
		t.Fatal("no cases, not even in tests/images")
	}
	passed, failed := 0, 0
	var notYet []string
	for _, dir := range cases {
		name := filepath.Base(dir)
		if _, err := os.Stat(filepath.Join(dir, "md0.sha256")); err == nil {
			if t.Run(name, func(t *testing.T) { openMD(t, dir) }) {
				passed++
			} else {
				failed++
			}
			continue
		}
		devices, err := readTable(dir)
		if err != nil {
			t.Fatal(err)
		}
		if lack := lacking(devices); lack != "" {
			notYet = append(notYet, fmt.Sprintf("%s needs %s", name, lack))
			continue
		}
		if t.Run(name, func(t *testing.T) { open(t, dir, devices) }) {
			passed++
		} else {
			failed++
		}
	}
	for _, n := range notYet {
		t.Logf("not yet: %s", n)
	}
	t.Logf("corpus: %d cases passed, %d failed, %d not yet", passed, failed, len(notYet))
}

// numbers are those of the kernel that made the corpus: disks are 98:0, 98:16 and so on, mapped devices 254:N.
var numbers = regexp.MustCompile(`\b(98|254):(\d+)\b|@([^@ ]+)@`)

// refs replaces what stands for disks and devices by what f returns for the name of a disk, or of the Nth device.
func refs(text string, devices []scenario.NewDevice, f func(name string) string) string {
	return numbers.ReplaceAllStringFunc(text, func(s string) string {
		m := numbers.FindStringSubmatch(s)
		n, err := strconv.Atoi(m[2] + m[3])
		switch {
		case m[1] == "98":
			return f(fmt.Sprintf("disk%d", n/16))
		case m[1] == "254" && n < len(devices):
			return f(devices[n].Name)
		case m[3] != "" && err == nil:
			return f(fmt.Sprintf("disk%d", n))
		case m[3] != "":
			return f(m[3])
		}
		return s
	})
}

// readTable reads the devices of a case, in the order they are made; none if it has no table.
func readTable(dir string) ([]scenario.NewDevice, error) {
	text, err := os.ReadFile(filepath.Join(dir, "table"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var devices []scenario.NewDevice
	for line := range strings.Lines(string(text)) {
		label, rest, _ := strings.Cut(strings.TrimSpace(line), ": ")
		name, ro, _ := strings.Cut(label, ",")
		words := strings.SplitN(rest, " ", 4)
		if len(words) < 3 {
			return nil, fmt.Errorf("%s: table: %q", dir, line)
		}
		start, e1 := strconv.ParseUint(words[0], 10, 64)
		length, e2 := strconv.ParseUint(words[1], 10, 64)
		if err := errors.Join(e1, e2); err != nil {
			return nil, fmt.Errorf("%s: table: %w", dir, err)
		}
		if n := len(devices); n == 0 || devices[n-1].Name != name {
			devices = append(devices, scenario.NewDevice{Name: name, Minor: -1, ReadOnly: ro == "ro"})
		}
		d := &devices[len(devices)-1]
		d.Table = append(d.Table, scenario.Line{Start: start, Len: length, Type: words[2], Params: strings.Join(words[3:], " ")})
	}
	return devices, sortByMinor(dir, devices)
}

// sortByMinor puts devices into the order in which they were made, if the case says which that was: the table is sorted by name.
func sortByMinor(dir string, devices []scenario.NewDevice) error {
	text, err := os.ReadFile(filepath.Join(dir, "info"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	minor := make(map[string]int)
	for line := range strings.Lines(string(text)) {
		words := strings.Split(line, ":") // NAME:MAJOR:MINOR:...
		if len(words) < 3 {
			continue
		}
		if minor[words[0]], err = strconv.Atoi(words[2]); err != nil {
			return fmt.Errorf("%s: info: %w", dir, err)
		}
	}
	slices.SortStableFunc(devices, func(a, b scenario.NewDevice) int { return minor[a.Name] - minor[b.Name] })
	return err
}

// sameDiscards takes from the status of a pool whether discards are passed down: the disks of the kernel that made the corpus could not
// discard a block, and ours can.
func sameDiscards(words []string, line string) string {
	if len(words) > 2 && words[2] == "thin-pool" {
		return strings.Replace(line, " no_discard_passdown ", " discard_passdown ", 1)
	}
	return line
}

// lacking returns the targets that a case needs and that do not exist, "" if none.
func lacking(devices []scenario.NewDevice) string {
	have := new(mapper.Registry)
	targets.Register(have)
	var lack []string
	for _, d := range devices {
		for _, l := range d.Table {
			if have.Lookup(l.Type) == nil && !slices.Contains(lack, l.Type) {
				lack = append(lack, l.Type)
			}
		}
	}
	return strings.Join(lack, ", ")
}

// open opens a case and compares.
func open(t *testing.T, dir string, devices []scenario.NewDevice) {
	d := inprocess.New(t.TempDir())
	d.From = t.TempDir()
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	unpack(t, d, dir)
	for _, n := range devices {
		n.Table = slices.Clone(n.Table)
		for i := range n.Table {
			n.Table[i].Params = refs(n.Table[i].Params, devices, d.Ref)
		}
		if err := d.Create(n); err != nil {
			t.Fatalf("%s: %v", n.Name, err)
		}
	}
	if want, err := os.ReadFile(filepath.Join(dir, "correct.sha256")); err == nil {
		// The kernel of the corpus could not open it: this is what was put into it before it was damaged.
		size, err := d.Size(devices[0].Name)
		if got := hash(d, devices[0].Name, size); err != nil || got != strings.Fields(string(want))[0] {
			t.Errorf("%s: content has sha256 %s, want %s: %v", devices[0].Name, got, want, err)
		}
		return
	}
	compareLines(t, d, dir, "table.kernel", devices)
	if _, err := os.Stat(filepath.Join(dir, "status.before-read")); err == nil {
		compareLines(t, d, dir, "status.before-read", devices)
	}
	compareContent(t, d, dir)
	compareLines(t, d, dir, "status", devices)
	if want, err := os.ReadFile(filepath.Join(dir, "origin-after-merge.sha256")); err == nil {
		size, err := d.Size("disk0")
		if got := hash(d, "disk0", size); err != nil || got != strings.Fields(string(want))[0] {
			t.Errorf("the origin has sha256 %s once all is merged, want %s: %v", got, want, err)
		}
	}
}

// openMD opens the members of an md array, which has no table but its superblocks.
func openMD(t *testing.T, dir string) {
	d := inprocess.New(t.TempDir())
	d.From = t.TempDir()
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	unpack(t, d, dir)
	packed, err := filepath.Glob(filepath.Join(dir, "disk*.img.zst"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	var supers []*md.Super
	for i := range packed {
		file, err := os.ReadFile(filepath.Join(d.From, fmt.Sprintf("disk%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		s, err := md.Read(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatalf("disk %d: %v", i, err)
		}
		names, supers = append(names, d.Ref(fmt.Sprintf("disk%d", i))), append(supers, s)
	}
	a, err := md.Assemble(names, supers, false)
	if err != nil {
		t.Fatal(err)
	}
	n := scenario.NewDevice{Name: "md0", Minor: -1}
	for _, s := range a.Specs(false) {
		n.Table = append(n.Table, scenario.Line{Start: uint64(s.Start), Len: uint64(s.Len), Type: s.Type, Params: strings.Join(s.Args, " ")})
	}
	if err := d.Create(n); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(dir, "md0.sha256"))
	if err != nil {
		t.Fatal(err)
	}
	size, err := d.Size("md0")
	if words := strings.Fields(string(want)); err != nil || hash(d, "md0", size) != words[0] || fmt.Sprint(size) != words[2] {
		t.Errorf("md0: %d sectors with sha256 %s, want %s: %v", size, hash(d, "md0", size), want, err)
	}
}

// unpack makes the disks.
func unpack(t *testing.T, d *inprocess.Driver, dir string) {
	t.Helper()
	packed, err := filepath.Glob(filepath.Join(dir, "disk*.img.zst"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range packed {
		name := strings.TrimSuffix(filepath.Base(path), ".img.zst")
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		plain, err := zstd.NewReader(in)
		if err != nil {
			t.Fatal(err)
		}
		defer plain.Close()
		out, err := os.Create(filepath.Join(d.From, name))
		if err != nil {
			t.Fatal(err)
		}
		size, err := io.Copy(out, plain)
		if err = errors.Join(err, out.Close()); err == nil {
			err = d.Disk(name, uint64(mapper.SectorsOf(size)), mapper.SectorSize)
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
}

// compareLines compares the tables or the status of all devices with a file of "NAME: LINE".
func compareLines(t *testing.T, d *inprocess.Driver, dir, file string, devices []scenario.NewDevice) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	minors := func(name string) string {
		if i := slices.IndexFunc(devices, func(n scenario.NewDevice) bool { return n.Name == name }); i >= 0 {
			return fmt.Sprintf("dm-%d", i)
		}
		return name
	}
	seen, isStatus := make(map[string]int), strings.HasPrefix(file, "status")
	for line := range strings.Lines(string(text)) {
		name, want, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		lines, err := d.Lines(name, isStatus, false)
		if err != nil || seen[name] >= len(lines) {
			t.Errorf("%s: %s has no line %d: %v", file, name, seen[name], err)
			continue
		}
		got := d.Normal(lines[seen[name]])
		seen[name]++
		want = refs(want, devices, minors)
		words := strings.Fields(want)
		if isStatus && len(words) > 2 && looseStatus[words[2]] != "" {
			continue
		}
		for end := time.Now().Add(patience); isStatus && len(words) > 2 && settles[words[2]] && got != want && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
			if lines, err = d.Lines(name, true, false); err == nil && seen[name] <= len(lines) {
				got = d.Normal(lines[seen[name]-1])
			}
		}
		if isStatus {
			want, got = sameDiscards(words, want), sameDiscards(words, got)
		}
		if got != want {
			t.Errorf("%s of %s:\n got %q\nwant %q", file, name, got, want)
		}
	}
}

// compareContent compares the hashes of the devices' content.
func compareContent(t *testing.T, d *inprocess.Driver, dir string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "expect.sha256"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if strings.HasPrefix(line, "#") {
			continue
		}
		if len(words) != 3 {
			t.Fatalf("expect.sha256: %q", line)
		}
		size, err := d.Size(words[1])
		if err != nil || strconv.FormatUint(size, 10) != words[2] {
			t.Errorf("%s has %d sectors, want %s: %v", words[1], size, words[2], err)
			continue
		}
		if got := hash(d, words[1], size); got != words[0] {
			t.Errorf("%s: content has sha256 %s, want %s", words[1], got, words[0])
		}
	}
}

// hash returns the sha256 of a device; a block of 4096 bytes that cannot be read counts as zeroes.
func hash(d *inprocess.Driver, name string, size uint64) string {
	const blockSectors = 8
	sum := sha256.New()
	buf := make([]byte, mapper.Sector(blockSectors).Bytes())
	for at := uint64(0); at < size; at += blockSectors {
		p := buf[:mapper.Sector(min(blockSectors, size-at)).Bytes()]
		if _, err := d.Read(name, at, p); err != nil {
			clear(p)
		}
		sum.Write(p)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}
