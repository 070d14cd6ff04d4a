package exec

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"dmfs/mapper"
)

// holdersOf returns for each device, by its node, the nodes of those that stand on it.
func holdersOf(devices []*device) map[string][]string {
	byName := make(map[string]*device)
	for _, d := range devices {
		byName[d.Name] = d
	}
	above := make(map[string][]string)
	for _, d := range devices {
		for _, dep := range d.Deps {
			if below := byName[dep.Device]; below != nil && d.part == (part{}) {
				above[below.node] = append(above[below.node], d.node)
			}
		}
	}
	for node := range above {
		slices.Sort(above[node])
	}
	return above
}

// describe returns what /sys tells of d: files and their contents, links, and empty directories, which end with a slash.
func (s *supervisor) describe(d *device, holders []string) map[string]string {
	sectors := d.Sectors
	if d.number.major == loopMajor && !bound(d) {
		sectors = 0
	}
	files := plain(d.node, d.number, sectors)
	files["ro"] = flag(d.ReadOnly)
	if d.part != (part{}) {
		describePart(d, holders, files)
		return files
	}
	l := d.Limits
	discard := mapper.Sector(l.MaxDiscard).Bytes()
	for name, n := range map[string]int64{
		"logical_block_size": int64(l.LogicalBlock), "hw_sector_size": int64(l.LogicalBlock), "physical_block_size": int64(l.PhysicalBlock),
		"minimum_io_size": int64(l.MinIO), "optimal_io_size": int64(l.OptIO), "discard_max_bytes": discard, "discard_max_hw_bytes": discard,
		"discard_granularity": mapper.Sector(l.DiscardGranularity).Bytes(), "write_zeroes_max_bytes": mapper.Sector(l.MaxWriteZeroes).Bytes(),
	} {
		files["queue/"+name] = strconv.FormatInt(n, 10) + "\n"
	}
	// There is no bdi/read_ahead_kb: what libdevmapper writes there nobody would see, and without it takes to ioctls.
	files["queue/read_ahead_kb"] = strconv.FormatUint(s.readAhead(d)/2, 10) + "\n"
	if l.VolatileCache {
		files["queue/write_cache"] = "write back\n"
	}
	for _, h := range holders {
		files["holders/"+h] = link + "../../" + h
	}
	for _, dep := range d.Deps {
		if below := s.world.ofMount(dep.Major, dep.Minor); below != nil && dep.Device != "" && !d.hidden() {
			files["slaves/"+below.node] = link + "../../" + below.sysPath()
		}
	}
	switch d.number.major {
	case diskMajor:
		files["device/model"], files["device/vendor"], files["device/type"] = "dmfs file\n", "dmfs\n", "0\n"
		files["device/serial"] = serial(s.backing(d), d.node) + "\n"
	case loopMajor:
		if bound(d) && !s.loops.isCleared(d) {
			s.describeLoop(d, files)
		}
	default:
		files["dm/name"], files["dm/uuid"], files["dm/suspended"] = d.Name+"\n", d.UUID+"\n", flag(d.Suspended)
	}
	return files
}

// describePart makes of what /sys tells of a disk what it tells of a partition.
func describePart(d *device, holders []string, files map[string]string) {
	for name := range files {
		if strings.HasPrefix(name, "queue/") || slices.Contains([]string{"removable", "range", "ext_range", "capability", "slaves/"}, name) {
			delete(files, name)
		}
	}
	number := strconv.Itoa(int(d.part.number))
	files["partition"], files["start"] = number+"\n", strconv.FormatUint(uint64(d.part.start), 10)+"\n"
	files["uevent"] = fmt.Sprintf("MAJOR=%d\nMINOR=%d\nDEVNAME=%s\nDEVTYPE=partition\nPARTN=%s\n", d.number.major, d.number.minor, d.node, number)
	for _, h := range holders {
		files["holders/"+h] = link + "../../../" + h
	}
}

// sysPath returns where /sys has d, below the directory of all devices.
func (d *device) sysPath() string {
	if d.part.disk != "" {
		return d.part.disk + "/" + d.node
	}
	return d.node
}

// describeLoop adds what /sys tells of a loop device that is bound.
func (s *supervisor) describeLoop(d *device, files map[string]string) {
	l := loop{loops: s.loops, ctx: s.ctx, n: d.number.minor}
	offset, _, direct, _ := l.layout(d) // it may be gone, and then this is rewritten
	limit := int64(0)
	if l.isLimited(d) {
		limit = mapper.Sector(d.Sectors).Bytes()
	}
	files["loop/backing_file"] = s.backing(d) + "\n"
	files["loop/offset"] = strconv.FormatUint(offset, 10) + "\n"
	files["loop/sizelimit"] = strconv.FormatInt(limit, 10) + "\n"
	files["loop/autoclear"], files["loop/partscan"], files["loop/dio"] = flag(d.DeferredRemove), flag(s.loops.scans(d)), flag(direct)
}

