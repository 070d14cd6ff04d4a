package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"dmfs/targets/crypt/luks"
)

// Bounds of what is read of a passphrase, in bytes, which are cryptsetup's.
const (
	mostPassphrase = 512     // that is typed, or a line
	mostKeyFile    = 8 << 20 // a file
)

// A KeySource says where the passphrase, or the volume key, comes from.
type KeySource struct {
	File       string // as it is, with every newline; "-" is standard input; "" for none
	FileOffset int64  // bytes to leave out of the file, the descriptor or standard input
	FileSize   int64  // bytes to take of it; 0: all, or the line
	FD         int    // a descriptor whose first line is the passphrase; negative for none
	Tries      int    // how often a terminal is asked; 0 counts as 3
}

// passphrase gets the passphrase. again says that another may be asked for if it is wrong.
func (k *KeySource) passphrase(ctx context.Context, stdin *os.File, prompt io.Writer, what string) (s *luks.Secret, again bool, err error) {
	switch {
	case k.File != "":
		s, err = k.readFile(stdin)
	case k.FD >= 0:
		f := os.NewFile(uintptr(k.FD), fmt.Sprintf("descriptor %d", k.FD))
		if f == nil {
			return nil, false, fmt.Errorf("--key-fd %d: want the number of an open file", k.FD)
		}
		s, err = k.readLine(f)
	case isTerminal(stdin):
		if k.FileOffset > 0 || k.FileSize > 0 {
			return nil, false, failure(Failed, "--keyfile-offset and --keyfile-size are not for what is typed")
		}
		s, err = ask(ctx, stdin, prompt, what)
		again = true
	default:
		s, err = k.readLine(stdin)
	}
	if err != nil {
		return nil, false, failure(Failed, "reading the passphrase: %w", err)
	}
	return s, again, nil
}

// readFile reads a key file as it is.
func (k *KeySource) readFile(stdin *os.File) (*luks.Secret, error) {
	f := stdin
	if k.File != "-" {
		var err error
		if f, err = os.Open(k.File); err != nil {
			return nil, err
		}
		defer f.Close() //nolint:errcheck // it was only read
	}
	if err := k.begin(f); err != nil {
		return nil, err
	}
	r := io.Reader(f)
	if k.FileSize > 0 {
		r = io.LimitReader(f, k.FileSize)
	}
	s, err := luks.ReadSecret(r, mostKeyFile)
	switch {
	case err != nil:
		return nil, err
	case len(s.Bytes) > mostKeyFile:
		err = fmt.Errorf("%s has more than %d bytes: say how many count, with --keyfile-size", k.File, mostKeyFile)
	case len(s.Bytes) == 0 && !isRegular(f): // an empty file is an empty passphrase
		err = errors.New("there is none")
	default:
		err = k.enough(len(s.Bytes))
	}
	if err != nil {
		s.Release()
		return nil, err
	}
	return s, nil
}

// begin checks how much of f is wanted, and goes to where it begins.
func (k *KeySource) begin(f *os.File) error {
	if k.FileSize > mostKeyFile {
		return fmt.Errorf("--keyfile-size %d: want at most %d", k.FileSize, mostKeyFile)
	}
	if k.FileOffset == 0 {
		return nil
	}
	if err := skip(f, k.FileOffset); err != nil {
		return fmt.Errorf("--keyfile-offset %d: %w", k.FileOffset, err)
	}
	return nil
}

// enough refuses n bytes if more were wanted: a key that is cut short is not the one that was meant.
func (k *KeySource) enough(n int) error {
	if int64(n) < k.FileSize {
		return fmt.Errorf("there are %d bytes, want %d", n, k.FileSize)
	}
	return nil
}

func isRegular(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode().IsRegular()
}

