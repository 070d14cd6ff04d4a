package kernel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/targets"
	"dmfs/tests/scenario"
)

// A crashLoad is devices that are used while the power is cut, and a scenario that looks at them afterwards.
type crashLoad struct {
	disks   []string // names in the scenario, in the order of 7:0, 7:1 ...
	sectors []mapper.Sector
	setUp   []string // commands: "create NAME TABLE", "message NAME WORDS", "fill NAME"
	step    func(m *crashMachine)
	look    string        // steps of the scenario, after its disks
	used    mapper.Sector // of its device, if not all
	hashed  string        // how the names of disks begin that are to hold the same in the end
	heavy   bool          // only if states are asked for: the kernel of the guest hangs now and then in md
}

// A crashMachine is a manager on disks of one power supply.
type crashMachine struct {
	t      *testing.T
	mgr    *mapper.Manager
	rnd    *rand.Rand
	serial uint64
	snaps  int
	used   mapper.Sector
}

// tell carries out a command and reports whether it went well.
func (m *crashMachine) tell(command string) bool {
	m.t.Helper()
	verb, rest, _ := strings.Cut(command, " ")
	name, rest, _ := strings.Cut(rest, " ")
	if verb == "create" {
		specs, err := mapper.ParseTable(rest)
		if err == nil {
			_, err = m.mgr.Create(m.t.Context(), mapper.NewDevice{Name: name, Minor: -1, Table: specs})
		}
		return err == nil
	}
	d := m.device(name)
	var err error
	switch verb {
	case "suspend":
		err = d.Suspend(m.t.Context(), false)
	case "resume":
		err = d.Resume(m.t.Context(), mapper.ResumeOptions{})
	case "fill":
		err = errors.Join(
			d.Submit(m.t.Context(), mapper.Request{Op: mapper.OpWrite, Count: d.Sectors(), Data: mappertest.Stamped(0, d.Sectors(), 0)}),
			d.Submit(m.t.Context(), mapper.Request{Op: mapper.OpFlush}))
	case "remove":
		err = m.mgr.Remove(m.t.Context(), name, mapper.RemoveOptions{})
	case "until":
		err = m.until(d, rest)
	case "message":
		_, err = d.Message(m.t.Context(), 0, strings.Fields(rest))
	}
	return err == nil
}

// until waits until the status of d has a word.
func (m *crashMachine) until(d *mapper.Device, word string) error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		lines, err := d.Status(m.t.Context(), mapper.LiveSlot, true)
		if err != nil {
			return err
		}
		for _, l := range lines {
			if slices.Contains(strings.Fields(l.Params), word) {
				return nil
			}
		}
	}
	return fmt.Errorf("%s never comes", word)
}

func (m *crashMachine) device(name string) *mapper.Device {
	m.t.Helper()
	for _, d := range m.mgr.BottomUp() {
		if d.Name() == name {
			return d
		}
	}
	m.t.Fatalf("no device %s", name)
	return nil
}

// use writes to a device here and there, or discards from it, or flushes it.
func (m *crashMachine) use(name string, discards bool) {
	m.t.Helper()
	d := m.device(name)
	n := mapper.Sector(1 + m.rnd.IntN(300))
	end := d.Sectors()
	if m.used != 0 {
		end = m.used
	}
	at := mapper.Sector(m.rnd.IntN(int(end - n)))
	m.serial++
	r := mapper.Request{Op: mapper.OpWrite, Start: at, Count: n, Data: mappertest.Stamped(at, n, m.serial)}
	switch k := m.rnd.IntN(10); {
	case k == 0:
		r = mapper.Request{Op: mapper.OpFlush}
	case k < 3 && discards:
		r = mapper.Request{Op: mapper.OpDiscard, Start: at &^ 127, Count: 256}
		r.Count = min(r.Count, d.Sectors()-r.Start)
	}
	if err := d.Submit(m.t.Context(), r); err != nil {
		m.t.Fatal(err)
	}
}

