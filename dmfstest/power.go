package dmfstest

import (
	"fmt"
	"strings"
	"time"
)

// A PowerDisk is a disk with a volatile write cache whose power can be cut: a device of the target powercut, on an image. Its manual
// says exactly what a cut may do to what nobody has flushed.
type PowerDisk struct {
	*Device
	image string
}

// PowerDisk makes a disk of size bytes. Features are those of the target, such as "supply rack" for disks that fail together,
// or "sector_size 4096".
func (m *Mount) PowerDisk(name string, size int64, features ...string) *PowerDisk {
	m.tb.Helper()
	image := m.Image(name, size)
	words := strings.Fields(strings.Join(features, " "))
	d := m.Create(name, "0 %d powercut %s 0 %d %s", size/SectorSize, image, len(words), strings.Join(words, " "))
	m.tb.Cleanup(func() { m.Try("message %s 0 restore", name) }) //nolint:errcheck // unmounting writes out, which needs power
	return &PowerDisk{d, image}
}

// Image returns the path of the image below, which holds what is durable.
func (p *PowerDisk) Image() string { return p.image }

// A Loss says what becomes at a cut of what is not durable.
type Loss string

// None of it survives.
func None() Loss { return "keep=none" }

// All of it does, as if it had been flushed.
func All() Loss { return "keep=all" }

// Random decides for each sector, and for each of the versions it had: any subset that a disk may keep.
func Random(seed uint64) Loss { return Loss(fmt.Sprintf("keep=random seed=%d", seed)) }

// Torn keeps all but a part of the last request of several sectors.
func Torn(seed uint64) Loss { return Loss(fmt.Sprintf("keep=torn seed=%d", seed)) }

// An Outcome is what a cut did, in sectors; Torn counts requests.
type Outcome struct{ Dirty, Kept, Older, Lost, Torn int64 }

// Cut cuts the power of the disk, and of those that share its supply. From then on all I/O fails.
func (p *PowerDisk) Cut(loss Loss) Outcome {
	p.m.tb.Helper()
	return p.outcome(p.Message("cut %s", loss))
}

func (p *PowerDisk) outcome(text string) (o Outcome) {
	p.m.tb.Helper()
	for key, n := range map[string]*int64{"dirty": &o.Dirty, "kept": &o.Kept, "older": &o.Older, "lost": &o.Lost, "torn": &o.Torn} {
		var err error
		if *n, err = number(text, key); err != nil {
			p.m.tb.Fatalf("dmfstest: %s: %v", p.name, err)
		}
	}
	return o
}

// CutAfter arms a cut: the n-th request of a kind from here on (read, write, flush, any) finds the power gone.
func (p *PowerDisk) CutAfter(n int, kind string, loss Loss) {
	p.m.tb.Helper()
	p.Message("cut %s after=%d op=%s", loss, n, kind)
}

// Off reports whether the power is cut.
func (p *PowerDisk) Off() bool {
	p.m.tb.Helper()
	return strings.HasPrefix(p.Status(), "powercut off ")
}

// AwaitCut waits until the power is off, which somebody has armed, and reports whether that was so within the time.
func (p *PowerDisk) AwaitCut(limit time.Duration) bool {
	p.m.tb.Helper()
	const look = time.Millisecond
	for end := time.Now().Add(limit); !p.Off(); time.Sleep(look) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// Restore brings the power back. The disk holds what is durable and what the cut has kept.
func (p *PowerDisk) Restore() {
	p.m.tb.Helper()
	p.Message("restore")
}
