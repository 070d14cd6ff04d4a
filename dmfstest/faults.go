package dmfstest

import (
	"strconv"
	"strings"
)

// A FaultyDisk is a disk of which chosen requests fail, get lost, wait, or change: a device of the target inject, on an image. Its manual
// has the language of rules.
type FaultyDisk struct {
	*Device
	image string
}

// FaultyDisk makes a disk of size bytes. Chance in its rules follows from the seed.
func (m *Mount) FaultyDisk(name string, size int64, seed uint64) *FaultyDisk {
	m.tb.Helper()
	image := m.Image(name, size)
	d := m.Create(name, "0 %d inject %s 0 seed=%d", size/SectorSize, image, seed)
	m.tb.Cleanup(func() { m.Try("message %s 0 disarm all", name) }) //nolint:errcheck // unmounting writes out, which a rule may hold up
	return &FaultyDisk{d, image}
}

// Image returns the path of the image below.
func (f *FaultyDisk) Image() string { return f.image }

// A Rule is one that a FaultyDisk follows.
type Rule struct {
	f  *FaultyDisk
	id string
}

// Arm makes a rule, such as "error op=write nth=5" or "stall op=flush": a request that begins when Arm has returned meets it.
func (f *FaultyDisk) Arm(rule string) *Rule {
	f.m.tb.Helper()
	reply := f.Message("arm %s", rule)
	id, ok := strings.CutPrefix(reply, "armed ")
	if !ok {
		f.m.tb.Fatalf("dmfstest: arm %s: %q", rule, reply)
	}
	return &Rule{f, id}
}

// Disarm takes the rule away; what waits in it goes on.
func (r *Rule) Disarm() {
	r.f.m.tb.Helper()
	r.f.Message("disarm %s", r.id)
}

// Injected returns how many requests the rule has hit, each counted when its fault was made.
func (r *Rule) Injected() int64 {
	r.f.m.tb.Helper()
	_, rest, ok := strings.Cut(r.f.Status(), "rule="+r.id+" ")
	if !ok {
		r.f.m.tb.Fatalf("dmfstest: %s has no rule %s", r.f.name, r.id)
	}
	rest, _, _ = strings.Cut(rest, "rule=")
	n, err := number(rest, "injected")
	if err != nil {
		r.f.m.tb.Fatalf("dmfstest: %v", err)
	}
	return n
}

// Release ends the waits of the requests that rules of kind stall hold up, and returns how many there were.
func (f *FaultyDisk) Release() int {
	f.m.tb.Helper()
	reply := f.Message("release")
	n, err := strconv.Atoi(strings.TrimPrefix(reply, "released "))
	if err != nil {
		f.m.tb.Fatalf("dmfstest: release: %q", reply)
	}
	return n
}