var crashLoads = map[string]crashLoad{
	"thin": {
		disks: []string{"meta", "data"}, sectors: []mapper.Sector{4096, 16384},
		setUp: []string{
			"create pool 0 16384 thin-pool 7:0 7:1 128 0", "message pool create_thin 0", "message pool create_thin 1",
			"create a 0 4096 thin pool 0", "create b 0 4096 thin pool 1",
		},
		step: func(m *crashMachine) {
			switch m.rnd.IntN(12) {
			case 0:
				m.tell("suspend a")
				m.tell(fmt.Sprintf("message pool create_snap %d 0", 2+m.snaps%3))
				m.snaps++
				m.tell("resume a")
			case 1:
				m.tell(fmt.Sprintf("message pool delete %d", 2+m.rnd.IntN(3)))
			default:
				m.use([]string{"a", "b"}[m.rnd.IntN(2)], true)
			}
		},
		look: "create pool 0 16384 thin-pool @meta@ @data@ 128 0\n" + lookAtThins(5),
	},
	"snapshot": {
		disks: []string{"base", "store"}, sectors: []mapper.Sector{4096, 8192},
		setUp: []string{"create o 0 4096 snapshot-origin 7:0", "create s 0 4096 snapshot 7:0 7:1 P 16"},
		step:  func(m *crashMachine) { m.use([]string{"o", "s"}[m.rnd.IntN(2)], false) },
		// The kernel cuts writes to an origin by the snapshots that there were when it was resumed.
		look: "create s 0 4096 snapshot @base@ @store@ P 16\ncreate o 0 4096 snapshot-origin @base@\nhash o\nhash s\nstatus s\n" +
			"write o 0 64 900\nwrite s 2048 64 901\nflush o\nflush s\nhash s\n",
	},
	"integrity":        integrityLoad("4 J 3 internal_hash:crc32c journal_sectors:300 fix_padding"),
	"integrity-mac":    integrityLoad("20 J 5 internal_hash:sha1 journal_sectors:300 journal_mac:hmac(sha256):" + crashKey + " fix_hmac fix_padding"),
	"integrity-ctr":    integrityLoad("4 J 4 internal_hash:crc32c journal_sectors:300 journal_crypt:ctr(aes):" + crashKey + " fix_padding"),
	"integrity-bitmap": integrityLoad("4 B 4 internal_hash:crc32c sectors_per_bit:16 bitmap_flush_interval:1 fix_padding"),
	// The kernel goes on with reshapes that a power cut interrupted.
	"reshape-layout": reshapeLoad(3, 3, "raid5_ls 3 16", "raid5_rs 5 32", "", "raid5_rs 3 32"),
	"reshape-grow":   reshapeLoad(3, 4, "raid5_ls 3 16", "raid5_ls 7 16", "delta_disks 1", "raid5_ls 3 16"),
	"reshape-shrink": reshapeLoad(5, 4, "raid6_nc 3 16", "raid6_nc 7 16", "delta_disks -1", "raid6_nc 3 16"),
	"reshape-format": moveLoad(4, 4, "raid10 %d 16", "", "raid10_offset %d 32", "raid10_format offset"),
	"reshape-spread": moveLoad(4, 6, "raid10 %d 32", "data_offset 64", "raid10 %d 32", "delta_disks 2"),
	// And replays journals.
	"raid-journal":      journalLoad("raid5_ls", 3, "writethrough"),
	"raid-journal-six":  journalLoad("raid6_nr", 4, "writethrough"),
	"raid-journal-back": journalLoad("raid5_ra", 3, "writeback"),
	"raid-journal-both": journalLoad("raid6_zr", 4, "writeback"),
	// And with takeovers while the member that came is filled.
	"takeover": {
		heavy: true,
		disks: []string{"leg0", "leg1", "leg2", "leg3", "leg4", "leg5", "leg6", "leg7"}, sectors: []mapper.Sector{64, 64, 64, 64, 1024, 1024, 1024, 1024},
		setUp: []string{
			"create r 0 2048 raid raid5_n 3 16 region_size 64 3 7:0 7:4 7:1 7:5 7:2 7:6", "until r idle", "until r 1024/1024", "remove r",
			"create r 0 2048 raid raid6_n_6 7 16 rebuild 3 max_recovery_rate 400 region_size 64 4 7:0 7:4 7:1 7:5 7:2 7:6 7:3 7:7",
		},
		step: func(m *crashMachine) {
			time.Sleep(10 * time.Millisecond)
			m.use("r", false)
		},
		look: "create r 0 2048 raid raid6_n_6 3 16 region_size 64 4 @leg0@ @leg4@ @leg1@ @leg5@ @leg2@ @leg6@ @leg3@ @leg7@\n" +
			"until r AAAA\nuntil r 1024/1024\nuntil r idle\nread r 0 2048\n",
	},
}

