package random

import (
	"fmt"
	"strings"
)

// A talker is a segment that takes messages.
type talker struct {
	at, length int
	first      string        // the message that it gets first; "" for none
	say        func() string // what it may be told
}

// meet makes d, which has got its table, one with those talkers.
func (m *maker) meet(d *device, talkers []talker) {
	d.talkers = talkers
	for _, t := range talkers {
		if t.first != "" {
			m.add("message %s %d %s", d.name, t.at, t.first)
		}
	}
}

// talk sends a message to a segment of d.
func (m *maker) talk(d *device) {
	t := d.talkers[m.IntN(len(d.talkers))]
	m.add("message %s %d %s", d.name, t.at+m.IntN(t.length), t.say())
}

// unstriped returns an unstriped target for about so many sectors, 0 if there is no room.
func (m *maker) unstriped(device string, length int) (text string, n int) {
	stripes := 1 + m.IntN(4)
	chunk := []int{1, 3, 4, 8, 24, 63}[m.IntN(6)] * m.grain
	n = max(1, length/stripes/chunk) * chunk
	name, start, ok := m.below(n*stripes, device)
	if !ok {
		return "", 0
	}
	return fmt.Sprintf("unstriped %d %d %d @%s@ %d", stripes, chunk, m.IntN(stripes), name, start), n
}

// switched returns a switch target, 0 if there is no room.
func (m *maker) switched(device string, length int) (text string, n int, t *talker) {
	paths := 1 + m.IntN(5)
	region := []int{1, 2, 7, 16, 64, 1000}[m.IntN(6)] * m.grain
	text = fmt.Sprintf("switch %d %d 0", paths, region)
	for range paths {
		name, start, ok := m.below(length, device)
		if !ok {
			return "", 0, nil
		}
		text += fmt.Sprintf(" @%s@ %d", name, start)
	}
	m.onePath = true
	regions := (length + region - 1) / region
	say := func() string {
		words := []string{"set_region_mappings"}
		for range 1 + m.IntN(5) {
			switch m.IntN(4) {
			case 0:
				words = append(words, fmt.Sprintf(":%x", m.IntN(paths)))
			case 1:
				words = append(words, fmt.Sprintf("R%x,%x", 1+m.IntN(3), m.IntN(regions+1)))
			default:
				words = append(words, fmt.Sprintf("%x:%x", m.IntN(regions+m.IntN(2)), m.IntN(paths+m.IntN(2))))
			}
		}
		return strings.Join(words, " ")
	}
	return text, length, &talker{length: length, say: say}
}

// delayed returns a delay target, 0 if there is no room. The kernel's cache of partial blocks would see through one that
// does not read what it writes.
func (m *maker) delayed(device string, length int) (text string, n int) {
	text = "delay"
	for range 1 + m.IntN(3) {
		name, start, ok := m.below(length, device)
		if !ok {
			return "", 0
		}
		text += fmt.Sprintf(" @%s@ %d %d", name, start, m.IntN(3))
		if m.grain > 1 {
			break
		}
	}
	return text, length
}

// flakey returns a flakey target that is always up, or always down and drops writes, 0 if there is no room. A flush does
// not fail, so that the log says nothing of it.
func (m *maker) flakey(device string, length int) (text string, n int) {
	name, start, ok := m.below(length, device)
	if !ok {
		return "", 0
	}
	state := []string{"1 0", "7 0 1 error_writes", "1 0 5 corrupt_bio_byte 7 w 65 0", "0 1 1 drop_writes"}
	if m.grain > 1 {
		state = state[:3]
	}
	return fmt.Sprintf("flakey @%s@ %d %s", name, start, state[m.IntN(len(state))]), length
}

// dust returns a dust target that is quiet, 0 if there is no room. Its first block stays good: the kernel has a flush touch it.
func (m *maker) dust(device string, length int) (text string, n int, t *talker) {
	block := m.grain << m.IntN(3)
	name, start, ok := m.below(length, device)
	if !ok || block > length {
		return "", 0, nil
	}
	m.fails = true
	first := start/block + 1
	say := func() string {
		b := first + m.IntN(length/block+1)
		return []string{
			"enable", "enable", "disable", "countbadblocks", "listbadblocks", "clearbadblocks",
			fmt.Sprintf("addbadblock %d", b), fmt.Sprintf("addbadblock %d", b+1), fmt.Sprintf("addbadblock %d %d", b, m.IntN(3)),
			fmt.Sprintf("removebadblock %d", b), fmt.Sprintf("queryblock %d", b),
		}[m.IntN(11)]
	}
	return fmt.Sprintf("dust @%s@ %d %d", name, start, block*512), length, &talker{length: length, first: "quiet", say: say}
}

// mirror returns a mirror target that copies nothing, 0 if there is no room. It stands on disks alone: legs that fail or lose what is
// written have it say more or less of that, as it finds out.
func (m *maker) mirror(length int) (text string, n int) {
	region := m.grain * 2 << m.IntN(6)
	if region > length {
		return "", 0
	}
	legs := 2 + m.IntN(3)
	text = fmt.Sprintf("mirror core 2 %d nosync %d", region, legs)
	for range legs {
		d := m.disks[m.IntN(len(m.disks))]
		start, ok := d.take(m, length)
		if !ok {
			return "", 0
		}
		text += fmt.Sprintf(" @%s@ %d", d.name, start)
	}
	return text + []string{"", " 1 handle_errors"}[m.IntN(2)], length
}

// ciphers are what a crypt target may be, with the bytes of its key.
var ciphers = []struct {
	name string
	key  int
}{
	{"aes-xts-plain64", 64}, {"aes-xts-plain", 32}, {"aes-cbc-essiv:sha256", 32}, {"aes-cbc-plain64be", 24}, {"aes-ctr-plain64", 16}, {"aes-ecb", 16},
	{"aes-lrw-benbi", 48}, {"aes-cbc-eboiv", 16}, {"aes-cbc-elephant", 32}, {"aes:4-cbc-plain64", 64}, {"serpent-xts-plain64", 64}, {"twofish-cbc-benbi", 16},
	{"camellia-cbc-null", 32}, {"blowfish-cbc-plain64", 20}, {"cast5-cbc-plain64", 16}, {"des3_ede-cbc-plain64", 24}, {"cipher_null-ecb", 0},
	{"capi:adiantum(xchacha12,aes)-plain64", 32}, {"aes-cbc-lmk", 16}, {"aes:2-cbc-lmk", 48}, {"aes-cbc-tcw", 64},
}

// crypted returns a crypt target, 0 if there is no room.
func (m *maker) crypted(device string, length int) (text string, n int) {
	name, start, ok := m.below(length, device)
	if !ok {
		return "", 0
	}
	c := ciphers[m.IntN(len(ciphers))]
	key := "-"
	if c.key > 0 {
		bytes := make([]byte, c.key)
		for i := range bytes {
			bytes[i] = byte(m.IntN(256))
		}
		key = fmt.Sprintf("%x", bytes)
	}
	options := []string{"", " 1 allow_discards", " 1 iv_large_sectors", " 2 same_cpu_crypt allow_discards"}
	if m.grain > 1 && !strings.HasSuffix(c.name, "lmk") && !strings.HasSuffix(c.name, "tcw") {
		options = append(options, " 1 sector_size:4096", " 2 sector_size:2048 iv_large_sectors")
	}
	offset := uint64(m.upTo(1 << 12))
	if m.IntN(3) == 0 {
		offset += 1<<32 - 64
	}
	return fmt.Sprintf("crypt %s %s %d @%s@ %d%s", c.name, key, offset, name, start, options[m.IntN(len(options))]), length
}
