package control_test

import (
	"strings"
	"testing"

	"dmfs/fs/control"
	"dmfs/mapper"
)

// A key never gets into a reply or the log, whatever is wrong with the command that brings it; and what is saved has zeroes for it.
func TestKeysAreNotTold(t *testing.T) {
	const key = "00112233445566778899aabbccddeeff"
	good := "create x 0 8 crypt aes-cbc-plain64 " + key + " 0 /x/a.img 0\n"
	for _, tt := range []struct {
		name    string
		writes  []string
		refused bool
	}{
		{"taken", []string{good}, false},
		{"unfinished", []string{good[:len(good)-5]}, false},
		{"unfinished message", []string{good, "message x 0 key set " + key}, false},
		{"an unfinished key", []string{"create x {\n0 8 crypt aes-cbc-plain64 " + key}, false},
		{"too short", []string{"create x 0 8 crypt aes-cbc-plain64 " + key + " 0\n"}, true},
		{"no cipher", []string{"create x 0 8 crypt " + key + " 0 /x/a.img 0 0\n"}, true},
		{"no such option", []string{"create x 0 8 crypt aes-cbc-plain64 " + key + " 0 /x/a.img 0 1 " + key + "\n"}, true},
		{"not hexadecimal", []string{"create x 0 8 crypt aes-cbc-plain64 " + key + "xy 0 /x/a.img 0\n"}, true},
		{"a line too early", []string{"create x {\n0 8 crypt aes-cbc-plain64\n" + key + " 0 /x/a.img 0\n}\n"}, true},
		{"a command too early", []string{"create x 0 8 crypt aes-cbc-plain64\n" + key + " 0 /x/a.img 0\n"}, true},
		{"a command that begins with it", []string{key + "\n"}, true},
		{"a word too many", []string{good + "remove x " + key + "\n"}, true},
		{"no such target", []string{"create x 0 8 cript aes-cbc-plain64 " + key + " 0 /x/a.img 0\n"}, true},
		{"in a message", []string{good + "message x 0 key set " + key + "\n"}, true},
		{"in a message, of another size", []string{good + "suspend x\nmessage x 0 key set " + key + key + "\n"}, true},
		{"in a message, with more", []string{good + "suspend x\nmessage x 0 key set " + key + " now\n"}, true},
		{"after a brace", []string{"create x { 0 8 zero } 8 8 crypt aes-cbc-plain64 " + key + " 0 /x/a.img 0\n"}, true},
		{"where a concise one has flags", []string{"concise \"x,,,0 8 crypt aes-cbc-plain64 " + key + " 0 /x/a.img 0,8 8 zero\"\n"}, true},
		{"where a concise one has its minor", []string{"concise \"x,,0 8 crypt aes-cbc-plain64 " + key + " 0 /x/a.img 0,8 8 zero,16 8 zero\"\n"}, true},
		{"in a geometry", []string{good + "setgeometry x " + key + " 1 1 1\n"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newManager(t, mapper.Options{})
			s := control.NewSession(m, control.Version{})
			var err error
			for _, w := range tt.writes {
				_, err = s.Write(ctx, []byte(w))
			}
			if (err != nil) != tt.refused {
				t.Errorf("the last write: %v", err)
			}
			reply, _ := s.Reply()
			s.Abandon()
			told := reply + m.Log().Text() + control.Save(m)
			if err != nil {
				told += err.Error()
			}
			if strings.Contains(told, key[10:]) || strings.Contains(told, key[:14]) {
				t.Errorf("the key is in: %s", told)
			}
		})
	}
}
