package dmsetup

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
	"dmfs/mapper"
	"dmfs/tests/dmsetuptest"
)

// loose runs "dmfs ARGS" on m.
func loose(t *testing.T, m mount, line string) dmsetuptest.Result {
	t.Helper()
	c, err := dmsetuptest.ParseCall(line)
	if err != nil {
		t.Fatal(err)
	}
	return invoke(m, c, "dmfs", false)
}

func wantOK(t *testing.T, m mount, lines ...string) string {
	t.Helper()
	out := ""
	for _, l := range lines {
		r := loose(t, m, l)
		if r.Status != 0 || r.Stderr != "" {
			t.Fatalf("%s: status %d: %s", l, r.Status, r.Stderr)
		}
		out += r.Stdout
	}
	return out
}

// A failure of dmfs VERB ends with the reason, which dmsetup leaves to the kernel's log.
func TestReason(t *testing.T) {
	core := newCore()
	for _, tt := range []struct{ line, stderr string }{
		{"dmsetup create x --table '0 100 linear /dev/ubda x'", "device-mapper: reload ioctl on x (254:0) failed: Invalid argument\n" +
			"Command failed.\ndmfs: x: segment 0 (0+100 linear): Invalid device sector: \"x\"\n"},
		{"dmsetup create x --table '0 100 linear /dev/ubda'", "device-mapper: reload ioctl on x (254:0) failed: Invalid argument\n" +
			"Command failed.\ndmfs: x: segment 0 (0+100 linear): Invalid argument count\n"},
		{"dmsetup info nosuch", "Device does not exist.\nCommand failed.\n"},
		{"dmsetup stats list --json", "stats: there is no JSON of statistics; --nameprefixes is for programs, too\nCommand failed.\n"},
		{"dmsetup stats update_filemap --groupid 0 /x", "update_filemap: no file lies on a device of a dmfs mount in a way that could be told\nCommand failed.\n"},
	} {
		if r := loose(t, core, tt.line); r.Status != 1 || r.Stderr != tt.stderr {
			t.Errorf("%s: status %d\n%swant\n%s", tt.line, r.Status, r.Stderr, tt.stderr)
		}
	}
	if out := wantOK(t, core, "dmsetup ls"); out != "No devices found\n" {
		t.Errorf("left behind: %s", out)
	}
}

// If what create resumes fails, libdevmapper names the device as it was asked for: with a number only if one was given, and without the uuid.
// As dmsetup 1.02.185 did with a snapshot whose store is in use.
func TestCreateFailsToResume(t *testing.T) {
	core := newCore(&mapper.Type{Name: "stubborn", New: func(context.Context, mapper.Host, mapper.Spec) (mapper.Target, error) { return stubborn{}, nil }})
	for _, tt := range []struct{ line, device string }{
		{"dmsetup create b --table '0 64 stubborn'", "b "},
		{"dmsetup create b -u U --table '0 64 stubborn'", "b "},
		{"dmsetup create b -j 254 -m 9 --table '0 64 stubborn'", "b (254:9)"},
	} {
		want := "device-mapper: resume ioctl on " + tt.device + " failed: Invalid argument\nCommand failed.\n"
		if r := loose(t, core, tt.line); r.Status != 1 || !strings.HasPrefix(r.Stderr, want) {
			t.Errorf("%s: status %d\n%swant\n%s", tt.line, r.Status, r.Stderr, want)
		}
	}
}

// A stubborn target is not resumed.
type stubborn struct{ errorTarget }

func (stubborn) PreResume(context.Context) error { return unix.EINVAL }

// -o all is every field that is there.
func TestAllFields(t *testing.T) {
	core := newCore()
	wantOK(t, core, "dmsetup create x -u LVM-1 --table '0 8 zero'")
	r := loose(t, core, "dmsetup info -c -o all --nameprefixes --noheadings")
	for _, want := range []string{"DM_NAME='x'", "DM_BLKDEVNAME='dm-0'", "DM_DEVS_USED=''", "DM_VG_NAME='x'"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("%s is missing in %s", want, r.Stdout)
		}
	}
}

