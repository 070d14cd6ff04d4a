package dmsetup

import (
	"fmt"
	"slices"
	"strings"

	"dmfs/fs/control"
)

// A fieldKind says how values of a field are compared and aligned.
type fieldKind int

const (
	stringField fieldKind = iota
	numberField
	sizeField
)

func (k fieldKind) String() string {
	return [...]string{stringField: "string", numberField: "number", sizeField: "size"}[k]
}

// A field is one column that a report may have.
type field struct {
	id, heading string
	width       int // columns, at least
	kind        fieldKind
	desc        string
	// value computes the field.
	value func(*session, *object) (cell, error)
	tree  bool // not among SECTION_all, though listed in the section
}

// A fieldSection groups fields in the help text.
type fieldSection struct {
	id, title string
	fields    []field
}

const fieldSelected = "selected"

func textCell(text string) cell { return cell{text: text} }
func numberCell(n uint64) cell  { return cell{fmt.Sprint(n), n} }
func (f *field) needsDevice() bool {
	return !strings.HasPrefix(f.desc, "LVM ") && f.id != "subsystem" && f.id != fieldSelected
}

// text and number make value functions of plain ones.
func text(of func(*session, *object) string) func(*session, *object) (cell, error) {
	return func(s *session, o *object) (cell, error) { return textCell(of(s, o)), nil }
}

func number[T int | uint32 | uint64](of func(o *object) T) func(*session, *object) (cell, error) {
	return func(_ *session, o *object) (cell, error) { return numberCell(uint64(of(o))), nil }
}

var fieldSections = []fieldSection{nameFields, infoFields, depsFields, splitFields, statsFields, regionFields, specialFields}

var nameFields = fieldSection{"name", "Mapped Device Name Fields", []field{
	{id: "name", heading: "Name", width: 16, desc: "Name of mapped device.",
		value: text(func(s *session, o *object) string { return s.show(o.dev.Name) })},
	{id: "mangled_name", heading: "MangledName", width: 16, desc: "Mangled name of mapped device.",
		value: text(func(_ *session, o *object) string { return mangleHexed(unmangled(o.dev.Name)) })},
	{id: "unmangled_name", heading: "UnmangledName", width: 16, desc: "Unmangled name of mapped device.",
		value: text(func(_ *session, o *object) string { return unmangled(o.dev.Name) })},
	{id: "uuid", heading: "UUID", width: 32, desc: "Unique (optional) identifier for mapped device.",
		value: text(func(s *session, o *object) string { return s.show(o.dev.UUID) })},
	{id: "mangled_uuid", heading: "MangledUUID", width: 32, desc: "Mangled unique (optional) identifier for mapped device.",
		value: text(func(_ *session, o *object) string { return mangleHexed(unmangled(o.dev.UUID)) })},
	{id: "unmangled_uuid", heading: "UnmangledUUID", width: 32, desc: "Unmangled unique (optional) identifier for mapped device.",
		value: text(func(_ *session, o *object) string { return unmangled(o.dev.UUID) })},
	{id: "read_ahead", heading: "RAhead", width: 6, kind: numberField, desc: "Read ahead value.",
		value: func(s *session, o *object) (cell, error) {
			if !s.hasFile(*o.dev) {
				return numberCell(0), nil
			}
			return numberCell(control.ReadAhead), nil
		}},
}}

var infoFields = fieldSection{"info", "Mapped Device Information Fields", []field{
	{id: "blkdevname", heading: "BlkDevName", width: 16, desc: "Name of block device.", value: blockDeviceName},
	{id: "attr", heading: "Stat", width: 4, desc: "(L)ive, (I)nactive, (s)uspended, (r)ead-only, read-(w)rite.",
		value: text(func(_ *session, o *object) string {
			d := o.dev
			return choose(d.Live, "L", "-") + choose(d.Inactive, "I", "-") + choose(d.Suspended, "s", "-") + choose(d.ReadOnly, "r", "w")
		})},
	{id: "tables_loaded", heading: "Tables", width: 6, desc: "Which of the live and inactive table slots are filled.",
		value: text(func(_ *session, o *object) string {
			return choose(o.dev.Live, choose(o.dev.Inactive, "Both", "Live"), choose(o.dev.Inactive, "Inactive", "None"))
		})},
	{id: "suspended", heading: "Suspended", width: 9, desc: "Whether the device is suspended.",
		value: text(func(_ *session, o *object) string { return choose(o.dev.Suspended, "Suspended", "Active") })},
	{id: "readonly", heading: "Read-only", width: 9, desc: "Whether the device is read-only or writeable.",
		value: text(func(_ *session, o *object) string { return choose(o.dev.ReadOnly, "Read-only", "Writeable") })},
	{id: "devno", heading: "DevNo", width: 5, desc: "Device major and minor numbers",
		value: text(func(_ *session, o *object) string { return fmt.Sprintf("%d:%d", o.dev.Major, o.dev.Minor) })},
	{id: "major", heading: "Maj", width: 3, kind: numberField, desc: "Block device major number.",
		value: number(func(o *object) uint32 { return o.dev.Major })},
	{id: "minor", heading: "Min", width: 3, kind: numberField, desc: "Block device minor number.",
		value: number(func(o *object) uint32 { return o.dev.Minor })},
	{id: "open", heading: "Open", width: 4, kind: numberField, desc: "Number of references to open device, if requested.",
		value: number(func(o *object) int { return o.dev.OpenCount })},
	{id: "segments", heading: "Targ", width: 4, kind: numberField, desc: "Number of segments in live table, if present.",
		value: number(func(o *object) int { return o.dev.Targets })},
	{id: "events", heading: "Event", width: 6, kind: numberField, desc: "Number of most recent event.",
		value: number(func(o *object) uint32 { return o.dev.EventNr })},
}}