const crashKey = "000102030405060708090a0b0c0d0e0f"

// integrityLoad is an integrity device with these arguments. Each block that a cut left is read, then some are written.
func integrityLoad(args string) crashLoad {
	const table = "create i 0 2000 integrity %s 0 %s"
	return crashLoad{
		disks: []string{"disk"}, sectors: []mapper.Sector{4096},
		setUp: []string{fmt.Sprintf(table, "7:0", args), "fill i"},
		step:  func(m *crashMachine) { m.use("i", false) },
		look:  fmt.Sprintf(table, "@disk@", args) + "\nhash i\npause\nhash i\nwrite i 100 64 900\nflush i\nhash i\n",
	}
}

// reshapeLoad is a reshape from some members to others. made, asks and runs are how the tables begin: of the array, of the one that asks for the
// reshape, with an option, and of the one that does it.
func reshapeLoad(before, after int, made, asks, option, runs string) crashLoad {
	const dev = 1024
	load := crashLoad{heavy: true, step: func(m *crashMachine) {
		time.Sleep(10 * time.Millisecond) // something moves meanwhile
		m.use("r", false)
	}}
	all := max(before, after)
	legs := func(n int, form string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, form, i, all+i)
		}
		return b.String()
	}
	const here, there = " 7:%d 7:%d", " @leg%d@ @leg%d@"
	for i := range 2 * all {
		load.disks = append(load.disks, fmt.Sprintf("leg%d", i))
		load.sectors = append(load.sectors, []mapper.Sector{64, dev + 64}[i/all])
	}
	parity := int(made[4]-'0') - 4
	create := func(members int, kind, options, form string) string {
		return fmt.Sprintf("create r 0 %d raid %s region_size 64%s %d%s", dev*(members-parity), kind, options, members, legs(members, form))
	}
	slow := strings.Replace(runs, " 3 ", " 5 ", 1)
	// The array is new, and all zeroes, so that it is as good at an offset as at none.
	load.setUp = []string{
		create(before, made, "", here), "until r idle", fmt.Sprintf("until r %d/%d", dev, dev), "remove r",
		create(all, asks, strings.TrimRight(" "+option, " ")+" data_offset 64", here), "remove r",
		create(all, slow, " max_recovery_rate 400", here),
	}
	load.used = dev * mapper.Sector(min(before, after)-parity)
	load.look = create(all, runs, "", there) + fmt.Sprintf("\nuntil r %d/%d\nuntil r idle\nread r 0 %d\n", dev, dev, load.used)
	return load
}