// plain returns what /sys tells of every device.
func plain(node string, n number, sectors uint64) map[string]string {
	files := map[string]string{
		"dev":               n.String() + "\n",
		"size":              strconv.FormatUint(sectors, 10) + "\n",
		"ro":                flag(false),
		"removable":         flag(false),
		"range":             "1\n",
		"ext_range":         "1\n",
		"capability":        "0\n",
		"alignment_offset":  "0\n",
		"discard_alignment": "0\n",
		"stat":              strings.Repeat("       0", 17) + "\n",
		"inflight":          "       0        0\n",
		"uevent":            fmt.Sprintf("MAJOR=%d\nMINOR=%d\nDEVNAME=%s\nDEVTYPE=disk\n", n.major, n.minor, node),
		"subsystem":         link + "/sys/class/block",
		"holders/":          "",
		"slaves/":           "",
	}
	for name, text := range map[string]string{
		"logical_block_size": "512", "hw_sector_size": "512", "physical_block_size": "512", "minimum_io_size": "512", "optimal_io_size": "0",
		"discard_granularity": "0", "discard_max_bytes": "0", "discard_max_hw_bytes": "0", "discard_zeroes_data": "0",
		"write_zeroes_max_bytes": "0", "write_same_max_bytes": "0", "rotational": "1", "zoned": "none", "dax": "0", "read_ahead_kb": "128",
		"nr_requests": "128", "scheduler": "none", "max_sectors_kb": "1280", "max_hw_sectors_kb": "32767", "add_random": "0", "fua": "1",
		"write_cache": "write through",
	} {
		files["queue/"+name] = text + "\n"
	}
	return files
}

// unboundLoop is what /sys tells of a loop device that nobody has bound.
func unboundLoop(n uint32) map[string]string {
	return plain("loop"+strconv.Itoa(int(n)), number{loopMajor, n}, 0)
}

func flag(b bool) string {
	if b {
		return "1\n"
	}
	return "0\n"
}

// partitions is /proc/partitions.
func partitions(devices []*device) string {
	list := slices.Clone(devices)
	slices.SortFunc(list, func(a, b *device) int { return strings.Compare(a.node, b.node) })
	var b strings.Builder
	b.WriteString("major minor  #blocks  name\n\n")
	for _, d := range list {
		if d.Sectors > 0 && (d.number.major != loopMajor || bound(d)) {
			fmt.Fprintf(&b, "%4d  %7d %10d %s\n", d.number.major, d.number.minor, d.Sectors/2, d.node)
		}
	}
	return b.String()
}

// mapperMajor returns a major number for mapped devices that no driver of the kernel has, best the mount's own: what is mounted
// outside of the session is told by number inside, too.
func mapperMajor(own uint32) (uint32, error) {
	text, err := os.ReadFile("/proc/devices")
	if err != nil {
		return 0, err
	}
	_, block, _ := strings.Cut(string(text), "Block devices:")
	taken := make(map[string]bool)
	for line := range strings.Lines(block) {
		if f := strings.Fields(line); len(f) == 2 {
			taken[f[0]] = true
		}
	}
	for major := own; major > 0; major-- {
		if !taken[strconv.Itoa(int(major))] {
			return major, nil
		}
	}
	return own, nil
}

// kernelFiles returns /proc/devices and /proc/misc as a session has them: of block drivers its own alone, since it sees no others'
// devices.
func kernelFiles(major uint32) (map[string]string, error) {
	devices, err := os.ReadFile("/proc/devices")
	if err != nil {
		return nil, err
	}
	characters, _, _ := strings.Cut(string(devices), "Block devices:")
	misc, err := os.ReadFile("/proc/misc")
	if err != nil {
		return nil, err
	}
	var kept strings.Builder
	for line := range strings.Lines(string(misc)) {
		if f := strings.Fields(line); len(f) == 2 && f[1] != "device-mapper" && f[1] != "loop-control" {
			kept.WriteString(line)
		}
	}
	return map[string]string{
		"devices": characters + fmt.Sprintf("Block devices:\n%3d loop\n%3d sd\n%3d blkext\n%3d device-mapper\n", loopMajor, diskMajor, partMajor, major),
		"misc":    fmt.Sprintf("%3d device-mapper\n%3d loop-control\n%s", controlMinor, loopControlNode.number.minor, kept.String()),
	}, nil
}

// volume is the uuid of a logical volume that users see: the ids of group and volume, without the suffix of a part.
var volume = regexp.MustCompile(`^LVM-[A-Za-z0-9]{64}$`)

// parts are how the names of volumes end that are parts of others.
var parts = regexp.MustCompile(`_(tmeta|tdata|cmeta|cdata|cvol|corig|mlog|mimage|rimage|rmeta|pmspare|vorigin|vdata|imeta|iorig|wcorig)(_[0-9]+)?$`)

// volumeOf returns the group and the volume that d is, if it is one that users see. In the name of the device they are
// joined by a dash, and their own dashes are doubled.
func volumeOf(d *device) (group, lv string, ok bool) {
	if !volume.MatchString(d.UUID) {
		return "", "", false
	}
	name := strings.ReplaceAll(d.Name, "--", "\x00")
	group, lv, ok = strings.Cut(name, "-")
	group, lv = strings.ReplaceAll(group, "\x00", "-"), strings.ReplaceAll(lv, "\x00", "-")
	if !ok || group == "" || lv == "" || strings.ContainsAny(lv, "/") || path.Clean(group) != group || group == ".." || parts.MatchString(lv) {
		return "", "", false
	}
	return group, lv, true
}
