package verity

import (
	"context"
	"encoding/hex"
	"hash"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
	"dmfs/targets/internal/hashalg"
)

// An onError says what becomes of a block that does not verify.
type onError uint8

const (
	fails    onError = iota // it cannot be read
	passes                  // it is read as it is, and logged
	restarts                // the device fails from then on
	panics                  // likewise
)

// words are the options for onError.
var words = map[onError]string{passes: "ignore_corruption", restarts: "restart_on_corruption", panics: "panic_on_corruption"}

const (
	minArgs = 10
	// maxFeatures is how many words the options may have: those of the kernel that it has with everything built in.
	maxFeatures = 14
	// largestBlock bounds a data block and a hash block, in bytes: the largest page of any machine.
	largestBlock = 64 << 10
)

// config is what a table line says.
type config struct {
	version    uint32
	data, hash mapper.Disk
	dataBlock  mapper.Sector // sectors in a data block, a power of two
	hashBlock  mapper.Sector // sectors in a hash block, a power of two
	blocks     uint64        // data blocks
	start      uint64        // the first hash block
	algorithm  string
	newHash    func() hash.Hash
	digest     int // bytes
	root, salt []byte
	onError    onError
	zeroBlocks bool // blocks that are known to be zeroes are not read
	once       bool // what was verified is not verified again
	fec        fec
	signature  rootSignature
	tasklet    bool // try_verify_in_tasklet, which is about the kernel's scheduling
}

// parse reads VERSION DATA HASH DATABLOCK HASHBLOCK BLOCKS START ALGORITHM ROOT SALT [N OPTION*], in the order in which
// the kernel complains.
func parse(ctx context.Context, h mapper.Host, s mapper.Spec) (c config, err error) {
	if !h.ReadOnly() {
		return c, mapper.BadArg("Device must be readonly", "nothing may write here: create it with ro, load the table with ro")
	}
	a := s.Args
	if len(a) < minArgs {
		return c, mapper.BadArg("Not enough arguments", "%d: want VERSION DATA HASH DATABLOCK HASHBLOCK BLOCKS START ALGORITHM ROOT SALT", len(a))
	}
	options, err := optionWords(a[minArgs:])
	if err != nil {
		return c, err
	}
	var ok bool
	if c.version, ok = args.ScanUint32(a[0]); !ok || c.version > 1 {
		return c, mapper.BadArg("Invalid version", "%q: want 0 or 1", a[0])
	}
	if c.data, err = args.Open(ctx, h, a[1], "Data device lookup failed"); err != nil {
		return c, err
	}
	if c.hash, err = args.Open(ctx, h, a[2], "Hash device lookup failed"); err != nil {
		return c, err
	}
	if c.dataBlock, err = blockSize(a[3], c.data, "Invalid data device block size"); err != nil {
		return c, err
	}
	if c.hashBlock, err = blockSize(a[4], c.hash, "Invalid hash device block size"); err != nil {
		return c, err
	}
	if c.blocks, ok = args.Uint64(a[5]); !ok || c.blocks > math.MaxInt64/largestBlock {
		return c, mapper.BadArg("Invalid data blocks", "%q: want a number of data blocks", a[5])
	}
	if size := mapper.Sector(c.blocks) * c.dataBlock; s.Len > size {
		return c, mapper.BadArg("Data device is too small", "the segment has %d sectors, %d blocks have %d", s.Len, c.blocks, size)
	}
	if c.start, ok = args.Uint64(a[6]); !ok || c.start > math.MaxInt64/largestBlock {
		return c, mapper.BadArg("Invalid hash start", "%q: want the number of a hash block", a[6])
	}
	if err := c.parseHash(h, a[7], a[8], a[9]); err != nil {
		return c, err
	}
	if err := c.parseOptions(ctx, h, options); err != nil {
		return c, err
	}
	return c, c.signature.check(h, a[8])
}

