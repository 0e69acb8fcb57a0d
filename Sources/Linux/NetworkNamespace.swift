import CLinux
import Glibc

/// An open handle on a network namespace (namespaces(7)): it stays alive as long as somebody holds it.
public struct NetworkNamespace: ~Copyable, Sendable {
    /// What tells two namespaces apart, whatever path they were opened by.
    public struct Identity: Hashable, Sendable, CustomStringConvertible {
        public let device: UInt64
        public let inode: UInt64

        public init(device: UInt64, inode: UInt64) {
            self.device = device
            self.inode = inode
        }

        public var description: String { "net:[\(inode)]" }
    }

    private let descriptor: Descriptor
    public let identity: Identity

    /// Opens a namespace by its name in /run/netns, or by an absolute path.
    ///
    /// - Throws: EINVAL for something that is not a network namespace, or for a name that is no plain file name.
    public init(_ nameOrPath: String) throws(SystemCallError) {
        let path = nameOrPath.hasPrefix("/") ? nameOrPath : "/run/netns/\(nameOrPath)"
        guard nameOrPath.hasPrefix("/") || isPlainFileName(nameOrPath) else {
            throw SystemCallError(call: "open", subject: "namespace \(nameOrPath)", number: EINVAL)
        }
        try self.init(path: path)
    }

    private init(path: String) throws(SystemCallError) {
        // O_NONBLOCK: a path that turns out to be a FIFO must not hold the daemon up.
        let number = try systemCall("open", on: path) { unsafe clinux_open(path, O_RDONLY | O_NONBLOCK, 0) }
        let descriptor = Descriptor(owning: number)
        // NS_GET_NSTYPE answers ENOTTY for anything that is no namespace at all.
        guard clinux_ioctl(descriptor.number, CLINUX_NS_GET_NSTYPE, 0) == CLINUX_CLONE_NEWNET else {
            throw SystemCallError(call: "open", subject: "\(path): not a network namespace", number: EINVAL)
        }
        var status = stat()
        try systemCall("fstat", on: path) { unsafe fstat(descriptor.number, &status) }
        identity = Identity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
        self.descriptor = descriptor
    }

    /// The namespace of the calling thread.
    public static func current() throws(SystemCallError) -> NetworkNamespace {
        try NetworkNamespace(path: "/proc/thread-self/ns/net")
    }

    /// The namespace of another process.
    public static func ofProcess(_ pid: Int32) throws(SystemCallError) -> NetworkNamespace {
        try NetworkNamespace(path: "/proc/\(pid)/ns/net")
    }

    /// A second handle on the same namespace, to be owned by somebody else.
    public func duplicate() throws(SystemCallError) -> NetworkNamespace {
        let number = try systemCall("fcntl", on: "\(identity)") {
            clinux_fcntl(descriptor.number, duplicateCloseOnExec, 0)
        }
        return NetworkNamespace(owning: Descriptor(owning: number), identity)
    }

    private init(owning descriptor: consuming Descriptor, _ identity: Identity) {
        self.descriptor = descriptor
        self.identity = identity
    }

    /// Whether the namespace belongs to the user namespace that the calling process is in (user_namespaces(7)). In one
    /// that does not, uids mean something else, to netfilter too.
    public func belongsToOurUsers() throws(SystemCallError) -> Bool {
        let owner = try systemCall("ioctl", on: "\(identity)'s user namespace") {
            clinux_ioctl(descriptor.number, CLINUX_NS_GET_USERNS, 0)
        }
        let owning = Descriptor(owning: owner)
        var (theirs, ours) = (stat(), stat())
        try systemCall("fstat", on: "user namespace") { unsafe fstat(owning.number, &theirs) }
        try systemCall("stat", on: "user namespace") { unsafe stat("/proc/self/ns/user", &ours) }
        return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)
    }

    /// Moves the calling thread into the namespace, for good (setns(2)). Needs CAP_SYS_ADMIN.
    public func enter() throws(SystemCallError) {
        try systemCall("setns", on: "\(identity)") { clinux_setns(descriptor.number, CLINUX_CLONE_NEWNET) }
    }

    /// Runs `body` with the calling thread inside the namespace, and comes back.
    ///
    /// A thread that cannot come back would do its next work in a workload's namespace; the process ends instead.
    /// `body` must not suspend: it would go on on another thread.
    public func perform<T: ~Copyable, Failure: Error>(
        orThrow failure: (SystemCallError) -> Failure, _ body: () throws(Failure) -> T
    ) throws(Failure) -> T {
        let home = try enterFromHome(orThrow: failure)
        defer { home.returnOrAbort() }
        return try body()
    }

    /// As the other `perform`, for bodies that throw system call errors only.
    public func perform<T: ~Copyable>(
        _ body: () throws(SystemCallError) -> T
    ) throws(SystemCallError) -> T {
        try perform(orThrow: { $0 }, body)
    }

    private func enterFromHome<Failure: Error>(
        orThrow failure: (SystemCallError) -> Failure
    ) throws(Failure) -> NetworkNamespace {
        do { return try enterFromHome() } catch { throw failure(error) }
    }

    private func enterFromHome() throws(SystemCallError) -> NetworkNamespace {
        let home = try NetworkNamespace.current()
        try enter()
        return home
    }

    fileprivate func returnOrAbort() {
        do { try enter() } catch { fatalError("cannot leave a network namespace: \(error)") }
    }

    /// Gives the calling thread a namespace of its own, empty but for a loopback that is down. For tests.
    public static func unshare() throws(SystemCallError) {
        try systemCall("unshare", on: "network namespace") { clinux_unshare(CLINUX_CLONE_NEWNET) }
    }
}

/// Where a worker's thread is, so that it moves only when it must: a namespace switch costs microseconds.
///
/// Owned by the thread that made it, and used on it alone.
public struct NamespaceThread: ~Copyable {
    private let home: NetworkNamespace
    private var location: NetworkNamespace.Identity

    /// Records the namespace of the calling thread as its home.
    public init() throws(SystemCallError) {
        home = try NetworkNamespace.current()
        location = home.identity
    }

    /// Moves the thread into a namespace and leaves it there; nothing happens when it is there already.
    public mutating func enter(_ namespace: borrowing NetworkNamespace) throws(SystemCallError) {
        guard namespace.identity != location else { return }
        try namespace.enter()
        location = namespace.identity
    }

    /// Back to where the thread was when this value was made. Ends the process when that fails.
    public mutating func goHome() {
        guard location != home.identity else { return }
        home.returnOrAbort()
        location = home.identity
    }
}
