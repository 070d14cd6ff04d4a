package crypt

import (
	"dmfs/mapper"
	"dmfs/mapper/secret"
	"dmfs/targets/internal/sectorcipher"
)

// A keyed is all that a key comes to. It does not change, and what it points to is in memory for secrets.
type keyed struct {
	memory  *secret.Memory
	key     []byte
	ciphers []sectorcipher.Cipher // they take turns by sector, a power of two; none with aead
	aead    sectorcipher.AEAD     // nil unless it authenticates
	iv      ivMode                // nil: the cipher takes no IV
	data    dataMode              // iv, if it looks at the data
}

// release wipes all. Nobody may use k any more.
func (k *keyed) release() {
	if k != nil {
		k.memory.Release()
	}
}

// makeKeyed makes the ciphers for key, which is in memory. On error the caller still has the memory.
func (l *line) makeKeyed(memory *secret.Memory, key []byte) (k *keyed, err error) {
	k = &keyed{memory: memory, key: key}
	if l.aead != nil {
		k.aead, err = l.aead.New(memory, key[:len(key)-min(l.extra, len(key))], l.authSize())
		return k, err
	}
	size := (l.keySize - l.extra) / l.keys
	if size < 0 {
		return nil, sectorcipher.ErrKeySize
	}
	k.ciphers = make([]sectorcipher.Cipher, l.keys)
	for i := range k.ciphers {
		if k.ciphers[i], err = l.scheme.New(memory, key[i*size:(i+1)*size]); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// withIV makes the IV mode, which the kernel does when the ciphers have their keys.
func (l *line) withIV(k *keyed) (err error) {
	if l.ivMode == "" || l.randomIV {
		return nil
	}
	var first sectorcipher.Cipher
	if l.aead == nil {
		first = k.ciphers[0]
	}
	if k.iv, err = l.newIV(k.memory, k.key, first); err != nil {
		return err
	}
	k.data, _ = k.iv.(dataMode)
	return nil
}

// numbers returns the numbers of a run of units for IVs; first is the sector at which it begins, offset included.
func (l *line) numbers(first uint64) numbers {
	n := numbers{first: first, step: 1 << l.unitSectorsShift}
	if l.ivLargeSectors {
		n.shift = l.unitSectorsShift
	}
	return n
}

// ivs returns a buffer for the IVs of so many bytes of data, nil if there are none.
func (l *line) ivs(bytes int) *mapper.Buffer {
	if l.ivSize == 0 {
		return nil
	}
	return mapper.GetBuffer(bytes / l.sectorSize * l.ivSize)
}

// encrypt encrypts the run of units src into dst.
func (k *keyed) encrypt(l *line, dst, src []byte, first uint64) {
	n := l.numbers(first)
	buf := l.ivs(len(src))
	if buf == nil {
		k.turns(l, first, true, dst, src, nil)
		return
	}
	defer buf.Free()
	k.iv.fill(buf.Data, l.ivSize, n)
	if k.data == nil {
		k.turns(l, first, true, dst, src, buf.Data)
		return
	}
	copy(dst, src)
	k.data.before(true, dst, buf.Data, n)
	k.turns(l, first, true, dst, dst, buf.Data)
	k.data.after(true, dst, buf.Data, n)
}

// decrypt decrypts a run of units where it is.
func (k *keyed) decrypt(l *line, data []byte, first uint64) {
	n := l.numbers(first)
	buf := l.ivs(len(data))
	if buf == nil {
		k.turns(l, first, false, data, data, nil)
		return
	}
	defer buf.Free()
	k.iv.fill(buf.Data, l.ivSize, n)
	if k.data != nil {
		k.data.before(false, data, buf.Data, n)
	}
	k.turns(l, first, false, data, data, buf.Data)
	if k.data != nil {
		k.data.after(false, data, buf.Data, n)
	}
}

// turns has each unit encrypted or decrypted by the cipher whose turn it is.
func (k *keyed) turns(l *line, first uint64, encrypt bool, dst, src, ivs []byte) {
	if len(k.ciphers) == 1 {
		crypt(k.ciphers[0], encrypt, dst, src, l.sectorSize, ivs)
		return
	}
	for i := 0; i*l.sectorSize < len(src); i++ {
		sector := first + uint64(i)<<l.unitSectorsShift
		from, to := i*l.sectorSize, (i+1)*l.sectorSize
		crypt(k.ciphers[sector&uint64(len(k.ciphers)-1)], encrypt, dst[from:to], src[from:to], l.sectorSize, ivs[i*l.ivSize:(i+1)*l.ivSize])
	}
}

func crypt(c sectorcipher.Cipher, encrypt bool, dst, src []byte, unit int, ivs []byte) {
	if encrypt {
		c.Encrypt(dst, src, unit, ivs)
	} else {
		c.Decrypt(dst, src, unit, ivs)
	}
}
