package integrity

import (
	"crypto/subtle"
	"errors"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/sectorcipher"
)

// # How the journal is encrypted
//
// A stream cipher encrypts the journal as one, from sector 0 on, with an IV of zeroes; where the last page of it ends the commit ids are
// encrypted, which so are secret. A block cipher encrypts each section, with an IV that is the encrypted number of the section; the commit
// ids are the plain ones.

// pageBytes is the kernel's page, to a multiple of which it rounds the journal.
const pageBytes = 4096

// setCipher makes the cipher of journal_crypt.
func (j *journal) setCipher() error {
	a := &j.t.line.crypt
	var err error
	if j.scheme, err = sectorcipher.Parse(a.name); err != nil {
		return &mapper.ArgError{Reason: "Invalid journal cipher", Detail: mapper.ShowArg(a.name) + " is no cipher here, as ctr(aes) is", Errno: unix.ENOENT}
	}
	if !a.keyed {
		if j.scheme.BlockSize == 1 {
			j.t.host.Logf("Error on encrypt: -%d", unix.ENOKEY)
			return &mapper.ArgError{Reason: "Unable to encrypt journal", Detail: "journal_crypt needs a key", Errno: unix.ENOKEY}
		}
		j.t.host.Logf("Error on encrypt: -%d", unix.ENOKEY)
		return &mapper.ArgError{Reason: "Unable to generate iv", Detail: "journal_crypt needs a key", Errno: unix.ENOKEY}
	}
	if j.cipher, err = j.scheme.New(j.t.memory, a.key); err != nil {
		if errors.Is(err, sectorcipher.ErrKeySize) {
			return mapper.BadArg("Error setting encryption key", "%v", err)
		}
		return err
	}
	return nil
}

// setIDs computes the commit ids, which depend on the size of the journal if that is encrypted.
func (j *journal) setIDs() {
	j.ids = [4]uint64{0x1111111111111111, 0x2222222222222222, 0x3333333333333333, 0x4444444444444444}
	g := &j.t.geometry
	if j.cipher != nil && j.scheme.BlockSize == 1 {
		size := int64(g.sections) * int64(g.sectionSectors) * mapper.SectorSize
		var p [32]byte
		for i, id := range j.ids {
			le.PutUint64(p[8*i:], id)
		}
		iv := j.streamIV((size + pageBytes - 1) / pageBytes * pageBytes)
		j.cipher.Encrypt(p[:], p[:], len(p), iv[:j.scheme.IVSize])
		for i := range j.ids {
			j.ids[i] = le.Uint64(p[8*i:])
		}
	}
	for i := 1; i < len(j.ids); { // they have to differ
		same := false
		for k := range i {
			same = same || j.ids[k] == j.ids[i]
		}
		if same {
			j.ids[i]++
			continue
		}
		i++
	}
}

// maxIV is the longest IV, in bytes.
const maxIV = 32

// streamIV returns the IV with which a stream cipher goes on at byte off of the journal: a counter of blocks, in big endian.
func (j *journal) streamIV(off int64) (iv [maxIV]byte) {
	n := uint64(off) / uint64(max(1, j.scheme.IVSize))
	for i := j.scheme.IVSize - 1; i >= 0 && n > 0; i-- {
		iv[i] = byte(n)
		n >>= 8
	}
	return iv
}

// iv returns the IV of a section.
func (j *journal) iv(section int) (iv [maxIV]byte) {
	g := &j.t.geometry
	if j.scheme.BlockSize == 1 {
		return j.streamIV(int64(section) * int64(g.sectionSectors) * mapper.SectorSize)
	}
	var number, zero [maxIV]byte
	le.PutUint32(number[:], uint32(section))
	n := (j.scheme.IVSize + j.scheme.BlockSize - 1) / j.scheme.BlockSize * j.scheme.BlockSize
	if n > 0 {
		j.cipher.Encrypt(iv[:n], number[:n], n, zero[:j.scheme.IVSize])
	}
	return iv
}

// encrypt encrypts a section.
func (j *journal) encrypt(dst, src []byte, section int) {
	iv := j.iv(section)
	j.cipher.Encrypt(dst, src, len(src), iv[:j.scheme.IVSize])
}

// decrypt decrypts all sections where they are.
func (j *journal) decrypt() {
	g := &j.t.geometry
	size := g.sectionSectors * mapper.SectorSize
	_ = mapper.FanOut(g.sections, j.t.processors, func(s int) error { // it returns what the function returns
		iv := j.iv(s)
		p := j.mem[s*size : (s+1)*size]
		j.cipher.Decrypt(p, p, size, iv[:j.scheme.IVSize])
		return nil
	})
}

// mac returns what the sectors with entries of a section are to have for a MAC, macBytes each, one after the other.
func (j *journal) mac(section int) (sum [journalHead * macBytes]byte) {
	n := j.t.geometry.sectionEntries
	sectors := make([]byte, 0, 8*n)
	for e := section * n; e < (section+1)*n; e++ {
		sectors = append(sectors, j.entry(e)[:8]...)
	}
	if j.t.salt == nil {
		copy(sum[:], j.t.mac.sum(sectors))
		return sum
	}
	var number [8]byte
	le.PutUint64(number[:], uint64(section))
	copy(sum[:], j.t.mac.sum(j.t.salt, number[:], sectors))
	return sum
}

// macPart returns where sector n of a section has its part of the MAC.
func (j *journal) macPart(section, n int) []byte {
	return j.sector(section, n)[journalData-macBytes : journalData]
}

func (j *journal) setMAC(section int) {
	if j.t.mac == nil {
		return
	}
	sum := j.mac(section)
	for n := range journalHead {
		copy(j.macPart(section, n), sum[n*macBytes:])
	}
}

func (j *journal) goodMAC(section int) bool {
	if j.t.mac == nil {
		return true
	}
	sum := j.mac(section)
	good := true
	for n := range journalHead {
		good = equalMAC(j.macPart(section, n), sum[n*macBytes:(n+1)*macBytes]) && good
	}
	return good
}

// equalMAC compares without telling by its time where they differ.
func equalMAC(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
