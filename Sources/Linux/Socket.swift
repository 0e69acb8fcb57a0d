import Address
import CLinux
import Glibc

/// A stream socket, TCP or Unix: non-blocking, close-on-exec, closed when its owner ends.
public struct Socket: ~Copyable, Sendable, EventSource {
    let descriptor: Descriptor

    init(owning descriptor: consuming Descriptor) {
        self.descriptor = descriptor
    }

    public var reference: DescriptorReference { DescriptorReference(number: descriptor.number) }

    /// Reads what has arrived, at most `buffer.count` bytes.
    ///
    /// `.end` once the peer has finished; a `buffer` of no bytes also reads `.end`, so never pass one.
    @inline(__always)
    public func read(into buffer: UnsafeMutableRawBufferPointer) -> IOResult {
        IOResult.from { unsafe recv(descriptor.number, buffer.baseAddress, buffer.count, 0) }
    }

    /// As `read`, but what has arrived stays to be read (MSG_PEEK).
    public func peek(into buffer: UnsafeMutableRawBufferPointer) -> IOResult {
        IOResult.from { unsafe recv(descriptor.number, buffer.baseAddress, buffer.count, messagePeek) }
    }

    /// Takes bytes that have been looked at, without copying them. TCP only (MSG_TRUNC, tcp(7)).
    public func discard(_ byteCount: Int) -> IOResult {
        IOResult.from { recv(descriptor.number, nil, byteCount, messageTruncate) }
    }

    /// Writes what the socket buffer takes. A broken connection is `.failed(EPIPE)`, never a SIGPIPE.
    ///
    /// - Parameter moreFollows: keeps a short last segment back for the next write (MSG_MORE).
    @inline(__always)
    public func write(_ bytes: UnsafeRawBufferPointer, moreFollows: Bool = false) -> IOResult {
        let flags = moreFollows ? messageNoSignal | messageMore : messageNoSignal
        return IOResult.from { unsafe send(descriptor.number, bytes.baseAddress, bytes.count, flags) }
    }

    /// Writes several pieces in order with one system call (sendmsg(2)).
    ///
    /// - Parameters:
    ///   - pieces: at most 1,024, none of them empty.
    ///   - moreFollows: as for `write`.
    /// - Returns: as `write`; the bytes counted over all pieces.
    public func write(
        gathered pieces: ContiguousArray<UnsafeRawBufferPointer>, moreFollows: Bool = false
    ) -> IOResult {
        if unsafe pieces.count == 1 { return unsafe write(pieces[0], moreFollows: moreFollows) }
        return unsafe withUnsafeTemporaryAllocation(of: iovec.self, capacity: pieces.count) { vector in
            for index in unsafe pieces.indices {
                let piece = unsafe pieces[index]
                unsafe vector.initializeElement(
                    at: index,
                    to: iovec(
                        iov_base: UnsafeMutableRawPointer(mutating: piece.baseAddress), iov_len: piece.count))
            }
            var message = unsafe msghdr()
            unsafe message.msg_iov = vector.baseAddress
            unsafe message.msg_iovlen = vector.count
            let flags = moreFollows ? messageNoSignal | messageMore : messageNoSignal
            return IOResult.from { unsafe sendmsg(descriptor.number, &message, flags) }
        }
    }

    /// Sends FIN after what is queued: our side has finished, the peer's goes on.
    public func shutdownWrite() {
        _ = shutdown(descriptor.number, Int32(SHUT_WR))
    }

    /// Ends the connection with RST in place of FIN: what is queued is dropped and the peer reads ECONNRESET.
    public consuming func reset() {
        var immediate = linger(l_onoff: 1, l_linger: 0)
        _ = unsafe setsockopt(
            descriptor.number, SOL_SOCKET, SO_LINGER, &immediate, UInt32(MemoryLayout<linger>.size))
    }

    /// Takes the pending error (SO_ERROR): 0 when a non-blocking connect has succeeded.
    public func connectError() -> Int32 {
        option(SOL_SOCKET, SO_ERROR) ?? errno
    }

    /// Our end, canonical; nil for Unix sockets.
    public var localAddress: SocketAddress? {
        unsafe SocketAddress.asking { unsafe clinux_getsockname(descriptor.number, $0, $1) }
    }

    /// The other end, canonical; nil for Unix sockets and while unconnected.
    public var peerAddress: SocketAddress? {
        unsafe SocketAddress.asking { unsafe clinux_getpeername(descriptor.number, $0, $1) }
    }

    /// Where a redirected connection was meant to go, from connection tracking (SO_ORIGINAL_DST, IPv4 then IPv6).
    ///
    /// For a connection that nothing redirected this is the local address or nil.
    public var originalDestination: SocketAddress? {
        originalDestination(SOL_IP) ?? originalDestination(SOL_IPV6)
    }