// blockSize reads the bytes of a block of a disk.
func blockSize(word string, d mapper.Disk, reason string) (mapper.Sector, error) {
	n, ok := args.ScanUint32(word)
	if least := d.Limits().LogicalBlock; !ok || n == 0 || n&(n-1) != 0 || int(n) < least || n > largestBlock {
		return 0, mapper.BadArg(reason, "%q: want a power of two from %d, the block of %s, to %d", word, least, mapper.DiskName(d), largestBlock)
	}
	return mapper.SectorsOf(int64(n)), nil
}

// parseHash reads ALGORITHM ROOT SALT.
func (c *config) parseHash(h mapper.Host, algorithm, root, salt string) (err error) {
	var ok bool
	if c.newHash, ok = hashalg.Any(algorithm); !ok {
		return &mapper.ArgError{Reason: "Cannot initialize hash function", Detail: strconv.Quote(algorithm) + " is not known here", Errno: unix.ENOENT}
	}
	c.algorithm, c.digest = algorithm, c.newHash().Size()
	if int64(2*c.digest) > c.hashBlock.Bytes() {
		return mapper.BadArg("Digest size too big", "two of %d bytes do not fit into a hash block", c.digest)
	}
	if c.root, err = hex.DecodeString(root); err != nil || len(c.root) != c.digest {
		return mapper.BadArg("Invalid root digest", "%q: want %d bytes in hexadecimal digits", root, c.digest)
	}
	if salt != "-" {
		const most = 4096 // the kernel's, for its superblock has room for 256 only
		if c.salt, err = hex.DecodeString(salt); err != nil || len(c.salt) > most {
			return mapper.BadArg("Invalid salt", "%.64q: want up to %d bytes in hexadecimal digits, or -", salt, most)
		}
	}
	return nil
}

// optionWords returns the words that [N OPTION*] counts.
func optionWords(a []string) ([]string, error) {
	if len(a) == 0 {
		return nil, nil
	}
	n, ok := args.ScanUint32(a[0])
	if !ok || n > maxFeatures || int(n) > len(a)-1 {
		return nil, mapper.BadArg("Invalid number of feature args", "%q: want the number of words that follow, of which there are %d", a[0], len(a)-1)
	}
	return a[1 : 1+n], nil
}

// parseOptions reads OPTION*.
func (c *config) parseOptions(ctx context.Context, h mapper.Host, a []string) error {
	for ; len(a) > 0; a = a[1:] {
		word := a[0]
		if len(a) > 1 {
			isFEC, err := c.parseFEC(ctx, h, strings.ToLower(word), a[1])
			if err != nil {
				return err
			}
			if isFEC {
				a = a[1:]
				continue
			}
		}
		mode, isMode := modeOf(word)
		switch low := strings.ToLower(word); {
		case isMode && c.onError != fails:
			return mapper.BadArg("Conflicting error handling parameters", "%s: there is %s already", low, words[c.onError])
		case isMode:
			c.onError = mode
		case low == "ignore_zero_blocks":
			c.zeroBlocks = true
		case low == "check_at_most_once":
			c.once = true
		case low == "try_verify_in_tasklet":
			c.tasklet = true
		case low == signatureOption && len(a) == 1:
			return mapper.BadArg("DM Verity Sig Verification Signature key not specified", "want the description of a key behind it")
		case low == signatureOption:
			if err := c.signature.parse(h, a[1]); err != nil {
				return err
			}
			a = a[1:]
		default:
			h.Logf("Unrecognized verity feature request: %s", word)
			return mapper.BadArg("Unrecognized verity feature request", "%q", word)
		}
	}
	return nil
}

func modeOf(word string) (onError, bool) {
	for mode, name := range words {
		if strings.EqualFold(word, name) {
			return mode, true
		}
	}
	return fails, false
}

// options returns what parseOptions read, in the kernel's order.
func (c *config) options() []string {
	var list []string
	if c.onError != fails {
		list = append(list, words[c.onError])
	}
	if c.zeroBlocks {
		list = append(list, "ignore_zero_blocks")
	}
	if c.once {
		list = append(list, "check_at_most_once")
	}
	if c.tasklet {
		list = append(list, "try_verify_in_tasklet")
	}
	list = append(list, c.fec.words()...)
	return append(list, c.signature.words()...)
}
