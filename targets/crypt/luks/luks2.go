package luks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The binary header of LUKS2, big-endian, of which there are two with the JSON area behind each. The format is that of the LUKS2 On-Disk
// Format Specification 1.1.1; it was checked with containers of cryptsetup 2.6.
//
//	offset  size  field
//	0       6     magic "LUKS\xba\xbe", of the second "SKUL\xba\xbe"
//	6       2     version: 2
//	8       8     size of this header and its JSON area, bytes
//	16      8     sequence number, of the newer one higher
//	24      48    label, text
//	72      32    hash of the checksum, text
//	104     64    salt, so that the two differ
//	168     40    UUID, text
//	208     48    subsystem, text
//	256     8     offset of this header, bytes
//	448     64    checksum of the header, with zeroes here, and the JSON area
const (
	magic2    = "SKUL\xba\xbe"
	bin2Size  = 4096
	least2    = 16 << 10
	most2     = 4 << 20
	sumAt     = 448
	sumSize   = 64
	version2  = 2
	mostAreas = mostMaterial // bytes of all key slots
)

// A copy2 is one of the two headers.
type copy2 struct {
	size     int64 // of the header and its JSON area
	sequence uint64
	header   *Header
}

// errAbsent says that there is no header where one was looked for.
var errAbsent = errors.New("there is no header")

// readLUKS2 reads the newer of the two headers that are good. A header that can be read has the other behind it; if
// there is none at the beginning, the second is looked for wherever it may be.
func readLUKS2(r io.ReaderAt, size int64) (*Header, error) {
	one, err1 := readCopy(r, 0, size, magic1)
	var two *copy2
	var err2 error
	if one != nil {
		two, err2 = readCopy(r, one.size, size, magic2)
	} else {
		for at := int64(least2); at <= most2 && (two == nil || err2 != nil); at *= 2 {
			c, err := readCopy(r, at, size, magic2)
			if c != nil || err2 == nil || errors.Is(err2, errAbsent) {
				two, err2 = c, err
			}
		}
	}
	switch {
	case errors.Is(err1, errAbsent) && (two == nil || err2 != nil):
		if two == nil && errors.Is(err2, errAbsent) {
			return nil, ErrNone
		}
		return nil, fmt.Errorf("there is no primary LUKS2 header, and the secondary is of no use: %w", err2)
	case err1 != nil && err2 != nil:
		return nil, fmt.Errorf("neither LUKS2 header is of use: primary: %w; secondary: %w", err1, err2)
	case err1 != nil:
		two.header.Notes = append(two.header.Notes, fmt.Sprintf("the primary LUKS2 header is damaged (%v); the secondary is used. cryptsetup repair restores it", err1))
		return two.header, nil
	case err2 != nil:
		one.header.Notes = append(one.header.Notes, fmt.Sprintf("the secondary LUKS2 header is damaged (%v); the primary is used. cryptsetup repair restores it", err2))
		return one.header, nil
	case two.sequence > one.sequence:
		two.header.Notes = append(two.header.Notes, "the primary LUKS2 header is older than the secondary, which is used")
		return two.header, nil
	case one.sequence > two.sequence:
		one.header.Notes = append(one.header.Notes, "the secondary LUKS2 header is older than the primary, which is used")
	}
	return one.header, nil
}

// readCopy reads the header at an offset. If it can be read but says what it must not, the copy is there beside the error.
func readCopy(r io.ReaderAt, at, size int64, magic string) (*copy2, error) {
	bin := make([]byte, bin2Size)
	if n, err := r.ReadAt(bin, at); n < len(bin) {
		if err == nil || errors.Is(err, io.EOF) {
			err = errAbsent
		}
		return nil, err
	}
	be := binary.BigEndian
	if string(bin[:6]) != magic {
		return nil, errAbsent
	}
	if v := be.Uint16(bin[6:]); v != version2 {
		return nil, fmt.Errorf("%w of version 2, it says %d", errAbsent, v)
	}
	length, self := be.Uint64(bin[8:]), be.Uint64(bin[256:])
	switch {
	case self != uint64(at):
		return nil, fmt.Errorf("it is at byte %d and says %d", at, self)
	case length < least2 || length > most2:
		return nil, fmt.Errorf("its size is %d bytes, want %d to %d", length, least2, most2)
	case magic == magic2 && uint64(at) != length:
		return nil, fmt.Errorf("it is at byte %d and the first has %d", at, length)
	}
	area := make([]byte, length-bin2Size)
	if n, err := r.ReadAt(area, at+bin2Size); n < len(area) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("its JSON area: %w", err)
	}
	if err := checkSum(bin, area); err != nil {
		return nil, err
	}
	c := &copy2{size: int64(length), sequence: be.Uint64(bin[16:])}
	h := &Header{Version: version2, UUID: text1(bin[168:208]), Label: text1(bin[24:72]), Subsystem: text1(bin[208:256])}
	h.sum = [sumSize]byte(bin[sumAt:])
	if err := checkUUID(h.UUID); err != nil {
		return c, err
	}
	if err := h.parseArea(area, c.size, size); err != nil {
		return c, err
	}
	c.header = h
	return c, nil
}

// checkSum compares the checksum of a header and its JSON area.
func checkSum(bin, area []byte) error {
	maker, err := hashNamed(text1(bin[72:104]))
	if err != nil {
		return fmt.Errorf("its checksum: %w", err)
	}
	h := maker()
	h.Write(bin[:sumAt])           //nolint:errcheck // a hash takes everything
	h.Write(make([]byte, sumSize)) //nolint:errcheck // a hash takes everything
	h.Write(bin[sumAt+sumSize:])   //nolint:errcheck // a hash takes everything
	h.Write(area)                  //nolint:errcheck // a hash takes everything
	want := bin[sumAt : sumAt+sumSize]
	if sum := h.Sum(nil); !bytes.HasPrefix(want, sum) {
		return errors.New("its checksum does not fit")
	}
	return nil
}
