package mapper_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/targets"
)

var ctx = context.Background()

// newManager returns a manager that knows all targets, whose files are disks.
func newManager(disks ...mapper.Disk) *mapper.Manager {
	registry := new(mapper.Registry)
	targets.Register(registry)
	return mapper.NewManager(registry, mapper.Options{Files: mappertest.NewFiles(disks...)})
}

// parse returns the table of text, whose lines may be separated by semicolons.
func parse(t testing.TB, text string) []mapper.Spec {
	t.Helper()
	specs, err := mapper.ParseTable(strings.ReplaceAll(text, ";", "\n"))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return specs
}

func create(t testing.TB, m *mapper.Manager, name, table string) *mapper.Device {
	t.Helper()
	d, err := m.Create(ctx, mapper.NewDevice{Name: name, Minor: -1, Table: parse(t, table)})
	if err != nil {
		t.Fatalf("create %s: %v\n%s", name, err, m.Log().Text())
	}
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// closeManager closes m, as a test's clean-up.
func closeManager(t testing.TB, m *mapper.Manager) {
	t.Helper()
	if err := m.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// within fails the test if f takes as long as to have hung.
func within(t testing.TB, what string, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		t.Fatalf("%s hangs", what)
		return nil
	}
}

// What stands on a suspended device is suspended, flushed, removed and closed without waiting for a resume, also where a
// target that does more than forward is in between.
func TestAboveASuspendedDevice(t *testing.T) {
	const crypt = "0 64 crypt capi:ecb(cipher_null)-null - 0 "
	for _, c := range []struct {
		noFlush  bool
		mid, top string
	}{
		{false, "0 64 linear low 0", "0 64 linear mid 0"},
		{true, "0 64 linear low 0", "0 64 linear mid 0"},
		{false, crypt + "low 0", "0 64 linear mid 0"},
		{false, crypt + "low 0", crypt + "mid 0"},
	} {
		disk := mappertest.NewDisk("a", 64)
		m := newManager(disk)
		low := create(t, m, "low", "0 64 linear a 0")
		mid := create(t, m, "mid", c.mid)
		create(t, m, "top", c.top)
		must(t, low.Suspend(ctx, c.noFlush))
		before := disk.Counts().Flushes
		must(t, within(t, "Flush", func() error { return m.Flush(ctx) }))
		if disk.Counts().Flushes == before {
			t.Error("Flush did not reach the disk below a suspended device")
		}
		must(t, within(t, "Suspend", func() error { return mid.Suspend(ctx, c.noFlush) }))
		must(t, within(t, "Remove", func() error { return m.Remove(ctx, "top", mapper.RemoveOptions{}) }))
		must(t, within(t, "Close", func() error { return m.Close(ctx) }))
	}
}

// A stack is extended by loading all tables and then resuming from below. Only a device that has a table may be promised more than there is below; what
// lies beyond that fails until it is there.
func TestExtendStack(t *testing.T) {
	m := newManager(mappertest.NewDisk("a", 64))
	defer closeManager(t, m)
	low := create(t, m, "low", "0 16 linear a 0")
	top := create(t, m, "top", "0 16 linear low 0")
	more := parse(t, "0 32 linear low 0")
	if err := top.Load(ctx, more, false); err == nil {
		t.Error("loaded a table that is larger than what is below")
	}
	must(t, low.Load(ctx, parse(t, "0 32 linear a 0"), false))
	if _, err := m.Create(ctx, mapper.NewDevice{Name: "new", Minor: -1, Table: more}); err == nil {
		t.Error("created a device that is larger than what is below")
	}
	must(t, top.Load(ctx, more, false))
	must(t, top.Resume(ctx, mapper.ResumeOptions{}))
	if _, err := top.ReadAt(ctx, make([]byte, 512), 20*512); !errors.Is(err, mapper.ErrIO) {
		t.Errorf("read past the end of what is below: %v", err)
	}
	must(t, low.Resume(ctx, mapper.ResumeOptions{}))
	if _, err := top.ReadAt(ctx, make([]byte, 512), 20*512); err != nil {
		t.Error(err)
	}
}

// A suspend that waits for the flush of a disk can be interrupted; the device then goes on.
func TestSuspendInterruptedWhileFlushing(t *testing.T) {
	stall := mappertest.NewStall(mappertest.NewDisk("a", 64))
	m := newManager(stall)
	d := create(t, m, "d", "0 64 linear a 0")
	stall.Hold()
	interrupted, cancel := context.WithCancel(ctx)
	suspended := make(chan error, 1)
	go func() { suspended <- d.Suspend(interrupted, false) }()
	must(t, stall.WaitHeld(ctx, 1))
	cancel()
	err := within(t, "Suspend", func() error { return <-suspended })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Suspend: %v, want it to be interrupted", err)
	}
	stall.Release()
	if d.Info().Suspended {
		t.Error("suspended")
	}
	must(t, within(t, "Flush", func() error { return d.Flush(ctx) }))
	closeManager(t, m)
}