    private func originalDestination(_ level: Int32) -> SocketAddress? {
        unsafe SocketAddress.asking {
            unsafe getsockopt(descriptor.number, level, originalDestinationOption, $0, $1)
        }
    }

    /// A stable number of the socket in its namespace, as `ss` and /proc show it; 0 when unknown.
    public var inode: UInt64 {
        var status = stat()
        return unsafe fstat(descriptor.number, &status) == 0 ? UInt64(status.st_ino) : 0
    }

    /// Bytes that were written and that the peer's kernel has not acknowledged (SIOCOUTQ, tcp(7)).
    public var unsentByteCount: Int {
        var count: Int32 = 0
        let answer = unsafe withUnsafeMutablePointer(to: &count) {
            clinux_ioctl(descriptor.number, UInt(TIOCOUTQ), UInt(bitPattern: $0))
        }
        return answer == 0 ? Int(count) : 0
    }

    /// Sends small writes at once (TCP_NODELAY).
    public func setNoDelay(_ on: Bool = true) {
        setOption(Int32(IPPROTO_TCP), TCP_NODELAY, on ? 1 : 0)
    }

    /// For a peer on this machine: sends as fast as that reads. Where a namespace's default is BBR, its timers would hold back
    /// what nothing is in the way of. Reno is in every kernel, and over loopback it has nothing to react to.
    public func setUnpaced() {
        let name: StaticString = "reno"
        _ = unsafe setsockopt(
            descriptor.number, Int32(IPPROTO_TCP), TCP_CONGESTION, name.utf8Start,
            UInt32(name.utf8CodeUnitCount))
    }

    /// Probes an idle peer so that a dead one is found.
    public func setKeepAlive(_ keepAlive: KeepAlive) {
        setOption(SOL_SOCKET, SO_KEEPALIVE, 1)
        setOption(Int32(IPPROTO_TCP), TCP_KEEPIDLE, keepAlive.idleSeconds)
        setOption(Int32(IPPROTO_TCP), TCP_KEEPINTVL, keepAlive.intervalSeconds)
        setOption(Int32(IPPROTO_TCP), TCP_KEEPCNT, keepAlive.count)
    }

    /// Asks for kernel buffers of so many bytes; the kernel doubles and bounds the figure. For tests of backpressure.
    public func setBuffers(receive: Int32? = nil, send: Int32? = nil) {
        if let receive { setOption(SOL_SOCKET, SO_RCVBUF, receive) }
        if let send { setOption(SOL_SOCKET, SO_SNDBUF, send) }
    }

    // MARK: Options

    func option(_ level: Int32, _ name: Int32) -> Int32? {
        var value: Int32 = 0
        var length = UInt32(MemoryLayout<Int32>.size)
        return unsafe getsockopt(descriptor.number, level, name, &value, &length) == 0 ? value : nil
    }

    /// Sets an option whose failure changes nothing for correctness.
    func setOption(_ level: Int32, _ name: Int32, _ value: Int32) {
        var value = value
        _ = unsafe setsockopt(descriptor.number, level, name, &value, UInt32(MemoryLayout<Int32>.size))
    }

    /// Sets an option without which the socket would be wrong.
    func require(
        _ level: Int32, _ name: Int32, _ value: Int32, _ what: StaticString
    ) throws(SystemCallError) {
        var value = value
        guard unsafe setsockopt(descriptor.number, level, name, &value, UInt32(MemoryLayout<Int32>.size)) == 0
        else { throw SystemCallError(call: "setsockopt", subject: "\(what)", number: errno) }
    }
}

/// When and how often an idle connection is probed (tcp(7)).
public struct KeepAlive: Equatable, Sendable {
    public var idleSeconds: Int32
    public var intervalSeconds: Int32
    public var count: Int32

    public init(idleSeconds: Int32, intervalSeconds: Int32, count: Int32) {
        self.idleSeconds = idleSeconds
        self.intervalSeconds = intervalSeconds
        self.count = count
    }
}

/// Who is at the other end of a Unix socket (SO_PEERCRED): as it was when the peer connected.
public struct PeerCredentials: Equatable, Sendable {
    public let uid: UInt32
    public let gid: UInt32
    public let pid: Int32
}

let messageNoSignal = Int32(MSG_NOSIGNAL)
let messageMore = Int32(MSG_MORE)
private let messagePeek = Int32(MSG_PEEK)
private let messageTruncate = Int32(MSG_TRUNC)

// From linux/netfilter_ipv4.h, linux/in.h and linux/in6.h; Swift's Glibc has only a part of them.
let originalDestinationOption: Int32 = 80
let ipTransparent: Int32 = 19
let ipv6Transparent: Int32 = 75
let ipFreeBind: Int32 = 15
let ipv6FreeBind: Int32 = 78
let ipBindAddressNoPort: Int32 = 24
let socketMark: Int32 = 36
