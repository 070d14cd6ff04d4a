package dmsetup

import (
	"fmt"
	"os"
	"strings"

	"dmfs/fs/control"

	"golang.org/x/sys/unix"
)

// A node is a device of the tree, or a disk that devices stand on.
type node struct {
	name   string // shown; "" for disks that are no mapped devices
	number string // MAJOR:MINOR, or the path of a file
	block  string // the kernel's name, "" if it has none
	dev    *control.Device
	uses   []*node
	usedBy []*node
}

// A graph is all nodes. Roots and disks keep the order in which they were met.
type graph struct {
	roots, disks []*node // used by nothing; using nothing
	byKey        map[string]*node
}

// newGraph links devices, which are in the order of a listing, with what they stand on.
func newGraph(devices []control.Device, show func(string) string) *graph {
	g := &graph{byKey: make(map[string]*node)}
	byNumber := make(map[string]*control.Device)
	for i := range devices {
		d := &devices[i]
		byNumber[fmt.Sprintf("%d:%d", d.Major, d.Minor)] = d
	}
	var add func(key, block string) *node
	add = func(key, block string) *node {
		if n := g.byKey[key]; n != nil {
			return n
		}
		n := &node{number: key, block: block, dev: byNumber[key]}
		g.byKey[key] = n
		if n.dev == nil {
			g.disks = append(g.disks, n)
			return n
		}
		n.name = show(n.dev.Name)
		for _, dep := range kernelDisks(*n.dev) {
			child := add(diskNumber(dep, ":"), blockName(dep))
			n.uses = append(n.uses, child)
			child.usedBy = append(child.usedBy, n)
		}
		if len(n.uses) == 0 {
			g.disks = append(g.disks, n)
		}
		return n
	}
	for _, d := range devices {
		block := ""
		if d.HasNode {
			block = fmt.Sprintf("dm-%d", d.Minor)
		}
		add(fmt.Sprintf("%d:%d", d.Major, d.Minor), block)
	}
	for _, d := range devices {
		if n := g.byKey[fmt.Sprintf("%d:%d", d.Major, d.Minor)]; len(n.usedBy) == 0 {
			g.roots = append(g.roots, n)
		}
	}
	return g
}

// A treeStyle is what -o asks of ls --tree.
type treeStyle struct {
	utf, vt100, ascii                  bool
	compact, inverted, notrunc         bool
	noDevice, block                    bool
	active, readWrite, open, uuid      bool
	columns                            int // of the output
	more, last, down, gap, first, only string
}

// parse reads a list of words and returns the first it does not know, else "".
func (t *treeStyle) parse(list string) string {
	known := map[string]func(){
		"device": func() { t.noDevice = false }, "nodevice": func() { t.noDevice = true },
		"blkdevname": func() { t.block = true }, "active": func() { t.active = true },
		"open": func() { t.open = true }, "rw": func() { t.readWrite = true }, "uuid": func() { t.uuid = true },
		"ascii": func() { t.ascii = true }, "utf": func() { t.utf = true }, "vt100": func() { t.vt100 = true },
		"compact": func() { t.compact = true }, "inverted": func() { t.inverted = true },
		"notrunc": func() { t.notrunc = true },
	}
	for _, w := range splitWords(list) {
		if known[w] == nil {
			return w
		}
		known[w]()
	}
	return ""
}

// attributes reports whether nodes carry properties, which rules out the compact form.
func (t *treeStyle) attributes() bool { return t.active || t.readWrite || t.open || t.uuid }

// symbols chooses the lines to draw with.
func (t *treeStyle) symbols(utf8 bool) {
	switch {
	case t.ascii:
	case t.utf:
		utf8 = true
	case t.vt100:
		graphic := func(letters string) string { return "\x1b(0\x0f" + letters + "\x1b(B" }
		t.more, t.last, t.down, t.gap = graphic("tq"), graphic("mq"), graphic("x")+" ", "  "
		t.first, t.only = graphic("qwq"), graphic("qqq")
		return
	}
	if utf8 && !t.ascii {
		t.more, t.last, t.down, t.gap, t.first, t.only = "├─", "└─", "│ ", "  ", "─┬─", "───"
		return
	}
	t.more, t.last, t.down, t.gap, t.first, t.only = "|-", "`-", "| ", "  ", "-+-", "---"
}

