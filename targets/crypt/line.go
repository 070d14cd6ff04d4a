package crypt

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
	"dmfs/targets/internal/sectorcipher"
)

// A line is what a table line says, without the key.
type line struct {
	length   mapper.Sector // of the segment
	cipher   string        // as written
	keySize  int           // bytes, of all keys together
	ivOffset uint64        // sectors
	optional

	scheme   *sectorcipher.Scheme     // nil if it authenticates
	aead     *sectorcipher.AEADScheme // nil unless it authenticates
	keys     int                      // how many take turns, a power of two
	keyParts int                      // keys, and what the IVs take
	extra    int                      // bytes at the end of the key that are for the IVs
	ivSize   int                      // bytes; 0: there are none
	ivMode   string                   // "" for none
	randomIV bool                     // IVs are random, and stored beside each unit
}

// optional are the arguments that need not be there.
type optional struct {
	allowDiscards    bool
	scheduling       [len(schedulingNames)]bool
	tagSize          int    // bytes on the integrity device for each unit; 0: not given
	tagKind          string // "aead" or "none", as written
	sectorSize       int    // bytes that are encrypted as a unit
	ivLargeSectors   bool   // IVs count units, not sectors
	unitSectorsShift int
}

// schedulingNames are the options that say on which processor and in which queue the kernel works. There is nothing
// to schedule here; they are kept for the table.
var schedulingNames = [...]string{"same_cpu_crypt", "submit_from_crypt_cpus", "no_read_workqueue", "no_write_workqueue"}

// unitSectors returns how many sectors are encrypted as a unit.
func (o *optional) unitSectors() mapper.Sector { return 1 << o.unitSectorsShift }

const (
	mostOptions = 8
	maxTagSize  = 480
	maxUnit     = 4096
)

// readOptions reads COUNT OPTION*. What follows is ignored, as the kernel does.
func (l *line) readOptions(words []string) error {
	if len(words) == 0 {
		return nil
	}
	n, ok := args.ScanUint32(words[0])
	if !ok || n > mostOptions || int(n) > len(words)-1 {
		return mapper.BadArg("Invalid number of feature args", "%s: want how many of the %d words that follow are options, at most %d",
			mapper.ShowArg(words[0]), len(words)-1, mostOptions)
	}
	for _, w := range words[1 : 1+n] {
		if err := l.readOption(w); err != nil {
			return err
		}
	}
	return nil
}

func (l *line) readOption(word string) error {
	lower := strings.ToLower(word)
	for i, name := range schedulingNames {
		if lower == name {
			l.scheduling[i] = true
			return nil
		}
	}
	size, isSize := strings.CutPrefix(word, "sector_size:")
	tags, isTags := strings.CutPrefix(word, "integrity:")
	switch {
	case lower == "allow_discards":
		l.allowDiscards = true
	case lower == "iv_large_sectors":
		l.ivLargeSectors = true
	case isTags:
		return l.readTags(tags)
	case isSize:
		return l.readSectorSize(size)
	default:
		return mapper.BadArg("Invalid feature arguments", "%s is no option", mapper.ShowArg(word))
	}
	return nil
}

// readTags reads the SIZE:KIND of integrity:SIZE:KIND.
func (l *line) readTags(text string) error {
	size, kind, ok := strings.Cut(text, ":")
	n, isNumber := args.ScanUint32(size)
	switch {
	case !isNumber || !ok:
		return mapper.BadArg("Invalid feature arguments", "integrity:%s: want integrity:SIZE:aead or integrity:SIZE:none", mapper.ShowArg(text))
	case n == 0 || n > maxTagSize:
		return mapper.BadArg("Invalid integrity arguments", "tags of %d bytes: want 1 to %d", n, maxTagSize)
	case !strings.EqualFold(kind, "aead") && !strings.EqualFold(kind, "none"):
		return mapper.BadArg("Unknown integrity profile", "%s: want aead or none", mapper.ShowArg(kind))
	}
	l.tagSize, l.tagKind = int(n), kind
	return nil
}

func (l *line) readSectorSize(text string) error {
	n, ok := args.ScanUint32(text)
	if !ok {
		return mapper.BadArg("Invalid feature arguments", "sector_size:%s: want a number of bytes", mapper.ShowArg(text))
	}
	if n < mapper.SectorSize || n > maxUnit || n&(n-1) != 0 {
		return mapper.BadArg("Invalid feature value for sector_size", "%d bytes: want a power of two from %d to %d", n, mapper.SectorSize, maxUnit)
	}
	shift := bits.TrailingZeros32(n) - mapper.SectorShift
	if l.length&(1<<shift-1) != 0 {
		return mapper.BadArg("Device size is not multiple of sector_size feature", "%d sectors, units of %d", l.length, 1<<shift)
	}
	l.sectorSize, l.unitSectorsShift = int(n), shift
	return nil
}

// options returns the options in the order of the kernel's tables.
func (l *line) options() (words []string) {
	if l.allowDiscards {
		words = append(words, "allow_discards")
	}
	for i, set := range l.scheduling {
		if set {
			words = append(words, schedulingNames[i])
		}
	}
	if l.tagSize != 0 {
		words = append(words, fmt.Sprintf("integrity:%d:%s", l.tagSize, l.tagKind))
	}
	if l.sectorSize != mapper.SectorSize {
		words = append(words, "sector_size:"+strconv.Itoa(l.sectorSize))
	}
	if l.ivLargeSectors {
		words = append(words, "iv_large_sectors")
	}
	return words
}

