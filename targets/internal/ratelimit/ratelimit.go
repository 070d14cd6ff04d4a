// Package ratelimit bounds log lines of a kind, as the kernel's DMERR_LIMIT does.
package ratelimit

import (
	"sync"
	"time"
)

const (
	most   = 10
	period = 5 * time.Second
)

// A Limiter lets ten through in five seconds. The zero value has let none through.
type Limiter struct {
	mu    sync.Mutex
	since time.Time
	n     int
}

// Allow reports whether one more may pass.
func (l *Limiter) Allow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.since) > period {
		l.since, l.n = now, 0
	}
	l.n++
	return l.n <= most
}
