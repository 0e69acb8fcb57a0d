import Address
import CLinux
import Glibc

/// How a listening socket is made.
public struct ListenOptions: Equatable, Sendable {
    /// Several sockets share the address and the kernel spreads connections over them (SO_REUSEPORT).
    public var reusePort = false
    /// Accepts connections to addresses that are not ours (IP_TRANSPARENT); needs CAP_NET_ADMIN.
    public var transparent = false
    /// The mark on everything the socket and its accepted children send (SO_MARK); needs CAP_NET_ADMIN.
    public var mark: UInt32?
    /// Connections that wait to be accepted; the kernel bounds it by net.core.somaxconn.
    public var backlog: Int32 = 4096
    /// Binds an address that does not exist yet (IP_FREEBIND).
    public var freeBind = false
    /// Keeps IPv4 away from an IPv6 socket. When false, `[::]` serves both families.
    public var v6Only = false

    public init(
        reusePort: Bool = false, transparent: Bool = false, mark: UInt32? = nil, backlog: Int32 = 4096,
        freeBind: Bool = false, v6Only: Bool = false
    ) {
        self.reusePort = reusePort
        self.transparent = transparent
        self.mark = mark
        self.backlog = backlog
        self.freeBind = freeBind
        self.v6Only = v6Only
    }
}

/// How an outgoing connection is made.
public struct ConnectOptions: Equatable, Sendable {
    /// The mark on everything the socket sends (SO_MARK); needs CAP_NET_ADMIN.
    public var mark: UInt32?
    /// The given source address need not be ours (IP_TRANSPARENT); needs CAP_NET_ADMIN.
    public var transparent = false
    /// Sends small writes at once (TCP_NODELAY).
    public var noDelay = true
    public var keepAlive: KeepAlive?
    /// The other end is in the same namespace: the handshake goes through the loopback within the call that starts it, and
    /// what is sent is not paced.
    public var isLocal = false
    /// By which it sends: the first that can be had, as for `setCongestionControl(firstOf:)`.
    public var congestionControls: [String] = []

    public init(
        mark: UInt32? = nil, transparent: Bool = false, noDelay: Bool = true, keepAlive: KeepAlive? = nil,
        isLocal: Bool = false, congestionControls: [String] = []
    ) {
        self.mark = mark
        self.transparent = transparent
        self.noDelay = noDelay
        self.keepAlive = keepAlive
        self.isLocal = isLocal
        self.congestionControls = congestionControls
    }
}

/// A connection taken from a listener.
@frozen
public struct Accepted: ~Copyable, Sendable {
    public let socket: Socket
    /// Where it came from, canonical; nil on Unix sockets.
    public let peer: SocketAddress?
}

/// A connection that was started.
@frozen
public struct Dialled: ~Copyable, Sendable {
    public let socket: Socket
    /// It is made already, as one within a namespace mostly is: the handshake goes through the loopback in the very call.
    public let isConnected: Bool
}

