package crypt

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
	"dmfs/targets/internal/ratelimit"
)

// Type is the crypt target.
var Type = mapper.Type{Name: "crypt", Version: [3]int{1, 24, 0}, New: newTarget}

// splitSectors is the longest piece of a request: what one processor works on while another has the next piece.
const splitSectors = 1024

type target struct {
	host mapper.Host
	line
	disk  mapper.Disk
	start mapper.Sector // of disk
	ahead bool          // large writes are encrypted ahead

	keyed  atomic.Pointer[keyed] // nil while there is no key
	logged ratelimit.Limiter     // of units that do not fit their tag

	mu        sync.Mutex
	keyName   string // TYPE:DESCRIPTION of a key of the keyring, "" for one from the table
	suspended bool
}

var (
	_ mapper.Hinter        = (*target)(nil)
	_ mapper.Areaser       = (*target)(nil)
	_ mapper.Tabler        = (*target)(nil)
	_ mapper.Messenger     = (*target)(nil)
	_ mapper.PostSuspender = (*target)(nil)
	_ mapper.PreResumer    = (*target)(nil)
	_ mapper.Resumer       = (*target)(nil)
)

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (_ mapper.Target, err error) {
	if len(s.Args) < 5 {
		return nil, mapper.BadArg("Not enough arguments", "%d arguments: want CIPHER KEY IV_OFFSET DISK OFFSET", len(s.Args))
	}
	key := s.Args[1]
	size, ok := keySize(key)
	if !ok {
		return nil, mapper.BadArg("Cannot parse key size", "a key of the keyring is :SIZE:TYPE:DESCRIPTION")
	}
	t := &target{host: h, line: line{length: s.Len, cipher: s.Args[0], keySize: size, optional: optional{sectorSize: mapper.SectorSize}}}
	defer func() {
		if err != nil {
			_ = t.Close() // it does not fail
		}
	}()
	if err := t.readOptions(s.Args[5:]); err != nil {
		return nil, err
	}
	if err := t.parseCipher(h); err != nil {
		return nil, err
	}
	if err := t.firstKey(key); err != nil {
		return nil, err
	}
	if t.ivOffset, ok = args.Uint64(s.Args[2]); !ok || t.ivOffset%uint64(t.unitSectors()) != 0 {
		return nil, mapper.BadArg("Invalid iv_offset sector", "%s: want a number of sectors, and of whole units of %d bytes", mapper.ShowArg(s.Args[2]), t.sectorSize)
	}
	if t.disk, err = args.Open(ctx, h, s.Args[3], "Device lookup failed"); err != nil {
		return nil, err
	}
	start, ok := args.Uint64(s.Args[4])
	if !ok {
		return nil, mapper.BadArg("Invalid device sector", "offset %s: want a number of sectors", mapper.ShowArg(s.Args[4]))
	}
	t.start = mapper.Sector(start)
	if err := t.checkTags(t.disk); err != nil {
		return nil, err
	}
	t.ahead = t.disk.Limits().Buffered && !t.needsTags()
	return t, nil
}

// firstKey sets the key of the table line. What the kernel says differs from what it says of a key in a message.
func (t *target) firstKey(key string) error {
	k, name, err := t.newKeyed(key)
	if err != nil {
		return err
	}
	if k != nil {
		t.use(k, name)
	}
	return nil
}

// Submit encrypts what is written into a buffer of its own, and decrypts what was read where it is.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op > mapper.OpWrite || r.Count <= splitSectors || t.writesAhead(r) {
		return t.submit(ctx, r)
	}
	parts := int((r.Count + splitSectors - 1) / splitSectors)
	return mapper.FanOut(parts, parts, func(i int) error {
		from := mapper.Sector(i) * splitSectors
		return t.submit(ctx, r.Slice(from, min(splitSectors, r.Count-from)))
	})
}

func (t *target) submit(ctx context.Context, r mapper.Request) error {
	ahead := t.writesAhead(r)
	sector := uint64(r.Start)
	first := t.ivOffset + sector
	r.Start += t.start
	switch r.Op {
	case mapper.OpRead:
		if t.needsTags() {
			return t.readTagged(ctx, r, first, sector)
		}
		if err := t.disk.Submit(ctx, r); err != nil {
			return err
		}
		k := t.keyed.Load()
		if k == nil {
			return errNoKey
		}
		k.decrypt(&t.line, r.Data, first)
		return nil
	case mapper.OpWrite:
		k := t.keyed.Load()
		if k == nil {
			return errNoKey
		}
		if t.needsTags() {
			return t.writeTagged(ctx, k, r, first, sector)
		}
		if ahead {
			return t.writeAhead(ctx, k, r, first)
		}
		buf := mapper.GetBuffer(len(r.Data))
		defer buf.Free()
		k.encrypt(&t.line, buf.Data, r.Data, first)
		r.Data = buf.Data
		return t.disk.Submit(ctx, r)
	case mapper.OpWriteZeroes:
		return mapper.ErrNotSupported // zeroes on the disk are no zeroes here; the core writes them
	}
	return t.disk.Submit(ctx, r)
}

// errNoKey cannot be met: a device does not resume without a key.
var errNoKey = fmt.Errorf("%w: the key was wiped", mapper.ErrIO)

// Hints asks for whole units, and refuses discards unless they were allowed.
func (t *target) Hints(l *mapper.Limits) {
	l.LogicalBlock = max(l.LogicalBlock, t.sectorSize)
	l.PhysicalBlock = max(l.PhysicalBlock, t.sectorSize)
	l.MinIO = max(l.MinIO, t.sectorSize)
	if l.Split = splitSectors; t.ahead {
		l.Split = aheadSectors
	}
	l.MaxWriteZeroes = 0
	if !t.allowDiscards {
		l.MaxDiscard = 0
	}
}

// Areas returns the one range.
func (t *target) Areas() []mapper.Area {
	return []mapper.Area{{Disk: t.disk, Start: t.start, Len: t.length}}
}

// Table returns CIPHER KEY IV_OFFSET DISK OFFSET and the options.
func (t *target) Table(showKeys bool) []string {
	words := []string{
		t.cipher, t.keyText(showKeys), strconv.FormatUint(t.ivOffset, 10),
		mapper.DiskName(t.disk), strconv.FormatUint(uint64(t.start), 10),
	}
	if o := t.options(); len(o) > 0 {
		words = append(append(words, strconv.Itoa(len(o))), o...)
	}
	return words
}

// PostSuspend lets messages change the key from here on.
func (t *target) PostSuspend(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.suspended = true
	return nil
}

// PreResume refuses to go on without a key.
func (t *target) PreResume(context.Context) error {
	if t.keyed.Load() == nil {
		t.host.Logf("aborting resume - crypt key is not set.")
		return fmt.Errorf("the key was wiped; set one with the message \"key set KEY\": %w", unix.EAGAIN)
	}
	return nil
}

// Resume ends the time in which the key may change.
func (t *target) Resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.suspended = false
}

// Close wipes the key.
func (t *target) Close() error {
	t.use(nil, "")
	return nil
}