// authenticated reports whether the cipher makes tags.
func (l *line) authenticated() bool { return strings.EqualFold(l.tagKind, "aead") }

// blockSize returns the cipher's block in bytes.
func (l *line) blockSize() int {
	if l.aead != nil {
		return l.aead.BlockSize
	}
	return l.scheme.BlockSize
}

// parseCipher reads the cipher: CIPHER[:KEYS][-MODE[-IV[:OPTIONS]]], or capi:NAME[-IV[:OPTIONS]] with a name of the kernel's crypto API.
func (l *line) parseCipher(h mapper.Host) error {
	var name, ivMode string
	var err error
	if rest, ok := strings.CutPrefix(l.cipher, "capi:"); ok {
		name, ivMode, err = l.splitNew(rest)
	} else {
		name, ivMode, err = l.splitOld()
	}
	if err != nil {
		return err
	}
	l.keyParts = l.keys
	if l.authenticated() {
		if l.aead, err = parseAEAD(name); err != nil {
			return err
		}
	} else if l.scheme, err = sectorcipher.Parse(name); err != nil {
		return &mapper.ArgError{Reason: "Error allocating crypto tfm", Detail: "no such cipher here; the manual lists them", Errno: unix.ENOENT}
	}
	return l.parseIV(h, ivMode)
}

// splitOld takes CIPHER[:KEYS][-MODE[-IV[:OPTIONS]]] apart, and puts together what the crypto API calls it.
func (l *line) splitOld() (name, ivMode string, err error) {
	if strings.Contains(l.cipher, "(") || l.authenticated() {
		return "", "", mapper.BadArg("Bad cipher specification", "names with brackets, and those that authenticate, begin with capi:")
	}
	words := strings.SplitN(l.cipher, "-", 3)
	cipher, count, counted := strings.Cut(words[0], ":")
	l.keys = 1
	if counted {
		n, ok := args.ScanUint32(count)
		if !ok || n == 0 || n&(n-1) != 0 {
			return "", "", mapper.BadArg("Bad cipher key count specification", "%s keys: want a power of two", mapper.ShowArg(count))
		}
		if n > mostKeys {
			return "", "", mapper.BadArg("Bad cipher key count specification", "%d keys: at most %d can take turns here", n, mostKeys)
		}
		l.keys = int(n)
	}
	mode, ivOptions, hasOptions := "", "", false
	if len(words) > 1 {
		mode = words[1]
	}
	if len(words) > 2 {
		ivMode, ivOptions, hasOptions = strings.Cut(words[2], ":")
		if ivMode == "" {
			ivMode = emptyIV
		}
	}
	if len(words) == 1 || mode == "plain" && ivMode == "" {
		mode, ivMode = "cbc", "plain"
	}
	if mode != "ecb" && ivMode == "" {
		return "", "", mapper.BadArg("IV mechanism required", "as in CIPHER-MODE-plain64")
	}
	name = mode + "(" + cipher + ")"
	if ivMode == "essiv" {
		if !hasOptions {
			return "", "", noDigest()
		}
		name = "essiv(" + name + "," + ivOptions + ")"
	}
	if len(name) >= maxName {
		return "", "", &mapper.ArgError{Reason: "Cannot allocate cipher strings", Detail: "the name is too long", Errno: unix.ENOMEM}
	}
	return name, ivMode, nil
}

const (
	// mostKeys bounds what a table line makes of memory: a cipher may take keys of no bytes. loop-AES has 64.
	mostKeys = 1024
	maxName  = 128 // bytes of a name of the crypto API
	emptyIV  = "-" // an IV mode that is there and empty
)

func noDigest() error {
	return mapper.BadArg("Digest algorithm missing for ESSIV mode", "as in essiv:sha256")
}

// splitNew takes NAME[-IV[:OPTIONS]] apart.
func (l *line) splitNew(text string) (name, ivMode string, err error) {
	l.keys = 1
	name = text
	ivOptions, hasOptions := "", false
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		name, ivOptions, hasOptions = name[:i], name[i+1:], true
	}
	if i := strings.LastIndexByte(name, '-'); i >= 0 {
		name, ivMode = name[:i], name[i+1:]
		if ivMode == "" {
			ivMode = emptyIV
		}
	}
	if l.authenticated() && strings.HasPrefix(name, "authenc(") {
		if err := checkMAC(name); err != nil {
			return "", "", err
		}
	}
	switch {
	case ivMode == "lmk":
		l.keys = 64
	case ivMode == "essiv" && !hasOptions:
		return "", "", noDigest()
	case ivMode == "essiv":
		if name = "essiv(" + name + "," + ivOptions + ")"; len(name) >= maxName {
			return "", "", &mapper.ArgError{Reason: "Cannot allocate cipher string", Detail: "the name is too long", Errno: unix.ENOMEM}
		}
	}
	return name, ivMode, nil
}
