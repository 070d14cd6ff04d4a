// Package nbd is a client of the Network Block Device protocol: a disk on the other side of a socket.
//
// # Names
//
//	nbd://HOST[:PORT]/EXPORT[?reconnect-delay=SECONDS]
//	nbd+unix:///EXPORT?socket=PATH[&reconnect-delay=SECONDS]
//
// as in the NBD project's doc/uri.md. EXPORT may be empty, PATH is absolute. Parameters that are not known are refused, and so are
// nbds (TLS) and vsock. A disk is its URI: the same one in two tables is one connection, and the same export by two servers is two disks.
//
// # Protocol
//
// Fixed newstyle handshake with NBD_OPT_GO, or NBD_OPT_EXPORT_NAME where a server knows no other; simple and structured replies, the
// chunks of which may come in any order; block sizes; flush, FUA, trim, write-zeroes with and without holes; block status in the
// context base:allocation, for SEEK_HOLE. Up to 64 requests are under way on one connection. More connections are not made, even where
// a server allows them.
//
// Where a server has no FUA a write is followed by a flush; where it has no flush, it promises that writes are durable when
// they are acknowledged, and it is believed.
//
// # Hostile servers
//
// Every length is checked before it is believed and every reply is for a request that is under way; what does not fit ends the connection
// with an error that says what. A read gives bytes that came for it and no others: chunks that overlap or leave something out are such an error.
//
// # A lost connection
//
// Requests under way fail at once with an I/O error, so that a multipath above goes another way. With reconnect-delay they wait for a new
// connection instead, at most so long from the loss on, and are sent again; requests are complete in themselves, so doing one twice is as doing it once.
// In the background the disk tries to connect again, soon at first and then every 5 seconds. A request that finds no connection makes it
// try at once, and waits for the result up to one second: so a disk whose server is back serves the first request.
// A server that says nothing for 30 seconds, not even on the level of TCP, counts as gone. The export that is found again must be as large as
// before, able to do as much and no more restrictive, or the disk stays without a connection and its errors say why.
//
// # What a lost connection forgets
//
// A server may hold acknowledged writes in a cache until a flush. If it dies, they are gone, and the one that
// takes its place flushes its own, empty cache with success: a flush that is believed would be a lie. So the disk counts the
// writes that were acknowledged (without FUA) and how many of them a later flush covered. If a connection is lost while there is a difference,
// every later flush fails, until no table uses the disk any more, with an error that says how many writes may be lost. That is what a file does
// after a failed fdatasync. It may be that nothing is lost, since the server lives and only the network failed; the client cannot know.
// Programs that flush what they need durable and stop at an error lose nothing, and nothing is said of connections that were lost after a flush.
//
// A flush with mapper.FlagShared is exempt: multipath sends those. It declares that its paths lead to the same storage and that a
// flush by any path covers what was acknowledged by all. See targets/multipath, Ordering, for which servers that is true.
//
// # Why our own
//
// The client libraries in Go were looked at in 2026. libnbd's bindings need cgo, which this program does without. Those in
// pure Go hand a socket to the kernel's client, or read replies into fresh memory of whatever length the server says; none can let go of a
// request whose caller was killed, or connect again. What is left after that is the numbers in proto.go.
package nbd
