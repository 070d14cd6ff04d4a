package logreplay

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// List writes a range of the log as a table that lines up, one entry a line.
func (l *Log) List(w io.Writer, rng Range) error {
	b := bufio.NewWriter(w)
	widths := [4]int{len("ENTRY"), len("KIND"), len("SECTOR"), len("COUNT")}
	err := l.Each(rng, func(i Item) error {
		for c, word := range i.columns() {
			widths[c] = max(widths[c], len(word))
		}
		return nil
	})
	if err != nil {
		return err
	}
	line := func(words [4]string, mark string) {
		text := fmt.Sprintf("%*s  %-*s  %*s  %*s  %s", widths[0], words[0], widths[1], words[1], widths[2], words[2], widths[3], words[3], mark)
		fmt.Fprintln(b, strings.TrimRight(text, " "))
	}
	line([4]string{"ENTRY", "KIND", "SECTOR", "COUNT"}, "MARK")
	err = l.Each(rng, func(i Item) error {
		mark := ""
		if i.Kind() == "mark" {
			mark = strconv.Quote(i.Mark)
		}
		line(i.columns(), mark)
		return nil
	})
	if err != nil {
		return err
	}
	return b.Flush()
}

func (i Item) columns() [4]string {
	c := [4]string{strconv.FormatUint(i.Number, 10), strings.Join(append([]string{i.Kind()}, i.Attributes()...), ",")}
	if i.N > 0 {
		c[2], c[3] = strconv.FormatUint(i.Sector, 10), strconv.FormatUint(i.Count, 10)
	}
	return c
}

// A listed entry, as JSON has it.
type listed struct {
	Entry  uint64   `json:"entry"`
	Kind   string   `json:"kind"`
	Flags  []string `json:"flags"`
	Sector uint64   `json:"sector"`
	Count  uint64   `json:"count"`
	Mark   *string  `json:"mark,omitempty"`
	Offset int64    `json:"log_offset"`
}

// ListJSON writes a range of the log as one JSON object. Sectors are of sector_size bytes, log_offset is in bytes.
func (l *Log) ListJSON(w io.Writer, rng Range) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "{\"sector_size\":%d,\"entries\":[", l.SectorSize)
	first := true
	err := l.Each(rng, func(i Item) error {
		e := listed{i.Number, i.Kind(), i.Attributes(), i.Sector, i.Count, nil, i.At}
		if i.Kind() == "mark" {
			e.Mark = &i.Mark
		}
		text, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if !first {
			b.WriteByte(',') //nolint:errcheck // Flush reports it
		}
		first = false
		fmt.Fprintf(b, "\n%s", text)
		return nil
	})
	if err != nil {
		return err
	}
	b.WriteString("\n]}\n") //nolint:errcheck // Flush reports it
	return b.Flush()
}
