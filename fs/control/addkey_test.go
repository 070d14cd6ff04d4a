package control_test

import (
	"strings"
	"testing"

	"dmfs/fs/control"
	"dmfs/mapper"
	"dmfs/mapper/keyring"
)

// A key is there from addkey until its session is closed, and is in no reply and no log, whatever is wrong with the command.
func TestAddKey(t *testing.T) {
	ring, err := keyring.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := newManager(t, mapper.Options{Keys: ring})
	const key = "00112233445566778899aabbccddeeff"
	for _, tt := range []struct {
		name   string
		writes []string
		want   bool
	}{
		{"taken", []string{"addkey logon \"dmfs: one\" " + key + "\n"}, true},
		{"after another command", []string{"version\naddkey logon \"dmfs: one\" " + key + "\nversion\n"}, true},
		{"in parts", []string{"addkey logon \"dmfs: one\" " + key[:8], key[8:] + "\n"}, false},
		{"odd", []string{"addkey logon \"dmfs: one\" " + key + "0\n"}, false},
		{"no digits", []string{"addkey logon \"dmfs: one\" " + key + "xy\n"}, false},
		{"no description", []string{"addkey logon " + key + "\n"}, false},
		{"nothing", []string{"addkey \n"}, false},
		{"a word too many", []string{"addkey logon \"dmfs: one\" two " + key + "\n"}, false},
		{"unbalanced", []string{"addkey logon \"dmfs " + key + "\n"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := control.NewSession(m, control.Version{})
			var err error
			for _, w := range tt.writes {
				if _, e := s.Write(ctx, []byte(w)); err == nil {
					err = e
				}
			}
			if (err == nil) != tt.want {
				t.Errorf("%v", err)
			}
			alloc := func(n int) ([]byte, error) { return make([]byte, n), nil }
			if got, err := ring.Key("logon", "dmfs: one", alloc); (err == nil && len(got) == 16 && got[1] == 0x11) != tt.want {
				t.Errorf("the key is % x, %v", got, err)
			}
			reply, _ := s.Reply()
			s.Close()
			if _, err := ring.Key("logon", "dmfs: one", alloc); err == nil {
				t.Error("the key is there still")
			}
			told := reply + m.Log().Text()
			if err != nil {
				told += err.Error()
			}
			if strings.Contains(told, key[8:]) || strings.Contains(told, key[:8]) {
				t.Errorf("the key is in: %s", told)
			}
		})
	}
}
