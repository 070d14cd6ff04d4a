package luks

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"

	"dmfs/mapper"
	"dmfs/targets/crypt"
)

var (
	// ErrNone says that there is no LUKS header.
	ErrNone = errors.New("there is no LUKS header")
	// ErrPassphrase says that a passphrase, or a volume key, opens no slot.
	ErrPassphrase = errors.New("no key available with this passphrase")
	// ErrNoSlot says that there is no slot that a passphrase could open.
	ErrNoSlot = errors.New("no usable key slot")
)

// A Header is what a container says of itself. It has been checked: offsets and sizes lie where they may.
type Header struct {
	Version   int // 1 or 2
	UUID      string
	Label     string    // of LUKS2, may be empty
	Subsystem string    // of LUKS2, may be empty
	Notes     []string  // what was damaged and got around, for people
	Segments  []Segment // in the order of the data; at least one
	Slots     []Slot    // those that can be opened, in the order they are tried; more may be known to be unusable
	Unusable  []string  // slots that cannot be opened here, and why
	Flags     []string  // the activation flags that were made persistent, of LUKS2
	// Requirements are what must be understood to use the container, of LUKS2; MayOpen judges them.
	Requirements []string
	Reencryption *Reencryption // one that has begun and not ended, nil if there is none

	digests map[string]*digest
	keys    []string      // the digests of the volume keys, by the numbers of the keys
	sum     [sumSize]byte // the checksum of LUKS2
}

// A Segment is a range of the data disk.
type Segment struct {
	Type       string        // "crypt" or "linear"
	Offset     mapper.Sector // on the data disk
	Size       mapper.Sector // 0: up to the end of the disk
	IVTweak    uint64        // in sectors, added to the numbers of sectors before they become IVs
	Cipher     string        // as in "aes-xts-plain64"
	SectorSize int           // bytes
	Key        int           // the number of its volume key, less than Header.Keys; negative if it has none
	Integrity  *Integrity    // nil if the data is not authenticated
	Hot        bool          // a reencryption was at work on it, and may have done half of it
	OnHeader   bool          // it lies on the disk that the header is on

	digest string
	shared bool // more than one digest has it
}

// An Integrity says how a segment is authenticated: its tags are kept by an integrity device below it.
type Integrity struct {
	Type              string // "aead", "none", "poly1305", "hmac(sha256)" ...
	JournalEncryption string
	JournalIntegrity  string
	KeySize           int // bytes of the key that are for a MAC, if the header says so, else 0
}

// A Slot has the volume key encrypted with a passphrase.
type Slot struct {
	Number   int
	KeySize  int // bytes of the volume key
	Priority int // 0: only if it is asked for by number; 1; 2: before the others

	offset int64  // bytes
	size   int64  // bytes that the material may take
	cipher string // that the material is encrypted with
	areaKeySize,
	stripes int
	afHash string
	kdf    kdf
	digest string
}

// A digest tells the right key from a wrong one.
type digest struct {
	hash       string
	iterations uint64
	salt, sum  []byte
}

// UnlockOptions say how to open a slot.
type UnlockOptions struct {
	Slot   int            // only this one; negative: all, except those of priority 0
	Memory uint64         // bytes that a key derivation may take, 0 if it is not known
	Trying func(slot int) // called before each, unless nil
	Key    int            // the number of the volume key that is wanted
}