// dm-N names a device by number where no device has that name.
func TestKernelNames(t *testing.T) {
	core := newCore()
	wantOK(t, core, "dmsetup create a --table '0 8 zero'", "dmsetup create b --table '0 9 zero'")
	if out := wantOK(t, core, "dmsetup table dm-1"); out != "0 9 zero \n" {
		t.Errorf("dm-1 is %q", out)
	}
	wantOK(t, core, "dmsetup create dm-1 --table '0 7 zero'")
	if out := wantOK(t, core, "dmsetup table dm-1"); out != "0 7 zero \n" {
		t.Errorf("dm-1 is %q", out)
	}
}

// A named is a mount that only knows where it is.
type named string

func (m named) Path() string { return string(m) }

func (m named) Do(context.Context, string) (string, error) {
	return `{"program": "` + string(m) + `"}`, nil
}

// The mount is what -m, --mount, $DMFS_MOUNT or the list of mounts say, in that order; -m with a number is --minor.
func TestWhichMount(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		mounts     []string
		strict     bool
		want, err  string
	}{
		{name: "option", line: "DMFS_MOUNT=/e dmsetup -m /o version", want: "/o"},
		{name: "long option", line: "DMFS_MOUNT=/e dmsetup --mount /o version", want: "/o"},
		{name: "environment", line: "DMFS_MOUNT=/e dmsetup version", mounts: []string{"/only"}, want: "/e"},
		{name: "the only one", line: "dmsetup version", mounts: []string{"/only"}, want: "/only"},
		{name: "minor", line: "dmsetup -j 254 -m 7 version", mounts: []string{"/only"}, want: "/only"},
		{name: "none", line: "dmsetup version", err: "no dmfs mount found"},
		{name: "several", line: "dmsetup version", mounts: []string{"/x", "/y"}, err: "\t/x\n\t/y\n"},
		{name: "strict -m", line: "dmsetup -m /o version", strict: true, err: "Please specify both major number and minor number."},
		{name: "strict --mount", line: "dmsetup --mount /o version", strict: true, err: "unrecognized option '--mount'"},
		{name: "strict --json", line: "dmsetup --json version", strict: true, err: "unrecognized option '--json'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := dmsetuptest.ParseCall(tt.line)
			if err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			s := &session{ctx: context.Background(), dial: func(p string) mount { return named(p) }, Env: Env{
				Args0: "dmfs", Stdout: &stdout, Stderr: &stderr, Strict: tt.strict,
				Getenv: func(name string) string { return c.Env[name] },
				Mounts: func() ([]string, error) { return tt.mounts, nil },
			}}
			status := s.run(c.Args)
			if tt.err != "" {
				if status != 1 || !strings.Contains(stderr.String(), tt.err) {
					t.Errorf("status %d: %s", status, stderr.String())
				}
			} else if status != 0 || !strings.HasSuffix(stdout.String(), "dmfs "+tt.want+"\n") {
				t.Errorf("status %d: %s%s", status, stdout.String(), stderr.String())
			}
		})
	}
}

