package control_test

import (
	"encoding/json"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
	"dmfs/mapper"
)

// say runs one command and returns its reply.
func say(t *testing.T, m *mapper.Manager, command string) (string, unix.Errno) {
	t.Helper()
	s := control.NewSession(m, control.Version{})
	_, err := s.Write(ctx, []byte(command+"\n"))
	reply, _ := s.Reply()
	return reply, mapper.Errno(err)
}

// What on does to a device it is told by any of its names, and what it answers.
func TestOn(t *testing.T) {
	m := newManager(t, mapper.Options{})
	for _, tt := range []struct {
		command, want string // the state after: name, uuid, slots, suspended; what is said of the command
		errno         unix.Errno
	}{
		{"on new create a uuid=U notable", "a U -- ", 0},
		{"on new create a notable", "", unix.EBUSY},
		{"on name=a load ro { 0 8 zero\n8 8 error }", "a U -I ", 0},
		{"on uuid=U resume", "a U L- resumed", 0},
		{"on uuid=U resume", "a U L- ", 0},
		{"on minor=0 suspend noflush", "a U Ls ", 0},
		{"on minor=0 inactive suspend", "a U Ls ", 0},
		{"on dev=253:0 resume nolockfs", "a U L- resumed", 0},
		{"on name=a load 0 8 zero", "a U LI ", 0},
		{"on name=a clear", "a U L- ", 0},
		{"on name=a rename \"inactive x\"", "inactive x U L- ", 0},
		{"on uuid=U setgeometry 1 2 3 4", "inactive x U L- ", 0},
		{"on uuid=U rename inactive", "inactive U L- ", 0},
		{"on uuid=U message 0 @stats_create - /1", "inactive U L- 0", 0},
		{"on uuid=U message room=20 0 @stats_list", "inactive U L- 0: 0+16 16 - -\n", 0},
		{"on uuid=U message room=-1 0 @stats_list", "", unix.EINVAL},
		{"on uuid=U setuuid V", "", unix.EINVAL},
		{"on uuid=U message 0 hello", "", unix.EINVAL},
		{"on name=a remove", "", unix.ENXIO},
		{"on uuid=U remove deferred", "inactive U L- removed", 0},
		{"on uuid=U remove", "", unix.ENXIO},
		{"on", "", unix.EINVAL},
		{"on new", "", unix.EINVAL},
		{"on new remove a", "", unix.EINVAL},
		{"on a remove", "", unix.EINVAL},
		{"on new create b 0 8 zero", "b  L- ", 0},
		{"on name=b", "", unix.EINVAL},
		{"on name=b create c notable", "", unix.EINVAL},
		{"on name=b on name=b remove", "", unix.EINVAL},
		{"on name=b query", "", unix.EINVAL},
		{"on name=b remove b", "", unix.EINVAL},
	} {
		reply, errno := say(t, m, tt.command)
		if errno != tt.errno {
			t.Errorf("%s: %v, want %v: %s", tt.command, errno, tt.errno, reply)
		}
		if errno != 0 {
			continue
		}
		var doc control.Document
		if err := json.Unmarshal([]byte(reply), &doc); err != nil || len(doc.Devices) != 1 {
			t.Fatalf("%s: %s: %v", tt.command, reply, err)
		}
		if got := told(doc); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.command, got, tt.want)
		}
	}
}

// told returns what a reply of on says, in short.
func told(doc control.Document) string {
	d := doc.Devices[0]
	state := []byte("--")
	if d.Live {
		state[0] = 'L'
	}
	switch {
	case d.Inactive:
		state[1] = 'I'
	case d.Suspended:
		state[1] = 's'
	}
	said := doc.Reply
	if doc.Resumed {
		said += "resumed"
	}
	if doc.Removed {
		said += "removed"
	}
	return strings.Join([]string{d.Name, d.UUID, string(state), said}, " ")
}

// Bytes that are no UTF-8 come through JSON, wherever they are.
func TestRawBytes(t *testing.T) {
	m := newManager(t, mapper.Options{})
	const odd = "\xff<\u00e9\xc3"
	if reply, errno := say(t, m, "create "+odd+" uuid="+odd+" 0 8 zero"); errno != 0 {
		t.Fatal(reply)
	}
	if reply, errno := say(t, m, "message "+odd+" 0 @stats_create - - 1 "+odd); errno == 0 {
		t.Errorf("a region without a step: %s", reply)
	}
	if reply, errno := say(t, m, "message "+odd+" 0 @stats_create - 8 "+odd); errno != 0 {
		t.Error(reply)
	}
	reply, _ := say(t, m, "on name="+odd+" message 0 @stats_list")
	var doc control.Document
	if err := json.Unmarshal([]byte(reply), &doc); err != nil {
		t.Fatal(err)
	}
	if d := doc.Devices[0]; d.Name != odd || d.UUID != odd || doc.Reply != "0: 0+8 8 "+odd+" -\n" {
		t.Errorf("%q, %q, %q", d.Name, d.UUID, doc.Reply)
	}
}

// What does not fit in the caller's room has changed nothing.
func TestRoom(t *testing.T) {
	m := newManager(t, mapper.Options{})
	say(t, m, "create a 0 8 zero")
	if reply, _ := say(t, m, "message a room=11 0 @stats_create - 8"); reply != "2147483647\n" {
		t.Errorf("a region: %q", reply)
	}
	if reply, _ := say(t, m, "message a 0 @stats_list"); reply != "ok\n" {
		t.Errorf("there is one: %q", reply)
	}
	say(t, m, "message a room=12 0 @stats_create - 8")
	d := m.ByName("a")
	if _, err := d.ReadAt(ctx, make([]byte, 4096), 0); err != nil {
		t.Fatal(err)
	}
	counted := func(command string) bool {
		reply, errno := say(t, m, command)
		if errno != 0 {
			t.Errorf("%s: %s", command, reply)
		}
		return strings.HasPrefix(reply, "0+8 1 ")
	}
	if !counted("message a room=20 0 @stats_print_clear 0") || !counted("message a room=1000 0 @stats_print_clear 0") {
		t.Error("cleared without room for the reply")
	}
	if counted("message a 0 @stats_print 0") {
		t.Error("not cleared")
	}
}

// wait takes what query takes.
func TestWaitTells(t *testing.T) {
	m := newManager(t, mapper.Options{})
	say(t, m, "create a 0 8 zero")
	say(t, m, "load a 0 16 error")
	for command, want := range map[string]string{
		"wait name=a 7":                         `"status":[{"start":0,"length":8,"target":"zero","params":""}]`,
		"wait minor=0 7 table":                  `"table":[{"start":0,"length":8,"target":"zero","params":""}]`,
		"wait name=a 7 inactive table showkeys": `"table":[{"start":0,"length":16,"target":"error","params":""}]`,
	} {
		if reply, _ := say(t, m, command); !strings.Contains(reply, want) {
			t.Errorf("%s: %s", command, reply)
		}
	}
}

// The log tells of commands that failed, and not of devices that were looked for.
func TestLookUpsAreNotLogged(t *testing.T) {
	m := newManager(t, mapper.Options{})
	if _, errno := say(t, m, "query name=none"); errno != unix.ENXIO {
		t.Errorf("query: %v", errno)
	}
	if log := m.Log().Text(); log != "" {
		t.Errorf("the log has %s", log)
	}
	say(t, m, "remove none")
	if log := m.Log().Text(); !strings.Contains(log, "dmfs: control: remove: none: no such mapped device") {
		t.Errorf("the log has %q", log)
	}
}
