package dmsetup

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"dmfs/fs/control"
)

// An object is one row of a report: a device and its place among all, or a name taken apart.
type object struct {
	dev   *control.Device // nil for a name alone
	node  *node           // in the graph of all devices
	parts nameParts
	stat  *statObject // of the verb stats alone
}

// A cell is the value of a field, as shown and, for numbers, as compared.
type cell struct {
	text   string
	number uint64
}

// A row is what a report holds of an object: the cells of its columns, and of its sort keys.
type row struct {
	cells, keys []cell
	selected    bool
}

// A sortKey is one field of -O.
type sortKey struct {
	field   *field
	reverse bool
}

// A report collects rows and prints them.
type report struct {
	s         *session
	columns   []*field
	keys      []sortKey
	selection selNode // nil: everything
	rows      []row
	failed    bool // a row was left out for an error that has been reported
}

// errNoField is an unknown field name, which has been reported.
var errNoField = errors.New("unknown field")

// newReport returns the report that the options ask for. It returns nil when there is nothing more to do, either
// because help was asked for or with an error. names says that it is about names alone.
func (s *session) newReport(defaults string, names bool) (*report, error) {
	return s.makeReport(defaults, func(word string) []*field { return expand(word, names) })
}

// newStatsReport is newReport for statistics, where the word all stands for some sections.
func (s *session) newStatsReport(defaults string, all []string) (*report, error) {
	return s.makeReport(defaults, func(word string) (list []*field) {
		if canonical(word) != "all" {
			return expand(word, false)
		}
		for _, section := range all {
			list = append(list, expand(section+"_all", false)...)
		}
		return list
	})
}

func (s *session) makeReport(defaults string, expand func(word string) []*field) (*report, error) {
	rep := &report{s: s}
	list, prefix := s.opts.get("options"), ""
	switch {
	case !s.opts.has("options"):
		list = defaults
	case strings.HasPrefix(list, "+"):
		list, prefix = list[1:], defaults+","
		if list == "" {
			return nil, s.unknownField("Unrecognised field: ", "")
		}
	}
	if asksHelp(list) || asksHelp(strings.ReplaceAll(s.opts.get("sort"), "-", "")) {
		s.fieldHelp(false)
		return nil, nil
	}
	for _, word := range splitWords(prefix + list) {
		fields := expand(word)
		if fields == nil {
			return nil, s.unknownField("Unrecognised field: ", word)
		}
		rep.columns = append(rep.columns, fields...)
	}
	if err := rep.sortBy(s.opts.get("sort")); err != nil {
		return nil, err
	}
	if !s.opts.has("select") {
		return rep, nil
	}
	sel, done, err := s.parseSelection(s.opts.get("select"))
	if err != nil || done {
		return nil, err
	}
	rep.selection = sel
	return rep, nil
}

func asksHelp(list string) bool {
	words := splitWords(list)
	return slices.Contains(words, "help") || slices.Contains(words, "?")
}

func (s *session) unknownField(what, word string) error {
	s.fieldHelp(false)
	s.errorf("%s%s", what, word)
	return errSaid
}

func (r *report) sortBy(list string) error {
	for _, word := range splitWords(list) {
		key := sortKey{reverse: word[0] == '-'}
		name := strings.TrimLeft(word[:1], "+-") + word[1:]
		if key.field = fieldNamed(name); key.field == nil {
			return r.s.unknownField("dm_report: Unrecognised field: ", name)
		}
		r.keys = append(r.keys, key)
	}
	return nil
}

// needsStats reports whether r has fields that only reports of statistics can fill.
func (r *report) needsStats() bool {
	fields := slices.Clone(r.columns)
	for _, k := range r.keys {
		fields = append(fields, k.field)
	}
	return slices.ContainsFunc(fields, isStats)
}

// add takes o into the report unless the selection leaves it out. An error that only concerns
// this row is kept for print.
func (r *report) add(o *object) error {
	cellOf := func(f *field) (cell, error) { return r.s.cell(f, o) }
	if o.stat == nil && r.needsStats() {
		return nil // there are no statistics in such a report, and so no rows
	}
	row := row{selected: true}
	if r.selection != nil {
		ok, err := r.selection.matches(cellOf)
		if err != nil {
			return r.keep(err)
		}
		row.selected = ok
		if !ok && !slices.ContainsFunc(r.columns, func(f *field) bool { return f.id == fieldSelected }) {
			return nil
		}
	}
	for _, f := range r.columns {
		c, err := cellOf(f)
		if err != nil {
			return r.keep(err)
		}
		if f.id == fieldSelected {
			c = numberCell(map[bool]uint64{true: 1}[row.selected])
		}
		row.cells = append(row.cells, c)
	}
	for _, k := range r.keys {
		c, err := cellOf(k.field)
		if err != nil {
			return r.keep(err)
		}
		row.keys = append(row.keys, c)
	}
	r.rows = append(r.rows, row)
	return nil
}

func (r *report) keep(err error) error {
	if errors.Is(err, errNoField) {
		return errFailed
	}
	r.failed = true
	return nil
}

