package control

import (
	"bytes"
	"encoding/hex"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// addKeyVerb begins the command "addkey TYPE DESCRIPTION HEX": tables may name the key as long as the control file is open that it
// came through. It is no verb like others, because its line is never copied: it must come in one write, and goes from there into
// memory for keys.
var addKeyVerb = []byte("addkey ")

// maxKeys bounds the keys that one session brings.
const maxKeys = 64

// isAddKey reports whether a line that begins in what is written adds a key.
func (s *Session) isAddKey(line []byte) bool {
	return len(s.partial) == 0 && !s.lex.open && bytes.HasPrefix(line, addKeyVerb)
}

// addKey carries the command out.
func (s *Session) addKey(line []byte, complete bool) error {
	err := s.holdKey(line, complete)
	if err != nil {
		s.m.Log().Printf("dmfs: control: addkey: %v", err)
	}
	return s.answer("", err)
}

func (s *Session) holdKey(line []byte, complete bool) error {
	if !complete {
		s.spoilt = mapper.BadArg("a key in parts", "want addkey in one write, with its newline; open the file anew")
		return s.spoilt
	}
	i := bytes.LastIndexByte(line, ' ')
	words, err := mapper.SplitArgs(string(line[:i]))
	digits := line[i+1:]
	if err != nil || len(words) != 3 || len(digits) == 0 {
		return mapper.BadArg("invalid key", "want addkey TYPE DESCRIPTION HEX")
	}
	if len(s.keys) == maxKeys {
		return &mapper.ArgError{Reason: "too many keys", Detail: "open the control file anew", Errno: unix.E2BIG}
	}
	holder, ok := s.m.Keys().(mapper.KeyHolder)
	if !ok {
		return &mapper.ArgError{Reason: "keys cannot be added here", Errno: unix.EOPNOTSUPP}
	}
	release, err := holder.Hold(words[1], words[2], hex.DecodedLen(len(digits)), func(p []byte) error {
		if _, err := hex.Decode(p, digits); err != nil {
			return mapper.BadArg("invalid key", "want hexadecimal digits") // its own error quotes one
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.keys = append(s.keys, release)
	return nil
}

// Close ends the session: the keys that it brought are forgotten, and a command that was begun is dropped.
func (s *Session) Close() {
	for _, release := range s.keys {
		release()
	}
	s.keys = nil
	s.Abandon()
}
