package luks

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrNotAuthentic says that the state of a reencryption is not what somebody who had the keys wrote.
var ErrNotAuthentic = errors.New("the state of its reencryption is not authentic: the header was changed by somebody who had no passphrase, or is damaged")

// Authenticate checks that whoever began the reencryption of a container had its keys: keys are all of them, by their numbers. The error is
// ErrNotAuthentic, or that of ctx. A container that is not being reencrypted has nothing to check.
//
// A digest of the header, that which lists the key slot of the reencryption, is made as digests of volume keys are, of a message that has,
// one behind the other and without anything between:
//
//   - the character v and the version of the metadata, as a digit;
//   - the volume key of the data as it was, if it has one, and that of the data as it is going to be, if it has another;
//   - of the key slot mode and direction, of its area type, offset and size; then, of the types that have them, hash and sector size, and
//     the shift;
//   - of the segments backup-previous, backup-final and, if there is one, backup-moved-segment: type, offset and size, and of those that are
//     encrypted iv_tweak, encryption and sector_size.
//
// Texts are there as they are, the size "dynamic" too; numbers that JSON has in texts as 64 bits, others as 32 bits, big-endian. The message is
// what cryptsetup 2.4.3 and later make, which tests compare: containers that it was stopped in the middle of.
func (h *Header) Authenticate(ctx context.Context, keys []*Secret) error {
	r := h.Reencryption
	if r == nil {
		return nil
	}
	rest, err := r.message()
	if err != nil {
		return err
	}
	n := 2 + len(rest)
	for _, k := range keys {
		n += len(k.Bytes)
	}
	s, err := NewSecret(n)
	if err != nil {
		return err
	}
	defer s.Release()
	message := append(s.Bytes[:0], 'v', '0'+byte(r.version))
	for _, k := range keys {
		message = append(message, k.Bytes...)
	}
	message = append(message, rest...)
	if err = h.check(ctx, r.digest, message); errors.Is(err, ErrPassphrase) {
		return ErrNotAuthentic
	}
	return err
}

// message returns what is authenticated and not secret.
func (r *Reencryption) message() ([]byte, error) {
	be := binary.BigEndian
	m := append([]byte(r.Mode+r.Direction), r.area.kind...)
	m = be.AppendUint64(m, r.area.offset)
	m = be.AppendUint64(m, r.area.size)
	checksum, shift := r.area.has()
	if checksum {
		m = be.AppendUint32(append(m, r.area.hash...), uint32(r.area.sectorSize))
	}
	if shift {
		m = be.AppendUint64(m, r.area.shift)
	}
	segments := []*Segment{&r.Previous, &r.Final}
	if r.Moved != nil {
		segments = append(segments, r.Moved)
	}
	for _, s := range segments {
		const longest = 64 // bytes of a text, beyond which there is no message
		if len(s.Cipher) > longest {
			return nil, fmt.Errorf("the cipher of a segment of its reencryption has %d bytes, at most %d can be authenticated", len(s.Cipher), longest)
		}
		m = be.AppendUint64(append(m, s.Type...), uint64(s.Offset.Bytes()))
		if s.Size == 0 {
			m = append(m, "dynamic"...)
		} else {
			m = be.AppendUint64(m, uint64(s.Size.Bytes()))
		}
		if s.Type == "crypt" {
			m = be.AppendUint64(m, s.IVTweak)
			m = be.AppendUint32(append(m, s.Cipher...), uint32(s.SectorSize))
		}
	}
	return m, nil
}
