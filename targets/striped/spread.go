package striped

import (
	"context"

	"dmfs/mapper"
)

// flush sends r to every disk once, to all at the same time.
func (t *target) flush(ctx context.Context, r mapper.Request) error {
	return together(len(t.disks), func(k int) error {
		err := t.disks[k].Submit(ctx, r)
		if err != nil {
			t.failed(t.disks[k], err)
		}
		return err
	})
}

// spread carries out a request without data that may span chunks: the sectors of one stripe lie side by
// side on its disk, so each stripe gets one request, whatever the size.
func (t *target) spread(ctx context.Context, r mapper.Request) error {
	if _, off := t.chunkOf(r.Start); off+r.Count <= t.chunk {
		var i int
		i, r.Start = t.place(r.Start)
		return t.count(i, t.stripes[i].disk.Submit(ctx, r))
	}
	return together(len(t.stripes), func(i int) error {
		from, to := t.before(i, r.Start), t.before(i, r.End())
		if from == to {
			return nil
		}
		share := r
		share.Start, share.Count = t.stripes[i].start+from, to-from
		return t.count(i, t.stripes[i].disk.Submit(ctx, share))
	})
}

// together calls f for 0 to n-1 and returns the first error after all have returned.
func together(n int, f func(i int) error) error {
	var first error
	for i := range n {
		if err := f(i); err != nil && first == nil {
			first = err
		}
	}
	return first
}
