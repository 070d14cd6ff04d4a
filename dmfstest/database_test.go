package dmfstest_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"dmfs/dmfstest"
)

// This is a worked example: bbolt, a database in one file, lives on a mapped device, without a file system and without root. A child
// process commits as fast as it can, several writers at a time, and says each commit that the database has acknowledged. At some
// request, chosen by the seed, the power is cut; the child is killed, as it would be with the machine. Then the power is restored, the
// database is opened and checked, and every commit that was acknowledged must be there. So again, on what is left, 200 times.
//
//	go test ./dmfstest -run Database -v -cuts 200 -seed 1

var (
	cuts = flag.Int("cuts", 200, "power cuts that the database is taken through")
	seed = flag.Uint64("seed", 1, "of the power cuts")
)

const (
	databaseSize = 16 << 20
	writers      = 3
	// patience bounds everything that is waited for.
	patience = 30 * time.Second
)

// TestMain runs the children, which are told the path of the database.
func TestMain(m *testing.M) {
	path := os.Getenv("DMFSTEST_DATABASE")
	var err error
	switch os.Getenv("DMFSTEST_CHILD") {
	case "load":
		err = load(path)
	case "check":
		err = check(path)
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child returns a command that does a part of the test in a process of its own.
func child(what, path string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DMFSTEST_CHILD="+what, "DMFSTEST_DATABASE="+path)
	return cmd
}

// bucket is where a writer counts.
func bucket(writer int) []byte { return []byte{'w', byte(writer)} }

// number is a key: what a writer has counted to. Its value is as long again as the number says, so that pages split and go free.
func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func value(n uint64) []byte {
	return []byte(strings.Repeat(fmt.Sprintf("commit %d ", n), int(n%40)+1))
}

// keep is how many of a writer's last commits stay in the database.
const keep = 500

// load works on the database until something fails.
func load(path string) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: patience})
	if err != nil {
		return err
	}
	db.MaxBatchDelay = time.Millisecond
	failed := make(chan error, writers)
	for w := range writers {
		go func() { failed <- write(db, w) }()
	}
	return <-failed
}

// write commits the next number again and again, and says each that is acknowledged.
func write(db *bbolt.DB, w int) error {
	for {
		var n uint64
		err := db.Batch(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(bucket(w))
			if err != nil {
				return err
			}
			n = b.Sequence() + 1
			if n > keep {
				if err := b.Delete(number(n - keep)); err != nil {
					return err
				}
			}
			return errors.Join(b.SetSequence(n), b.Put(number(n), value(n)))
		})
		if err != nil {
			return err
		}
		fmt.Printf("%d %d\n", w, n) // one write(2) a line
	}
}

// check opens the database, has it check itself, looks at all values, and says what each writer has counted to.
func check(path string) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: patience})
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // nothing was written
	return db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			return fmt.Errorf("inconsistent: %w", err)
		}
		for w := range writers {
			b := tx.Bucket(bucket(w))
			if b == nil {
				continue // it has not committed yet
			}
			for n := max(b.Sequence(), keep) - keep + 1; n <= b.Sequence(); n++ {
				if got := b.Get(number(n)); string(got) != string(value(n)) {
					return fmt.Errorf("writer %d: commit %d holds %.40q", w, n, got)
				}
			}
			fmt.Println(w, b.Sequence())
		}
		return nil
	})
}

// survivors checks the database, in a process of its own since a broken one may take it down, and compares it with what was
// acknowledged. It returns what each writer has counted to, which may be one more: a commit that was under way.
func survivors(path string, acknowledged [writers]uint64) (counts [writers]uint64, err error) {
	var complaint strings.Builder
	cmd := child("check", path)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return counts, fmt.Errorf("%w: %.300s", err, complaint.String())
	}
	for line := range strings.Lines(string(out)) {
		if err := note(line, &counts); err != nil {
			return counts, err
		}
	}
	for w, n := range counts {
		if n < acknowledged[w] || n > acknowledged[w]+1 {
			return counts, fmt.Errorf("writer %d: %d commits are there, %d were acknowledged", w, n, acknowledged[w])
		}
	}
	return counts, nil
}

