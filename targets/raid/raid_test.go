package raid

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// setup describes members with metadata, named 7:0 7:1 for the first, 7:2 7:3 for the second and so on.
func setup(members int, dev, array mapper.Sector, kind, options string, metadata bool) mappertest.Setup {
	s := mappertest.Setup{Len: array, FlushesMore: true}
	words := strings.Fields(kind)
	opts := strings.Fields(options)
	args := append([]string{words[0], fmt.Sprint(1 + len(opts)), words[1]}, opts...)
	args = append(args, fmt.Sprint(members))
	for i := range members {
		data := mappertest.DiskSpec{Name: fmt.Sprintf("7:%d", 2*i+1), Sectors: dev + 16}
		meta := "-"
		if metadata {
			meta = fmt.Sprintf("7:%d", 2*i)
			s.Disks = append(s.Disks, mappertest.DiskSpec{Name: meta, Sectors: 64, NoFlush: true})
		}
		s.Disks = append(s.Disks, data)
		args = append(args, meta, data.Name)
	}
	s.Args = args
	return s
}

// prepare brings members that are new in sync, or it would take a crash of the array for one before it was first in sync.
func prepare(s *mappertest.Setup) {
	s.Prepare = func(ctx context.Context, disks map[string]mapper.Disk) error {
		a, err := start(ctx, &mappertest.Host{Disks: disks}, s.Len, s.Args)
		if err != nil {
			return err
		}
		if err := waitIdle(a); err != nil {
			return err
		}
		return stop(ctx, a)
	}
}

// start makes a target and resumes it.
func start(ctx context.Context, h *mappertest.Host, length mapper.Sector, args []string) (*target, error) {
	got, err := newTarget(ctx, h, specOf(length, args))
	if err != nil {
		return nil, err
	}
	a, ok := got.(*target)
	if !ok {
		a = got.(striped).target
	}
	if err := a.PreResume(ctx); err != nil {
		return nil, err
	}
	a.Resume()
	return a, nil
}

// specOf returns the specification of an array. What tables of dm-raid cannot say is what the target md makes.
func specOf(length mapper.Sector, args []string) mapper.Spec {
	s := mapper.Spec{Len: length, Args: args}
	if parseAll(s) != nil {
		s.Type = mdInner
	}
	return s
}

// stop suspends a target and closes it.
func stop(ctx context.Context, a *target) error {
	a.PreSuspend(false)
	return errors.Join(a.PostSuspend(ctx), a.Close())
}

// waitIdle waits until the array has nothing to do.
func waitIdle(a *target) error {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		a.mu.Lock()
		s := a.sync
		a.mu.Unlock()
		if s.action == "" && a.nextAction() == "" {
			return nil
		}
		if time.Now().After(end) {
			text, _ := a.Status(context.Background(), true)
			return fmt.Errorf("still busy: %s", text)
		}
	}
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		members  int
		dev, arr mapper.Sector
		kind     string
		options  string
		metadata bool
	}{
		{3, 256, 768, "raid0 16", "", false},
		{2, 640, 640, "raid1 0", "region_size 64 daemon_sleep 20", true},
		{3, 640, 640, "raid1 0", "nosync write_mostly 1", false},
		{4, 256, 512, "raid10 16", "region_size 64", true},
		{3, 320, 480, "raid10 16", "region_size 64 raid10_copies 2 raid10_format offset", true},
		{4, 256, 512, "raid10 16", "region_size 64 raid10_copies 2 raid10_format far", true},
		{3, 256, 512, "raid4 16", "", false},
		{3, 256, 512, "raid5_ls 16", "region_size 64 daemon_sleep 20", true},
		{4, 192, 576, "raid5_ra 16", "nosync region_size 64", true},
		{5, 128, 384, "raid6_zr 8", "region_size 64", true},
		{4, 256, 512, "raid6_ls_6 16", "region_size 64 stripe_cache 8", true},
	} {
		t.Run(c.kind+" "+c.options, func(t *testing.T) {
			s := setup(c.members, c.dev, c.arr, c.kind, c.options, c.metadata)
			if c.metadata {
				prepare(&s)
			} else {
				// A member that failed is remembered in metadata only, here as in the kernel.
				s.Forgets = !strings.HasPrefix(c.kind, "raid0")
			}
			mappertest.TestTarget(t, &Type, s)
		})
	}
}

// Before the syncer has begun, the members of an array that is to be resynced are not called in sync, and what was asked for is not replaced. As in Linux.
func TestStatusBeforeSync(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct{ option, want string }{{"sync", "raid1 2 aa 0/256 idle 0 0 -"}, {"nosync", "raid1 2 AA 256/256 idle 0 0 -"}} {
		s := setup(2, 256, 256, "raid1 0", c.option, false)
		disks := make(map[string]mapper.Disk)
		for _, d := range s.Disks {
			disks[d.Name] = mappertest.NewDisk(d.Name, d.Sectors)
		}
		got, err := newTarget(ctx, &mappertest.Host{Disks: disks}, specOf(s.Len, s.Args))
		if err != nil {
			t.Fatal(err)
		}
		a := got.(*target)
		if err := a.PreResume(ctx); err != nil {
			t.Fatal(err)
		}
		if got, err := a.Status(ctx, true); err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", c.option, got, err, c.want)
		}
		for _, step := range []struct {
			word string
			want error
		}{{"check", nil}, {"repair", unix.EBUSY}, {"resync", unix.EBUSY}, {"bogus", unix.EBUSY}, {"idle", nil}, {"repair", nil}} {
			if _, err := a.Message(ctx, []string{step.word}); !errors.Is(err, step.want) {
				t.Errorf("%s, message %s: %v, want %v", c.option, step.word, err, step.want)
			}
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}