// A path that is no mount is said to be none, not blamed on a device.
func TestNoMount(t *testing.T) {
	dir := t.TempDir()
	_, err := openControl(dir).Do(t.Context(), "query")
	if err == nil || !strings.Contains(err.Error(), "no dmfs mount takes commands there") {
		t.Error(err)
	}
	// The reply is what the same open file holds from its beginning.
	if err := os.WriteFile(filepath.Join(dir, "control"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if reply, err := openControl(dir).Do(t.Context(), "query"); reply != "query\n" || err != nil {
		t.Errorf("%q, %v", reply, err)
	}
}

// --json gives documents whose fields are those the package comment lists, and [] for nothing.
func TestJSON(t *testing.T) {
	core := newCore()
	for _, verb := range []string{"ls", "info", "deps", "status", "table"} {
		if out := wantOK(t, core, "dmsetup --json "+verb); out != "[]\n" {
			t.Errorf("%s without devices: %q", verb, out)
		}
	}
	wantOK(t, core, "dmsetup create 'a b' -u 'U 1' --table '0 8 zero'", "dmsetup create top --table '0 4 linear 254:0 0'")
	for _, tt := range []struct{ args, want string }{
		{"ls", `[{"name":"a b","uuid":"U 1","major":254,"minor":0},{"name":"top","uuid":"","major":254,"minor":1}]`},
		{"ls --target linear", `[{"name":"top","uuid":"","major":254,"minor":1}]`},
		{"deps top", `[{"name":"top","deps":[{"major":254,"minor":0,"device":"a b","block_name":"dm-0"}]}]`},
		{"table", `[{"name":"a b","segments":[{"start":0,"length":8,"target":"zero","params":""}]},` +
			`{"name":"top","segments":[{"start":0,"length":4,"target":"linear","params":"254:0 0"}]}]`},
		{"table --target linear", `[{"name":"top","segments":[{"start":0,"length":4,"target":"linear","params":"254:0 0"}]}]`},
		{"status --target zero", `[{"name":"a b","segments":[{"start":0,"length":8,"target":"zero","params":""}]}]`},
		{"info -c -S minor=77", `[]`},
		{"info -S name=nosuch", `[]`},
		{"status top", `[{"name":"top","segments":[{"start":0,"length":4,"target":"linear","params":""}]}]`},
		{"targets", `[{"name":"zero","version":[1,1,0]},{"name":"linear","version":[1,4,0]},{"name":"error","version":[1,5,0]}]`},
		{"target-version zero", `[{"name":"zero","version":[1,1,0]}]`},
		{"splitname vg-lv", `{"subsystem":"LVM","vg_name":"vg","lv_name":"lv","lv_layer":""}`},
		{"wait top 7", `{"name":"top","event_nr":0,"removed":false}`},
		{"version", `{"library":"1.02.185 (2022-05-18)","program":"test","driver":"4.47.0","pid":1,"mount_point":"/dev/mapper","major":254}`},
	} {
		var got bytes.Buffer
		if err := json.Compact(&got, []byte(wantOK(t, core, "dmsetup --json "+tt.args))); err != nil {
			t.Errorf("%s: %v", tt.args, err)
		}
		if got.String() != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.args, got.String(), tt.want)
		}
	}
	var devices []control.Device
	if err := json.Unmarshal([]byte(wantOK(t, core, "dmsetup --json info -c -S minor=0")), &devices); err != nil || len(devices) != 1 {
		t.Fatalf("%v, %v", devices, err)
	}
	if d := devices[0]; d.Name != "a b" || d.Deps == nil || d.OpenCount != 1 || !d.Live || !d.HasNode {
		t.Errorf("info: %+v", d)
	}
}

// A wait ends when the device goes, and says so.
func TestWaitForRemoval(t *testing.T) {
	core := newCore()
	wantOK(t, core, "dmsetup create x --table '0 8 zero'")
	ended := make(chan string)
	go func() {
		c := dmsetuptest.Call{Args: []string{"wait", "--json", "x"}}
		ended <- invoke(core, c, "dmfs", false).Stdout
	}()
	select {
	case out := <-ended:
		t.Fatalf("did not wait: %s", out)
	case <-time.After(20 * time.Millisecond):
	}
	wantOK(t, core, "dmsetup remove x")
	if out := <-ended; !strings.Contains(out, `"removed": true`) {
		t.Error(out)
	}
}

// files opens any path as a regular file.
type files struct{ ubd }

type fileDisk struct{ ubdDisk }