// skip passes over n bytes of f. What is passed over of a pipe is wiped, for it may be secret.
func skip(f *os.File, n int64) error {
	if isRegular(f) {
		at, err := f.Seek(n, io.SeekCurrent)
		if err != nil {
			return err
		}
		if st, err := f.Stat(); err != nil || at > st.Size() {
			return errors.Join(err, errors.New("it is not that long"))
		}
		return nil
	}
	buf, err := luks.NewSecret(mostPassphrase)
	if err != nil {
		return err
	}
	defer buf.Release()
	for n > 0 {
		k, err := f.Read(buf.Bytes[:min(n, mostPassphrase)])
		n -= int64(k)
		if n > 0 && errors.Is(err, io.EOF) {
			return errors.New("it is not that long")
		}
		if n > 0 && err != nil {
			return err
		}
	}
	return nil
}

// readLine reads up to a newline, which is not part of the passphrase, to the end, or as much as is wanted. It reads no byte behind that.
func (k *KeySource) readLine(f *os.File) (*luks.Secret, error) {
	if err := k.begin(f); err != nil {
		return nil, err
	}
	most := mostPassphrase
	if k.FileSize > 0 {
		most = int(k.FileSize)
	}
	s, err := luks.NewSecret(most + 1)
	if err != nil {
		return nil, err
	}
	n, err := lineInto(f, s.Bytes, k.FileSize > 0)
	if err == nil {
		err = k.enough(n)
	}
	if err != nil {
		s.Release()
		return nil, err
	}
	clear(s.Bytes[n:])
	s.Bytes = s.Bytes[:n]
	return s, nil
}

// lineInto reads a line into buf, which has a byte more than a line may have, and returns its length. If cut is set no more is read when it has as
// many; else a longer one is refused.
func lineInto(f *os.File, buf []byte, cut bool) (int, error) {
	for n := 0; ; n++ {
		switch {
		case n == len(buf)-1 && cut:
			return n, nil
		case n == len(buf):
			return 0, fmt.Errorf("it has more than %d bytes: such a one must come from a file, with --key-file", n-1)
		}
		k, err := f.Read(buf[n : n+1])
		switch {
		case k == 1 && buf[n] != '\n':
		case err != nil && !errors.Is(err, io.EOF):
			return 0, err
		case k == 0 && n == 0:
			return 0, errors.New("there is none")
		default:
			return n, nil
		}
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// ask asks for a passphrase on a terminal, which does not show it. When ctx is done the terminal is as it was before.
func ask(ctx context.Context, tty *os.File, prompt io.Writer, what string) (*luks.Secret, error) {
	fd := int(tty.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ICANON | unix.ISIG
	quiet.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, unix.TCSETSF, &quiet); err != nil {
		return nil, err
	}
	defer unix.IoctlSetTermios(fd, unix.TCSETSF, before) //nolint:errcheck // nothing better can be done
	fmt.Fprintf(prompt, "Enter passphrase for %s: ", what)
	defer fmt.Fprintln(prompt)
	type result struct {
		s   *luks.Secret
		err error
	}
	done := make(chan result, 1)
	go func() {
		s, err := readTerminal(fd)
		done <- result{s, err}
	}()
	select {
	case r := <-done:
		return r.s, r.err
	case <-ctx.Done():
		return nil, ctx.Err() // the read ends with the process
	}
}

// readTerminal reads a line, which a terminal gives at once.
func readTerminal(fd int) (*luks.Secret, error) {
	s, err := luks.NewSecret(mostPassphrase + 1)
	if err != nil {
		return nil, err
	}
	n, err := unix.Read(fd, s.Bytes)
	if err == nil && n == 0 {
		err = errors.New("there is none")
	}
	if err == nil && n == len(s.Bytes) && s.Bytes[n-1] != '\n' {
		err = fmt.Errorf("it has more than %d bytes", mostPassphrase)
	}
	if err != nil {
		s.Release()
		return nil, err
	}
	s.Bytes = bytes.TrimSuffix(s.Bytes[:n], []byte{'\n'})
	return s, nil
}
