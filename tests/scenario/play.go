package scenario

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// grace is how long an I/O that was begun gets to end before it counts as waiting.
const grace = 100 * time.Millisecond

// patience is how long an I/O that should end may take.
const patience = 2 * time.Second

// A player plays one scenario.
type player struct {
	d       Driver
	disks   []string
	private map[string]bool // disks whose content is not told at the end, nor that of what stands on them
	scratch []string        // disks whose content is not told at the end
	devices []*device       // in the order they were made
	open    map[string]func()
	begun   map[string]chan string
	stuck   []chan string // I/O that did not end
}

// A device is what reopen has to make again.
type device struct {
	NewDevice
	inactive   []Line
	inactiveRO bool
}

// Play plays s and takes down what is left of it. The error is one of IsCannot if the driver cannot play s, else something
// that is wrong with the driver or with s.
func Play(s *Scenario, d Driver) (Transcript, error) {
	t, _, err := PlayOn(s, d)
	return t, err
}

// PlayOn plays s as Play does, and returns the scenario that makes the same devices again on the disks as they are left.
func PlayOn(s *Scenario, d Driver) (t Transcript, again *Scenario, err error) {
	p := &player{d: d, open: make(map[string]func()), begun: make(map[string]chan string)}
	d.Log() // forget
	err = p.steps(s, &t)
	if err == nil {
		again = p.again(s)
		err = p.final(&t)
	}
	if e := p.end(); err == nil && e != nil {
		err = fmt.Errorf("%s: clearing up: %w", s.Name, e)
	}
	return t, again, err
}

func (p *player) steps(s *Scenario, t *Transcript) error {
	for _, step := range s.Steps {
		text, err := p.step(step)
		if w := step.Words[0]; w == "close" || w == "remove" {
			p.settle()
		}
		var cannot *cannotError
		if errors.As(err, &cannot) {
			return err
		}
		*t = append(*t, Result{Step: step.Text(), Text: p.result(step, text, err)})
	}
	return nil
}

// result returns the result of a step, with what was logged. What I/O logs that a step only begins, comes when it likes; it belongs to a
// later step.
func (p *player) result(step Step, text string, err error) string {
	if step.Words[0] == "begin" && err == nil {
		return "ok"
	}
	return p.withLog(text, err)
}

// settle waits until devices that wait for their removal and are closed are gone: that happens by itself, soon.
func (p *player) settle() {
	for _, dev := range p.devices {
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if i, err := p.d.Info(dev.Name); err != nil || !i.Deferred || i.Opens > 0 {
				break
			}
		}
	}
}

// withLog returns the result of a step.
func (p *player) withLog(text string, err error) string {
	if err != nil {
		text = errnoName(err)
	} else if text == "" {
		text = "ok"
	}
	lines := []string{p.d.Normal(text)}
	for _, l := range p.d.Log() {
		lines = append(lines, "log: "+p.d.Normal(strings.TrimPrefix(l, "device-mapper: ")))
	}
	return strings.Join(lines, "\n")
}

func errnoName(err error) string {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return "error: " + err.Error()
	}
	return unix.ErrnoName(errno)
}

// IsCannot reports whether a driver refused to play a scenario for lack of something.
func IsCannot(err error) bool {
	var cannot *cannotError
	return errors.As(err, &cannot)
}

// final hashes what there is.
func (p *player) final(t *Transcript) error {
	for _, r := range p.open {
		r()
	}
	p.open = nil
	for id, c := range p.begun {
		return fmt.Errorf("%s was begun and not ended: %v", id, c)
	}
	var devices []string
	for _, dev := range p.devices {
		if i, err := p.d.Info(dev.Name); err == nil && i.Live && !i.Suspended && !p.onPrivate(dev) {
			devices = append(devices, dev.Name)
		}
	}
	told := slices.DeleteFunc(slices.Clone(p.disks), func(name string) bool { return p.private[name] || slices.Contains(p.scratch, name) })
	for _, name := range append(devices, told...) {
		text, err := p.hash(name)
		*t = append(*t, Result{Step: "hash " + name, Text: p.withLog(text, err)})
	}
	return nil
}

// onPrivate reports whether dev keeps metadata on a disk, and so decides by itself where data go.
func (p *player) onPrivate(dev *device) bool {
	for _, l := range dev.Table {
		for word := range strings.FieldsSeq(l.Params) {
			if p.private[strings.Trim(word, "@")] {
				return true
			}
		}
	}
	return false
}

