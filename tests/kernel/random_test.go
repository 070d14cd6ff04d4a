package kernel

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dmfs/tests/scenario"
	"dmfs/tests/scenario/inprocess"
	"dmfs/tests/scenario/random"
)

var (
	seed  = flag.Uint64("seed", 1, "seed of the first random scenario; each next has the next")
	cases = flag.Int("cases", 24, "random scenarios to play")
)

// crossEvery is how many random scenarios there are to one whose disks are exchanged.
const crossEvery = 4

// What comes by chance is done as the kernel does it: results, tables, data of devices and disks.
func TestRandom(t *testing.T) {
	boot(t)
	_, ds := load(t)
	began := time.Now()
	for i := range *cases {
		s := random.Make(*seed + uint64(i))
		err := judge(t, ds, s, i%crossEvery == 0)
		if err == nil {
			continue
		}
		least := random.Shrink(s, 150, func(try *scenario.Scenario) bool { return judge(t, ds, try, i%crossEvery == 0) != nil })
		leastErr := judge(t, ds, least, i%crossEvery == 0)
		if leastErr == nil { // it fails now and then: what failed first says more than what does not
			least, leastErr = s, err
		}
		path := keep(t, least)
		t.Errorf("%s: %v\nof which the smallest that fails, in %s, is\n%s%v\nto repeat: make oracle SEED=%d N=1",
			s.Name, err, path, least.Text(), leastErr, *seed+uint64(i))
		if t.Failed() && i > 0 && time.Since(began) > 5*time.Minute {
			break
		}
	}
	took := time.Since(began)
	t.Logf("%d random scenarios in %v: %.0f a minute", *cases, took.Round(time.Second), float64(*cases)/took.Minutes())
}

// keep saves a scenario that fails, where it outlives the test.
func keep(t *testing.T, s *scenario.Scenario) string {
	t.Helper()
	dir := filepath.Join("..", "..", "build", "oracle")
	path := filepath.Join(dir, s.Name+".scenario")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path, []byte(s.Text()), 0o644)); err != nil {
		t.Error(err)
	}
	return path
}

// judge plays s in process and in the kernel, and returns how they differ. With cross, each then makes the devices on
// the disks that the other has written.
func judge(t *testing.T, ds *scenario.Differences, s *scenario.Scenario, cross bool) error {
	t.Helper()
	dir := t.TempDir()
	ours, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
	if err := errors.Join(os.Mkdir(ours, 0o755), os.Mkdir(theirs, 0o755)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	got, again, err := scenario.PlayOn(s, inprocess.New(ours))
	if err != nil {
		return err
	}
	images := Images{}
	if cross {
		images.To = theirs
	}
	want, err := playThere(t, s, images)
	if err != nil {
		return err
	}
	if err := ds.Compare(s.Name, "process", want, got); err != nil || !cross || s.Forgets {
		return err
	}
	return exchange(t, ds, again, ours, theirs)
}

// renew gives up a guest that does not answer as it should.
func renew(t *testing.T) {
	t.Helper()
	guest.Close()
	guest.Guest = nil
}

// exchange has each side make the devices on the disks of the other and work on, and then read its own disks again, as
// the other has left them.
func exchange(t *testing.T, ds *scenario.Differences, again *scenario.Scenario, ours, theirs string) error {
	t.Helper()
	onward := scenario.Continue(again)
	dir := t.TempDir()
	oursBack, theirsBack := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
	if err := errors.Join(os.Mkdir(oursBack, 0o755), os.Mkdir(theirsBack, 0o755)); err != nil {
		t.Fatal(err)
	}
	want, err := playThere(t, onward, Images{From: ours, To: oursBack})
	if err != nil {
		return fmt.Errorf("the kernel on our disks: %w", err)
	}
	got, err := playHere(onward, theirs, theirsBack)
	want, got = again.HandedOver(want), again.HandedOver(got)
	if err == nil {
		err = ds.Compare(again.Name, "process", want, got)
	}
	if err != nil {
		return fmt.Errorf("on each other's disks: %w", err)
	}

	left := got
	got, err = playHere(again, oursBack, t.TempDir())
	got = again.HandedOver(got)
	if err == nil && got.Hashes() != want.Hashes() {
		err = fmt.Errorf("the kernel left\n%swhich reads here as\n%s", want.Hashes(), got.Hashes())
	}
	if err != nil {
		return fmt.Errorf("on our disks, as the kernel has written on: %w", err)
	}
	got, err = playThere(t, again, Images{From: theirsBack})
	got = again.HandedOver(got)
	if err == nil && got.Hashes() != left.Hashes() {
		err = fmt.Errorf("we left\n%swhich reads there as\n%s", left.Hashes(), got.Hashes())
	}
	if err != nil {
		return fmt.Errorf("the kernel on its disks, as we have written on: %w", err)
	}
	return nil
}

// guests is how many are tried, should they hang or panic.
const guests = 4

// playThere plays s in the kernel. Its md hangs now and then in a check of an array with parity (in raid5_quiesce), and panics in the
// resync of one that grows, so whoever gets no answer gets another guest.
func playThere(t *testing.T, s *scenario.Scenario, images Images) (scenario.Transcript, error) {
	t.Helper()
	for n := 1; ; n++ {
		tr, err := boot(t).Play(s, images)
		if err == nil || scenario.IsCannot(err) {
			return tr, err
		}
		renew(t)
		if n == guests || !errors.Is(err, errSilent) && !errors.Is(err, errEnded) {
			return nil, err
		}
		t.Logf("%v; once more", err)
	}
}

// playHere plays s in process on copies in the directory to of the disks in from.
func playHere(s *scenario.Scenario, from, to string) (scenario.Transcript, error) {
	d := inprocess.New(to)
	d.From = from
	return scenario.Play(s, d)
}

// Disks that one side has written are read by the other through the same tables, written on, and handed back.
func TestCrossOpening(t *testing.T) {
	boot(t)
	list, ds := load(t)
	for _, s := range list {
		if s.Ours || s.Forgets {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			dir := t.TempDir()
			ours, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
			if err := errors.Join(os.Mkdir(ours, 0o755), os.Mkdir(theirs, 0o755)); err != nil {
				t.Fatal(err)
			}
			_, again, err := scenario.PlayOn(s, inprocess.New(ours))
			if err != nil {
				t.Fatal(err)
			}
			if len(again.Steps) == 0 {
				return // it has no disks
			}
			if _, err := playThere(t, s, Images{To: theirs}); err != nil {
				t.Fatal(err)
			}
			if err := exchange(t, ds, again, ours, theirs); err != nil {
				t.Error(err)
			}
		})
	}
}
