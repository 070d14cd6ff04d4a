package nbd

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A URI names an export of a server.
type URI struct {
	network, address string // as package net has them
	Export           string
	Delay            time.Duration // reconnect-delay
	text             string
}

const (
	defaultPort = "10809"
	maxDelay    = 24 * time.Hour
	hostChars   = "abcdefghijklmnopqrstuvwxyz0123456789.-_:"
)

// A uriError refuses a URI.
type uriError struct{ uri, why string }

func (e *uriError) Error() string { return fmt.Sprintf("%s: %s", e.uri, e.why) }

// Unwrap returns the errno.
func (e *uriError) Unwrap() error { return unix.EINVAL }

// ParseURI reads nbd://HOST[:PORT]/EXPORT and nbd+unix:///EXPORT?socket=PATH. What it does not know it refuses.
func ParseURI(text string) (URI, error) {
	var u URI
	refuse := func(why string, args ...any) (URI, error) {
		return URI{}, &uriError{text, fmt.Sprintf(why, args...)}
	}
	p, err := url.Parse(text)
	if err != nil {
		return refuse("is no URI: %v", err)
	}
	query, err := url.ParseQuery(p.RawQuery)
	if err != nil {
		return refuse("its query is malformed: %v", err)
	}
	switch strings.ToLower(p.Scheme) {
	case "nbd":
		u.network = "tcp"
	case "nbd+unix":
		u.network = "unix"
	case "nbds", "nbds+unix", "nbds+vsock":
		return refuse("TLS is not supported: use nbd:// through a tunnel, or nbd+unix://")
	case "nbd+vsock":
		return refuse("vsock is not supported")
	default:
		return refuse("unknown scheme %s: want nbd or nbd+unix", p.Scheme)
	}
	switch {
	case p.Opaque != "":
		return refuse("want // after the scheme")
	case p.User != nil:
		return refuse("a user name is for TLS only, which is not supported")
	case p.Fragment != "":
		return refuse("what follows # has no meaning")
	}
	u.Export = strings.TrimPrefix(p.Path, "/")
	if len(u.Export) > maxExportName || strings.ContainsRune(u.Export, 0) {
		return refuse("the name of the export is longer than %d bytes, or has a NUL", maxExportName)
	}
	if err := u.parseQuery(query); err != nil {
		return refuse("%v", err)
	}
	if err := u.parseAddress(p); err != nil {
		return refuse("%v", err)
	}
	u.text = u.compose()
	return u, nil
}

func (u *URI) parseQuery(query url.Values) error {
	for key, values := range query {
		if len(values) != 1 {
			return fmt.Errorf("%s is given %d times", key, len(values))
		}
		v := values[0]
		switch {
		case key == "socket" && u.network == "unix":
			if !filepath.IsAbs(v) || strings.ContainsRune(v, 0) {
				return fmt.Errorf("socket=%s: want an absolute path", v)
			}
			u.address = filepath.Clean(v)
		case key == "reconnect-delay":
			n, err := strconv.ParseUint(v, 10, 32)
			if err != nil || time.Duration(n)*time.Second > maxDelay {
				return fmt.Errorf("reconnect-delay=%s: want seconds, at most %d", v, int(maxDelay.Seconds()))
			}
			u.Delay = time.Duration(n) * time.Second
		case strings.HasPrefix(key, "tls"):
			return fmt.Errorf("%s: TLS is not supported", key)
		default:
			return fmt.Errorf("unknown parameter %s: want reconnect-delay, and socket with nbd+unix", key)
		}
	}
	return nil
}

func (u *URI) parseAddress(p *url.URL) error {
	if u.network == "unix" {
		switch {
		case p.Host != "":
			return fmt.Errorf("nbd+unix names no host: want nbd+unix:///EXPORT?socket=PATH")
		case u.address == "":
			return fmt.Errorf("want ?socket=PATH")
		}
		return nil
	}
	if p.Hostname() == "" {
		return fmt.Errorf("want a host: nbd://HOST[:PORT]/EXPORT")
	}
	host := strings.ToLower(p.Hostname())
	if addr, err := netip.ParseAddr(host); strings.Contains(host, ":") && (err != nil || addr.Zone() != "") || strings.Trim(host, hostChars) != "" {
		return fmt.Errorf("%q is no name of a host", p.Hostname())
	}
	port := p.Port()
	if port == "" {
		port = defaultPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %s: want a number from 1 to 65535", port)
	} else {
		port = strconv.FormatUint(n, 10)
	}
	u.address = net.JoinHostPort(host, port)
	return nil
}

// compose returns the shortest spelling.
func (u *URI) compose() string {
	out := url.URL{Scheme: "nbd", Path: "/" + u.Export}
	var query []string
	if u.network == "unix" {
		out.Scheme = "nbd+unix"
		query = append(query, "socket="+queryPath(u.address))
	} else {
		out.Host = u.address
		if host, port, err := net.SplitHostPort(u.address); err == nil && port == defaultPort {
			if out.Host = host; strings.Contains(host, ":") {
				out.Host = "[" + host + "]"
			}
		}
	}
	if u.Delay > 0 {
		query = append(query, fmt.Sprintf("reconnect-delay=%d", int(u.Delay.Seconds())))
	}
	out.RawQuery = strings.Join(query, "&")
	text := out.String()
	if out.Host == "" {
		text = strings.Replace(text, "nbd+unix:/", "nbd+unix:///", 1)
		text = strings.Replace(text, "nbd+unix://///", "nbd+unix:///", 1)
	}
	return text
}

// queryPath escapes a path for a query and leaves its slashes.
func queryPath(path string) string {
	return strings.ReplaceAll(url.QueryEscape(path), "%2F", "/")
}

// String returns the URI in its shortest spelling: two that are equal name the same disk.
func (u URI) String() string { return u.text }
