package mount

import (
	"slices"
	"strings"
	"testing"
)

func TestParseOptions(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lists []string
		want  Options
		err   string
	}{
		{name: "none"},
		{name: "ours", lists: []string{"ro,allow_other"}, want: Options{ReadOnly: true, AllowOther: true}},
		{name: "the last counts", lists: []string{"ro", "rw,allow_root"}, want: Options{AllowRoot: true}},
		{name: "fstab", lists: []string{"rw,noauto,user=joe,_netdev,nofail,x-systemd.requires=a.service,comment=c,nodev,nosuid,,defaults"}},
		{name: "for the kernel", lists: []string{"noexec,default_permissions,sync"}, want: Options{Kernel: []string{"noexec", "sync"}}},
		{name: "label", lists: []string{`context="system_u:object_r:x:s0:c1,c2",ro`}, want: Options{ReadOnly: true, Kernel: []string{"context=system_u:object_r:x:s0:c1,c2"}}},
		{name: "configuration", lists: []string{`config=/a\,b.toml`}, want: Options{Config: "/a,b.toml"}},
		{name: "unknown", lists: []string{"ro,allow_others"}, err: `unknown mount option "allow_others"`},
		{name: "unknown with value", lists: []string{"uid=0"}, err: `unknown mount option "uid=0"`},
		{name: "no file", lists: []string{"config="}, err: "names no file"},
		{name: "both", lists: []string{"allow_root,allow_other"}, err: "exclude each other"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseOptions(tt.lists...)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want %s", err, tt.err)
				}
				return
			}
			same := got.ReadOnly == tt.want.ReadOnly && got.AllowOther == tt.want.AllowOther && got.AllowRoot == tt.want.AllowRoot &&
				got.Config == tt.want.Config && slices.Equal(got.Kernel, tt.want.Kernel)
			if err != nil || !same {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestAllowsOther(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                    false,
		"#user_allow_other\n":                 false,
		"mount_max = 3\n user_allow_other \n": true,
		"user_allow_others":                   false,
	} {
		if got := allowsOther(strings.NewReader(text)); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
}
