package dmsetup

const selectionHelp = `Selection operands
------------------
  field               - Reporting field.
  number              - Non-negative integer value.
  size                - Floating point value with units, 'm' unit used by default if not specified.
  percent             - Non-negative integer with or without % suffix.
  string              - Characters quoted by ' or " or unquoted.
  string list         - Strings enclosed by [ ] or { } and elements delimited by either
                        "all items must match" or "at least one item must match" operator.
  regular expression  - Characters quoted by ' or " or unquoted.
 
Selection operators
-------------------
  Comparison operators:
        =~  - Matching regular expression. [regex]
        !~  - Not matching regular expression. [regex]
         =  - Equal to. [number, size, percent, string, string list, time]
        !=  - Not equal to. [number, size, percent, string, string_list, time]
        >=  - Greater than or equal to. [number, size, percent, time]
         >  - Greater than. [number, size, percent, time]
        <=  - Less than or equal to. [number, size, percent, time]
         <  - Less than. [number, size, percent, time]
     since  - Since specified time (same as '>='). [time]
     after  - After specified time (same as '>'). [time]
     until  - Until specified time (same as '<='). [time]
    before  - Before specified time (same as '<'). [time]
 
  Logical and grouping operators:
      &&  - All fields must match
       ,  - All fields must match
      ||  - At least one field must match
       #  - At least one field must match
       !  - Logical negation
       (  - Left parenthesis
       )  - Right parenthesis
       [  - List start
       ]  - List end
       {  - List subset start
       }  - List subset end
 `

// fieldHelp lists the fields of reports on standard error, for selections with their kinds.
func (s *session) fieldHelp(selections bool) {
	line := func(id, desc, kind string) {
		if selections {
			desc += " [" + kind + "]"
		}
		s.errorf("  %-21s - %s", id, desc)
	}
	for _, sec := range fieldSections {
		s.errorf("%s", sec.title)
		s.errorf("%s", dashes(len(sec.title)))
		if sec.id != "" && !selections {
			line(sec.id+"_all", "All fields in this section.", "")
		}
		for _, f := range sec.fields {
			line(f.id, f.desc, f.kind.String())
		}
		if sec.id == "" {
			line("help", "Show help.", "unselectable number")
			line("?", "Show help.", "unselectable number")
		}
		s.errorf(" ")
	}
}

func dashes(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = '-'
	}
	return string(b)
}
