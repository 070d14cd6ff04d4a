package config

import (
	"math"
	"path/filepath"
	"strings"

	"dmfs/mapper"
)

// keyring reads [keys] and certificates.
func (p *parser) keyring(root map[string]any) {
	if keys, ok := p.table(root, "keys"); ok {
		for _, name := range p.children([]string{"keys"}, keys) {
			p.key(name, keys[name])
		}
	}
	list, ok := root["certificates"]
	if !ok {
		return
	}
	paths, ok := list.([]any)
	if !ok {
		p.fail([]string{"certificates"}, "certificates: want a list of files, found %s", kind(list))
		return
	}
	for _, v := range paths {
		var path string
		p.value(&path, v, "a file", []string{"certificates"})
		if path = p.path([]string{"certificates"}, "certificates", path); path != "" {
			p.Certificates = append(p.Certificates, path)
		}
	}
}

// firstFD is the first descriptor that may be a key: the standard ones are something else.
const firstFD = 3

// key adds one entry of [keys].
func (p *parser) key(name string, value any) {
	key := []string{"keys", name}
	what := "key " + name
	if name == "" || strings.ContainsAny(name, " \t\r\n\v\f\x00") {
		p.fail(key, "%s: a table could not name it: it is empty or has a blank", what)
		return
	}
	c := mapper.KeyConfig{}
	switch v := value.(type) {
	case string:
		c.Path = p.path(key, what, v)
	case map[string]any:
		fd, ok := v["fd"].(int64)
		if !ok || len(v) != 1 {
			p.fail(key, "%s: want a path or { fd = NUMBER }", what)
			return
		}
		if fd < firstFD || fd > math.MaxInt32 {
			p.fail(key, "%s: fd: %d is no descriptor for keys: want %d or more", what, fd, firstFD)
		}
		c.FD = int(fd)
		for other, have := range p.Keys {
			if have.Path == "" && have.FD == c.FD {
				p.fail(key, "%s: fd: key %s is read from descriptor %d, which can be read once", what, other, fd)
			}
		}
	default:
		p.fail(key, "%s: want a path or { fd = NUMBER }, found %s", what, kind(value))
		return
	}
	p.Keys[name] = c
}

// path returns the path in v, absolute; "" and a mistake if it is none.
func (p *parser) path(key []string, what, v string) string {
	switch {
	case v == "":
		p.fail(key, "%s: the path is empty", what)
		return ""
	case strings.ContainsRune(v, 0):
		p.fail(key, "%s: the path contains a zero byte", what)
		return ""
	case filepath.IsAbs(v):
		return v
	}
	return filepath.Join(p.Dir, v)
}
