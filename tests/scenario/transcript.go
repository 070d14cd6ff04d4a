package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// A Result is a step and what came of it.
type Result struct{ Step, Text string }

// A Transcript is what came of a scenario.
type Transcript []Result

// Text returns the transcript as it is kept in files: "$ " before the first line of a step, "> " before its others.
func (t Transcript) Text() string {
	var b strings.Builder
	for _, r := range t {
		fmt.Fprintf(&b, "$ %s\n", strings.ReplaceAll(r.Step, "\n", "\n> "))
		fmt.Fprintf(&b, "%s\n", r.Text)
	}
	return b.String()
}

// ParseTranscript reads what Text wrote. Empty lines and those that begin with # before the first step are passed over.
func ParseTranscript(text string) (Transcript, error) {
	var t Transcript
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		step, isStep := strings.CutPrefix(line, "$ ")
		more, isMore := strings.CutPrefix(line, "> ")
		switch {
		case isStep:
			t = append(t, Result{Step: step})
		case len(t) == 0 && (line == "" || strings.HasPrefix(line, "#")):
		case len(t) == 0:
			return nil, fmt.Errorf("line %d: %q before the first step", i+1, line)
		case isMore:
			t[len(t)-1].Step += "\n" + more
		default:
			last := &t[len(t)-1]
			last.Text = strings.TrimPrefix(last.Text+"\n"+line, "\n")
		}
	}
	return t, nil
}

// A LogTail tells what was added to a log of ours since it was last asked.
type LogTail struct{ seen string }

// Fresh returns what the device mapper said in the lines of text that are new, without their times. Lines that the kernel
// has no counterpart for, of the control file and of failed I/O, are left out.
func (l *LogTail) Fresh(text string) []string {
	seen := l.seen
	for !strings.HasPrefix(text, seen) { // the log has dropped its oldest lines
		_, seen, _ = strings.Cut(seen, "\n")
	}
	fresh := text[len(seen):]
	l.seen = text
	var found []string
	for line := range strings.Lines(fresh) {
		_, said, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		ours := strings.HasPrefix(said, "device-mapper: I/O error") || strings.HasSuffix(said, " more I/O errors")
		if strings.HasPrefix(said, "device-mapper: ") && !ours {
			found = append(found, said)
		}
	}
	return found
}

// HandedOver returns of t what is compared when the disks of s are handed over.
func (s *Scenario) HandedOver(t Transcript) Transcript {
	if !s.Restless {
		return t
	}
	var kept Transcript
	for _, r := range t {
		name, isHash := strings.CutPrefix(r.Step, "hash ")
		isDisk := func(step Step) bool { return step.Words[0] == "disk" && step.Words[1] == name }
		if !isHash || !slices.ContainsFunc(s.Steps, isDisk) {
			kept = append(kept, r)
		}
	}
	return kept
}

// Hashes returns what t says of the contents of devices and disks at the end, but not what was logged then. It is comparable between
// scenarios that end in the same state.
func (t Transcript) Hashes() string {
	var b strings.Builder
	for _, r := range t {
		if strings.HasPrefix(r.Step, "hash ") {
			text, _, _ := strings.Cut(r.Text, "\nlog: ")
			fmt.Fprintf(&b, "%s: %s\n", r.Step, text)
		}
	}
	return b.String()
}
