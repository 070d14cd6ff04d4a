package container

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"dmfs/mapper"
	"dmfs/targets/crypt/luks"
)

// A plan is what devices a container becomes, in the order in which they are made.
type plan struct {
	Kind    string   // "LUKS1", "LUKS2", "VERITY"
	UUID    string   // of the container
	Devices []device // each stands on those before
	Moving  bool     // it is being reencrypted: whoever has it open, by whatever path, may go on with that
}

// A device is one mapped device.
type device struct {
	Name, UUID string
	ReadOnly   bool
	Lines      []line
}

// A line is a segment of a table. The key, if it has one, stands behind the first argument; a cipher that encrypts nothing takes none in its
// place, though the container has one.
type line struct {
	Spec        mapper.Spec
	Keyed, Null bool
	Key         int // the number of the volume key, if Keyed
}

// activation are the flags with which devices are made; the header may have some, the command line others.
type activation struct {
	AllowDiscards, SameCPU, SubmitFromCPUs, NoReadQueue, NoWriteQueue, NoJournal bool
}

// flagNames are the flags that LUKS2 keeps.
func (a *activation) flagNames() map[string]*bool {
	return map[string]*bool{
		"allow-discards": &a.AllowDiscards, "same-cpu-crypt": &a.SameCPU, "submit-from-crypt-cpus": &a.SubmitFromCPUs,
		"no-read-workqueue": &a.NoReadQueue, "no-write-workqueue": &a.NoWriteQueue, "no-journal": &a.NoJournal,
	}
}

// words returns the options of a crypt target in the order of its tables.
func (a activation) words() (words []string) {
	for _, o := range []struct {
		set  bool
		name string
	}{
		{a.AllowDiscards, "allow_discards"}, {a.SameCPU, "same_cpu_crypt"}, {a.SubmitFromCPUs, "submit_from_crypt_cpus"},
		{a.NoReadQueue, "no_read_workqueue"}, {a.NoWriteQueue, "no_write_workqueue"},
	} {
		if o.set {
			words = append(words, o.name)
		}
	}
	return words
}

// integritySuffix makes the name of the integrity device below a container.
const integritySuffix = "_dif"

// deviceUUID returns the uuid that cryptsetup gives a device.
func deviceUUID(kind, uuid, name string) string {
	return "CRYPT-" + kind + "-" + strings.ReplaceAll(uuid, "-", "") + "-" + name
}

// planLUKS makes the plan of a LUKS container on data, whose header is on the disk header.
func planLUKS(h *luks.Header, data, header *disk, name string, readOnly bool, a activation) (*plan, error) {
	p := &plan{Kind: "LUKS" + strconv.Itoa(h.Version), UUID: h.UUID, Moving: h.Reencryption != nil}
	d := device{Name: name, UUID: deviceUUID(p.Kind, h.UUID, name), ReadOnly: readOnly}
	start := mapper.Sector(0)
	for n, s := range h.Segments {
		on := data
		if s.OnHeader {
			on = header
		}
		size, end := s.Size, on.sectors()
		if size == 0 && s.Offset < end {
			size = lastSize(h, s, start, end)
		}
		if s.Offset >= end || size == 0 || size > end-s.Offset {
			return nil, failure(NotThere, "%s has %d sectors, and segment %d begins at %d and has %s: is it the disk of this header, and whole?",
				on.name, end, n, s.Offset, sizeText(s.Size))
		}
		l := line{Spec: mapper.Spec{Start: start, Len: size}}
		var err error
		switch {
		case s.Type == "linear":
			l.Spec.Type, l.Spec.Args = "linear", []string{on.name, sectorText(s.Offset)}
		case s.Integrity != nil:
			below, e := planIntegrity(h, s, data, name+integritySuffix, readOnly, a)
			if e != nil {
				return nil, fmt.Errorf("segment %d: %w", n, e)
			}
			p.Devices = append(p.Devices, below)
			l.Spec.Len = below.Lines[0].Spec.Len
			if s.Size != 0 && s.Size != l.Spec.Len {
				return nil, fmt.Errorf("segment %d: %d sectors, and its integrity device has %d", n, s.Size, l.Spec.Len)
			}
			err = l.crypt(s, below.Name, 0, a)
		default:
			err = l.crypt(s, on.name, s.Offset, a)
		}
		if err != nil {
			return nil, fmt.Errorf("segment %d: %w", n, err)
		}
		d.Lines = append(d.Lines, l)
		start += l.Spec.Len
	}
	p.Devices = append(p.Devices, d)
	return p, nil
}