func (s *session) lsTree(devices []control.Device) error {
	t := treeStyle{columns: outputColumns(s.Stdout)}
	t.parse(s.opts.get("options"))
	t.symbols(isUTF8(s.Getenv))
	t.compact = t.compact && !t.attributes()
	g := newGraph(devices, s.show)
	p := &treePrinter{style: t}
	top := g.roots
	if t.inverted {
		top = g.disks
	}
	for i, n := range top {
		p.print(n, 0, i == len(top)-1, s.show)
	}
	s.printf("%s", p.out.String())
	return nil
}

// isUTF8 reports whether the locale's encoding is UTF-8.
func isUTF8(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			v = strings.ToUpper(strings.ReplaceAll(v, "-", ""))
			return strings.HasSuffix(v, ".UTF8")
		}
	}
	return false
}

const (
	plainColumns   = 80 // of an output that is no terminal
	terminalMargin = 3  // columns of a terminal that are left free
)

func outputColumns(out any) int {
	if f, ok := out.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > terminalMargin {
			return int(size.Col) - terminalMargin
		}
	}
	return plainColumns
}

// A treePrinter draws a tree. more and width describe the path to the node that is drawn: whether siblings follow
// at a depth, and how many columns its node takes in the compact form.
type treePrinter struct {
	style treeStyle
	out   strings.Builder
	line  []rune
	more  []bool
	width []int
}

func (p *treePrinter) print(n *node, depth int, last bool, show func(string) string) {
	t := p.style
	children := n.uses
	if t.inverted {
		children = n.usedBy
	}
	p.more = append(p.more[:depth], !last)
	p.width = append(p.width[:depth], 0)
	if n.name != "" || !t.noDevice || t.block {
		p.node(n, depth, len(children) == 0, show)
	}
	for i, c := range children {
		p.print(c, depth+1, i == len(children)-1, show)
	}
}

// node draws n itself.
func (p *treePrinter) node(n *node, depth int, leaf bool, show func(string) string) {
	t := p.style
	fresh := len(p.line) == 0
	if !t.compact || fresh {
		p.prefix(depth)
	}
	from := len(p.line)
	switch {
	case !t.compact || fresh:
	case p.more[depth]:
		p.add(t.first)
	default:
		p.add(t.only)
	}
	p.add(t.label(n, show))
	if t.compact {
		p.width[depth] = len(p.line) - from
	}
	if !t.compact || leaf {
		p.newline()
	}
}

func (p *treePrinter) add(text string) { p.line = append(p.line, []rune(text)...) }

// prefix draws the lines that lead past the ancestors to a node.
func (p *treePrinter) prefix(depth int) {
	t := p.style
	for d := range depth {
		p.add(strings.Repeat(" ", p.width[d]+1))
		switch {
		case d == depth-1 && p.more[depth]:
			p.add(t.more)
		case d == depth-1:
			p.add(t.last)
		case p.more[d+1]:
			p.add(t.down)
		default:
			p.add(t.gap)
		}
	}
}

// newline ends the line, cut to the width of the output.
func (p *treePrinter) newline() {
	const dots = "..."
	line := string(p.line)
	if width := p.style.columns; !p.style.notrunc && len(p.line) > width {
		line = string(p.line[:width-1]) + dots
	}
	p.out.WriteString(line + "\n")
	p.line = p.line[:0]
}

// label returns what stands for n in the tree.
func (t *treeStyle) label(n *node, show func(string) string) string {
	text := n.name
	if t.block && n.block != "" {
		text += " <" + n.block + ">"
	}
	if !t.noDevice {
		text += " (" + n.number + ")"
	}
	if n.dev == nil || !t.attributes() {
		return text
	}
	var attrs []string
	add := func(wanted bool, value string) {
		if wanted {
			attrs = append(attrs, value)
		}
	}
	add(t.active, choose(n.dev.Suspended, "SUSPENDED", "ACTIVE"))
	add(t.readWrite, choose(n.dev.ReadOnly, "RO", "RW"))
	add(t.open, fmt.Sprint(n.dev.OpenCount))
	add(t.uuid, show(n.dev.UUID))
	return text + " [" + strings.Join(attrs, ", ") + "]"
}

func choose(cond bool, yes, no string) string {
	if cond {
		return yes
	}
	return no
}
