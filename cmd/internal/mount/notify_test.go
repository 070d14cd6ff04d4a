package mount

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// A message reaches sockets in the file system and in the abstract namespace.
func TestNotify(t *testing.T) {
	dir, err := os.MkdirTemp("", "dmfs") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{filepath.Join(dir, "socket"), fmt.Sprintf("@dmfs-test-%d", os.Getpid())} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		t.Setenv("NOTIFY_SOCKET", name)
		if err := notify("READY=1", "STATUS=serving"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, err := conn.Read(buf)
		if got := string(buf[:n]); got != "READY=1\nSTATUS=serving" || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestNotifyNobody(t *testing.T) {
	for _, name := range []string{"", "relative"} {
		t.Setenv("NOTIFY_SOCKET", name)
		if err := notify("READY=1"); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	t.Setenv("NOTIFY_SOCKET", "/nonexistent/socket")
	if err := notify("READY=1"); err == nil {
		t.Error("a socket that does not exist: no error")
	}
}
