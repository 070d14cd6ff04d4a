package ratelimit

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Limiter
		for range 3 {
			passed := 0
			for range 2 * most {
				if l.Allow() {
					passed++
				}
			}
			if passed != most {
				t.Errorf("%d passed, want %d", passed, most)
			}
			time.Sleep(period + time.Nanosecond)
		}
	})
}
