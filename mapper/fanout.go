package mapper

import (
	"sync"
	"sync/atomic"
)

// FanOut calls f(0) to f(n-1), at most width at a time, the first on the caller's goroutine, and waits for all.
// It returns the error of the lowest index that failed. The others are called all the same: of a write across a bad
// sector all the rest is written, as the kernel does, and of a flush all other disks are flushed.
func FanOut(n, width int, f func(i int) error) error {
	width = min(width, n)
	if width <= 1 {
		var first error
		for i := range n {
			if err := f(i); err != nil && first == nil {
				first = err
			}
		}
		return first
	}
	var (
		next   atomic.Int64
		mu     sync.Mutex
		lowest = n
		first  error
		wg     sync.WaitGroup
	)
	run := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			if err := f(i); err != nil {
				mu.Lock()
				if i < lowest {
					lowest, first = i, err
				}
				mu.Unlock()
			}
		}
	}
	for range width - 1 {
		wg.Go(run)
	}
	run()
	wg.Wait()
	return first
}
