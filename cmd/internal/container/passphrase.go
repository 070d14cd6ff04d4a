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
	FileOffset int64  // bytes of it to leave out
	FileSize   int64  // bytes of it to take at most; 0: all
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
		s, err = readLine(f)
	case isTerminal(stdin):
		s, err = ask(ctx, stdin, prompt, what)
		again = true
	default:
		s, err = readLine(stdin)
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
	if k.FileOffset > 0 {
		if err := skip(f, k.FileOffset); err != nil {
			return nil, fmt.Errorf("--keyfile-offset %d: %w", k.FileOffset, err)
		}
	}
	r, most := io.Reader(f), int64(mostKeyFile)
	if k.FileSize > 0 {
		if k.FileSize > most {
			return nil, fmt.Errorf("--keyfile-size %d: want at most %d", k.FileSize, mostKeyFile)
		}
		r = io.LimitReader(f, k.FileSize)
	}
	s, err := luks.ReadSecret(r, mostKeyFile)
	switch {
	case err != nil:
		return nil, err
	case len(s.Bytes) > mostKeyFile:
		err = fmt.Errorf("%s has more than %d bytes: say how many count, with --keyfile-size", k.File, mostKeyFile)
	case k.FileSize > 0 && int64(len(s.Bytes)) < k.FileSize:
		err = fmt.Errorf("%s has no more than %d bytes, and --keyfile-size wants %d", k.File, len(s.Bytes), k.FileSize)
	}
	if err != nil {
		s.Release()
		return nil, err
	}
	return s, nil
}

// skip passes over n bytes of f. What is passed over of a pipe is wiped, for it may be secret.
func skip(f *os.File, n int64) error {
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
		_, err := f.Seek(n, io.SeekCurrent)
		return err
	}
	buf, err := luks.NewSecret(mostPassphrase)
	if err != nil {
		return err
	}
	defer buf.Release()
	for n > 0 {
		k, err := f.Read(buf.Bytes[:min(n, mostPassphrase)])
		n -= int64(k)
		if n > 0 && err != nil {
			return err
		}
	}
	return nil
}

// readLine reads up to a newline, which is not part of the passphrase, or to the end. It reads no byte behind the newline.
func readLine(f *os.File) (*luks.Secret, error) {
	s, err := luks.NewSecret(mostPassphrase + 1)
	if err != nil {
		return nil, err
	}
	for n := 0; ; n++ {
		if n > mostPassphrase {
			err = fmt.Errorf("it has more than %d bytes: such a one must come from a file, with --key-file", mostPassphrase)
			break
		}
		k, e := f.Read(s.Bytes[n : n+1])
		if k == 1 && s.Bytes[n] != '\n' {
			continue
		}
		if e != nil && !errors.Is(e, io.EOF) {
			err = e
			break
		}
		if k == 0 && n == 0 {
			err = errors.New("there is none")
			break
		}
		clear(s.Bytes[n:])
		s.Bytes = s.Bytes[:n]
		return s, nil
	}
	s.Release()
	return nil, err
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