// cell returns the value of f for o.
func (s *session) cell(f *field, o *object) (cell, error) {
	if f.needsDevice() && o.dev == nil {
		s.errorf("_do_report_object: no data assigned to field %s", f.id)
		return cell{}, errNoField
	}
	c, err := f.value(s, o)
	if err != nil {
		s.errorf("%v", err)
		s.errorf("_do_report_object: report function failed for field %s", f.id)
	}
	return c, err
}

// print writes the rows in the form that the options ask for.
func (r *report) print() {
	r.sort()
	o := r.s.opts
	aligned := !o.any("noheadings", "nameprefixes", "rows", "separator")
	separator := " "
	switch {
	case o.has("separator"):
		separator = o.get("separator")
	case o.has("noheadings"):
		separator = ":"
	}
	var lines [][]string
	if !o.has("noheadings") {
		var heads []string
		for _, f := range r.columns {
			heads = append(heads, f.heading)
		}
		lines = append(lines, heads)
	}
	for _, row := range r.rows {
		var texts []string
		for i, f := range r.columns {
			texts = append(texts, r.dressed(f, row.cells[i]))
		}
		lines = append(lines, texts)
	}
	if len(r.rows) == 0 {
		return
	}
	if o.has("rows") {
		lines = transpose(lines)
	}
	if aligned {
		r.align(lines)
	}
	for _, l := range lines {
		r.s.printf("%s\n", strings.Join(l, separator))
	}
}

// dressed returns c as --nameprefixes and --unquoted ask for it.
func (r *report) dressed(f *field, c cell) string {
	if !r.s.opts.has("nameprefixes") {
		return c.text
	}
	quote := "'"
	if r.s.opts.has("unquoted") {
		quote = ""
	}
	return "DM_" + strings.ToUpper(f.id) + "=" + quote + c.text + quote
}

// align pads the texts of lines, of which the first are headings, to the width of their column in bytes.
func (r *report) align(lines [][]string) {
	unbuffered := r.s.opts.has("unbuffered")
	for i, f := range r.columns {
		width := max(f.width, len(lines[0][i]), len(lines[1][i]))
		for _, l := range lines[2:] {
			if !unbuffered {
				width = max(width, len(l[i]))
			}
		}
		for n, l := range lines {
			width = max(width, len(l[i])) // unbuffered columns widen as they go
			padding := strings.Repeat(" ", width-len(l[i]))
			if f.kind != stringField && n > 0 {
				l[i] = padding + l[i]
			} else {
				l[i] += padding
			}
		}
	}
}

func transpose(lines [][]string) [][]string {
	out := make([][]string, len(lines[0]))
	for _, l := range lines {
		for i, text := range l {
			out[i] = append(out[i], text)
		}
	}
	return out
}

func (r *report) sort() {
	sort.SliceStable(r.rows, func(i, j int) bool {
		for n, k := range r.keys {
			order := compareCells(k.field.kind, r.rows[i].keys[n], r.rows[j].keys[n])
			if k.reverse {
				order = -order
			}
			if order != 0 {
				return order < 0
			}
		}
		return false
	})
}

func compareCells(kind fieldKind, a, b cell) int {
	switch {
	case kind == stringField:
		return strings.Compare(a.text, b.text)
	case a.number < b.number:
		return -1
	case a.number > b.number:
		return 1
	}
	return 0
}

// infoColumns reports devices.
func (s *session) infoColumns(operands []string) error {
	devices, err := s.queryAll()
	if err != nil {
		return err
	}
	rep, err := s.newReport("name,major,minor,attr,open,segments,events,uuid", false)
	if rep == nil {
		if err == nil && len(devices) == 0 {
			return s.noDevices()
		}
		return err
	}
	g := newGraph(devices, s.show)
	failed := s.forDevices(operands, nil, "info", func(d control.Device, _ string) error {
		return rep.add(s.deviceObject(g, d))
	})
	rep.print()
	if failed == nil && rep.failed {
		failed = errFailed
	}
	return failed
}

func (s *session) deviceObject(g *graph, d control.Device) *object {
	n := g.byKey[fmt.Sprintf("%d:%d", d.Major, d.Minor)]
	if n == nil { // made since the graph was
		n = &node{dev: &d, name: s.show(d.Name)}
	}
	return &object{dev: &d, node: n, parts: splitName(subsystemOf(s.show(d.UUID)), s.show(d.Name))}
}

// selected returns the stored names of the devices that the selection of the command line matches.
func (s *session) selected() ([]string, error) {
	sel, done, err := s.parseSelection(s.opts.get("select"))
	if err != nil || done {
		return nil, err
	}
	devices, err := s.queryAll()
	if err != nil {
		return nil, err
	}
	g := newGraph(devices, s.show)
	var names []string
	for _, d := range devices {
		o := s.deviceObject(g, d)
		ok := true
		if sel != nil {
			if ok, err = sel.matches(func(f *field) (cell, error) { return s.cell(f, o) }); err != nil {
				return nil, errFailed
			}
		}
		if ok {
			names = append(names, d.Name)
		}
	}
	return names, nil
}
