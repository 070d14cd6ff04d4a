package logreplay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dmfs/targets/logwrites"
)

// An entry of a test log; fill is what its data consists of.
type entry struct {
	logwrites.Entry
	fill byte
}

func write(sector, count uint64, fill byte) entry {
	return entry{logwrites.Entry{Sector: sector, Count: count}, fill}
}
func flag(flags uint64) entry { return entry{logwrites.Entry{Flags: flags}, 0} }
func mark(text string) entry  { return entry{logwrites.Entry{Flags: logwrites.FlagMark, Mark: text}, 0} }
func discard(sector, count uint64) entry {
	return entry{logwrites.Entry{Sector: sector, Count: count, Flags: logwrites.FlagDiscard}, 0}
}

// sample is the log that most tests use: 10 entries.
var sample = []entry{
	mark("begin"), write(0, 4, 1), write(2, 4, 2), flag(logwrites.FlagFlush), write(8, 1, 3),
	{logwrites.Entry{Sector: 9, Count: 1, Flags: logwrites.FlagFUA}, 4}, discard(0, 2), flag(logwrites.FlagFlush), mark("two words"), write(20, 2, 5),
}

// encode returns a log with sectors of that size.
func encode(size int, entries []entry) []byte {
	raw := make([]byte, size)
	logwrites.Super{Entries: uint64(len(entries)), SectorSize: size}.Encode(raw)
	for _, e := range entries {
		sector := make([]byte, size)
		e.Encode(sector)
		raw = append(raw, sector...)
		if e.HasData() {
			raw = append(raw, bytes.Repeat([]byte{e.fill}, int(e.Count)*size)...)
		}
	}
	return raw
}

func open(t *testing.T, raw []byte) *Log {
	t.Helper()
	l, err := Open("log", bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A memory is a target in memory.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }
func (m memory) Zero(off, n int64) error                  { clear(m[off : off+n]); return nil }
func (m memory) Size() int64                              { return int64(len(m)) }

// holds returns the first byte of each of the first n sectors.
func holds(p []byte, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprint(&b, p[i*512])
	}
	return b.String()
}

func TestRanges(t *testing.T) {
	l := open(t, encode(512, sample))
	for _, c := range []struct {
		rng  Range
		want string // entries
	}{
		{Range{}, "0 1 2 3 4 5 6 7 8 9"},
		{Range{StartEntry: 7}, "7 8 9"},
		{Range{StartEntry: 10}, ""},
		{Range{Limit: 3}, "0 1 2"},
		{Range{StartEntry: 2, Limit: 3}, "2 3 4"},
		{Range{EndMark: "begin"}, "0"},
		{Range{StartMark: "begin", EndMark: "two words"}, "1 2 3 4 5 6 7 8"},
		{Range{StartMark: "two words"}, "9"},
		{Range{NextFlush: true}, "0 1 2 3"},
		{Range{StartEntry: 4, NextFlush: true}, "4 5 6 7"},
		{Range{NextFUA: true}, "0 1 2 3 4 5"},
		{Range{StartMark: "none"}, "no such mark"},
		{Range{EndMark: "none"}, "no such mark"},
		{Range{StartMark: "two words", EndMark: "begin"}, "no such mark"},
		{Range{StartEntry: 11}, "not among them"},
		{Range{StartEntry: 8, NextFlush: true}, "no flush"},
	} {
		var got []string
		err := l.Each(c.rng, func(i Item) error {
			got = append(got, fmt.Sprint(i.Number))
			return nil
		})
		if err != nil {
			got = []string{err.Error()}
		}
		if text := strings.Join(got, " "); text != c.want && (err == nil || !strings.Contains(text, c.want)) {
			t.Errorf("%+v: got %q, want %q", c.rng, text, c.want)
		}
	}
}

func TestReplay(t *testing.T) {
	for _, size := range []int{512, 4096} {
		l := open(t, encode(size, sample))
		target := memory(bytes.Repeat([]byte{9}, 30*size))
		p := Replayer{Log: l}
		if err := l.Each(Range{}, func(i Item) error { return p.Apply(target, i) }); err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for i := range 24 {
			fmt.Fprint(&got, target[i*size])
		}
		if want := "002222993499999999995599"; got.String() != want {
			t.Errorf("sectors of %d: got %s, want %s", size, got.String(), want)
		}
	}
	l := open(t, encode(512, sample))
	target := memory(make([]byte, 30*512))
	p := Replayer{Log: l, NoDiscard: true}
	if err := l.Each(Range{Limit: 7}, func(i Item) error { return p.Apply(target, i) }); err != nil {
		t.Fatal(err)
	}
	if got, want := holds(target, 10), "1122220034"; got != want {
		t.Errorf("without discards: got %s, want %s", got, want)
	}
}

