package mapper

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// maxLogLines bounds what a Log remembers; maxLogLine bounds a line, in bytes.
const (
	maxLogLines = 1000
	maxLogLine  = 1024
)

// A Log keeps the last errors and warnings, as dmesg would. It is safe for concurrent use.
type Log struct {
	mu    sync.Mutex
	lines []string // a ring once it is full
	next  int      // the oldest line, once it is full
	tee   io.Writer

	burst      int // lines of I/O errors in this interval
	suppressed int
	interval   time.Time
}

// Tee also writes each line to w, which must not block for long. It is called before the first line.
func (l *Log) Tee(w io.Writer) { l.tee = w }

// Printf adds a line. Control characters are replaced, long lines cut.
func (l *Log) Printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(fmt.Sprintf(format, args...))
}

// ioError adds a line about a failed request; of many in a short time most are only counted.
func (l *Log) ioError(err error) {
	const (
		atOnce = 10
		period = 5 * time.Second
	)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.interval) > period {
		if l.suppressed > 0 {
			l.add(fmt.Sprintf("device-mapper: %d more I/O errors", l.suppressed))
		}
		l.interval, l.burst, l.suppressed = now, 0, 0
	}
	if l.burst++; l.burst > atOnce {
		l.suppressed++
		return
	}
	l.add("device-mapper: I/O error: " + err.Error())
}

// add is called with mu held.
func (l *Log) add(text string) {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
	if len(text) > maxLogLine {
		text = text[:maxLogLine] + " ..."
	}
	line := time.Now().UTC().Format("2006-01-02T15:04:05.000Z ") + text + "\n"
	if l.tee != nil {
		io.WriteString(l.tee, line) //nolint:errcheck // nowhere to report it
	}
	if len(l.lines) < maxLogLines {
		l.lines = append(l.lines, line)
		return
	}
	l.lines[l.next] = line
	l.next = (l.next + 1) % maxLogLines
}

// Text returns the lines, newest last.
func (l *Log) Text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines[l.next:], "") + strings.Join(l.lines[:l.next], "")
}
