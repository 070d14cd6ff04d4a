package flakey

import (
	"math/rand/v2"
	"strconv"
	"strings"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// certain is the probability of what always happens.
const certain = 1_000_000_000

// flagFUA is the kernel's REQ_FUA.
const flagFUA = 1 << 17

// features are what the device does while it is down.
type features struct {
	none                                bool // none was given: every request fails
	errorReads, dropWrites, errorWrites bool
	corrupt                             corruption
	randomRead, randomWrite             uint32 // of certain
	seed                                uint64
	seedGiven                           bool
}

// A corruption changes one byte of each request.
type corruption struct {
	byte   uint32 // from 1 on; 0: there is none
	writes bool   // it changes writes, not reads
	value  byte
	flags  uint32 // of the kernel's bi_opf, all of which a request must have
}

// A reader reads the words of features. The kernel's reads past the announced number of words, and is then out of step.
type reader struct {
	words []string
	left  int // of the announced words
}

func (r *reader) next() (word string, ok bool) {
	if len(r.words) == 0 {
		return "", false
	}
	word, r.words = r.words[0], r.words[1:]
	r.left--
	return word, true
}

// number reads a number from least to most.
func (r *reader) number(least, most uint32) (n uint32, ok bool) {
	word, _ := r.next()
	n, ok = args.ScanUint32(word)
	return n, ok && least <= n && n <= most
}

// mostWords is how many words of features there can be.
const mostWords = 13

// parseFeatures reads COUNT FEATURE*, or nothing.
func parseFeatures(words []string) (f features, err error) {
	if len(words) > 0 {
		r := reader{words: words}
		count, ok := r.number(0, mostWords)
		if !ok || int(count) > len(r.words) {
			return f, mapper.BadArg("Invalid number of feature args", "%q, of which %d are there: want at most %d", words[0], len(words)-1, mostWords)
		}
		for r.left = int(count); r.left > 0; {
			if err := f.parse(&r); err != nil {
				return f, err
			}
		}
		switch {
		case r.left < 0:
			return f, mapper.BadArg("Insufficient feature arguments", "%d words are announced, the last feature has more", count)
		case len(r.words) > 0:
			return f, mapper.BadArg("Invalid argument count", "%q after the %d words of features that are announced", r.words, count)
		}
	}
	return f, f.check()
}

// parse reads one feature.
func (f *features) parse(r *reader) error {
	name, _ := r.next()
	name = strings.ToLower(name)
	once := func(flag *bool) error {
		if *flag {
			return mapper.BadArg("Feature "+name+" duplicated", "")
		}
		*flag = true
		return nil
	}
	switch name {
	case "error_reads":
		return once(&f.errorReads)
	case "drop_writes":
		if f.errorWrites {
			return mapper.BadArg("Feature drop_writes conflicts with feature error_writes", "")
		}
		return once(&f.dropWrites)
	case "error_writes":
		if f.dropWrites {
			return mapper.BadArg("Feature error_writes conflicts with feature drop_writes", "")
		}
		return once(&f.errorWrites)
	case "corrupt_bio_byte":
		if r.left == 0 {
			return mapper.BadArg("Feature corrupt_bio_byte requires parameters", "N r|w VALUE FLAGS")
		}
		return f.corrupt.parse(r)
	case "random_read_corrupt", "random_write_corrupt":
		p := &f.randomRead
		if name == "random_write_corrupt" {
			p = &f.randomWrite
		}
		return probability(r, name, p)
	case "random_seed":
		return f.parseSeed(r)
	}
	return mapper.BadArg("Unrecognised flakey feature requested", "%q", name)
}

func probability(r *reader, name string, p *uint32) (err error) {
	if r.left == 0 {
		return mapper.BadArg("Feature "+name+" requires a parameter", "a probability")
	}
	n, ok := r.number(0, certain)
	if !ok {
		return mapper.BadArg("Invalid random corrupt argument", "want a number up to %d", certain)
	}
	*p = n
	return nil
}

func (f *features) parseSeed(r *reader) error {
	word, _ := r.next()
	n, ok := args.Uint64(word)
	if !ok {
		return mapper.BadArg("Invalid random seed", "%q: want a number", word)
	}
	f.seed, f.seedGiven = n, true
	return nil
}

// parse reads N r|w VALUE FLAGS.
func (c *corruption) parse(r *reader) error {
	var ok bool
	const all = 1<<32 - 1
	if c.byte, ok = r.number(1, all); !ok {
		return mapper.BadArg("Invalid corrupt bio byte", "want a number from 1 on")
	}
	switch direction, _ := r.next(); strings.ToLower(direction) {
	case "r":
		c.writes = false
	case "w":
		c.writes = true
	default:
		return mapper.BadArg("Invalid corrupt bio direction (r or w)", "%q", direction)
	}
	value, ok := r.number(0, 255)
	if !ok {
		return mapper.BadArg("Invalid corrupt value to write into bio byte (0-255)", "")
	}
	c.value = byte(value)
	if c.flags, ok = r.number(0, all); !ok {
		return mapper.BadArg("Invalid corrupt bio flags mask", "want a number of 32 bits")
	}
	return nil
}

// check refuses features that exclude each other, and finds out whether there are any.
func (f *features) check() error {
	byWrite := f.corrupt.byte != 0 && f.corrupt.writes
	switch {
	case f.dropWrites && byWrite:
		return mapper.BadArg("drop_writes is incompatible with corrupt_bio_byte with the WRITE flag set", "")
	case f.errorWrites && byWrite:
		return mapper.BadArg("error_writes is incompatible with corrupt_bio_byte with the WRITE flag set", "")
	}
	if len(f.words()) == 0 || f.seedGiven && len(f.words()) == 2 {
		f.none, f.errorReads, f.errorWrites = true, true, true
	}
	return nil
}

// words returns the features as listings print them.
func (f *features) words() []string {
	var words []string
	if !f.none {
		for _, flag := range []struct {
			name string
			set  bool
		}{{"error_reads", f.errorReads}, {"drop_writes", f.dropWrites}, {"error_writes", f.errorWrites}} {
			if flag.set {
				words = append(words, flag.name)
			}
		}
	}
	if c := &f.corrupt; c.byte != 0 {
		direction := "r"
		if c.writes {
			direction = "w"
		}
		words = append(words, "corrupt_bio_byte", decimal(c.byte), direction, decimal(uint32(c.value)), decimal(c.flags))
	}
	if f.randomRead != 0 {
		words = append(words, "random_read_corrupt", decimal(f.randomRead))
	}
	if f.randomWrite != 0 {
		words = append(words, "random_write_corrupt", decimal(f.randomWrite))
	}
	if f.seedGiven {
		words = append(words, "random_seed", strconv.FormatUint(f.seed, 10))
	}
	return words
}

// drawSeed makes a seed and tells it, if one is needed and none was given.
func (f *features) drawSeed(h mapper.Host) {
	if (f.randomRead != 0 || f.randomWrite != 0) && !f.seedGiven {
		f.seed = rand.Uint64()
		h.Logf("random_seed %d", f.seed)
	}
}

// damagesWrites reports whether writes may be changed.
func (f *features) damagesWrites() bool {
	return f.corrupt.byte != 0 && f.corrupt.writes || f.randomWrite != 0
}

// damage changes data, which r has read or is about to write, as the features ask.
func (t *target) damage(r mapper.Request, data []byte) {
	f, write := &t.features, r.Op == mapper.OpWrite
	if c := &f.corrupt; c.byte != 0 && c.writes == write && c.matches(r) && uint64(c.byte) <= uint64(len(data)) {
		data[c.byte-1] = c.value
	}
	p := f.randomRead
	if write {
		p = f.randomWrite
	}
	if p == 0 || len(data) == 0 {
		return
	}
	var source rand.PCG // of its own for each request, so that they do not wait for each other
	source.Seed(f.seed, t.damaged.Add(1))
	if source.Uint64()%certain < uint64(p) {
		data[source.Uint64()%uint64(len(data))] = byte(source.Uint64())
	}
}

// matches reports whether r has the flags that c asks for.
func (c *corruption) matches(r mapper.Request) bool {
	flags := uint32(0)
	if r.Op == mapper.OpWrite {
		flags = 1
	}
	if r.Flags&mapper.FlagFUA != 0 {
		flags |= flagFUA
	}
	return flags&c.flags == c.flags
}