// moveLoad is a reshape of a raid10 from some members to others, of an array that is full: nobody writes, for a write that the power cut leaves copies
// different, and the kernel reads any. made and asks are how the tables begin of the array and of those that reshape it, with
// the number of parameters to be filled in, and option is one of the table that asks. With data_offset the array is moved there before it is filled.
func moveLoad(before, after int, made, offset, asks, option string) crashLoad {
	const dev = 1024
	load := crashLoad{heavy: true, step: func(*crashMachine) { time.Sleep(10 * time.Millisecond) }}
	var here, there []string
	for i := range 2 * after {
		load.disks = append(load.disks, fmt.Sprintf("leg%d", i))
		load.sectors = append(load.sectors, []mapper.Sector{64, dev + 64}[i/after])
	}
	for i := range after {
		here = append(here, fmt.Sprintf("7:%d 7:%d", i, after+i))
		there = append(there, fmt.Sprintf("@leg%d@ @leg%d@", i, after+i))
	}
	create := func(kind, options string, legs []string) string {
		words := strings.Fields("region_size 64 " + options)
		kind = fmt.Sprintf(kind, 1+len(words))
		return fmt.Sprintf("create r 0 %d raid %s %s %d %s", dev*len(legs)/2, kind, strings.Join(words, " "), len(legs), strings.Join(legs, " "))
	}
	format := ""
	if strings.HasPrefix(option, "raid10_format") {
		format = option
	}
	synced := fmt.Sprintf("until r %d/%d", dev*before/2, dev*before/2)
	load.setUp = []string{create(strings.Replace(made, "32", "16", 1), "", here[:before]), "until r idle", synced, "remove r"}
	if offset != "" {
		load.setUp = append(load.setUp, create(made, offset, here[:before]), "remove r")
	}
	load.setUp = append(load.setUp, create(made, "", here[:before]), "until r idle", synced, "fill r", "remove r",
		create(asks, option+" data_offset 64", here), "remove r", create(asks, format+" max_recovery_rate 400", here))
	load.used = dev * mapper.Sector(before) / 2
	load.look = create(asks, format, there) + fmt.Sprintf("\nuntil r %s\nuntil r idle\nread r 0 %d\n", strings.Repeat("A", after), load.used)
	return load
}

// journalLoad is an array with a journal that is full now and then. Its members hold the same once the journal is replayed.
func journalLoad(kind string, members int, mode string) crashLoad {
	const dev = 1024
	load := crashLoad{heavy: true, hashed: "data", disks: []string{"log"}, sectors: []mapper.Sector{8192}, step: func(m *crashMachine) { m.use("r", false) }}
	parity := int(kind[4]-'0') - 4
	var here, there string
	for i := range members {
		load.disks = append(load.disks, fmt.Sprintf("meta%d", i), fmt.Sprintf("data%d", i))
		load.sectors = append(load.sectors, 64, dev)
		here += fmt.Sprintf(" 7:%d 7:%d", 2*i+1, 2*i+2)
		there += fmt.Sprintf(" @meta%d@ @data%d@", i, i)
	}
	create := func(journal, legs string) string {
		return fmt.Sprintf("create r 0 %d raid %s 7 16 region_size 64 journal_dev %s journal_mode %s %d%s", dev*(members-parity), kind, journal, mode, members, legs)
	}
	load.setUp = []string{create("7:0", here), "until r idle", fmt.Sprintf("until r %d/%d", dev, dev), "fill r"}
	load.look = create("@log@", there) + fmt.Sprintf("\nuntil r idle\nread r 0 %d\nremove r\n", dev*(members-parity))
	return load
}

// lookAtThins is steps that read n thin devices, which may not all be there, and write to the first of them.
func lookAtThins(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "create t%d 0 4096 thin @pool@ %d\nhash t%d\nstatus t%d\n", i, i, i, i)
	}
	b.WriteString("write t0 0 200 900\nflush t0\nmessage pool 0 create_snap 9 0\nhash t0\nhash t1\n")
	return b.String()
}

// The kernel opens what power cuts left of our thin pools, snapshots and integrity devices, and sees in it what we see; thin_check finds nothing wrong, neither before nor
// after the kernel has worked on.
func TestCrashStates(t *testing.T) {
	boot(t)
	seed := mappertest.Seed(t)
	for name, load := range crashLoads {
		if load.heavy && mappertest.Cuts(0) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			for i, power := range crashStates(t, load, rand.New(rand.NewPCG(seed, 0)), mappertest.Cuts(5)) {
				if err := lookBoth(t, name, load, power); err != nil {
					t.Fatalf("state %d (seed %d): %v", i, seed, err)
				}
			}
		})
	}
}