func TestHostileLogs(t *testing.T) {
	change := func(f func(raw []byte)) []byte {
		raw := encode(512, sample)
		f(raw)
		return raw
	}
	const first = 512 // entry 0, a mark; entry 1, a write, is at 1024
	for name, raw := range map[string][]byte{
		"empty":            {},
		"short":            make([]byte, 20),
		"magic":            change(func(r []byte) { r[0]++ }),
		"version":          change(func(r []byte) { r[8]++ }),
		"sector size":      change(func(r []byte) { r[25]++ }),
		"sector size 0":    change(func(r []byte) { r[25] = 0 }),
		"entries":          change(func(r []byte) { r[20] = 1 }),
		"more entries":     change(func(r []byte) { r[16]++ }),
		"mark of 2^63":     change(func(r []byte) { r[first+31] = 0x80 }),
		"mark of a sector": change(func(r []byte) { r[first+25] = 2 }),
		"flags":            change(func(r []byte) { r[1024+16] = 0x20 }),
		"mark on a write":  change(func(r []byte) { r[1024+24] = 1 }),
		"sector 2^63":      change(func(r []byte) { r[1024+7] = 0x80 }),
		"count 2^63":       change(func(r []byte) { r[1024+15] = 0x80 }),
		"count past end":   change(func(r []byte) { r[1024+9] = 1 }),
		"sector past disk": change(func(r []byte) { r[1024+1] = 1 }),
		"truncated":        encode(512, sample)[:8192],
	} {
		target := memory(bytes.Repeat([]byte{9}, 30*512))
		l, err := Open("log", bytes.NewReader(raw), int64(len(raw)))
		if err == nil {
			p := Replayer{Log: l}
			err = l.Each(Range{StartEntry: 0}, func(i Item) error { return p.Apply(target, i) })
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	discards := encode(512, []entry{discard(1<<40, 1<<50)})
	l := open(t, discards)
	p := Replayer{Log: l}
	if err := l.Each(Range{}, func(i Item) error { return p.Apply(make(memory, 512), i) }); err == nil || !strings.Contains(err.Error(), "outside the target") {
		t.Errorf("a discard outside the target: %v", err)
	}
}

func TestList(t *testing.T) {
	l := open(t, encode(512, sample))
	var b bytes.Buffer
	if err := l.List(&b, Range{Limit: 6}); err != nil {
		t.Fatal(err)
	}
	want := `ENTRY  KIND       SECTOR  COUNT  MARK
    0  mark                      "begin"
    1  write           0      4
    2  write           2      4
    3  flush
    4  write           8      1
    5  write,fua       9      1
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	b.Reset()
	if err := l.ListJSON(&b, Range{StartEntry: 8}); err != nil {
		t.Fatal(err)
	}
	want = `{"sector_size":512,"entries":[
{"entry":8,"kind":"mark","flags":[],"sector":0,"count":0,"mark":"two words","log_offset":9728},
{"entry":9,"kind":"write","flags":[],"sector":20,"count":2,"log_offset":10240}
]}
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

// newJob returns a job for the sample on a file of zeroes.
func newJob(t *testing.T, points, command string) *Job {
	t.Helper()
	j := &Job{Log: open(t, encode(512, sample)), Target: filepath.Join(t.TempDir(), "target"), Command: command}
	if err := os.WriteFile(j.Target, make([]byte, 30*512), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if j.Points, err = ParsePoints(points); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(j.Target), "*check*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
	})
	return j
}

func TestPoints(t *testing.T) {
	for points, want := range map[string]string{
		"every-write": "1 2 4 5 6 9", "write": "1 2 4 5 6 9", "flush": "3 7", "fua": "5", "mark": "0 8", "end": "9", "4": "3 7",
	} {
		j := newJob(t, points, `printf '%s ' $ENTRY >>"$SEEN"`)
		seen := filepath.Join(t.TempDir(), "seen")
		t.Setenv("SEEN", seen)
		if err := j.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(seen)
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: checked behind %q, %v, want %q", points, got, err, want)
		}
	}
	for _, bad := range []string{"", "0", "-1", "always"} {
		if _, err := ParsePoints(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// A check sees at each point what the log says, whatever checks before it have done to what they were given.
func TestChecksDoNotSpoil(t *testing.T) {
	j := newJob(t, "every-write", `
		head -c 5120 "$DISK" | tr '\000\001\002\003\004\005' 012345 | fold -w 512 | cut -c 1 | tr -d '\n' >>"$SEEN"
		echo >>"$SEEN"
		test $ENTRY -eq 2 && dd if=/dev/urandom of="$DISK" bs=512 count=20 conv=notrunc status=none
		test $ENTRY -eq 4 && rm "$DISK"
		test $ENTRY -eq 5 && truncate -s 0 "$DISK"
		true`)
	seen := filepath.Join(t.TempDir(), "seen")
	t.Setenv("SEEN", seen)
	if err := j.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(seen)
	want := "1111000000\n1122220000\n1122220030\n1122220034\n0022220034\n0022220034\n"
	if err != nil || string(got) != want {
		t.Errorf("got\n%swant\n%s%v", got, want, err)
	}
	target, err := os.ReadFile(j.Target)
	if err != nil || holds(target, 10) != "0022220034" {
		t.Errorf("the target holds %s, %v", holds(target, 10), err)
	}
}

func TestInPlace(t *testing.T) {
	j := newJob(t, "flush", `printf x | dd of="$DISK" bs=1 seek=10240 conv=notrunc status=none`)
	j.InPlace = true
	if err := j.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	target, _ := os.ReadFile(j.Target)
	if target[10240] != 5 || j.copy != nil { // entry 9 comes behind the last flush
		t.Errorf("got %d", target[10240])
	}
}

// The first point that fails is found, all of them tried or by halves, and the target is left so.
func TestFailure(t *testing.T) {
	for _, bisect := range []bool{false, true} {
		flushes := newJob(t, "flush", "true") // the last point is not the last entry
		flushes.Bisect = bisect
		if err := flushes.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		if have, _ := os.ReadFile(flushes.Target); holds(have, 22)[20:] != "55" {
			t.Errorf("bisect %v: not all was replayed", bisect)
		}
		for fails, want := range map[int]string{0: "1 2 <nil>", 3: "4 5 2", 7: "9 10 6", 99: "none"} {
			j := newJob(t, "every-write", fmt.Sprintf(`echo said; test $ENTRY -lt %d`, fails))
			j.Bisect = bisect
			said := ""
			j.Output = func(out []byte) { said = string(out) }
			err := j.Run(context.Background())
			got := "none"
			var f *Failure
			if errors.As(err, &f) {
				passed := "<nil>"
				if f.Passed != nil {
					passed = fmt.Sprint(f.Passed.Number)
				}
				got = fmt.Sprint(f.At.Number, " ", f.Entries, " ", passed)
				if said != "said\n" {
					t.Errorf("output %q", said)
				}
				want := memory(make([]byte, 30*512))
				p := Replayer{Log: j.Log}
				if err := j.Log.Each(Range{Limit: f.Entries}, func(i Item) error { return p.Apply(want, i) }); err != nil {
					t.Fatal(err)
				}
				if have, _ := os.ReadFile(j.Target); !bytes.Equal(have, want) {
					t.Errorf("fails from %d on, bisect %v: the target is not as it was behind the failure", fails, bisect)
				}
			} else if err != nil {
				t.Fatal(err)
			} else if have, _ := os.ReadFile(j.Target); holds(have, 22)[20:] != "55" {
				t.Errorf("fails from %d on, bisect %v: not all was replayed", fails, bisect)
			}
			if got != want {
				t.Errorf("fails from %d on, bisect %v: got %s, want %s", fails, bisect, got, want)
			}
		}
	}
}

func TestTrouble(t *testing.T) {
	var f *Failure
	j := newJob(t, "end", "/nosuch/command")
	if err := j.Run(context.Background()); err == nil || errors.As(err, &f) {
		t.Errorf("a command that cannot be run: %v", err)
	}
	j = newJob(t, "every-write", "sleep 100")
	ctx, cancel := context.WithCancel(context.Background())
	j.Replayed = func(Item) { cancel() }
	if err := j.Run(ctx); err == nil || errors.As(err, &f) {
		t.Errorf("interrupted: %v", err)
	}
	for _, bisect := range []bool{false, true} {
		j = newJob(t, "end", "true")
		j.Range.StartEntry, j.Bisect = 10, bisect
		if err := j.Run(context.Background()); !errors.Is(err, errEmpty) {
			t.Errorf("nothing to check: %v", err)
		}
	}
	j = newJob(t, "end", "true")
	j.Target += "-missing"
	if err := j.Run(context.Background()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no target: %v", err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	var out tail
	for range 100 {
		if n, err := io.Copy(&out, bytes.NewReader(make([]byte, 10000))); n != 10000 || err != nil {
			t.Fatal(n, err)
		}
	}
	if n := out.buf.Len(); n < maxOutput || n > 2*maxOutput+10000 {
		t.Errorf("%d bytes are kept", n)
	}
}

// Whatever a log holds, replaying it ends, and touches nothing outside the target.
func FuzzLog(f *testing.F) {
	f.Add(encode(512, sample))
	f.Add(encode(1024, sample[:4]))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := Open("log", bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			return
		}
		p := Replayer{Log: l}
		target := make(memory, 16384)
		_ = l.Each(Range{}, func(i Item) error {
			_ = i.String()
			return p.Apply(target, i)
		})
		_ = l.List(io.Discard, Range{StartEntry: 1})
		_ = l.ListJSON(io.Discard, Range{EndMark: "begin"})
	})
}
