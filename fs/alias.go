package fs

import "sync"

// The kernel holds an inode's lock while it writes to the file, and to truncate it on opening. A command that
// waits (a suspend for I/O, a wait for an event) would so lock out everyone else, also whoever brings the resume. Hence
// each lookup of a text file gives an inode of its own: an alias of the file's node.

// firstAlias is above all other nodes.
const firstAlias = 1 << 62

// aliases knows which node each alias stands for. An alias is looked up once, so the first forget ends it.
type aliases struct {
	mu   sync.Mutex
	next uint64
	node map[uint64]uint64
}

func (a *aliases) add(node uint64) (alias uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.node == nil {
		a.node = make(map[uint64]uint64)
	}
	alias = firstAlias + a.next
	a.next++
	a.node[alias] = node
	return alias
}

// real returns what node stands for, itself if it is no alias.
func (a *aliases) real(node uint64) uint64 {
	if node < firstAlias {
		return node
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.node[node] // 0, which is no node, if it is forgotten
}

func (a *aliases) forget(node uint64) {
	if node < firstAlias {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.node, node)
}
