package dmsetup

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// What was counted, as the fields tell it. The line is of an area where 2 reads of 8 sectors took 3 and 5 ms, and a write of 80 took 4.
func TestStatFigures(t *testing.T) {
	g := &statRegion{len: 100, step: 100, bounds: []uint64{4 * millisecond}}
	g.parseCounters("0+100 2 0 16 8 1 0 80 4 0 10 12 6 4 1:2\n")
	precise := &statRegion{len: 200, step: 100, precise: true}
	precise.parseCounters("0+100 1 0 8 1500000 0 0 0 0 0 0 0 0 0\n100+100 0 0 0 0 1 0 1 500000 3 0 0 0 0\n")
	for _, tt := range []struct {
		o                    *statObject
		field, units, wanted string
	}{
		{&statObject{region: g}, "read_count", "", "2"},
		{&statObject{region: g}, "write_sector_count", "", "80"},
		{&statObject{region: g}, "read_time", "", "8000000"},
		{&statObject{region: g}, "io_ticks", "", "10000000"},
		{&statObject{region: g}, "reads_per_sec", "", "1.00"},
		{&statObject{region: g}, "write_size_per_sec", "", "20.00k"},
		{&statObject{region: g}, "write_size_per_sec", "b", "20480"},
		{&statObject{region: g}, "avg_request_size", "s", "32"},
		{&statObject{region: g}, "queue_size", "", "0.01"},
		{&statObject{region: g}, "await", "", "4.00"},
		{&statObject{region: g}, "read_await", "", "4.00"},
		{&statObject{region: g}, "write_await", "", "4.00"},
		{&statObject{region: g}, "throughput", "", "1.50"},
		{&statObject{region: g}, "util", "", "0.50"},
		{&statObject{region: g}, "service_time", "", "3.33"},
		{&statObject{region: g}, "hist_count", "", "     1     2"},
		{&statObject{region: g}, "hist_count_bounds", "", "    0s:     1,   4ms:     2"},
		{&statObject{region: g}, "hist_percent_ranges", "", "0s-4ms: 33.33%,  >4ms: 66.67%"},
		{&statObject{region: g}, "interval_ns", "", "2000000000"},
		{&statObject{region: g}, "interval", "", "2.000000"},
		{&statObject{region: precise, area: 1}, "write_time", "", "500000"},
		{&statObject{region: precise, area: 1}, "in_progress_count", "", "3"},
		{&statObject{region: precise, area: 1}, "area_start", "s", "100"},
		{&statObject{region: precise, kind: regionRow}, "read_time", "", "1500000"},
		{&statObject{region: precise, kind: regionRow}, "write_count", "", "1"},
		{&statObject{region: g, kind: groupRow, members: []*statRegion{g, precise}}, "read_count", "", "3"},
		{&statObject{region: g, kind: groupRow, members: []*statRegion{g, precise}}, "region_len", "s", "300"},
	} {
		s := &session{sampling: 2 * time.Second, opts: options{make(map[string]int), make(map[string]string)}}
		if tt.units != "" {
			s.opts.set("units", tt.units)
		}
		c, err := fieldNamed(tt.field).value(s, &object{stat: tt.o})
		if err != nil || c.text != tt.wanted {
			t.Errorf("%s of %v: %q, %v, want %q", tt.field, tt.o.kind, c.text, err, tt.wanted)
		}
	}
}

func TestParseBounds(t *testing.T) {
	for text, want := range map[string][]uint64{
		"1": {1}, "1ns,2us,3ms,4s": {1, 2000, 3000000, 4000000000}, "": nil, "x": nil, "1,": nil, "1m": nil, "18446744073709551615s": nil,
	} {
		if got, bad := parseBounds(text); !slices.Equal(got, want) || (want == nil) != (bad != "" || text == "" || text == "1,") {
			t.Errorf("%q: %v, %q", text, got, bad)
		}
	}
}

// A list that parses comes back from its numbers; a reply of any kind is read without a panic.
func FuzzStats(f *testing.F) {
	f.Add("0,2-5,7", "0: 0+100 10 dmstats DMS_GROUP=a:0-1#x precise_timestamps histogram:1,2\n1: 0+8 8 - -\n", "0+10 1 2 3 4 5 6 7 8 9 10 11 12 13 1:2:3\n")
	f.Add("1-0", "0: 0+0 0 a b", "")
	f.Fuzz(func(t *testing.T, list, regions, counted string) {
		if ids, err := parseIDs(list); err == nil {
			if again, err := parseIDs(formatIDs(ids)); err != nil || !slices.Equal(again, ids) {
				t.Errorf("%q: %v, and again %v, %v", list, ids, again, err)
			}
		}
		s := &session{sampling: time.Second, opts: options{make(map[string]int), make(map[string]string)}}
		for _, g := range parseRegions(regions) {
			g.parseCounters(counted)
			if len(strings.Fields(regions)) > 100 || g.len/max(g.step, 1) > 1000 {
				continue
			}
			o := &object{stat: &statObject{region: g, kind: regionRow}}
			for _, sec := range []fieldSection{statsFields, regionFields} {
				for _, field := range sec.fields {
					if _, err := field.value(s, o); err != nil {
						t.Error(err)
					}
				}
			}
		}
	})
}
