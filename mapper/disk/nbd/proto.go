package nbd

// The numbers of the protocol, from the NBD project's doc/proto.md. All integers are big-endian.
const (
	magicServer     = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption     = 0x49484156454f5054 // "IHAVEOPT"
	magicOldstyle   = 0x00420281861253
	magicReply      = 0x3e889045565a9 // to an option
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef
)

// Flags of the handshake, for both sides.
const (
	flagFixed    = 1 << 0
	flagNoZeroes = 1 << 1
)

// Options, and replies to them.
const (
	optExportName = 1
	optGo         = 7
	optStructured = 8
	optSetMeta    = 10

	repAck  = 1
	repInfo = 3
	repMeta = 4

	repError      = 1 << 31
	repErrUnsup   = repError + 1
	repErrPolicy  = repError + 2
	repErrInvalid = repError + 3
	repErrTLS     = repError + 5
	repErrUnknown = repError + 6
	repErrDown    = repError + 7
	repErrBlock   = repError + 8

	infoExport = 0
	infoBlock  = 3
)

// Transmission flags: what an export can do.
const (
	hasFlags       = 1 << 0
	isReadOnly     = 1 << 1
	canFlush       = 1 << 2
	canFUA         = 1 << 3
	canTrim        = 1 << 5
	canWriteZeroes = 1 << 6
)

// Commands and their flags.
const (
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisconnect  = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdWriteZeroes = 6
	cmdBlockStatus = 7

	cmdFlagFUA    = 1 << 0
	cmdFlagNoHole = 1 << 1
	cmdFlagReqOne = 1 << 3
)

// Chunks of structured replies.
const (
	chunkDone = 1 << 0 // flag

	chunkNone        = 0
	chunkData        = 1
	chunkHole        = 2
	chunkBlockStatus = 5
	chunkErrorBit    = 1 << 15
	chunkErrorOffset = chunkErrorBit + 2
)

// stateZero is set in a block status of what reads as zeroes.
const stateZero = 1 << 1

// What a server may make us read at once, in bytes, and how often.
const (
	maxOptionReply  = 16 << 10
	maxOptionCount  = 64
	maxErrorChunk   = 8 << 10
	maxStatusChunk  = 1 << 20
	maxPayload      = 32 << 20 // of a request; less if the server says so
	maxExportName   = 4096
	requestHeadSize = 28
)

// metaAllocation is the context in which a block status tells holes.
const metaAllocation = "base:allocation"
