import CLinux
import Glibc

extension Socket {
    /// Listens on a Unix stream socket.
    ///
    /// The socket is born with `mode`, there is no moment at which others could connect. Its directory must belong to
    /// root or to us and be writable for nobody else; it is made with mode 0700 if missing. A dead socket of an earlier
    /// run is replaced, a live one is EADDRINUSE.
    public static func listen(
        onPath path: String, mode: UInt32 = 0o600, backlog: Int32 = 128
    ) throws(SystemCallError) -> Socket {
        try checkSocketDirectory(of: path)
        if (try? connect(toPath: path)) != nil {
            throw SystemCallError(call: "bind", subject: path, number: EADDRINUSE)
        }
        if let kind = FileKind(of: path) {
            guard kind == .socket else { throw SystemCallError(call: "bind", subject: path, number: EEXIST) }
            _ = unsafe unlink(path)
        }
        let socket = try openUnix(path)
        // Linux takes the mode of the file from the socket's own inode (unix(7)), less the umask.
        try systemCall("fchmod", on: path) { fchmod(socket.descriptor.number, mode_t(mode)) }
        try systemCall("bind", on: path) {
            unsafe withUnixAddress(path) { unsafe clinux_bind(socket.descriptor.number, $0, $1) }
        }
        try systemCall("listen", on: path) { Glibc.listen(socket.descriptor.number, backlog) }
        return socket
    }

    /// Connects to a Unix stream socket; done when it returns. EAGAIN when the listener's backlog is full.
    public static func connect(toPath path: String) throws(SystemCallError) -> Socket {
        let socket = try openUnix(path)
        try systemCall("connect", on: path) {
            unsafe withUnixAddress(path) { unsafe clinux_connect(socket.descriptor.number, $0, $1) }
        }
        return socket
    }

    /// Two connected sockets, for tests and for a talk with a child.
    public static func pair() throws(SystemCallError) -> SocketPair {
        var numbers: (Int32, Int32) = (-1, -1)
        try systemCall("socketpair", on: "unix") {
            unsafe withUnsafeMutablePointer(to: &numbers) {
                unsafe $0.withMemoryRebound(to: Int32.self, capacity: 2) {
                    unsafe socketpair(
                        AF_UNIX,
                        Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
                            | Int32(SOCK_NONBLOCK.rawValue),
                        0, $0)
                }
            }
        }
        return SocketPair(
            first: Socket(owning: Descriptor(owning: numbers.0)),
            second: Socket(owning: Descriptor(owning: numbers.1)))
    }

    /// Who connected (Unix sockets only).
    public var peerCredentials: PeerCredentials? {
        var (uid, gid, pid): (UInt32, UInt32, Int32) = (0, 0, 0)
        guard unsafe clinux_peer_credentials(descriptor.number, &uid, &gid, &pid) == 0, pid != 0 else {
            return nil
        }
        return PeerCredentials(uid: uid, gid: gid, pid: pid)
    }

    private static func openUnix(_ path: String) throws(SystemCallError) -> Socket {
        guard (1..<unixPathCapacity).contains(path.utf8.count), !path.utf8.contains(0) else {
            throw SystemCallError(call: "socket", subject: path, number: ENAMETOOLONG)
        }
        let number = try systemCall("socket", on: path) {
            clinux_socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        }
        return Socket(owning: Descriptor(owning: number))
    }

    private static func checkSocketDirectory(of path: String) throws(SystemCallError) {
        let directory = parentDirectory(of: path)
        if FileKind(of: directory) == nil {
            try systemCall("mkdir", on: directory) { unsafe mkdir(directory, 0o700) }
        }
        var status = stat()
        try systemCall("stat", on: directory) { unsafe stat(directory, &status) }
        guard status.st_uid == 0 || status.st_uid == geteuid() else {
            throw SystemCallError(
                call: "bind", subject: "\(directory): owned by another user", number: EACCES)
        }
        // The sticky bit protects entries in a shared directory such as /tmp.
        guard status.st_mode & 0o022 == 0 || status.st_mode & 0o1000 != 0 else {
            throw SystemCallError(call: "bind", subject: "\(directory): writable for others", number: EACCES)
        }
    }
}

/// Two sockets connected with each other.
@frozen
public struct SocketPair: ~Copyable, Sendable {
    public let first: Socket
    public let second: Socket

    public init(first: consuming Socket, second: consuming Socket) {
        self.first = first
        self.second = second
    }
}

private let unixPathCapacity = 108

private func withUnixAddress(_ path: String, _ body: (UnsafeRawPointer, UInt32) -> Int32) -> Int32 {
    var form = sockaddr_un()
    form.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &form.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
    return unsafe body(&form, UInt32(MemoryLayout<sockaddr_un>.size))
}
