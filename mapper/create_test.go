package mapper_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/targets"
)

// A slowType is a target type whose constructor waits: it says so on begun, and goes on with what it gets from
// result. What it builds stands on the disk that its first argument names, if there is one.
type slowType struct {
	begun  chan struct{}
	result chan error
}

func newSlow() *slowType {
	return &slowType{begun: make(chan struct{}, 1), result: make(chan error, 1)}
}

type slowTarget struct {
	mapper.Target
	preResume error
}

func (t *slowTarget) PreResume(context.Context) error            { return t.preResume }
func (*slowTarget) Submit(context.Context, mapper.Request) error { return nil }
func (s *slowType) register(g *mapper.Registry)                  { g.Register(s.typ()) }
func (s *slowType) typ() *mapper.Type                            { return &mapper.Type{Name: "slow", New: s.build} }
func (s *slowType) manager(disks ...mapper.Disk) *mapper.Manager {
	registry := new(mapper.Registry)
	targets.Register(registry)
	s.register(registry)
	return mapper.NewManager(registry, mapper.Options{Files: mappertest.NewFiles(disks...)})
}

func (s *slowType) build(ctx context.Context, h mapper.Host, spec mapper.Spec) (mapper.Target, error) {
	for _, name := range spec.Args {
		if name == "norun" {
			return &slowTarget{preResume: errors.New("will not run")}, nil
		}
		if _, err := h.Open(ctx, name); err != nil {
			return nil, err
		}
	}
	s.begun <- struct{}{}
	return &slowTarget{}, <-s.result
}

// While a device is created nobody changes it or stands on it, and if that fails there was none.
func TestCreateIsWhole(t *testing.T) {
	slow := newSlow()
	m := slow.manager()
	created := make(chan error, 1)
	go func() {
		_, err := m.Create(ctx, mapper.NewDevice{Name: "d", UUID: "u", Minor: 7, Table: parse(t, "0 8 slow")})
		created <- err
	}()
	<-slow.begun
	d := m.ByName("d")
	others := map[string]func() error{
		"load":   func() error { return d.Load(ctx, parse(t, "0 16 zero"), false) },
		"resume": func() error { return d.Resume(ctx, mapper.ResumeOptions{}) },
		"remove": func() error { return m.Remove(ctx, "d", mapper.RemoveOptions{}) },
	}
	ended := make(chan error, len(others))
	for _, f := range others {
		go func() { ended <- f() }()
	}
	if _, err := m.Create(ctx, mapper.NewDevice{Name: "upper", Minor: -1, Table: parse(t, "0 8 linear d 0")}); mapper.Errno(err) != unix.ENODEV {
		t.Errorf("a table on a device that is being created: %v, want ENODEV", err)
	}
	refused := errors.New("refused")
	slow.result <- refused
	if err := <-created; !errors.Is(err, refused) {
		t.Errorf("create: %v", err)
	}
	for range others {
		if err := <-ended; mapper.Errno(err) != unix.ENXIO {
			t.Errorf("a command on a device whose creation failed: %v, want ENXIO", err)
		}
	}
	if left := m.Devices(); len(left) != 0 || m.ByUUID("u") != nil || m.ByMinor(7) != nil || m.ByName("d") != nil {
		t.Errorf("left behind: %v", left)
	}
	if err := d.Open(); !errors.Is(err, mapper.ErrClosed) {
		t.Errorf("Open: %v", err)
	}
}