// lastSize returns how many sectors the last segment has, which begins at sector start of the device, on a disk that ends at end. A
// reencryption that moves data leaves a gap behind it, or has left one before it.
func lastSize(h *luks.Header, s luks.Segment, start, end mapper.Sector) mapper.Sector {
	if h.Reencryption == nil {
		return end - s.Offset
	}
	all := h.Reencryption.DataSectors(end)
	return all - min(start, all)
}

func sizeText(n mapper.Sector) string {
	if n == 0 {
		return "the rest"
	}
	return sectorText(n)
}

func sectorText(n mapper.Sector) string { return strconv.FormatUint(uint64(n), 10) }

// crypt makes l a segment of the target crypt.
func (l *line) crypt(s luks.Segment, disk string, at mapper.Sector, a activation) error {
	const least, most = mapper.SectorSize, 4096
	if s.SectorSize < least || s.SectorSize > most || bits.OnesCount(uint(s.SectorSize)) != 1 {
		return fmt.Errorf("sectors of %d bytes: a power of two from %d to %d is known", s.SectorSize, least, most)
	}
	if unit := mapper.SectorsOf(int64(s.SectorSize)); l.Spec.Len%unit != 0 {
		return fmt.Errorf("it has %d sectors of %d bytes, which are no whole sectors of %d bytes: cut the disk to a multiple", l.Spec.Len, least, s.SectorSize)
	}
	cipher, options := s.Cipher, a.words()
	if s.Integrity != nil {
		tag, kind, err := tagSize(s)
		if err != nil {
			return err
		}
		if cipher, err = authenticated(s); err != nil {
			return err
		}
		options = append(options, fmt.Sprintf("integrity:%d:%s", tag, kind))
	}
	if s.SectorSize != mapper.SectorSize {
		options = append(options, "sector_size:"+strconv.Itoa(s.SectorSize))
	}
	l.Keyed, l.Null, l.Key = true, strings.HasPrefix(cipher, "cipher_null-"), s.Key
	l.Spec.Type = "crypt"
	l.Spec.Args = []string{cipher, strconv.FormatUint(s.IVTweak, 10), disk, sectorText(at)}
	if len(options) > 0 {
		l.Spec.Args = append(append(l.Spec.Args, strconv.Itoa(len(options))), options...)
	}
	return nil
}

// authenticated returns the name that the kernel has for the cipher of an authenticated segment.
func authenticated(s luks.Segment) (string, error) {
	words := strings.SplitN(s.Cipher, "-", 3)
	name, iv := words[0], words[len(words)-1]
	switch len(words) {
	case 1:
		return "", fmt.Errorf("cipher %q with integrity %q: want CIPHER-MODE-IV", s.Cipher, s.Integrity.Type)
	case 3:
		name = words[1] + "(" + words[0] + ")"
	}
	switch kind := s.Integrity.Type; {
	case kind == "none":
	case kind == "aead" && strings.HasPrefix(name, "ccm("):
		name = "rfc4309(" + name + ")"
	case kind == "aead":
	case kind == "poly1305":
		name = "rfc7539(" + name + ",poly1305)"
	default:
		name = "authenc(" + kind + "," + name + ")"
	}
	return "capi:" + name + "-" + iv, nil
}

