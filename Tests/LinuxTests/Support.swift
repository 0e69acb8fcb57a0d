import Address
import Glibc
import Testing

@testable import Linux

/// A directory of the test's own, removed when the test ends.
struct TemporaryDirectory: ~Copyable {
    let path: String

    init(mode: UInt32 = 0o700) throws {
        path = "/tmp/warren-test-" + randomBytes(8).map { String($0, radix: 16) }.joined()
        try makeDirectory(path)
        unsafe chmod(path, mode_t(mode))
    }

    deinit {
        for name in (try? listDirectory(path)) ?? [] { unsafe unlink(path + "/" + name) }
        unsafe rmdir(path)
    }
}

func fileMode(_ path: String) throws -> UInt32 {
    var status = stat()
    try #require(unsafe stat(path, &status) == 0)
    return UInt32(status.st_mode) & 0o7777
}

/// Waits until a connection is there to be accepted.
func waitForConnection(_ listener: borrowing Socket) throws -> Accepted {
    while true {
        if let accepted = try listener.accept() { return accepted }
        guard listener.reference.isReadable(within: 5_000) else { throw TestTimeout() }
    }
}

struct TestTimeout: Error {}

/// An address that nobody listens on.
func freeAddress() throws -> SocketAddress {
    let listener = try Socket.listen(on: SocketAddress(.loopbackIPv4, 0))
    return try boundAddress(listener)
}

func writeText(_ text: String, to socket: borrowing Socket) {
    let result = unsafe Array(text.utf8).withUnsafeBytes { unsafe socket.write($0) }
    #expect(result == .bytes(text.utf8.count))
}

func readOnce(_ socket: borrowing Socket) -> IOResult {
    unsafe withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) { unsafe socket.read(into: $0) }
}

/// Waits for bytes and reads what is there.
func readBytes(_ socket: borrowing Socket) -> [UInt8] {
    _ = socket.reference.isReadable(within: 5_000)
    return unsafe withUnsafeTemporaryAllocation(byteCount: 4_096, alignment: 1) { buffer in
        guard case .bytes(let count) = unsafe socket.read(into: buffer) else { return [] }
        return unsafe Array(buffer[..<count])
    }
}

func boundAddress(_ socket: borrowing Socket) throws -> SocketAddress {
    guard let address = socket.localAddress else { throw TestTimeout() }
    return address
}

func nothingWaits(_ listener: borrowing Socket) throws -> Bool {
    if (try listener.accept()) != nil { return false }
    return true
}
