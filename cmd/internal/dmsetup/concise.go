package dmsetup

import (
	"fmt"
	"io"
	"strings"
)

// A conciseEntry is one device of a concise description: name, uuid, minor, flags and table, whose
// lines are separated by newlines.
type conciseEntry [5]string

// maxConcise bounds a concise description read from standard input, in bytes.
const maxConcise = 16 << 20

// A conciseError refuses a description.
type conciseError struct {
	reason string
	fields []string // what was read before
}

func (e *conciseError) Error() string { return e.reason }

// parsed returns the line in which dmsetup says how far it got.
func (e *conciseError) parsed() string {
	text := fmt.Sprintf("Parsed %d fields:", len(e.fields))
	for i, name := range []string{"name", "uuid", "minor", "flags", "table"} {
		value := "(null)"
		if i < len(e.fields) {
			value = e.fields[i]
		}
		text += fmt.Sprintf(" %s: %s", name, value)
	}
	return text
}

// nextConcise takes the first entry off a description. A comma ends a field, in the table a line; a semicolon
// ends the entry; a backslash takes the next character as it is; blanks before a field do not count.
func nextConcise(text string) (entry conciseEntry, rest string, err error) {
	var fields []string
	var field strings.Builder
	i := 0
	skip := func() {
		for i < len(text) && (text[i] == ' ' || text[i] == '\t') {
			i++
		}
	}
	skip()
	for ; i < len(text) && text[i] != ';'; i++ {
		switch {
		case text[i] == '\\' && i+1 == len(text):
			return entry, "", &conciseError{"Backslash must be followed by another character at end of string.", append(fields, field.String())}
		case text[i] == '\\':
			i++
			field.WriteByte(text[i])
		case text[i] != ',':
			field.WriteByte(text[i])
		case len(fields) == len(entry)-1:
			field.WriteByte('\n')
			i++
			skip()
			i--
		default:
			fields = append(fields, field.String())
			field.Reset()
			i++
			skip()
			i--
		}
	}
	atComma := i == len(text) && (text[i-1] == ',' && field.Len() == 0 || strings.HasSuffix(field.String(), "\n"))
	fields = append(fields, field.String())
	switch {
	case atComma:
		return entry, "", &conciseError{"Incomplete entry: five comma-separated fields are required for each device", fields}
	case len(fields) < len(entry):
		return entry, "", &conciseError{"Five comma-separated fields are required for each device", fields}
	}
	if i < len(text) {
		rest = text[i+1:]
	}
	copy(entry[:], fields)
	return entry, rest, nil
}

// escapeConcise returns s as a field of a description.
func escapeConcise(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `;`, `\;`).Replace(s)
}

// readAll reads r to its end; more than maxConcise bytes are an error.
func readAll(r io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxConcise+1))
	if err == nil && len(data) > maxConcise {
		err = fmt.Errorf("more than %d bytes", maxConcise)
	}
	return string(data), err
}
