import Testing

@testable import HTTP2

/// Each published attack on HTTP/2 by name: what stops it, and that honest use of the same frames passes.
struct AttackTests {
    /// Feeds `attack` until the server gives up.
    ///
    /// - Returns: how often it could be done, and what ended it.
    private func endure(
        _ server: Endpoint, atMost limit: Int = 1_000_000, takingOutput: Bool = true,
        _ attack: (Int) -> [UInt8]
    ) -> (count: Int, error: HTTP2Error?) {
        for count in 0..<limit {
            do throws(HTTP2Error) {
                _ = try server.feed(attack(count))
            } catch {
                return (count, error)
            }
            if takingOutput { _ = server.outputBytes() }
        }
        return (limit, nil)
    }

    private func stream(_ index: Int) -> UInt32 { UInt32(index * 2 + 1) }

    @Test func `Rapid Reset (CVE-2023-44487): streams taken back before an answer are counted`() {
        let server = Endpoint(.server)
        let (count, error) = endure(server) { headers(stream($0), get) + reset(stream($0)) }
        #expect(error == .excess(.earlyReset) && count == 1_000)
        #expect(server.connection.glitchCount(.earlyReset) == 1_001)
        #expect(server.output().last?.payload[4...7] == big(0xb, 4)[...])
    }

    @Test func `aborting answered streams is honest, however often`() throws {
        let server = Endpoint(.server)
        for index in 0..<20_000 {
            _ = try server.feed(headers(stream(index), connect))
            server.connection.sendHeaders(stream(index), HeaderBlock(status: 200), endStream: false)
            _ = server.outputBytes()
            _ = try server.feed(reset(stream(index)))
        }
        #expect(server.connection.glitchCount(.earlyReset) == 0)
    }

    @Test func `early resets are forgiven with time`() throws {
        let server = Endpoint(.server)
        for index in 0..<20_000 {
            server.connection.now = Int64(index / 200)
            _ = try server.feed(headers(stream(index), get) + reset(stream(index)))
            _ = server.outputBytes()
        }
        #expect(server.connection.glitchCount(.earlyReset) == 20_000)
    }

    @Test func `MadeYouReset (CVE-2025-8671): resets that the peer makes us send are counted`() {
        let ways: [(Int) -> [UInt8]] = [
            { headers(stream($0), get, end: true) + windowUpdate(stream($0), 0) },
            { headers(stream($0), get, end: true) + data(stream($0), [1]) },
            { headers(stream($0), get, end: true) + headers(stream($0), [("a", "b")], end: true) },
            { headers(stream($0), get) + windowUpdate(stream($0), 0x7fff_ffff) },
            { headers(stream($0), get + [("content-length", "1")]) + data(stream($0), [1, 2]) },
            { headers(stream($0), get + [("connection", "x")]) },
        ]
        for way in ways {
            let server = Endpoint(.server)
            let (count, error) = endure(server, way)
            #expect(error == .excess(.provokedReset) && count == 100)
            #expect(server.connection.glitchCount(.provokedReset) == 101)
            #expect(server.connection.streams.count == 0 || error != nil)
        }
    }

    @Test func `CONTINUATION flood (VU#421644): pieces and bytes of one block are limited`() {
        let empty = Endpoint(.server)
        _ = try? empty.feed(TestFrame(type: 1, flags: 1, stream: 1).bytes)
        let (pieces, piecesError) = endure(empty) { _ in TestFrame(type: 9, stream: 1).bytes }
        #expect(piecesError == .headerBlockTooLarge && pieces == 16)

        let large = Endpoint(.server)
        _ = try? large.feed(TestFrame(type: 1, flags: 1, stream: 1).bytes)
        let piece = literal([("x", String(repeating: "y", count: 16_000))])
        let (count, error) = endure(large) { _ in TestFrame(type: 9, stream: 1, payload: piece).bytes }
        #expect(error == .headerBlockTooLarge && count == 4)
        #expect(large.connection.block.count <= 64 << 10)
    }

    @Test func `one HEADERS frame over the limit is refused by its length alone`() {
        let server = Endpoint(.server)
        let head = Array(
            TestFrame(type: 1, flags: 5, stream: 1, payload: .init(repeating: 0, count: 70_000)).bytes[..<9])
        #expect(throws: HTTP2Error.headerBlockTooLarge) { try server.feed(head) }
    }

