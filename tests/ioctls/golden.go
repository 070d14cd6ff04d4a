package ioctls

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Call is one ioctl, before and after.
type Call struct {
	What   string // in words
	Nr     int
	Before []byte // the caller's buffer
	Errno  unix.Errno
	After  []byte
}

// Format returns the golden of calls; head says who recorded it.
func Format(head string, calls []Call) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", head)
	for _, c := range calls {
		fmt.Fprintf(&b, "= %s\n%d %s\n%d ", c.What, c.Nr, Pack(c.Before), c.Errno)
		if bytes.Equal(c.Before, c.After) {
			b.WriteString("same\n")
		} else {
			b.WriteString(Pack(c.After) + "\n")
		}
	}
	return b.String()
}

// Parse reads a golden.
func Parse(text string) ([]Call, error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")[1:]
	var calls []Call
	for ; len(lines) >= 3; lines = lines[3:] {
		c := Call{What: strings.TrimPrefix(lines[0], "= ")}
		var errno int
		for i, number := range []*int{&c.Nr, &errno} {
			n, rest, _ := strings.Cut(lines[i+1], " ")
			value, err := strconv.Atoi(n)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.What, err)
			}
			*number = value
			lines[i+1] = rest
		}
		c.Errno = unix.Errno(errno)
		var err error
		if c.Before, err = Unpack(lines[1]); err != nil {
			return nil, fmt.Errorf("%s: %w", c.What, err)
		}
		c.After = c.Before
		if lines[2] != "same" {
			if c.After, err = Unpack(lines[2]); err != nil {
				return nil, fmt.Errorf("%s: %w", c.What, err)
			}
		}
		calls = append(calls, c)
	}
	if len(lines) > 0 {
		return nil, fmt.Errorf("%d lines are left", len(lines))
	}
	return calls, nil
}

// Pack returns b as a golden has it.
func Pack(b []byte) string {
	const row = 8 // so many alike are counted
	var out strings.Builder
	for len(b) > 0 {
		n := 1
		for n < len(b) && b[n] == b[0] {
			n++
		}
		if n >= row {
			if s := out.String(); s != "" && s[len(s)-1] != ' ' {
				out.WriteByte(' ')
			}
			fmt.Fprintf(&out, "%02x*%d ", b[0], n)
		} else {
			out.WriteString(hex.EncodeToString(b[:n]))
		}
		b = b[n:]
	}
	return strings.TrimSpace(out.String())
}

// Unpack is the reverse of Pack.
func Unpack(s string) ([]byte, error) {
	var out []byte
	for _, w := range strings.Fields(s) {
		digits, times, repeated := strings.Cut(w, "*")
		b, err := hex.DecodeString(digits)
		if err != nil {
			return nil, err
		}
		if repeated {
			n, err := strconv.ParseUint(times, 10, 24)
			if err != nil {
				return nil, err
			}
			b = bytes.Repeat(b, int(n))
		}
		out = append(out, b...)
	}
	return out, nil
}
