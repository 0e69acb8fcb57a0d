import Address
import Synchronization
import Testing

@testable import Linux

struct EventTests {
    @Test func `several signals are one wake-up`() throws {
        let event = try EventDescriptor()
        event.signal()
        event.signal()
        #expect(event.drain() == 2)
        #expect(event.drain() == 0)
    }

    @Test func `an epoll set reports what is ready, again and again, until it is drained`() throws {
        let epoll = try Epoll(capacity: 4)
        let event = try EventDescriptor()
        try epoll.add(event.reference, .readable, token: 42)
        #expect(epoll.wait(milliseconds: 0) == 0)
        event.signal()
        for _ in 0..<2 {
            #expect(epoll.wait(milliseconds: 1_000) == 1)
            #expect(epoll[0].token == 42)
            #expect(epoll[0].events.contains(.readable))
        }
        event.drain()
        #expect(epoll.wait(milliseconds: 0) == 0)
        try epoll.remove(event.reference)
        #expect(throws: SystemCallError.self) { try epoll.remove(event.reference) }
    }

    @Test func `a peer that shuts down is seen although data waits in front`() throws {
        let epoll = try Epoll()
        let pair = try Socket.pair()
        try epoll.add(pair.second.reference, [.readable, .peerClosed], token: 1)
        writeText("x", to: pair.first)
        pair.first.shutdownWrite()
        #expect(epoll.wait(milliseconds: 1_000) == 1)
        #expect(epoll[0].events.contains([.readable, .peerClosed]))
    }

    @Test func `a directory watch sees a file appear`() throws {
        let directory = try TemporaryDirectory()
        let watch = try DirectoryWatch()
        try watch.add(directory.path)
        let early = watch.drain()
        #expect(!early)
        try writeFileAtomically(directory.path + "/a", [1])
        let seen = watch.wait(milliseconds: 5_000)
        #expect(seen)
    }
}

struct FileTests {
    @Test func `a file written atomically has its contents and mode and leaves nothing beside it`() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/key.pem"
        try writeFileAtomically(path, Array("old".utf8), mode: 0o644)
        try writeFileAtomically(path, Array("new".utf8), mode: 0o600)
        #expect(try readFile(path) == Array("new".utf8))
        #expect(try fileMode(path) == 0o600)
        #expect(try listDirectory(directory.path) == ["key.pem"])
    }

    @Test func `a file over the limit is refused, one at the limit is read`() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/big"
        try writeFileAtomically(path, [UInt8](repeating: 7, count: 100_000))
        #expect(try readFile(path, limit: 100_000).count == 100_000)
        #expect(throws: SystemCallError.self) { try readFile(path, limit: 99_999) }
    }

    @Test func `a missing file says so`() {
        let error = #expect(throws: SystemCallError.self) { try readFile("/nonexistent/file") }
        #expect(error?.isMissing == true)
        #expect(error?.description.contains("/nonexistent/file") == true)
    }

    @Test(arguments: [("a/b", "a"), ("/a", "/"), ("a", "."), ("/a/b/c", "/a/b")])
    func `the parent of a path`(path: String, parent: String) {
        #expect(parentDirectory(of: path) == parent)
    }
}

struct ClockTests {
    @Test(arguments: [
        (0, "1970-01-01T00:00:00.000000Z"), (951_782_400, "2000-02-29T00:00:00.000000Z"),
        (1_767_225_599, "2025-12-31T23:59:59.000000Z"), (-1, "1969-12-31T23:59:59.000000Z"),
        (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
    ])
    func `a time of day is written as RFC 3339 says`(seconds: Int64, text: String) {
        #expect(WallClock(seconds: seconds).rfc3339 == text)
    }

    @Test func `monotonic time saturates at both ends`() {
        #expect(MonotonicTime(nanoseconds: 5) + .seconds(-1) == MonotonicTime(nanoseconds: 0))
        #expect(MonotonicTime(nanoseconds: .max) + .seconds(1) == MonotonicTime(nanoseconds: .max))
        #expect(MonotonicTime(nanoseconds: 1_000_000_000) - MonotonicTime(nanoseconds: 0) == .seconds(1))
        #expect(Duration.seconds(Int64.max).wholeNanoseconds == .max)
    }
}

struct NamespaceTests {
    @Test(.enabled(if: Privileges.has(.sysAdmin)))
    func `work in another namespace happens there, and the thread comes back`() throws {
        let foreign = try namespaceOfOwn()
        let before = try NetworkNamespace.current().identity
        #expect(foreign.identity != before)
        let inside = try foreign.perform { () throws(SystemCallError) in
            try NetworkNamespace.current().identity
        }
        #expect(inside == foreign.identity)
        #expect(try NetworkNamespace.current().identity == before)
    }