    @Test func `HPACK bomb (CVE-2016-6581): what comes out is counted, not what went in`() throws {
        let server = Endpoint(.server)
        // One field of 4,000 bytes goes into the table; each further byte names it again.
        let value = String(repeating: "x", count: 3_900)
        let entry: [UInt8] =
            [0x40, 1, 0x61, 0x7f] + [UInt8((3_900 - 127) & 127 | 128), UInt8((3_900 - 127) >> 7)]
            + Array(value.utf8)
        let bomb = literal(get) + entry + [UInt8](repeating: 0xbe, count: 40_000)
        #expect(try server.feed(TestFrame(type: 1, flags: 5, stream: 1, payload: bomb).bytes).isEmpty)
        #expect(server.output() == [TestFrame(type: 3, stream: 1, payload: big(0xb, 4))])
        #expect(server.connection.glitchCount(.provokedReset) == 1)
        // The compression state is still in step: the entry can be named on the next stream.
        let next = literal(get) + [0xbe]
        let events = try server.feed(TestFrame(type: 1, flags: 5, stream: 3, payload: next).bytes)
        guard case .headers(3, let block, _) = events.first else {
            Issue.record("no request in \(events)")
            return
        }
        #expect(block["a"] == value)
    }

    @Test func `HPACK table thrash: the table never grows over 4 KiB, whatever is asked`() throws {
        let server = Endpoint(.server)
        // A size update beyond what we announced (our default, 4,096) is a compression error.
        #expect(throws: HTTP2Error.compression) {
            try server.feed(
                TestFrame(type: 1, flags: 5, stream: 1, payload: [0x3f, 0xe1, 0x3f] + literal(get)).bytes)
        }
        let (count, error) = endure(Endpoint(.server)) { settings((1, $0 % 2 == 0 ? 0 : 1 << 30)) }
        #expect(error == .excess(.settings) && count < 64)
    }

    @Test func `ping flood (CVE-2019-9512): PINGs beyond the budget end the connection`() {
        let server = Endpoint(.server)
        let (count, error) = endure(server) { _ in ping() }
        #expect(error == .excess(.ping) && count == 200)
        #expect(server.connection.glitchCount(.ping) == 201)
    }

    @Test func `PINGs that measure the path of content are honest`() throws {
        let server = Endpoint(.server)
        _ = try server.feed(headers(1, post))
        for _ in 0..<20_000 {
            _ = try server.feed(data(1, [1]) + ping())
            server.connection.consumed(1, 1)
            _ = server.outputBytes()
        }
    }

    @Test func `keep-alive PINGs are forgiven for years`() throws {
        let server = Endpoint(.server)
        for index in 0..<100_000 {
            server.connection.now = Int64(index * 10)
            _ = try server.feed(ping())
            _ = server.outputBytes()
        }
    }

    @Test func `replies that the peer does not read are limited (CVE-2019-9512, -9515)`() {
        var configuration = HTTP2Configuration.mesh
        configuration.glitches.ping = GlitchRate(burst: .max, perSecond: 0)
        let server = Endpoint(.server, configuration)
        let (count, error) = endure(server, takingOutput: false) { _ in ping() }
        #expect(error == .repliesUnread(byteCount: 65_552) && count == 65_536 / 17)
        let waiting = server.connection.pending.count
        #expect(waiting < 66_000)
    }

    @Test func `settings flood (CVE-2019-9515): SETTINGS beyond the budget end the connection`() {
        let server = Endpoint(.server)
        let (count, error) = endure(server) { _ in settings() }
        #expect(error == .excess(.settings) && count < 64)
        let acknowledging = endure(Endpoint(.server)) { _ in settingsAcknowledgement }
        #expect(acknowledging.error == .excess(.settings))
        #expect(throws: HTTP2Error.excess(.settings)) {
            try Endpoint(.server).feed(
                TestFrame(type: 4, payload: [UInt8](repeating: 0, count: 6 * 101)).bytes)
        }
    }

    @Test func `empty frames (CVE-2019-9518): DATA without bytes or end is counted`() throws {
        for pad in [nil, 0, 200] {
            let server = Endpoint(.server)
            _ = try server.feed(headers(1, post))
            let (count, error) = endure(server) { _ in data(1, [], pad: pad) }
            #expect(error == .excess(.emptyData) && count == 100)
            #expect(server.connection.glitchCount(.emptyData) == 101)
        }
    }

    @Test
    func `0-length headers (CVE-2019-9516): an empty name is malformed and empty values count 32 bytes`()
        throws
    {
        let server = Endpoint(.server)
        _ = try server.feed(headers(1, get + [("", "")], end: true))
        #expect(server.output().map(\.type) == [3])
        let many = get + Array(repeating: ("a", ""), count: 2_000)
        _ = try server.feed(headers(3, many, end: true))
        #expect(server.output() == [TestFrame(type: 3, stream: 3, payload: big(0xb, 4))])
    }

    @Test func `resource loop (CVE-2019-9513): PRIORITY is ignored and counted`() {
        let server = Endpoint(.server)
        let (count, error) = endure(server) {
            TestFrame(type: 2, stream: stream($0 % 50), payload: big($0 % 40 * 2 + 1, 4) + [16]).bytes
        }
        #expect(error == .excess(.ignoredFrame) && count == 1_000)
        #expect(server.connection.streams.count == 0)
        let unknown = endure(Endpoint(.server)) { _ in TestFrame(type: 0x42, stream: 1).bytes }
        #expect(unknown.error == .excess(.ignoredFrame))
    }

    @Test func `data dribble (CVE-2019-9511): a window opened byte by byte is counted`() throws {
        let server = Endpoint(.server, settings: (4, 0))
        _ = try server.feed(headers(1, get, end: true))
        server.connection.sendHeaders(1, HeaderBlock(status: 200), endStream: false)
        let (count, error) = endure(server) { _ in windowUpdate(1, 1) }
        #expect(error == .excess(.windowUpdate) && count == 10_000)
        #expect(server.connection.glitchCount(.windowUpdate) == 10_001)
    }

    @Test func `updates for every KiB that is read are honest`() throws {
        let server = Endpoint(.server, settings: (5, 1 << 20))
        _ = try server.feed(headers(1, get, end: true))
        server.connection.sendHeaders(1, HeaderBlock(status: 200), endStream: false)
        _ = server.outputBytes()
        let content = [UInt8](repeating: 0, count: 16_384)
        for _ in 0..<5_000 {
            _ = server.dataFrame(1, content, end: false)
            for _ in 0..<16 { _ = try server.feed(windowUpdate(0, 1024) + windowUpdate(1, 1024)) }
        }
    }

    @Test func `window 0 and slow reading (CVE-2016-1546, CVE-2019-9517): nothing is kept for the peer`()
        throws
    {
        let server = Endpoint(.server, settings: (4, 0))
        for index in 0..<200 {
            _ = try server.feed(headers(stream(index), get, end: true))
            server.connection.sendHeaders(stream(index), HeaderBlock(status: 200), endStream: false)
            _ = server.outputBytes()
            #expect(server.connection.sendable(stream(index)) == 0)
        }
        let isSilent = server.connection.pending.isEmpty
        #expect(isSilent)
    }

    @Test func `reset flood (CVE-2019-9514): refused streams are counted`() {
        let server = Endpoint(.server)
        let (count, error) = endure(server) { headers(stream($0), get) }
        #expect(error == .excess(.refusedStream) && count == 1_200)
        #expect(server.connection.openStreams == 200)
        #expect(server.connection.glitchCount(.refusedStream) == 1_001)
    }

    @Test func `frames on closed streams are counted`() throws {
        let server = Endpoint(.server)
        _ = try server.feed(headers(1, get, end: true))
        server.connection.sendHeaders(1, HeaderBlock(status: 200), endStream: true)
        // Each is answered with STREAM_CLOSED, which then makes the stream one that we reset: one answer a stream.
        _ = try server.feed(data(1, [1]) + data(1, [1]))
        #expect(server.connection.glitchCount(.closedStream) == 1)
        let (count, error) = endure(server) { data(stream($0 + 1), [1]) + headers(stream($0 + 1), get) }
        #expect(error == .violation(.idleStream) && count == 0)
        let other = Endpoint(.server)
        let skipped = endure(other) {
            headers(stream($0 * 2 + 1), get, end: true) + reset(stream($0 * 2)) + reset(stream($0 * 2 + 1))
        }
        #expect(skipped.error == .excess(.closedStream) || skipped.error == .excess(.earlyReset))
    }

    @Test func `bytes on reset streams do not use the connection's window up`() throws {
        let server = Endpoint(.server)
        for index in 0..<500 {
            _ = try server.feed(headers(stream(index), post))
            server.connection.sendHeaders(stream(index), HeaderBlock(status: 200), endStream: false)
            server.connection.reset(stream(index), .cancel)
            _ = try server.feed(data(stream(index), [UInt8](repeating: 0, count: 100_000)))
            _ = server.outputBytes()
        }
        #expect(server.connection.heldBytes == 0)
    }
}