// Read reads and checks the header that begins r, of which size bytes may be read. It returns ErrNone if there is none, and for
// formats that are no LUKS but known an error that names them.
func Read(r io.ReaderAt, size int64) (*Header, error) {
	first := make([]byte, bin2Size)
	n, err := r.ReadAt(first, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	first = first[:n]
	if bytes.HasPrefix(first, []byte(magic1)) && n >= versionEnd && first[6] == 0 && first[7] == 1 {
		return readLUKS1(first, size)
	}
	h, err := readLUKS2(r, size)
	if errors.Is(err, ErrNone) {
		if name := foreign(first); name != "" {
			return nil, fmt.Errorf("%w: this is %s", ErrNone, name)
		}
	}
	return h, err
}

// Unchanged reads the header again and returns an error if it is not what it was.
func (h *Header) Unchanged(r io.ReaderAt, size int64) error {
	again, err := Read(r, size)
	if err == nil && again.sum != h.sum {
		err = errors.New("the header was changed meanwhile: try again when nobody works on the container")
	}
	return err
}

// Unlock tries the passphrase on the slots and returns the volume key and the number of the slot that it opened. r is what Read read.
//
// Errors are ErrPassphrase once every slot was tried, ErrNoSlot if there is none to try, ErrMemory, or that of ctx.
func (h *Header) Unlock(ctx context.Context, r io.ReaderAt, passphrase []byte, o UnlockOptions) (key *Secret, slot int, err error) {
	tried, refused := 0, error(nil)
	for _, s := range h.candidates(o) {
		if o.Trying != nil {
			o.Trying(s.Number)
		}
		key, err := h.open(ctx, r, s, passphrase, o.Memory)
		if err == nil {
			return key, s.Number, nil
		}
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
		tried++
		if !errors.Is(err, ErrPassphrase) {
			refused = errors.Join(refused, fmt.Errorf("key slot %d: %w", s.Number, err))
		}
	}
	switch {
	case refused != nil:
		return nil, 0, refused
	case tried > 0 && o.Slot < 0:
		return nil, 0, fmt.Errorf("%w%s", ErrPassphrase, h.unusable())
	case tried > 0:
		return nil, 0, ErrPassphrase
	case o.Slot >= 0:
		return nil, 0, fmt.Errorf("%w: slot %d is not in use, or not for this data%s", ErrNoSlot, o.Slot, h.unusable())
	}
	return nil, 0, fmt.Errorf("%w%s", ErrNoSlot, h.unusable())
}

func (h *Header) unusable() string {
	text := ""
	for _, u := range h.Unusable {
		text += "; " + u
	}
	return text
}

// candidates returns the slots to try: those preferred, then the others.
func (h *Header) candidates(o UnlockOptions) []*Slot {
	if o.Key >= len(h.keys) {
		return nil
	}
	want := h.keys[o.Key]
	var found []*Slot
	for _, priority := range []int{2, 1, 0} {
		for i := range h.Slots {
			s := &h.Slots[i]
			chosen := o.Slot == s.Number || o.Slot < 0 && priority > 0
			if chosen && s.Priority == priority && s.digest == want {
				found = append(found, s)
			}
		}
	}
	return found
}

// open returns the key in a slot.
func (h *Header) open(ctx context.Context, r io.ReaderAt, s *Slot, passphrase []byte, memory uint64) (*Secret, error) {
	if isNull(s.cipher) && len(passphrase) > 0 {
		return nil, ErrPassphrase // else a header that somebody planted would take any passphrase
	}
	split, err := NewSecret(s.materialSectors().bytes())
	if err != nil {
		return nil, err
	}
	defer split.Release()
	if err := s.material(ctx, r, split.Bytes, passphrase, memory); err != nil {
		return nil, err
	}
	key, err := NewSecret(s.KeySize)
	if err != nil {
		return nil, err
	}
	if err = merge(ctx, key.Bytes, split.Bytes, s.stripes, s.afHash); err == nil {
		err = h.check(ctx, s.digest, key.Bytes)
	}
	if err != nil {
		key.Release()
		return nil, err
	}
	return key, nil
}

// material reads and decrypts the material of a slot into p.
func (s *Slot) material(ctx context.Context, r io.ReaderAt, p, passphrase []byte, memory uint64) error {
	areaKey, err := NewSecret(s.areaKeySize)
	if err != nil {
		return err
	}
	defer areaKey.Release()
	if err := s.kdf.derive(ctx, areaKey.Bytes, passphrase, memory); err != nil {
		return err
	}
	c, err := s.newCipher(areaKey.Bytes)
	if err != nil {
		return err
	}
	defer c.Release()
	if _, err := r.ReadAt(p, s.offset); err != nil {
		return fmt.Errorf("reading it: %w", err)
	}
	c.Decrypt(p, 0)
	return nil
}

// newCipher returns the cipher that the material is encrypted with. An error says more than the kernel's words.
func (s *Slot) newCipher(key []byte) (*crypt.Sectors, error) {
	if isNull(s.cipher) {
		key = nil
	}
	c, err := crypt.NewSectors(s.cipher, key)
	if err != nil {
		return nil, fmt.Errorf("cipher %.64q with a key of %d bytes: %w", s.cipher, len(key), err)
	}
	return c, nil
}

// Check tells whether key is the volume key number n: ErrPassphrase if it is not.
func (h *Header) Check(ctx context.Context, n int, key []byte) error {
	return h.check(ctx, h.keys[n], key)
}

func (h *Header) check(ctx context.Context, name string, key []byte) error {
	d := h.digests[name]
	if d == nil {
		return fmt.Errorf("digest %q is missing", name)
	}
	sum := make([]byte, len(d.sum))
	if err := pbkdf2(ctx, sum, key, d.salt, d.hash, d.iterations); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(sum, d.sum) != 1 {
		return ErrPassphrase
	}
	return nil
}

// Keys returns how many volume keys the container has: one, two while it is reencrypted, none if nothing is encrypted.
func (h *Header) Keys() int { return len(h.keys) }

// number gives s the number of its volume key.
func (h *Header) number(s *Segment) {
	s.Key = -1
	if s.digest == "" {
		return
	}
	if s.Key = slices.Index(h.keys, s.digest); s.Key < 0 {
		s.Key = len(h.keys)
		h.keys = append(h.keys, s.digest)
	}
}

// KeySize returns the bytes of the volume key number n as its slots say, 0 if there are none.
func (h *Header) KeySize(n int) int {
	for i := range h.Slots {
		if h.Slots[i].digest == h.keys[n] {
			return h.Slots[i].KeySize
		}
	}
	return 0
}

// sectors counts sectors of key material.
type sectors int64

func (s sectors) bytes() int { return int(mapper.Sector(s).Bytes()) }

// materialSectors returns how many sectors the split key takes.
func (s *Slot) materialSectors() sectors {
	return sectors(mapper.SectorsOf(int64(s.KeySize)*int64(s.stripes) + mapper.SectorSize - 1))
}

// isNull reports whether a cipher does not encrypt.
func isNull(cipher string) bool {
	const null = "cipher_null"
	return len(cipher) >= len(null) && cipher[:len(null)] == null
}
