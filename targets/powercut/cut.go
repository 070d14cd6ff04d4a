package powercut

import (
	"context"
	"math/rand/v2"

	"dmfs/mapper"
)

// A keep is what survives a cut.
type keep string

const (
	keepNone   keep = "none"
	keepAll    keep = "all"
	keepRandom keep = "random"
	keepTorn   keep = "torn"
)

// An outcome is what a cut has done, in sectors and requests; dirty is the sum of kept, older and lost.
type outcome struct{ dirty, kept, older, lost, torn uint64 }

func (o *outcome) add(other outcome) {
	o.dirty += other.dirty
	o.kept += other.kept
	o.older += other.older
	o.lost += other.lost
	o.torn += other.torn
}

// settle makes all members decide what survives, as far as nobody is at their disks: whoever is does it when he is done. It does
// not wait, since a request to one member may be on its way through another.
func (s *supply) settle() {
	for _, m := range s.list() {
		if m.tryHold() {
			m.release()
		}
	}
}

// settle decides what survives the last cut, if nobody has, and writes that to the disk. The wire is held.
func (t *target) settle() {
	s := t.supply
	s.mu.Lock()
	if !t.unsettled {
		s.mu.Unlock()
		return
	}
	c := s.last
	result := t.cache.choose(c, t.rank)
	s.mu.Unlock()
	lost, err := t.storeSurvivors()
	result.kept -= min(lost, result.kept) // of what a failed request held nobody knows how much was an older version
	result.lost = result.dirty - result.kept - result.older
	result.scale(uint64(t.block))
	s.mu.Lock()
	t.unsettled, t.result = false, result
	t.count.cut(result)
	live := t.live
	s.mu.Unlock()
	if !live {
		return
	}
	if err != nil {
		t.host.Logf("what was to be kept could not be written: %v", err)
	}
	t.host.Logf("the power is off: %s", c.text(result))
	t.host.Event()
}

// scale turns blocks into sectors.
func (o *outcome) scale(n uint64) {
	o.dirty, o.kept, o.older, o.lost = o.dirty*n, o.kept*n, o.older*n, o.lost*n
}

// storeSurvivors empties the cache, in which choose has left what survives, onto the disk, and flushes that. It returns how many blocks
// could not be written, and the last error.
func (t *target) storeSurvivors() (lost uint64, failed error) {
	ctx := context.Background() // a cut is finished, whoever asked for it
	s := t.supply
	buf := mapper.GetBuffer(mapper.MaxBuffer)
	defer buf.Free()
	any := false
	for {
		s.mu.Lock()
		if t.cache.head == t.cache.tail {
			s.mu.Unlock()
			break
		}
		run := t.cache.pick(t.cache.tail, buf.Data, t.cache.survives)
		s.mu.Unlock()
		if err := t.store(ctx, run); err != nil {
			lost, failed = lost+run.n, err
		}
		any = any || run.n > 0
		s.mu.Lock()
		t.cache.drop(run.end)
		s.mu.Unlock()
	}
	if any {
		if err := t.disk.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err != nil {
			failed = err
		}
	}
	return lost, failed
}

// survives reports whether a version is the one that survives, once choose has decided.
func (c *cache) survives(p uint64, v *version) bool { return c.newest[v.block] == p }

// choose decides for each block which version survives, and leaves that in newest, where those of which none does are missing. It
// counts blocks.
func (c *cache) choose(how cut, rank uint64) (o outcome) {
	tear := c.tearing(how, rank)
	for p := c.head; p < c.tail; p++ {
		v := c.at(p)
		if v.kind == gone || c.newest[v.block] != p {
			continue
		}
		o.dirty++
		back := uint64(0) // how many versions are lost
		switch n := c.versions(p); {
		case how.keep == keepNone:
			back = n
		case how.keep == keepRandom:
			back = draw(how.seed, rank, uint64(v.block)) % (n + 1)
		case how.keep == keepTorn && tear.loses(v):
			back = 1
		}
		chosen := p
		for ; back > 0 && chosen >= c.head; back-- {
			chosen = c.at(chosen).older
		}
		switch {
		case chosen == p:
			o.kept++
		case chosen >= c.head:
			o.older++
			c.newest[v.block] = chosen
		default:
			o.lost++
			delete(c.newest, v.block)
		}
	}
	o.torn = c.tornRequests()
	return o
}

// draw returns a number that follows from its arguments.
func draw(seed, rank, n uint64) uint64 {
	var g rand.PCG
	g.Seed(seed, rank<<56^n)
	return g.Uint64()
}

// A tear says which blocks of a request are lost: at least one, and not all.
type tear struct {
	request    uint64 // 0: none
	blocks     uint64 // that nobody has overwritten
	seen       uint64 // of them, so far
	kept, lost uint64 // numbers of blocks that are kept and lost whatever the bits say
	seed, rank uint64
}

// tearing chooses the last request of which several blocks can be seen.
func (c *cache) tearing(how cut, rank uint64) *tear {
	t := &tear{seed: how.seed, rank: rank}
	if how.keep != keepTorn {
		return t
	}
	request, n := uint64(0), uint64(0)
	for p := c.tail; p > c.head; {
		p--
		v := c.at(p)
		if v.request != request {
			if n >= 2 {
				break
			}
			request, n = v.request, 0
		}
		if v.kind != gone && c.newest[v.block] == p {
			n++
		}
	}
	if n < 2 {
		return t
	}
	t.request, t.blocks = request, n
	t.kept = draw(t.seed, rank, request) % n
	t.lost = (t.kept + 1 + draw(t.seed, rank, request+1)%(n-1)) % n
	return t
}

// loses reports whether v is lost. It is asked once for each version that can be seen, in their order.
func (t *tear) loses(v *version) bool {
	if t.request == 0 || v.request != t.request {
		return false
	}
	i := t.seen
	t.seen++
	return i == t.lost || i != t.kept && draw(t.seed, t.rank, uint64(v.block))&1 != 0
}

// tornRequests counts the requests of which a part survives and a part does not. What was overwritten by a survivor tells nothing; what has
// left the cache has survived.
func (c *cache) tornRequests() (n uint64) {
	for p := c.head; p < c.tail; {
		request := c.at(p).request
		kept, lost := request < c.head, false
		for ; p < c.tail && c.at(p).request == request; p++ {
			v := c.at(p)
			survivor, ok := c.newest[v.block]
			switch {
			case v.kind == gone:
			case ok && survivor == p:
				kept = true
			case !ok || survivor < p:
				lost = true
			}
		}
		if kept && lost {
			n++
		}
	}
	return n
}
