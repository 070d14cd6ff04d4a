package striped

import (
	"context"

	"dmfs/mapper"
)

// fanWidth bounds how many disks work on one flush or discard at a time.
const fanWidth = 16

// flush sends r to every disk once.
func (t *target) flush(ctx context.Context, r mapper.Request) error {
	return mapper.FanOut(len(t.disks), fanWidth, func(k int) error {
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
	return mapper.FanOut(len(t.stripes), fanWidth, func(i int) error {
		from, to := t.before(i, r.Start), t.before(i, r.End())
		if from == to {
			return nil
		}
		share := r
		share.Start, share.Count = t.stripes[i].start+from, to-from
		return t.count(i, t.stripes[i].disk.Submit(ctx, share))
	})
}