    @Test(.enabled(if: Privileges.has(.sysAdmin)))
    func `an error inside leaves the namespace too`() throws {
        let foreign = try namespaceOfOwn()
        let before = try NetworkNamespace.current().identity
        #expect(throws: SystemCallError.self) {
            try foreign.perform { () throws(SystemCallError) in _ = try readFile("/nonexistent") }
        }
        #expect(try NetworkNamespace.current().identity == before)
    }

    @Test(.enabled(if: Privileges.has(.sysAdmin)))
    func `interfaces are those of the namespace`() throws {
        let foreign = try namespaceOfOwn()
        let there = try foreign.perform { () throws(SystemCallError) in try Interfaces.addresses() }
        #expect(there.isEmpty)
        #expect(try Interfaces.addresses().contains { $0.address == .loopbackIPv4 && $0.prefixLength == 8 })
    }

    @Test(.enabled(if: Privileges.has(.sysAdmin)))
    func `a program starts in the namespace of the calling thread`() throws {
        let foreign = try namespaceOfOwn()
        var options = ChildProcess.Options()
        options.output = .piped
        let output = try foreign.perform { () throws(SystemCallError) in
            try outputOf("readlink", ["/proc/self/ns/net"], options)
        }
        #expect(output == "\(foreign.identity)\n")
    }

    @Test(arguments: ["/etc/passwd", "/proc/self/ns/mnt", "/dev/null", "../../proc/self/ns/net", "", "a/b"])
    func `what is no network namespace is refused`(path: String) {
        #expect(throws: SystemCallError.self) { _ = try NetworkNamespace(path) }
    }

    /// A namespace held by nothing but its handle, made on a thread that then ends.
    private func namespaceOfOwn() throws -> NetworkNamespace {
        let holder = Holder()
        let thread = try Thread.start(name: "namespace") { holder.fill() }
        thread.join()
        guard let namespace = holder.take() else { throw TestTimeout() }
        return namespace
    }
}

/// Hands a namespace from one thread to another.
private final class Holder: Sendable {
    private let namespace = Mutex<NetworkNamespace?>(nil)

    func fill() {
        namespace.withLock { slot in
            guard (try? NetworkNamespace.unshare()) != nil else { return }
            slot = try? NetworkNamespace.current()
        }
    }

    func take() -> NetworkNamespace? { namespace.withLock { $0.take() } }
}

struct ProcessTests {
    @Test func `a program's output and exit status come back`() throws {
        var options = ChildProcess.Options()
        options.output = .piped
        options.input = .piped
        var child = try ChildProcess.start("sh", ["-c", "read word; echo got $word; exit 3"], options)
        let input = child.standardInput.take()
        if let input {
            #expect(unsafe Array("hello\n".utf8).withUnsafeBytes { unsafe input.write($0) } == .bytes(6))
        }
        #expect(try child.wait() == .exited(3))
        #expect(readAll(child.standardOutput.take()) == "got hello\n")
    }

    @Test func `a signal ends a program and shows in its status`() throws {
        let child = try ChildProcess.start("sleep", ["60"])
        #expect(try child.status() == nil)
        child.send(.terminate)
        #expect(try child.wait() == .killed(signal: 15))
        child.send(.terminate)
    }

    @Test func `the environment can be replaced`() throws {
        var options = ChildProcess.Options()
        options.environment = ["ONLY=this"]
        options.output = .piped
        #expect(try outputOf("/usr/bin/env", [], options) == "ONLY=this\n")
    }

    @Test func `a program that does not exist is an error at once`() {
        #expect(throws: SystemCallError.self) { _ = try ChildProcess.start("/nonexistent/program", []) }
    }

    @Test func `random bytes come in the number asked for`() {
        #expect(randomBytes(0).isEmpty)
        #expect(randomBytes(1_000).count == 1_000)
        #expect(randomBytes(32) != randomBytes(32))
    }
}

func outputOf(
    _ program: String, _ arguments: [String], _ options: ChildProcess.Options
) throws(SystemCallError) -> String {
    var child = try ChildProcess.start(program, arguments, options)
    _ = try child.wait()
    return readAll(child.standardOutput.take())
}

func readAll(_ end: consuming PipeEnd?) -> String {
    guard let end else { return "" }
    var bytes: [UInt8] = []
    let finished = unsafe withUnsafeTemporaryAllocation(byteCount: 4_096, alignment: 1) { buffer in
        while end.reference.isReadable(within: 5_000) {
            guard case .bytes(let count) = unsafe end.read(into: buffer) else { return true }
            unsafe bytes += buffer[..<count]
        }
        return false
    }
    #expect(finished)
    return String(decoding: bytes, as: UTF8.self)
}
