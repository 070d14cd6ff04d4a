package nbd

import (
	"testing"
	"time"
)

func TestURIs(t *testing.T) {
	for _, tt := range []struct{ in, network, address, export, out string }{
		{"nbd://h", "tcp", "h:10809", "", "nbd://h/"},
		{"nbd://H.example/", "tcp", "h.example:10809", "", "nbd://h.example/"},
		{"NBD://h:10809/x", "tcp", "h:10809", "x", "nbd://h/x"},
		{"nbd://h:010/a/b", "tcp", "h:10", "a/b", "nbd://h:10/a/b"},
		{"nbd://h//x", "tcp", "h:10809", "/x", "nbd://h//x"},
		{"nbd://[::1]:9/%20%3f", "tcp", "[::1]:9", " ?", "nbd://[::1]:9/%20%3F"},
		{"nbd://[::1]/x", "tcp", "[::1]:10809", "x", "nbd://[::1]/x"},
		{"nbd://h/x?reconnect-delay=5", "tcp", "h:10809", "x", "nbd://h/x?reconnect-delay=5"},
		{"nbd://h/x?reconnect-delay=0", "tcp", "h:10809", "x", "nbd://h/x"},
		{"nbd+unix:///x?socket=/tmp/s", "unix", "/tmp/s", "x", "nbd+unix:///x?socket=/tmp/s"},
		{"nbd+unix://?socket=/tmp/../s%20%26", "unix", "/s &", "", "nbd+unix:///?socket=/s+%26"},
		{"nbd+unix:///?reconnect-delay=3&socket=/s", "unix", "/s", "", "nbd+unix:///?socket=/s&reconnect-delay=3"},
	} {
		u, err := ParseURI(tt.in)
		if err != nil || u.network != tt.network || u.address != tt.address || u.Export != tt.export || u.String() != tt.out {
			t.Errorf("%s: %+v, %v; want %s %s %q and %s", tt.in, u, err, tt.network, tt.address, tt.export, tt.out)
			continue
		}
		if again, err := ParseURI(u.String()); err != nil || again != u {
			t.Errorf("%s became %s, which is %+v (%v)", tt.in, u, again, err)
		}
	}
	if u, err := ParseURI("nbd://h/x?reconnect-delay=5"); err != nil || u.Delay != 5*time.Second {
		t.Errorf("reconnect-delay: %v %v", u.Delay, err)
	}
}

func TestRefusedURIs(t *testing.T) {
	for _, in := range []string{
		"", "nbd", "nbd:", "nbd:h/x", "nbd://", "nbd:///x", "nbd://:1/x", "nbd://h:0/x", "nbd://h:65536/x", "nbd://h:x/", "nbd://u@h/x", "nbd://h/x#f", "nbd://h/%00",
		"nbds://h/x", "nbds+unix:///x?socket=/s", "nbd+vsock://1/x", "http://h/x", "nbd://h/x?socket=/s", "nbd://h/x?tls-certificates=/d",
		"nbd://h/x?reconnect-delay=-1", "nbd://h/x?reconnect-delay=", "nbd://h/x?reconnect-delay=99999999", "nbd://h/x?reconnect-delay=1&reconnect-delay=2",
		"nbd://h/x?unknown=1", "nbd+unix:///x", "nbd+unix:///x?socket=", "nbd+unix:///x?socket=s", "nbd+unix://h/x?socket=/s", "nbd://h/x?a;b", "nbd://h/%zz",
	} {
		if u, err := ParseURI(in); err == nil {
			t.Errorf("%q is taken: %+v", in, u)
		}
	}
}

func FuzzURI(f *testing.F) {
	for _, s := range []string{"nbd://h/x", "nbd+unix:///x?socket=/s&reconnect-delay=3", "nbd://[::1]:9/%20", "nbd://h//", "nbd+unix://?socket=//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseURI(text)
		if err != nil {
			return
		}
		if again, err := ParseURI(u.String()); err != nil || again != u {
			t.Errorf("%q became %q, which is %+v (%v), not %+v", text, u, again, err, u)
		}
	})
}