// Who waits for a resume when the device goes is told so, and does not wait for ever.
func TestCloseWakesWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(mappertest.NewDisk("a", 64))
		d := create(t, m, "d", "0 64 linear a 0")
		must(t, d.Suspend(ctx, false))
		read := make(chan error, 1)
		go func() {
			_, err := d.ReadAt(ctx, make([]byte, 512), 0)
			read <- err
		}()
		synctest.Wait()
		closeManager(t, m)
		if err := <-read; !errors.Is(err, mapper.ErrIO) {
			t.Errorf("read: %v, want %v", err, mapper.ErrIO)
		}
	})
}

// Close gives up in time on a device whose I/O does not end.
func TestCloseIsBounded(t *testing.T) {
	stall := mappertest.NewStall(mappertest.NewDisk("a", 64))
	m := newManager(stall)
	d := create(t, m, "d", "0 64 linear a 0")
	stall.Hold()
	read := make(chan error, 1)
	go func() {
		_, err := d.ReadAt(ctx, make([]byte, 512), 0)
		read <- err
	}()
	must(t, stall.WaitHeld(ctx, 1))
	bounded, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := within(t, "Close", func() error { return m.Close(bounded) }); err == nil {
		t.Error("Close succeeded with I/O in flight")
	}
	stall.Release()
	must(t, <-read)
}

// A refuser refuses every message with err.
type refuser struct{ err error }

func (refuser) Submit(context.Context, mapper.Request) error { return nil }

func (r refuser) Message(context.Context, []string) (string, error) { return "", r.err }

// The log has the kernel's words for a refused message and no others; whoever sent it learns the detail.
func TestRefusedMessageInLog(t *testing.T) {
	for _, c := range []struct {
		err      error
		log, say string
	}{
		{mapper.BadArg("invalid cycle", "want 1"), "device-mapper: refuser: invalid cycle\n", "invalid cycle: want 1"},
		{mapper.BadArg("", "want a number"), "", "want a number"},
		{mapper.ErrIO, "device-mapper: refuser: I/O error\n", "I/O error"},
	} {
		registry := new(mapper.Registry)
		registry.Register(&mapper.Type{Name: "refuser", New: func(context.Context, mapper.Host, mapper.Spec) (mapper.Target, error) {
			return refuser{c.err}, nil
		}})
		m := mapper.NewManager(registry, mapper.Options{})
		d := create(t, m, "d", "0 8 refuser")
		_, err := d.Message(ctx, 0, []string{"hello"})
		if err == nil || err.Error() != c.say || !strings.HasSuffix(m.Log().Text(), c.log) || c.log == "" && m.Log().Text() != "" {
			t.Errorf("%v: the sender is told %v, the log %q", c.err, err, m.Log().Text())
		}
		closeManager(t, m)
	}
}
