package raid

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// States of sync in which members are lost.
var syncStates = []string{"new", "half synced", "in sync", "half rebuilt", "rebuilt"}

// One or two members fail, in every state of sync, of arrays of 3 to 6 members of all levels and layouts: what the array survives changes
// nothing of what it holds, and it is whole again after they come back. Of the cases a seeded third is tried; all with DMFS_CRASHES.
func TestLossesDuringSync(t *testing.T) {
	seed := mappertest.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 8))
	for members := 3; members <= 6; members++ {
		for _, s := range kinds(members) {
			for _, state := range syncStates {
				var sets [][]int
				for _, lost := range losses(members) {
					if mappertest.Cuts(0) > 0 || rnd.IntN(3) == 0 {
						sets = append(sets, lost)
					}
				}
				t.Run(fmt.Sprintf("%d %s %s", members, strings.Join(s.Args[:min(9, len(s.Args))], " "), state), func(t *testing.T) {
					t.Parallel()
					for _, lost := range sets {
						loseDuringSync(t, s, members, state, lost)
					}
				})
			}
		}
	}
}

func loseDuringSync(t *testing.T, s mappertest.Setup, members int, state string, lost []int) {
	t.Helper()
	a := newArray(t, s, uint64(len(lost))+17, state != "new" && state != "half synced")
	if !strings.HasSuffix(state, "rebuilt") {
		a.tg.PreSuspend(false) // from here on the syncer is led by hand
	} else {
		a.scribble(10)
		a.close()
		a.openQuietly(withRebuild(s.Args, members-1))
	}
	a.scribble(10)
	a.syncBy(state)
	survived := 0
	for _, m := range lost {
		if a.tg.failed(&a.tg.members[m]) {
			survived++
		}
		a.check()
		a.scribble(5)
	}
	a.check()
	if want := canLose(a.tg, lost, state, members); survived != want {
		t.Fatalf("%s, without %v: it survived %d losses, want %d", state, lost, survived, want)
	}
	a.close()
	tg, err := start(context.Background(), &mappertest.Host{Disks: a.disks}, s.Len, s.Args)
	var arg *mapper.ArgError
	if errors.As(err, &arg) && arg.Reason == "Failed to run raid array" && a.tg.syncedUpTo() != done && a.tg.geo.parity > 0 {
		return // it was never in sync: refused, as the kernel does
	}
	if err != nil {
		t.Fatalf("%s, after %v were lost: %v", state, lost, err)
	}
	a.tg = tg
	a.check()
	a.wait()
	if n := a.scrub(); n != 0 {
		t.Fatalf("%s, after %v came back: a check finds %d sectors", state, lost, n)
	}
	a.check()
	a.close()
}

// openQuietly makes a target whose syncer does not run.
func (a *array) openQuietly(args []string) {
	a.t.Helper()
	got, err := newTarget(context.Background(), &mappertest.Host{Disks: a.disks}, specOf(a.setup.Len, args))
	if err != nil {
		a.t.Fatal(err)
	}
	a.tg = got.(*target)
	if err := a.tg.PreResume(context.Background()); err != nil {
		a.t.Fatal(err)
	}
}

// syncBy brings the array into a state of sync.
func (a *array) syncBy(state string) {
	a.t.Helper()
	var err error
	tg, ctx := a.tg, context.Background()
	switch end := tg.geo.syncSectors() / 2 / 8 * 8; state {
	case "half synced":
		if from := tg.syncedUpTo(); from < end {
			err = tg.syncWindow(ctx, from, end, resync)
			tg.advance(from, end)
		}
	case "half rebuilt":
		end = tg.geo.dev / 2 / tg.chunkOr8() * tg.chunkOr8()
		err = tg.rebuildWindow(ctx, tg.recovering(), 0, end, false)
	case "rebuilt":
		err = tg.rebuild(ctx)
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

func (t *target) chunkOr8() mapper.Sector { return max(t.geo.chunk, 8) }

// withRebuild returns the line with a member to rebuild.
func withRebuild(args []string, member int) []string {
	args = slices.Clone(args)
	var n int
	if _, err := fmt.Sscan(args[1], &n); err != nil {
		panic(err)
	}
	args[1] = fmt.Sprint(n + 2)
	return slices.Insert(args, 3, "rebuild", fmt.Sprint(member))
}

// canLose returns how many losses, in that order, the array survives: those after which the members that are in sync hold everything.
func canLose(tg *target, lost []int, state string, members int) (n int) {
	gone := make(map[int]bool)
	if state == "half rebuilt" {
		gone[members-1] = true
	}
	for _, m := range lost {
		was := gone[m]
		gone[m] = true
		if tg.geo.survives(func(i int) bool { return !gone[i] }) {
			n++
		} else {
			gone[m] = was
		}
	}
	return n
}

// A superblock whose write failed may be on the disk all the same. It is not to have as many events as those that know of the failure: it would be
// asked, and say that nothing failed.
func TestSuperblockOfFailed(t *testing.T) {
	s := setup(2, 640, 640, "raid1 0", "region_size 64", true)
	a := newArray(t, s, 3, true)
	a.close()
	lost := &lander{Disk: a.disks["7:0"], to: 1, fails: true}
	a.disks["7:0"] = lost
	a.open(a.setup.Args)
	if err := a.tg.changeSupers(func(*superblock) {}); err != nil {
		t.Fatal(err)
	}
	a.scribble(5)
	a.close()
	lost.fails = false
	a.open(a.setup.Args)
	a.check()
	a.wait()
	a.check()
	a.close()
}
