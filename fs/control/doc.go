// Package control is the language of MNT/control: it parses commands as they are written, runs them on a
// mapper.Manager and keeps the reply. It knows nothing of FUSE.
//
// # Language
//
// One command a line. Words are separated by blanks; "…" keeps blanks together, a backslash takes the next
// character as it is, a word that begins with # starts a comment. A table stands on the line, as one
// segment, or in braces, as segments separated by newlines or semicolons; braces count as such
// when they are words of their own, and the closing one ends the command.
//
// A command runs when its last line is complete. If it fails, nothing of it has happened, what follows in the
// same write is dropped, and the write reports its errno. The commands are listed in commands.go; those that programs speak, which
// answer with JSON (query.go), are on, query, wait, targets and version.
//
// # Bounds
//
// A command has at most 16 MiB. A longer one is refused with E2BIG, and so is everything that is written
// after to the same open file, since where the next command begins cannot be told.
package control