// end takes everything down, after what still waits.
func (p *player) end() error {
	for _, r := range p.open {
		r()
	}
	for _, c := range p.begun {
		p.stuck = append(p.stuck, c)
	}
	for _, c := range p.stuck {
		for _, dev := range p.devices {
			p.d.Resume(dev.Name, true) //nolint:errcheck // it may be gone, or have no table
		}
		<-c
	}
	return p.d.Close()
}

func (p *player) find(name string) *device {
	for _, d := range p.devices {
		if d.Name == name {
			return d
		}
	}
	return nil
}

func (p *player) isDisk(name string) bool { return slices.Contains(p.disks, name) }

// step plays a step and returns what it says.
func (p *player) step(s Step) (string, error) {
	w := s.Words
	switch w[0] {
	case "fill", "put", "read", "write", "discard", "zeroout", "flush", "hash":
		p.begin(w, "")
		return p.await("")
	case "disk":
		return "", p.disk(w[1:])
	case "open":
		release, err := p.d.Open(w[1])
		if err == nil {
			p.open[w[2]] = release
		}
		return "", err
	case "close":
		release := p.open[w[1]]
		if release == nil {
			return "not open", nil
		}
		release()
		delete(p.open, w[1])
		return "", nil
	case "begin":
		p.begin(w[2:], w[1])
		return "", nil
	case "waits":
		return p.waits(w[1])
	case "end":
		return p.await(w[1])
	case "reopen":
		return "", p.reopen()
	case "pause":
		time.Sleep(2 * grace)
		return "", nil
	case "scratch":
		p.scratch = append(p.scratch, w[1])
		return "", nil
	case "until":
		return p.until(w[1], w[2])
	}
	return p.control(s)
}

// begin starts an I/O step.
func (p *player) begin(w []string, id string) {
	c := make(chan string, 1)
	p.begun[id] = c
	go func() {
		text, err, ok := p.io(w)
		if !ok {
			text = "no I/O step"
		}
		c <- p.ioText(text, err)
	}()
}

// until waits until the status of a device has a word.
func (p *player) until(name, word string) (string, error) {
	const most = 20 * time.Second
	for end := time.Now().Add(most); ; time.Sleep(10 * time.Millisecond) {
		lines, err := p.d.Lines(name, true, false)
		switch {
		case err != nil:
			return "", err
		case slices.Contains(strings.Fields(strings.Join(lines, " ")), word):
			return "", nil
		case time.Now().After(end):
			return "not yet: " + strings.Join(lines, "; "), nil
		}
	}
}

// await returns the result of an I/O step that was begun. One that does not end is forgotten until the end.
func (p *player) await(id string) (string, error) {
	c := p.begun[id]
	delete(p.begun, id)
	select {
	case text := <-c:
		return text, nil
	case <-time.After(patience):
		p.stuck = append(p.stuck, c)
		return "still waiting", nil
	}
}

func (p *player) ioText(text string, err error) string {
	switch {
	case err != nil:
		return errnoName(err)
	case text == "":
		return "ok"
	}
	return text
}

func (p *player) waits(id string) (string, error) {
	select {
	case text := <-p.begun[id]:
		p.begun[id] <- text
		return "ended", nil
	case <-time.After(grace):
		return "waits", nil
	}
}

func (p *player) disk(w []string) error {
	sectors, err := strconv.ParseUint(w[1], 10, 32)
	if err != nil {
		return err
	}
	block := mapper.SectorSize
	if len(w) > 2 && w[2] == "metadata" {
		if p.private == nil {
			p.private = make(map[string]bool)
		}
		p.private[w[0]] = true
	} else if len(w) > 2 {
		if block, err = strconv.Atoi(w[2]); err != nil {
			return err
		}
	}
	if err := p.d.Disk(w[0], sectors, block); err != nil {
		return err
	}
	p.disks = append(p.disks, w[0])
	return nil
}

// numbers reads words that are numbers.
func numbers(words []string) ([]uint64, error) {
	list := make([]uint64, len(words))
	for i, w := range words {
		n, err := strconv.ParseUint(w, 10, 64)
		if err != nil {
			return nil, err
		}
		list[i] = n
	}
	return list, nil
}

// maxIO bounds one read or write, in sectors.
const maxIO = 1 << 16