// note enters what a child has said of a writer.
func note(line string, counts *[writers]uint64) error {
	var w int
	var n uint64
	if _, err := fmt.Sscan(line, &w, &n); err != nil || w < 0 || w >= writers || n <= counts[w] {
		return fmt.Errorf("a child said %q", line)
	}
	counts[w] = n
	return nil
}

// format puts an empty database onto a device: made in a file, since a device cannot grow.
func format(t *testing.T, m *dmfstest.Mount, device string) {
	t.Helper()
	path := m.Image("empty.db", 0)
	db, err := bbolt.Open(path, 0o600, nil)
	must(t, err)
	must(t, db.Close())
	image, err := os.ReadFile(path)
	must(t, err)
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(image, 0)
	must(t, errors.Join(err, f.Sync(), f.Close()))
}

// cutUnderLoad lets a child work until the power is cut, and returns what it has said. acknowledged is what the writers had
// counted to.
func cutUnderLoad(t *testing.T, disk *dmfstest.PowerDisk, path string, acknowledged [writers]uint64, after int, loss dmfstest.Loss) [writers]uint64 {
	t.Helper()
	loader := child("load", path)
	said, err := loader.StdoutPipe()
	must(t, err)
	disk.CutAfter(after, "any", loss)
	must(t, loader.Start())
	read := make(chan error)
	go func() {
		lines := bufio.NewScanner(said)
		var err error
		for lines.Scan() {
			err = errors.Join(err, note(lines.Text(), &acknowledged))
		}
		read <- errors.Join(err, lines.Err())
	}()
	off := disk.AwaitCut(patience)
	loader.Process.Kill() //nolint:errcheck // it may have ended by itself
	err = <-read
	loader.Wait() //nolint:errcheck // it was killed
	if !off {
		t.Fatal("the child did not come to the request at which the power is cut")
	}
	must(t, err)
	return acknowledged
}

// modes are the ways in which the power is cut, in turn.
var modes = []func(seed uint64) dmfstest.Loss{
	dmfstest.Random, dmfstest.Torn,
	func(uint64) dmfstest.Loss { return dmfstest.None() },
	func(uint64) dmfstest.Loss { return dmfstest.All() },
}

// after says at which request the power is cut: any from the first on, since opening the database needs some too.
func after(s uint64) int { return int(s*2654435761>>7%97*3) + 1 }

func TestDatabaseSurvivesPowerCuts(t *testing.T) {
	m := start(t)
	disk := m.PowerDisk("db", databaseSize)
	format(t, m, disk.Path())
	var acknowledged [writers]uint64
	for i := range uint64(*cuts) {
		s := *seed + i
		acknowledged = cutUnderLoad(t, disk, disk.Path(), acknowledged, after(s), modes[s%uint64(len(modes))](s))
		disk.Restore()
		var err error
		if acknowledged, err = survivors(disk.Path(), acknowledged); err != nil {
			t.Fatalf("cut %d, seed %d: %v", i, s, err)
		}
	}
	t.Logf("%d cuts, every one of %v commits there; %d sectors lost, %d kept, %d of older versions, %d requests torn",
		disk.Counter("cuts"), acknowledged, disk.Counter("lost"), disk.Counter("kept"), disk.Counter("older"), disk.Counter("torn"))
	if disk.Counter("lost") == 0 {
		t.Error("no cut has lost anything: this shows nothing")
	}
}

// The same on a disk that acknowledges flushes without doing them loses commits, and the check says so.
func TestDatabaseOnALyingDisk(t *testing.T) {
	m := start(t)
	disk := m.PowerDisk("disk", databaseSize)
	liar := m.Create("liar", "0 %d inject %s 0", databaseSize/dmfstest.SectorSize, disk.Name())
	format(t, m, liar.Path())
	liar.Message("arm lost op=flush")
	var acknowledged [writers]uint64
	for s := *seed; s < *seed+10; s++ {
		acknowledged = cutUnderLoad(t, disk, liar.Path(), acknowledged, 200+after(s), dmfstest.Random(s))
		disk.Restore()
		var err error
		if acknowledged, err = survivors(liar.Path(), acknowledged); err != nil {
			t.Logf("after %d cuts: %v", s-*seed+1, err)
			return
		}
	}
	t.Error("a disk that does not flush was not found out in 10 cuts")
}
