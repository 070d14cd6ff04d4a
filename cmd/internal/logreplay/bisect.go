package logreplay

import (
	"context"
	"errors"
	"math"
	"os/exec"
)

// A point is an entry behind which to check; n counts the entries of the range up to it.
type point struct {
	item Item
	n    uint64
}

// points returns all points of the range.
func (j *Job) points() (list []point, err error) {
	var n uint64
	var last point
	err = j.Log.Each(j.Range, func(item Item) error {
		n++
		last = point{item, n}
		if j.Points.after(item, n) {
			list = append(list, last)
		}
		return nil
	})
	if err == nil && n == 0 {
		err = errEmpty
	} else if j.Points.kind == "end" {
		list = append(list, last)
	}
	return list, err
}

// bisect looks for the first point that fails by halves. It takes for granted that behind a point that fails all do, and that what the target
// held before is good. The target ends as it is behind the point that fails, or else behind the last.
func (j *Job) bisect(ctx context.Context) error {
	points, err := j.points()
	if err != nil {
		return err
	}
	if len(points) == 0 {
		return j.linear(ctx)
	}
	origin, err := copyOf(j.target)
	if err != nil {
		return err
	}
	defer origin.remove()          //nolint:errcheck // it is a temporary file
	low, high := -1, len(points)-1 // what is low passes, what is high fails
	var failure error
	for at := high; ; at = (low + high) / 2 {
		result, err := j.probe(ctx, origin, points[at])
		switch {
		case err != nil:
			return err
		case result == nil && at == len(points)-1:
			return j.rebuild(ctx, origin, point{n: math.MaxUint64}) // to the end of the range
		case result == nil:
			low = at
		default:
			high, failure = at, result
		}
		if high-low == 1 {
			break
		}
	}
	f := &Failure{At: points[high].item, Entries: points[high].n, Err: failure}
	if low >= 0 {
		f.Passed = &points[low].item
	}
	return errors.Join(f, j.rebuild(ctx, origin, points[high]))
}

// probe replays up to p and checks. result is how the check failed, nil if it passed.
func (j *Job) probe(ctx context.Context, origin *copied, p point) (result, err error) {
	if err := j.rebuild(ctx, origin, p); err != nil {
		return nil, err
	}
	err = j.check(ctx, p.item)
	if j.Progress != nil {
		j.Progress(p.n, j.checks)
	}
	var failed *exec.ExitError
	if errors.As(err, &failed) && ctx.Err() == nil {
		return err, nil
	}
	return nil, err
}

// rebuild makes the target what it is behind p.
func (j *Job) rebuild(ctx context.Context, origin *copied, p point) error {
	if j.copy != nil {
		err := j.copy.remove()
		if j.copy = nil; err != nil {
			return err
		}
	}
	if err := j.restore(origin); err != nil {
		return err
	}
	var n uint64
	err := j.Log.Each(j.Range, func(item Item) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if n++; n > p.n {
			return errStop
		}
		return j.apply(item)
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// restore gives the target what it held before.
func (j *Job) restore(origin *copied) error {
	if err := j.target.Zero(0, j.target.size); err != nil {
		return err
	}
	whole := copied{File: j.target}
	return whole.copyRange(origin.File, 0, j.target.size)
}
