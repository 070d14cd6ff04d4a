package crypt

import (
	"fmt"

	"dmfs/mapper"
	"dmfs/mapper/secret"
)

// Sectors decrypts sectors outside of a table, as those are in which a container keeps its keys. It may be used concurrently.
type Sectors struct {
	line   line
	keyed  *keyed
	memory *secret.Memory
}

// NewSectors makes what a table line with this cipher, key and units of 512 bytes comes to. The key is not kept; Release wipes what it
// came to. Ciphers that need tags are refused, and the error does not quote the key.
func NewSectors(cipher string, key []byte) (*Sectors, error) {
	s := &Sectors{line: line{cipher: cipher, keySize: len(key), optional: optional{sectorSize: mapper.SectorSize}}, memory: new(secret.Memory)}
	if err := s.make(key); err != nil {
		s.memory.Release()
		return nil, err
	}
	return s, nil
}

func (s *Sectors) make(key []byte) error {
	if err := s.line.parseCipher(noHost{}); err != nil {
		return err
	}
	if s.line.needsTags() {
		return fmt.Errorf("%s keeps something beside each sector", s.line.cipher)
	}
	own, err := s.memory.Alloc(len(key))
	if err != nil {
		return err
	}
	copy(own, key)
	if s.keyed, err = s.line.makeKeyed(s.memory, own); err != nil {
		return err
	}
	return s.line.withIV(s.keyed)
}

// Decrypt decrypts whole sectors where they are; first is the number of the first, from which IVs are made.
func (s *Sectors) Decrypt(data []byte, first mapper.Sector) {
	s.keyed.decrypt(&s.line, data, uint64(first))
}

// Release wipes the key. Nothing may be decrypted any more.
func (s *Sectors) Release() { s.memory.Release() }

// noHost is a host of no table: there is nobody to log for.
type noHost struct{ mapper.Host }

func (noHost) Logf(string, ...any) {}
