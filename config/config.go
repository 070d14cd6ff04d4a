package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"dmfs/mapper"
)

// MaxBytes bounds the size of a configuration file.
const MaxBytes = 16 << 20

// A Config is a file that has been read and found without a mistake of form.
type Config struct {
	Path    string                       // as given
	Dir     string                       // absolute: what relative paths resolve against
	Disks   map[string]mapper.DiskConfig // by name; the paths are absolute
	Devices []Device                     // each after those it uses, otherwise as in the file

	Keys         map[string]mapper.KeyConfig // by description; the paths are absolute
	Certificates []string                    // absolute paths

	src *source
}

// A Device is one [devices.NAME] of the file.
type Device struct {
	mapper.NewDevice
	Uses []string // names of other devices of the file, in the order the table mentions them
}

// Load reads the file at path. mountPoint is where the devices will be mounted, so that a table
// may name a device by its path there; "" means that this is not known. Mistakes in the file are
// *Error, several of them joined.
func Load(path, mountPoint string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return nil, fmt.Errorf("%s: is a directory, want a configuration file", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, err
	}
	return Parse(path, text, mountPoint)
}

// Parse is Load for a text already read; path says where it came from.
func Parse(path string, text []byte, mountPoint string) (*Config, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	p := &parser{
		Config: &Config{Path: path, Dir: filepath.Dir(abs), Disks: make(map[string]mapper.DiskConfig),
			Keys: make(map[string]mapper.KeyConfig),
		},
		mounts: mountForms(mountPoint),
	}
	if len(text) > MaxBytes {
		return nil, &Error{path, 0, fmt.Errorf("larger than %d MiB", MaxBytes>>20)}
	}
	p.src = &source{text: string(bytes.TrimPrefix(text, []byte("\ufeff")))}
	if line, err := checkNesting(p.src.text); err != nil {
		return nil, &Error{path, line, err}
	}
	if !utf8.ValidString(p.src.text) {
		return nil, &Error{path, invalidLine(p.src.text), errors.New("invalid UTF-8")}
	}
	var root map[string]any
	meta, err := toml.Decode(p.src.text, &root)
	if err != nil {
		return nil, p.tomlError(err)
	}
	p.keys = meta.Keys()
	p.file(root)
	if len(p.errs) == 0 {
		p.order()
	}
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return p.Config, nil
}

// Locate adds to err, which came from creating the device of that name, where in the file the
// fault is: the line of the segment if err wraps *mapper.SegmentError, else that of the device.
func (c *Config) Locate(err error, device string) error {
	if err == nil {
		return nil
	}
	line := c.src.line([]string{"devices", device})
	var seg *mapper.SegmentError
	if errors.As(err, &seg) {
		line = c.src.segmentLine(device, seg.Index)
	}
	return &Error{c.Path, line, fmt.Errorf("device %s: %w", device, err)}
}

// An Error is a mistake in a configuration file.
type Error struct {
	Path string
	Line int // from 1; 0 if it is about the file as a whole
	Err  error
}

// Error returns "PATH:LINE: cause".
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.Path, e.Line, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