// io plays a step that reads or changes data; ok is false for others.
func (p *player) io(w []string) (text string, err error, ok bool) { //nolint:staticcheck // ok says whether err means anything
	name := ""
	if len(w) > 1 {
		name = w[1]
	}
	var n []uint64
	switch w[0] {
	case "read", "discard", "zeroout":
		n, err = numbers(w[2:4])
	case "write":
		n, err = numbers(w[2:5])
	case "fill", "put":
		n, err = numbers(w[2:3])
	}
	if err == nil && len(n) > 1 && (w[0] == "read" || w[0] == "write") && n[1] > maxIO {
		err = fmt.Errorf("%d sectors are too many at once", n[1])
	}
	if err != nil {
		return "", err, true
	}
	switch w[0] {
	case "read":
		text, err = p.read(name, n[0], n[1])
	case "write":
		text, err = p.write(name, n[0], mappertest.Stamped(mapper.Sector(n[0]), mapper.Sector(n[1]), n[2]), len(w) > 5)
	case "fill":
		var size uint64
		if size, err = p.d.Size(name); err == nil {
			text, err = p.write(name, 0, mappertest.Stamped(0, mapper.Sector(size), n[0]), false)
		}
	case "put":
		var data []byte
		if data, err = hex.DecodeString(w[3]); err == nil && len(data)%mapper.SectorSize != 0 {
			err = fmt.Errorf("%d bytes are no whole sectors", len(data))
		}
		if err == nil {
			text, err = p.write(name, n[0], data, false)
		}
	case "discard":
		err = p.d.Discard(name, n[0], n[1])
	case "zeroout":
		err = p.d.Zero(name, n[0], n[1])
	case "flush":
		err = p.d.Flush(name)
	case "hash":
		text, err = p.hash(name)
	default:
		return "", nil, false
	}
	return text, err, true
}

func (p *player) write(name string, start uint64, data []byte, fua bool) (string, error) {
	n, err := p.d.Write(name, start, data, fua)
	if err == nil && n < len(data) {
		return fmt.Sprintf("%d sectors", n/mapper.SectorSize), nil
	}
	return "", err
}

func (p *player) read(name string, start, count uint64) (string, error) {
	buf := make([]byte, mapper.Sector(count).Bytes())
	n, err := p.d.Read(name, start, buf)
	if err != nil {
		return "", err
	}
	return Describe(buf[:n]), nil
}

func (p *player) hash(name string) (string, error) {
	size, err := p.d.Size(name)
	if err != nil {
		return "", err
	}
	const most = 1 << 18 // 128 MiB; larger devices are hashed at both ends
	if size <= most {
		return p.read(name, 0, size)
	}
	head, err := p.read(name, 0, 8)
	if err != nil {
		return "", err
	}
	tail, err := p.read(name, size-8, 8)
	return head + "\n" + tail, err
}

// Describe tells data as runs of stamped sectors and of zeroes, with its length and hash.
func Describe(data []byte) string {
	const most = 24 // runs
	var runs []string
	total := len(data) / mapper.SectorSize
	for i := 0; i < total && len(runs) <= most; {
		first := sectorOf(data, i)
		j := i + 1
		for j < total && sectorOf(data, j).follows(first, j-i) {
			j++
		}
		runs = append(runs, first.text(j-i))
		i = j
	}
	if len(runs) > most {
		runs = append(runs[:most], "...")
	}
	sum := sha256.Sum256(data)
	return fmt.Sprintf("%d sectors: %s; %x", total, strings.Join(runs, ", "), sum[:8])
}

// A content is what one sector holds.
type content struct {
	stamped bool
	sector  mapper.Sector
	serial  uint64
	other   string
}

func sectorOf(data []byte, i int) content {
	sector := data[i*mapper.SectorSize:][:mapper.SectorSize]
	if s, serial, ok := mappertest.ReadStamp(sector); ok {
		return content{stamped: true, sector: s, serial: serial}
	}
	return content{other: mappertest.Describe(sector)}
}

// follows reports whether c continues a run that began n sectors before with first.
func (c content) follows(first content, n int) bool {
	if first.stamped {
		first.sector += mapper.Sector(n)
	}
	return c == first
}

func (c content) text(n int) string {
	if c.stamped {
		return fmt.Sprintf("%d+%d of write %d", c.sector, n, c.serial)
	}
	return fmt.Sprintf("%d of %s", n, c.other)
}
