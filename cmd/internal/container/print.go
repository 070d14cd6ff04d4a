package container

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"dmfs/mapper"
)

// A document is what --json prints.
type document struct {
	Type    string           `json:"type"` // "LUKS1", "LUKS2", "VERITY"
	UUID    string           `json:"uuid"`
	KeySlot *int             `json:"key_slot,omitempty"`  // that was opened; of two keys that of the first
	Slots   []int            `json:"key_slots,omitempty"` // all that were, of two keys
	Devices []documentDevice `json:"devices"`             // in the order they are made
}

type documentDevice struct {
	Name     string         `json:"name"`
	UUID     string         `json:"uuid"`
	ReadOnly bool           `json:"readonly"`
	Table    []documentLine `json:"table"`
}

type documentLine struct {
	Start  mapper.Sector `json:"start"`  // sectors
	Length mapper.Sector `json:"length"` // sectors
	Target string        `json:"target"`
	Params string        `json:"params"`
}

// printText prints the tables as `dmsetup table` does.
func (p *plan) printText(w io.Writer, keys []string) error {
	for _, d := range p.Devices {
		for _, l := range d.Lines {
			if _, err := fmt.Fprintf(w, "%s: %d %d %s %s\n", d.Name, l.Spec.Start, l.Spec.Len, l.Spec.Type, l.params(keys)); err != nil {
				return err
			}
		}
	}
	return nil
}

// printJSON prints the plan. slots are those that were opened.
func (p *plan) printJSON(w io.Writer, keys []string, slots []int) error {
	doc := document{Type: p.Kind, UUID: p.UUID}
	if len(slots) > 0 {
		doc.KeySlot = &slots[0]
	}
	if len(slots) > 1 {
		doc.Slots = slots
	}
	for _, d := range p.Devices {
		made := documentDevice{Name: d.Name, UUID: d.UUID, ReadOnly: d.ReadOnly}
		for _, l := range d.Lines {
			made.Table = append(made.Table, documentLine{l.Spec.Start, l.Spec.Len, l.Spec.Type, l.params(keys)})
		}
		doc.Devices = append(doc.Devices, made)
	}
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	return out.Encode(doc)
}

// params returns the arguments with the key, in digits, where it goes.
func (l *line) params(keys []string) string {
	words := make([]string, 0, len(l.Spec.Args)+1)
	for i, a := range l.Spec.Args {
		switch {
		case i == 1 && l.Null:
			words = append(words, noKey)
		case i == 1 && l.Keyed:
			words = append(words, keys[l.Key])
		}
		words = append(words, quoted(a))
	}
	return strings.Join(words, " ")
}

// quoted quotes a word only where it would not be read as one: dmsetup takes no quotes.
func quoted(word string) string {
	if words, err := mapper.SplitArgs(word); err == nil && len(words) == 1 && words[0] == word {
		return word
	}
	return mapper.QuoteArg(word)
}

// shown returns the key as it is printed: zeroes unless show, and - if there is none.
func (k *openedKey) shown(show bool) string {
	switch {
	case show && k.secret != nil && len(k.secret.Bytes) > 0:
		return hex.EncodeToString(k.secret.Bytes)
	case k.size > 0:
		return strings.Repeat("00", k.size)
	}
	return noKey
}

// noKey is what tables have for a cipher that takes no key.
const noKey = "-"
