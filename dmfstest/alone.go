package dmfstest

import (
	"fmt"
	"os"
)

// Alone is a TB for programs that are no tests. A failure panics; Close does what the end of a test does.
//
//	tb := new(dmfstest.Alone)
//	defer tb.Close()
//	m := dmfstest.Start(tb)
type Alone struct {
	cleanups []func()
	failed   bool
}

var _ TB = (*Alone)(nil)

// Close cleans up. It is deferred, so that it does when something has failed too.
func (a *Alone) Close() {
	for n := len(a.cleanups); n > 0; n = len(a.cleanups) {
		f := a.cleanups[n-1]
		a.cleanups = a.cleanups[:n-1]
		f()
	}
}

// Helper implements TB.
func (*Alone) Helper() {}

// Cleanup implements TB.
func (a *Alone) Cleanup(f func()) { a.cleanups = append(a.cleanups, f) }

// Failed implements TB.
func (a *Alone) Failed() bool { return a.failed }

// Fatalf implements TB.
func (a *Alone) Fatalf(format string, args ...any) {
	a.failed = true
	panic(fmt.Sprintf(format, args...))
}

// Logf implements TB: it writes to standard error.
func (*Alone) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// TempDir implements TB.
func (a *Alone) TempDir() string {
	dir, err := os.MkdirTemp("", "dmfstest-")
	if err != nil {
		a.Fatalf("%v", err)
	}
	a.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a mount that could not be taken away is in it, and was told of
	return dir
}
