import Address
import CLinux
import Glibc
import Testing

@testable import Linux

struct InheritanceTests {
    private func listener() throws -> Socket {
        let anywhere = try #require(SocketAddress("127.0.0.1:0"))
        return try Socket.listen(on: anywhere, ListenOptions())
    }

    @Test func `a child finds what it was passed from descriptor 3 on, in order`() throws {
        let first = try listener()
        let second = try listener()
        var options = ChildProcess.Options()
        options.output = .piped
        options.passed = [second.reference, first.reference]
        // The copies on the way stay behind.
        let count = "ls -l /proc/self/fd | grep -cF 'socket:[\(first.inode)]'"
        let script = "readlink /proc/self/fd/3 /proc/self/fd/4; \(count)"
        var child = try ChildProcess.start("sh", ["-c", script], options)
        let ended = try child.wait()
        #expect(ended == .exited(0))
        guard let output = child.standardOutput.take() else {
            Issue.record("no pipe")
            return
        }
        #expect(readAll(output) == "socket:[\(second.inode)]\nsocket:[\(first.inode)]\n1\n")
    }

    @Test func `a listener that was passed is taken over`() throws {
        let original = try listener()
        let inode = original.inode
        let adopted = try Socket.adopting(listener: dup(original.descriptor.number))
        #expect(adopted.inode == inode)
        #expect(adopted.localAddress == original.localAddress)
        #expect(descriptorFlags(adopted) & FD_CLOEXEC != 0)
    }

    @Test func `what is no listening socket is not taken over`() throws {
        let pair = try Socket.pair()
        let number = dup(pair.first.descriptor.number)
        defer { close(number) }
        #expect(throws: SystemCallError.self) { _ = try Socket.adopting(listener: number) }
        #expect(throws: SystemCallError.self) { _ = try Socket.adopting(listener: 1) }
        #expect(throws: SystemCallError.self) { _ = try Socket.adopting(listener: 100_000) }
    }

    private func descriptorFlags(_ socket: borrowing Socket) -> Int32 {
        clinux_fcntl(socket.descriptor.number, F_GETFD, 0)
    }

    private func readAll(_ end: borrowing PipeEnd) -> String {
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while end.reference.isReadable(within: 5_000) {
            let result = unsafe buffer.withUnsafeMutableBytes { unsafe end.read(into: $0) }
            guard case .bytes(let count) = result else { break }
            text += buffer[..<count]
        }
        return String(decoding: text, as: UTF8.self)
    }
}