extension Socket {
    /// Listens for TCP connections.
    public static func listen(
        on address: SocketAddress, _ options: ListenOptions = ListenOptions()
    ) throws(SystemCallError) -> Socket {
        let socket = try open(family: address.address.isIPv4 ? AF_INET : AF_INET6, for: address)
        try socket.require(SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR")
        if !address.address.isIPv4 {
            try socket.require(SOL_IPV6, IPV6_V6ONLY, options.v6Only ? 1 : 0, "IPV6_V6ONLY")
        }
        if options.reusePort { try socket.require(SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT") }
        if options.transparent { try socket.requireTransparent(isIPv4: address.address.isIPv4) }
        if options.freeBind {
            try address.address.isIPv4
                ? socket.require(SOL_IP, ipFreeBind, 1, "IP_FREEBIND")
                : socket.require(SOL_IPV6, ipv6FreeBind, 1, "IPV6_FREEBIND")
        }
        if let mark = options.mark {
            try socket.require(SOL_SOCKET, socketMark, Int32(bitPattern: mark), "SO_MARK")
        }
        try systemCall("bind", on: "\(address)") {
            unsafe address.withSystemForm { unsafe clinux_bind(socket.descriptor.number, $0, $1) }
        }
        try systemCall("listen", on: "\(address)") { Glibc.listen(socket.descriptor.number, options.backlog) }
        return socket
    }

    /// `dial`, for who waits in any case.
    public static func connect(
        to address: SocketAddress, from source: SocketAddress? = nil,
        _ options: ConnectOptions = ConnectOptions()
    ) throws(SystemCallError) -> Socket {
        let dialled = try dial(address, from: source, options)
        return dialled.socket
    }

    /// Starts a TCP connection. Unless it is made at once it is made when the socket becomes writable and `connectError()`
    /// is 0.
    ///
    /// - Parameters:
    ///   - address: the destination.
    ///   - source: the address to come from; port 0 lets the kernel choose at connect time, so that one source address
    ///     can use an ephemeral port once per destination.
    public static func dial(
        _ address: SocketAddress, from source: SocketAddress? = nil,
        _ options: ConnectOptions = ConnectOptions()
    ) throws(SystemCallError) -> Dialled {
        let socket = try open(family: address.address.isIPv4 ? AF_INET : AF_INET6, for: address)
        if options.noDelay { socket.setNoDelay() }
        if let keepAlive = options.keepAlive { socket.setKeepAlive(keepAlive) }
        if options.isLocal { socket.setUnpaced() }
        if !options.congestionControls.isEmpty {
            socket.setCongestionControl(firstOf: options.congestionControls)
        }
        if let mark = options.mark {
            try socket.require(SOL_SOCKET, socketMark, Int32(bitPattern: mark), "SO_MARK")
        }
        if options.transparent { try socket.requireTransparent(isIPv4: address.address.isIPv4) }
        if let source {
            guard source.address.isIPv4 == address.address.isIPv4 else {
                throw SystemCallError(call: "bind", subject: "\(source) for \(address)", number: EAFNOSUPPORT)
            }
            try socket.require(SOL_IP, ipBindAddressNoPort, 1, "IP_BIND_ADDRESS_NO_PORT")
            try systemCall("bind", on: "\(source)") {
                unsafe source.withSystemForm { unsafe clinux_bind(socket.descriptor.number, $0, $1) }
            }
        }
        let isConnected = try socket.start(toward: address, isLocal: options.isLocal)
        return Dialled(socket: socket, isConnected: isConnected)
    }

    /// - Returns: whether the connection is made already.
    private func start(toward address: SocketAddress, isLocal: Bool) throws(SystemCallError) -> Bool {
        try unsafe address.withSystemForm { (form, length) throws(SystemCallError) in
            if unsafe clinux_connect(descriptor.number, form, length) == 0 { return true }
            // The kernel says EINPROGRESS even when the answer over the loopback has arrived meanwhile. A second call tells,
            // and costs a tenth of waiting for an event.
            if isLocal, errno == EINPROGRESS, unsafe clinux_connect(descriptor.number, form, length) == 0 {
                return true
            }
            // EINTR: the connection goes on without us, as with the other two.
            guard errno == EINPROGRESS || errno == EALREADY || errno == EINTR else {
                throw SystemCallError(call: "connect", subject: "\(address)", number: errno)
            }
            return false
        }
    }

    /// Takes the next waiting connection; nil when there is none.
    ///
    /// A connection that broke while it waited is skipped, as accept(2) asks for on Linux.
    public func accept() throws(SystemCallError) -> Accepted? {
        while true {
            var storage = sockaddr_storage()
            var length = UInt32(MemoryLayout<sockaddr_storage>.size)
            let number = unsafe clinux_accept4(
                descriptor.number, &storage, &length,
                Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue))
            if number >= 0 {
                return Accepted(
                    socket: Socket(owning: Descriptor(owning: number)), peer: SocketAddress(storage))
            }
            switch errno {
            case EAGAIN: return nil
            case EINTR, ECONNABORTED, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH,
                EOPNOTSUPP,
                ENETUNREACH, EPERM:
                continue
            default: throw SystemCallError(call: "accept", subject: "listener", number: errno)
            }
        }
    }

    /// The mark that the socket puts on its packets.
    public var mark: UInt32? { option(SOL_SOCKET, socketMark).map { UInt32(bitPattern: $0) } }

    static func open(family: Int32, for address: SocketAddress) throws(SystemCallError) -> Socket {
        let number = try systemCall("socket", on: "\(address)") {
            clinux_socket(family, Int32(SOCK_STREAM.rawValue), 0)
        }
        return Socket(owning: Descriptor(owning: number))
    }

    private func requireTransparent(isIPv4: Bool) throws(SystemCallError) {
        // A dual-stack IPv6 socket needs the IPv4 option as well: both set one bit of the socket.
        try isIPv4
            ? require(SOL_IP, ipTransparent, 1, "IP_TRANSPARENT")
            : require(SOL_IPV6, ipv6Transparent, 1, "IPV6_TRANSPARENT")
    }
}
