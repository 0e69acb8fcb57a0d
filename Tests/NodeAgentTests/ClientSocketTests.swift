import Address
import EventLoop
import Linux
import Metrics
import Testing

@testable import NodeAgent

struct ClientSocketTests {
    /// The kernel tells a reset once: whoever reads after that sees an end in order.
    @Test(arguments: [true, false])
    func `a reset that is met while looking for first bytes is reported`(isWatchedFirst: Bool) throws {
        let loop = try EventLoop(name: "test", .init(), registry: Registry())
        let address = try #require(SocketAddress("127.0.0.1:0"))
        let listener = try Socket.listen(on: address)
        let application = try Socket.connect(to: listener.localAddress ?? address)
        guard let accepted = try listener.accept() else {
            Issue.record("nothing to accept")
            return
        }
        let client = ClientSocket(loop, accepted.socket)
        var reports = 0
        if isWatchedFirst { client.watch { reports += 1 } }
        application.reset()
        let area = UnsafeMutableRawBufferPointer.allocate(byteCount: 16, alignment: 1)
        defer { unsafe area.deallocate() }
        #expect(unsafe client.peek(into: area) == 0)
        #expect(client.hasFailed && reports == 0)
        if !isWatchedFirst { client.watch { reports += 1 } }
        let deadline = MonotonicTime.now() + .seconds(60)
        while reports == 0, MonotonicTime.now() < deadline { loop.turn(waitingAtMost: .milliseconds(1)) }
        #expect(reports == 1)
        _ = client.take()
    }
}