func (fileDisk) BlockDevice() (major, minor uint32, ok bool) { return 0, 0, false }
func (d fileDisk) DiskName() string                          { return mapper.QuoteArg(d.path) }

func (files) Identify(path string) (mapper.FileID, error) {
	return mapper.FileID{Dev: 1, Ino: uint64(path[len(path)-1])}, nil
}

func (files) Open(_ context.Context, c mapper.DiskConfig) (mapper.Disk, error) {
	return &fileDisk{ubdDisk{path: c.Path}}, nil
}

// Disks that are regular files are shown by their path, and in goldens by a common name.
func TestFileDisks(t *testing.T) {
	g := &mapper.Registry{}
	for _, typ := range testTypes {
		g.Register(typ)
	}
	core := coreMount{mapper.NewManager(g, mapper.Options{Major: 253, MountPoint: "/dev/mapper", Files: files{}})}
	wantOK(t, core, "dmsetup create x --table '0 8 linear /images/ubdb 0'")
	for _, tt := range []struct{ args, want string }{
		{"deps", "x: 1 dependencies\t: (/images/ubdb)\n"},
		{"deps -o blkdevname", "x: 1 dependencies\t: (ubdb)\n"},
		{"deps -o devname", "x: 1 dependencies\t: (ubdb)\n"},
		{"table", "x: 0 8 linear /images/ubdb 0\n"},
		{"ls --tree", "x (253:0)\n `- (/images/ubdb)\n"},
		{"ls --tree -o blkdevname", "x <dm-0> (253:0)\n `- <ubdb> (/images/ubdb)\n"},
		{"info -c --noheadings -o devnos_used,blkdevs_used", "/images/ubdb:ubdb\n"},
	} {
		if out := wantOK(t, core, "dmsetup "+tt.args); out != tt.want {
			t.Errorf("%s: %q", tt.args, out)
		}
	}
	wantOK(t, core, "dmsetup remove x")
	t.Chdir("testdata")
	dmsetuptest.Play(t, "list.golden", func(c dmsetuptest.Call) dmsetuptest.Result {
		return invoke(core, c, "dmsetup", true)
	}, dmsetuptest.Options{Major: 253, Disks: []string{"/images/ubda", "/images/ubdb"}})
}

// Every verb has a help line, and help shows what dmfs adds.
func TestVerbs(t *testing.T) {
	for _, v := range Verbs() {
		if v.Help == "" || !IsVerb(v.Name) {
			t.Errorf("%+v", v)
		}
	}
	if IsVerb("mount") {
		t.Error("mount is none of dmsetup's verbs")
	}
	r := loose(t, newCore(), "dmsetup help")
	if !strings.Contains(r.Stderr, "--json") || !strings.HasPrefix(r.Stderr, "Usage:\n\ndmfs\n") {
		t.Error(r.Stderr)
	}
}

// A message's words reach the target as they were given, and its answer is printed.
func TestMessage(t *testing.T) {
	m := &recorder{reply: "answer"}
	if r := loose(t, m, `dmsetup message x 0 'a "b c"' 'd;e'`); r.Stdout != "answer\n" {
		t.Errorf("%+v", r)
	}
	if want := `message x 0 a "b c" "d;e"`; m.got != want {
		t.Errorf("sent %q, want %q", m.got, want)
	}
	if r := loose(t, m, `dmsetup message x 0 "a\n"`); r.Status != 0 {
		t.Errorf("%+v", r)
	}
	line := dmsetuptest.Call{Args: []string{"message", "x", "0", "\"a\nremove_all\""}}
	if r := invoke(m, line, "dmfs", false); r.Status != 1 || !strings.Contains(r.Stderr, "line break") {
		t.Errorf("a line break got through: %+v", r)
	}
}

// A recorder keeps the last command.
type recorder struct{ got, reply string }

func (m *recorder) Path() string { return "/m" }

func (m *recorder) Do(_ context.Context, command string) (string, error) {
	m.got = command
	return m.reply + "\n", nil
}