// macs are the tags of MACs, in bytes; the keys of hmac are as long.
var macs = map[string]int{"cmac(aes)": 16, "hmac(sha1)": 20, "hmac(sha256)": 32, "hmac(sha512)": 64}

// tagSize returns how many bytes are kept beside each sector, and whether they authenticate: a tag, and the IV if it is random.
func tagSize(s luks.Segment) (n int, kind string, err error) {
	_, mode, _ := strings.Cut(s.Cipher, "-")
	iv := map[string]int{"xts-random": 16, "ctr-random": 16, "gcm-random": 12, "ccm-random": 8, "random": 16}[mode]
	if s.Cipher == "aegis256-random" {
		iv = 32
	}
	i := s.Integrity
	if i.JournalEncryption != "none" || i.JournalIntegrity != "none" {
		return 0, "", fmt.Errorf("its journal has encryption %q and integrity %q: none is known", i.JournalEncryption, i.JournalIntegrity)
	}
	mac := macs[i.Type]
	if i.KeySize != 0 && i.KeySize != mac {
		return 0, "", fmt.Errorf("a key of %d bytes for %s, which has one of %d here", i.KeySize, i.Type, mac)
	}
	const aeadTag, polyIV = 16, 12
	switch {
	case i.Type == "none" && iv > 0:
		return iv, "none", nil
	case i.Type == "aead":
		return iv + aeadTag, "aead", nil
	case i.Type == "poly1305" && iv > 0:
		return polyIV + aeadTag, "aead", nil
	case i.Type == "poly1305":
		return aeadTag, "aead", nil
	case mac > 0:
		return iv + mac, "aead", nil
	}
	return 0, "", fmt.Errorf("integrity %q with cipher %q is not known", i.Type, s.Cipher)
}

// planIntegrity makes the integrity device that keeps the tags of a segment. How long it is its own superblock knows:
//
//	offset  size  field
//	0       8     signature "integrt\0"
//	8       1     version
//	10      2     bytes of tags for a block, little-endian
//	16      8     sectors that the device provides, little-endian
//	28      1     log2 of the sectors in a block
func planIntegrity(h *luks.Header, s luks.Segment, data *disk, name string, readOnly bool, a activation) (device, error) {
	if a.AllowDiscards {
		return device{}, errors.New("discards are not possible with integrity: leave --allow-discards out")
	}
	tag, _, err := tagSize(s)
	if err != nil {
		return device{}, err
	}
	super := make([]byte, mapper.SectorSize)
	if _, err := data.ReadAt(super, s.Offset.Bytes()); err != nil {
		return device{}, fmt.Errorf("its integrity superblock: %w", err)
	}
	le := binary.LittleEndian
	length, block := mapper.Sector(le.Uint64(super[16:])), int64(mapper.SectorSize)<<min(super[28], 8)
	switch {
	case string(super[:8]) != "integrt\x00":
		return device{}, fmt.Errorf("there is no integrity superblock at sector %d", s.Offset)
	case int(le.Uint16(super[10:])) != tag:
		return device{}, fmt.Errorf("the integrity superblock has tags of %d bytes, the header has %d", le.Uint16(super[10:]), tag)
	case length == 0 || length > data.sectors()-s.Offset:
		return device{}, fmt.Errorf("the integrity superblock says %d sectors, and the disk has %d from there on", length, data.sectors()-s.Offset)
	case block != int64(s.SectorSize):
		return device{}, fmt.Errorf("the integrity superblock has blocks of %d bytes, the header has %d", block, s.SectorSize)
	}
	mode := "J"
	if a.NoJournal {
		mode = "D"
	}
	args := []string{data.name, sectorText(s.Offset), strconv.Itoa(tag), mode, "2", "block_size:" + strconv.Itoa(s.SectorSize), "fix_padding"}
	return device{
		Name: name, UUID: deviceUUID("INTEGRITY", h.UUID, name), ReadOnly: readOnly,
		Lines: []line{{Spec: mapper.Spec{Len: length, Type: "integrity", Args: args}}},
	}, nil
}
