package mount

import (
	"net"
	"os"
	"strings"
)

// notify tells the service manager that started us about our state, as sd_notify(3) does: a datagram of
// lines VARIABLE=VALUE to the socket that $NOTIFY_SOCKET names; "@" stands for the abstract
// namespace, for package net too. Nobody listening is no error.
func notify(lines ...string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" || (name[0] != '/' && name[0] != '@') {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(strings.Join(lines, "\n")))
	return err
}