// Whatever step of a creation fails leaves nothing: no name, and no disk in use.
func TestCreateRollsBack(t *testing.T) {
	for _, tt := range []struct{ name, table, want string }{
		{"disk", "0 8 linear low 0; 8 8 linear none 0", "Device lookup failed"},
		{"type", "0 8 linear low 0; 8 8 nonsense", "unknown target type"},
		{"gap", "0 8 linear low 0; 9 8 zero", "Gap in table"},
		{"overlap", "0 8 linear low 0; 7 8 zero", "Gap in table"},
		{"length", "0 8 linear low 0; 8 0 zero", "zero-length target"},
		{"size", "0 8 linear low 0; 8 18014398509481984 zero", "too large device"},
		{"wrapping size", "0 8 linear low 0; 8 18446744073709551615 zero", "too large device"},
		{"past the end", "0 8 linear low 0; 8 8 linear low 60", "dm-0 too small for target: start=60, len=8, dev_size=64"},
		{"wrapping offset", "0 8 linear low 18446744073709551615", "too small for target"},
		{"itself", "0 8 linear low 0; 8 8 linear new 0", "would stand on itself"},
		{"start", "0 8 linear low 0; 8 8 slow norun", "will not run"},
		{"empty", "", "no targets specified"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newSlow().manager(mappertest.NewDisk("a", 64))
			low := create(t, m, "low", "0 64 linear a 0")
			_, err := m.Create(ctx, mapper.NewDevice{Name: "new", UUID: "u", Minor: -1, Table: parse(t, tt.table)})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("create: %v, want %q", err, tt.want)
			}
			if n := len(m.Devices()); n != 1 || m.ByUUID("u") != nil {
				t.Errorf("%d devices, want 1", n)
			}
			if n := low.Info().OpenCount; n != 0 {
				t.Errorf("open count of what it stood on is %d", n)
			}
			must(t, m.Remove(ctx, "low", mapper.RemoveOptions{}))
		})
	}
}

// A key that stands where a type is expected is told neither in the error nor in the log.
func TestUnknownTypeShowsNoKey(t *testing.T) {
	m := newSlow().manager()
	const key = "00112233445566778899aabbccddeeff"
	_, err := m.Create(ctx, mapper.NewDevice{Name: "new", Minor: -1, Table: parse(t, "0 8 "+key)})
	log := m.Log().Text()
	for _, text := range []string{err.Error(), log} {
		if strings.Contains(text, key) || !strings.Contains(text, "a word with 32 hexadecimal digits: unknown target type") {
			t.Errorf("got %q", text)
		}
	}
}

// A deferred removal that was called off does not happen, however late that was.
func TestDeferredRemoveCalledOff(t *testing.T) {
	slow := newSlow()
	m := slow.manager()
	d := create(t, m, "d", "0 8 zero")
	must(t, d.Open())
	must(t, m.Remove(ctx, "d", mapper.RemoveOptions{Deferred: true}))
	loaded := make(chan error, 1)
	go func() { loaded <- d.Load(ctx, parse(t, "0 8 slow"), false) }()
	<-slow.begun
	d.Close() // the removal is due, and waits for the load
	if _, err := d.Message(ctx, 0, []string{"@cancel_deferred_remove"}); err != nil {
		t.Fatal(err)
	}
	slow.result <- nil
	must(t, <-loaded)
	must(t, d.Clear(ctx))
	must(t, d.Clear(ctx)) // the removal had its turn
	if m.ByName("d") == nil {
		t.Error("the device was removed")
	}
}

// A table that cannot be swapped in is not left in the inactive slot, where the next resume would find it.
func TestInterruptedReplaceLeavesNothing(t *testing.T) {
	for name, replace := range map[string]func(context.Context, *mapper.Manager, *mapper.Device) error{
		"replace": func(ctx context.Context, _ *mapper.Manager, d *mapper.Device) error {
			return d.Replace(ctx, parse(t, "0 8 zero"), false)
		},
		"remove force": func(ctx context.Context, m *mapper.Manager, _ *mapper.Device) error {
			return m.Remove(ctx, "d", mapper.RemoveOptions{Force: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
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
			interrupted, cancel := context.WithCancel(ctx)
			done := make(chan error, 1)
			go func() { done <- replace(interrupted, m, d) }()
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			stall.Release()
			must(t, <-read)
			if i := d.Info(); i.Inactive || i.Sectors != 64 || i.Suspended {
				t.Errorf("state after: %+v", i)
			}
		})
	}
}
