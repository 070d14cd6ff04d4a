package crypt

import (
	"context"
	"sync"

	"dmfs/mapper"
)

// An ahead is a large write to a buffered disk. Such a disk takes one write at a time: two parts of a request, each encrypted and
// then written by a goroutine of its own, would wait for each other. So one goroutine writes piece after piece, and another is
// ahead of it with encrypting. Whoever has nothing to do takes the next piece, however long a cipher takes.
type ahead struct {
	pieces int

	mu        sync.Mutex
	encrypted sync.Cond        // another piece; on mu
	next      int              // the first piece that nobody has begun to encrypt
	ready     [mostPieces]bool // those that are encrypted
}

const (
	// pieceSectors is how much is encrypted, and then written, at a time: less than what a processor's own cache holds.
	pieceSectors = 256
	// aheadSectors is the longest request that is encrypted ahead, and so the memory that it takes.
	aheadSectors = mapper.MaxBuffer / mapper.SectorSize
	mostPieces   = aheadSectors / pieceSectors
)

var aheads = sync.Pool{New: func() any {
	a := new(ahead)
	a.encrypted.L = &a.mu
	return a
}}

// writesAhead reports whether r is worth another goroutine that is ahead. What is to be durable at once is not: each piece would
// be made so on its own.
func (t *target) writesAhead(r mapper.Request) bool {
	return t.ahead && r.Op == mapper.OpWrite && r.Flags&mapper.FlagFUA == 0 && r.Count > 2*pieceSectors
}

// writeAhead writes r, which is the disk's; first is the number of its first unit for IVs. If a piece cannot be
// written the others are all the same.
func (t *target) writeAhead(ctx context.Context, k *keyed, r mapper.Request, first uint64) error {
	a := aheads.Get().(*ahead)
	defer aheads.Put(a)
	a.pieces, a.next, a.ready = int((r.Count+pieceSectors-1)/pieceSectors), 0, [mostPieces]bool{}
	buf := mapper.GetBuffer(len(r.Data))
	defer buf.Free()
	sealed := r
	sealed.Data = buf.Data
	piece := func(r mapper.Request, i int) mapper.Request {
		from := mapper.Sector(i) * pieceSectors
		return r.Slice(from, min(pieceSectors, r.Count-from))
	}
	encrypt := func(i int) {
		k.encrypt(&t.line, piece(sealed, i).Data, piece(r, i).Data, first+uint64(i)*pieceSectors)
	}
	write := func() (failed error) {
		for i := range a.pieces {
			a.await(i, encrypt)
			if err := t.disk.Submit(ctx, piece(sealed, i)); err != nil && failed == nil {
				failed = err
			}
		}
		return failed
	}
	return mapper.FanOut(2, 2, func(i int) error {
		if i == 0 {
			return write()
		}
		for a.one(encrypt) {
		}
		return nil
	})
}

// one encrypts the first piece with which nobody has begun, and reports whether there was one.
func (a *ahead) one(encrypt func(i int)) bool {
	a.mu.Lock()
	i := a.next
	a.next = min(i+1, a.pieces)
	a.mu.Unlock()
	if i == a.pieces {
		return false
	}
	encrypt(i)
	a.mu.Lock()
	a.ready[i] = true
	a.mu.Unlock()
	a.encrypted.Signal()
	return true
}

// await returns when piece i is encrypted, and until then encrypts what is left.
func (a *ahead) await(i int, encrypt func(i int)) {
	for !a.isReady(i) && a.one(encrypt) {
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.ready[i] {
		a.encrypted.Wait()
	}
}

func (a *ahead) isReady(i int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ready[i]
}