var depsFields = fieldSection{"deps", "Mapped Device Relationship Information Fields", []field{
	{id: "device_count", heading: "#Devs", width: 5, kind: numberField, desc: "Number of devices used by this one.",
		value: number(func(o *object) int { return len(o.dev.Deps) })},
	{id: "devs_used", heading: "DevNamesUsed", width: 16, desc: "List of names of mapped devices used by this one.", tree: true,
		value: listOf(used, func(n *node) string { return n.name })},
	{id: "devnos_used", heading: "DevNosUsed", width: 16, desc: "List of device numbers of devices used by this one.",
		value: listOf(used, func(n *node) string { return n.number })},
	{id: "blkdevs_used", heading: "BlkDevNamesUsed", width: 16, desc: "List of names of block devices used by this one.",
		value: listOf(used, func(n *node) string { return n.block })},
	{id: "device_ref_count", heading: "#Refs", width: 5, kind: numberField, desc: "Number of mapped devices referencing this one.", tree: true,
		value: number(func(o *object) int { return len(o.node.usedBy) })},
	{id: "names_using_dev", heading: "RefNames", width: 8, desc: "List of names of mapped devices using this one.", tree: true,
		value: listOf(using, func(n *node) string { return n.name })},
	{id: "devnos_using_dev", heading: "RefDevNos", width: 9, desc: "List of device numbers of mapped devices using this one.", tree: true,
		value: listOf(using, func(n *node) string { return n.number })},
}}

var splitFields = fieldSection{"splitname", "Mapped Device Name Components Fields", []field{
	{id: "subsystem", heading: "Subsys", width: 6, desc: "Userspace subsystem responsible for this device.",
		value: text(func(_ *session, o *object) string { return o.parts.Subsystem })},
	{id: "vg_name", heading: "VG", width: 4, desc: "LVM Volume Group name.",
		value: text(func(_ *session, o *object) string { return o.parts.VG })},
	{id: "lv_name", heading: "LV", width: 4, desc: "LVM Logical Volume name.",
		value: text(func(_ *session, o *object) string { return o.parts.LV })},
	{id: "lv_layer", heading: "LVLayer", width: 7, desc: "LVM device layer.",
		value: text(func(_ *session, o *object) string { return o.parts.Layer })},
}}

var specialFields = fieldSection{"", "Special Fields", []field{
	{id: fieldSelected, heading: "Selected", width: 8, kind: numberField, desc: "Set if item passes selection criteria.",
		// Rows that do not pass are only there when this field is shown, and print knows them.
		value: number(func(*object) int { return 1 })},
}}

func used(n *node) []*node  { return n.uses }
func using(n *node) []*node { return n.usedBy }

// listOf returns a field's value function that joins what of gives for neighbours, leaving out what has none.
func listOf(neighbours func(*node) []*node, of func(*node) string) func(*session, *object) (cell, error) {
	return text(func(_ *session, o *object) string {
		var list []string
		for _, n := range neighbours(o.node) {
			if name := of(n); name != "" {
				list = append(list, name)
			}
		}
		return strings.Join(list, ",")
	})
}

func blockDeviceName(_ *session, o *object) (cell, error) {
	if !o.dev.HasNode && !o.dev.Inactive {
		return cell{}, complain("Could not resolve block device name for %d:%d.", o.dev.Major, o.dev.Minor)
	}
	return textCell(fmt.Sprintf("dm-%d", o.dev.Minor)), nil
}

// isStats reports a field of statistics.
func isStats(f *field) bool {
	of := func(fields []field) bool {
		return slices.ContainsFunc(fields, func(other field) bool { return other.id == f.id })
	}
	return of(statsFields.fields) || of(regionFields.fields)
}

// canonical returns a field name as names are compared: in lower case, without underscores.
func canonical(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "") }

// fieldNamed returns the field of that name, or nil.
func fieldNamed(name string) *field {
	for i := range fieldSections {
		for j := range fieldSections[i].fields {
			if f := &fieldSections[i].fields[j]; canonical(f.id) == canonical(name) {
				return f
			}
		}
	}
	return nil
}

// expand returns the fields that a word of -o stands for: one, those of a section (NAME_all) or all; nil if there is no
// such. names says that the report is about names alone.
func expand(word string, names bool) []*field {
	if f := fieldNamed(word); f != nil {
		return []*field{f}
	}
	section, ok := strings.CutSuffix(canonical(word), "all")
	if !ok {
		return nil
	}
	var list []*field
	for i := range fieldSections {
		sec := &fieldSections[i]
		for j := range sec.fields {
			f := &sec.fields[j]
			whole := section == "" && !isStats(f) && sec.id != "" && !(names && f.needsDevice())
			if whole || section != "" && section == sec.id && !f.tree {
				list = append(list, f)
			}
		}
	}
	return list
}
