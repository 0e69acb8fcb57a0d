import TestSupport
import Testing

@testable import HTTP2

/// Two machines joined by a pipe that chops bytes anywhere: whatever the sizes, every byte arrives once and in order, no
/// window goes negative, and everything closes.
struct RandomisedTests {
    /// One side: its machine, what it wants to send on each stream, and what it has read and not yet consumed.
    private final class Side {
        let endpoint: Endpoint
        var toSend: [UInt32: (left: Int, sent: Int)] = [:]
        var received: [UInt32: Int] = [:]
        var unconsumed: [UInt32: Int] = [:]
        var ended: Set<UInt32> = []
        var wire: [UInt8] = []

        init(_ role: HTTP2Connection.Role, _ configuration: HTTP2Configuration) {
            endpoint = Endpoint(role, configuration, greeted: false)
        }

        /// Content is a function of stream and position, so that a byte out of place shows.
        static func byte(_ stream: UInt32, _ position: Int) -> UInt8 {
            UInt8(truncatingIfNeeded: position &* 31 &+ Int(stream) &* 17 &+ position >> 8)
        }

        func step(_ random: inout SeededGenerator) {
            wire += endpoint.outputBytes()
            for (stream, work) in toSend.sorted(by: { $0.key < $1.key }) {
                let allowed = min(work.left, endpoint.connection.sendable(stream))
                let count = allowed == 0 ? 0 : Int.random(in: 1...allowed, using: &random)
                guard count > 0 || work.left == 0 else { continue }
                let isLast = count == work.left
                let content = (0..<count).map { Self.byte(stream, work.sent + $0) }
                wire += endpoint.dataFrame(stream, content, end: isLast)
                toSend[stream] = isLast ? nil : (work.left - count, work.sent + count)
            }
            for (stream, count) in unconsumed.sorted(by: { $0.key < $1.key })
            where Bool.random(using: &random) {
                let taken = Int.random(in: 0...count, using: &random)
                endpoint.connection.consumed(stream, taken)
                unconsumed[stream] = count == taken ? nil : count - taken
            }
        }
    }

    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func `bytes in are bytes out`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var configuration = HTTP2Configuration.mesh
        configuration.initialWindow = [65_535, 100_000, 4 << 20].randomElement(using: &random) ?? 65_535
        configuration.connectionWindow = [65_535, 300_000, 16 << 20].randomElement(using: &random) ?? 65_535
        configuration.maxFrame = [16_384, 50_000, 1 << 20].randomElement(using: &random) ?? 16_384
        let client = Side(.client, configuration)
        let server = Side(.server, configuration)
        var sizes: [UInt32: (up: Int, down: Int)] = [:]
        var toOpen = 30
        var steps = 0

        func deliver(from: Side, to: Side) throws {
            let count = Int.random(
                in: 0...min(from.wire.count, 1 + Int.random(in: 0...200_000, using: &random)), using: &random)
            let chunk = Array(from.wire[..<count])
            from.wire.removeFirst(count)
            for event in try to.endpoint.feed(chunk) {
                switch event {
                case .headers(let stream, let block, let endStream):
                    if block.status == nil {
                        to.endpoint.connection.sendHeaders(stream, HeaderBlock(status: 200), endStream: false)
                        to.toSend[stream] = (sizes[stream]?.down ?? 0, 0)
                    }
                    if endStream { to.ended.insert(stream) }
                case .data(let stream, let range, let endStream):
                    to.unconsumed[stream, default: 0] += range.count
                    if range.isEmpty {
                        to.unconsumed[stream] = to.unconsumed[stream] == 0 ? nil : to.unconsumed[stream]
                    }
                    if endStream { to.ended.insert(stream) }
                case .settingsReceived, .settingsAcknowledged, .windowOpened: break
                default: Issue.record("unexpected \(event)")
                }
            }
            for (stream, content) in to.endpoint.content {
                let start = to.received[stream] ?? 0
                for (index, byte) in content.enumerated() where byte != Side.byte(stream, start + index) {
                    Issue.record("stream \(stream) differs at \(start + index)")
                    break
                }
                to.received[stream] = start + content.count
            }
            to.endpoint.content = [:]
            #expect(to.endpoint.connection.receiveWindow.available >= 0)
            #expect(to.endpoint.connection.sendWindow.available >= 0)
        }

        while steps < 200_000 {
            steps += 1
            if toOpen > 0, client.endpoint.connection.canOpenStream,
                Int.random(in: 0..<3, using: &random) == 0
            {
                let stream = try client.endpoint.connection.openStream(
                    HeaderBlock(connect: "a:1"), endStream: false)
                sizes[stream] = (
                    Int.random(in: 0...120_000, using: &random), Int.random(in: 0...120_000, using: &random)
                )
                client.toSend[stream] = (sizes[stream]?.up ?? 0, 0)
                toOpen -= 1
            }
            client.step(&random)
            server.step(&random)
            try deliver(from: client, to: server)
            try deliver(from: server, to: client)
            let isIdle =
                toOpen == 0 && client.wire.isEmpty && server.wire.isEmpty && client.toSend.isEmpty
                && server.toSend.isEmpty && client.unconsumed.isEmpty && server.unconsumed.isEmpty
                && client.ended.count == sizes.count && server.ended.count == sizes.count
            if isIdle { break }
        }
        for (stream, size) in sizes {
            #expect(server.received[stream] ?? 0 == size.up && client.received[stream] ?? 0 == size.down)
        }
        for side in [client, server] {
            #expect(side.endpoint.connection.streams.count == 0)
            #expect(side.endpoint.connection.openStreams == 0)
            #expect(side.endpoint.connection.heldBytes == 0)
        }
    }

    @Test(arguments: 1...40 as ClosedRange<UInt64>)
    func `bytes that make no sense end in an error and never in a trap`(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let server = Endpoint(.server)
        for _ in 0..<3_000 {
            var frame = TestFrame(
                type: UInt8.random(in: 0...11, using: &random),
                flags: UInt8.random(in: 0...255, using: &random),
                stream: UInt32.random(in: 0...9, using: &random),
                payload: (0..<Int.random(in: 0...40, using: &random)).map { _ in
                    UInt8.random(in: 0...255, using: &random)
                })
            // Often sensible enough to get further in.
            if Bool.random(using: &random) {
                frame.flags &= 0x5
                if frame.type == 1 {
                    frame.payload = literal(Bool.random(using: &random) ? get : [("x", "y")])
                }
            }
            do throws(HTTP2Error) {
                for event in try server.feed(frame.bytes) {
                    if case .headers(let stream, _, _) = event, Bool.random(using: &random) {
                        server.connection.sendHeaders(
                            stream, HeaderBlock(status: 200), endStream: Bool.random(using: &random))
                    }
                    if case .data(let stream, let range, _) = event {
                        server.connection.consumed(stream, range.count)
                    }
                }
            } catch {
                break
            }
            _ = server.outputBytes()
        }
    }
}
