import Daemon
import Testing

@testable import NodeAgent

struct HandshakeQueueTests {
    final class Handshake {
        let number: Int
        var isDone = false

        init(_ number: Int) {
            self.number = number
        }
    }

    private static func queue() -> HandshakeQueue<Handshake> {
        HandshakeQueue(limit: 3) { $0.isDone }
    }

    @Test func `the oldest makes room for the newest`() {
        var queue = Self.queue()
        let all = (0..<5).map(Handshake.init)
        #expect(all.map { queue.append($0)?.number } == [nil, nil, nil, 0, 1])
    }

    @Test func `one that is done is never ended, and counts no more`() {
        var queue = Self.queue()
        let all = (0..<6).map(Handshake.init)
        all[0].isDone = true
        all[2].isDone = true
        #expect(all.map { queue.append($0)?.number } == [nil, nil, nil, nil, nil, 1])
    }
}