// crashStates uses the devices, and returns what count power cuts at requests drawn from all left.
func crashStates(t *testing.T, load crashLoad, rnd *rand.Rand, count int) []*mappertest.Power {
	t.Helper()
	power := new(mappertest.Power)
	var disks []mapper.Disk
	for i, n := range load.sectors {
		disks = append(disks, power.Disk(fmt.Sprintf("7:%d", i), n))
	}
	g := new(mapper.Registry)
	targets.Register(g)
	m := &crashMachine{t: t, mgr: mapper.NewManager(g, mapper.Options{Files: mappertest.NewFiles(disks...)}), rnd: rnd, used: load.used}
	for _, c := range load.setUp {
		if !m.tell(c) {
			t.Fatalf("%s: %s", c, m.mgr.Log().Text())
		}
	}
	states := make([]*mappertest.Power, 0, count)
	requests := 0
	var mu sync.Mutex // what a target does in the background goes on during the steps
	seeds := rand.New(rand.NewPCG(rnd.Uint64(), 1))
	power.SetBefore(func(_ *mappertest.Crash, r mapper.Request) {
		if r.Op == mapper.OpRead {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if requests++; len(states) < count {
			states = append(states, power.Cut(seeds.Uint64()))
		} else if i := seeds.IntN(requests); i < count {
			states[i] = power.Cut(seeds.Uint64())
		}
	})
	for range 120 {
		load.step(m)
	}
	power.SetBefore(nil)
	for _, d := range slices.Backward(m.mgr.BottomUp()) {
		if err := m.mgr.Remove(t.Context(), d.Name(), mapper.RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return states
}

// lookBoth plays the scenario of a load on the disks in the kernel and here, and returns how they differ.
func lookBoth(t *testing.T, name string, load crashLoad, power *mappertest.Power) error {
	t.Helper()
	dir := t.TempDir()
	left, after := filepath.Join(dir, "left"), filepath.Join(dir, "after")
	if err := errors.Join(os.Mkdir(left, 0o755), os.Mkdir(after, 0o755)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var text strings.Builder
	text.WriteString("# what a power cut left\n")
	for i, d := range power.Disks() {
		kind := " metadata"
		if load.hashed != "" && strings.HasPrefix(load.disks[i], load.hashed) {
			kind = ""
		}
		fmt.Fprintf(&text, "disk %s %d%s\n", load.disks[i], load.sectors[i], kind)
		data := make([]byte, d.Sectors().Bytes())
		err := d.Submit(context.Background(), mapper.Request{Op: mapper.OpRead, Count: d.Sectors(), Data: data})
		if err := errors.Join(err, os.WriteFile(filepath.Join(left, load.disks[i]), data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := scenario.Parse(name, text.String()+load.look)
	if err != nil {
		t.Fatal(err)
	}
	if err := thinCheck(name, left); err != nil {
		return err
	}
	want, err := playThere(t, s, Images{From: left, To: after})
	if err != nil {
		return err
	}
	got, err := playHere(s, left, t.TempDir())
	if err != nil {
		return err
	}
	differences, err := scenario.LoadDifferences(filepath.Join(scenario.Dir(), "differences.toml"))
	if err != nil {
		return err
	}
	return errors.Join(differences.Compare(name, "process", want, got), thinCheck(name, after))
}

// thinCheck runs thin_check on the metadata in a directory, where it is installed and there are some.
func thinCheck(name, dir string) error {
	path, err := exec.LookPath("thin_check")
	if name != "thin" || err != nil {
		return nil //nolint:nilerr // what is not installed is not run
	}
	if out, err := exec.Command(path, "-q", filepath.Join(dir, "meta")).CombinedOutput(); err != nil {
		return fmt.Errorf("thin_check: %w: %s", err, out)
	}
	return nil
}
