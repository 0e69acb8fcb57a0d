import Testing

@testable import HTTP2

struct ConnectionTests {
    @Test func `a client greets with preface, SETTINGS and the connection's window`() {
        let client = Endpoint(.client, greeted: false)
        let bytes = client.outputBytes()
        #expect(bytes.starts(with: Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)))
        let frames = TestFrame.all(in: Array(bytes.dropFirst(24)))
        #expect(frames.map(\.type) == [4, 8])
        #expect(frames[0].payload.count == 24)
        #expect(frames[0].payload.suffix(6) == [0, 2, 0, 0, 0, 0][...])
        #expect(frames[1].payload == big((16 << 20) - 65_535, 4))
    }

    @Test func `settings are acknowledged and ours are seen acknowledged`() throws {
        let server = Endpoint(.server, greeted: false)
        _ = server.output()
        let events = try server.feed(
            Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + settings((4, 100_000)) + settingsAcknowledgement)
        #expect(events == [.settingsReceived, .settingsAcknowledged])
        #expect(server.output() == [TestFrame(type: 4, flags: 1)])
    }

    @Test func `another protocol's first bytes end the connection`() {
        let server = Endpoint(.server, greeted: false)
        #expect(throws: HTTP2Error.violation(.preface)) { try server.feed(Array("GET / HTTP/1.1\r\n".utf8)) }
    }

    @Test func `the first frame must be SETTINGS`() {
        let client = Endpoint(.client, greeted: false)
        #expect(throws: HTTP2Error.violation(.settingsExpected)) { try client.feed(ping()) }
        let other = Endpoint(.client, greeted: false)
        #expect(throws: HTTP2Error.violation(.settingsExpected)) { try other.feed(settingsAcknowledgement) }
    }

    @Test func `a failed connection says GOAWAY once and stays failed`() throws {
        let server = Endpoint(.server)
        _ = try server.feed(headers(5, get, end: true))
        #expect(throws: HTTP2Error.violation(.idleStream)) { try server.feed(reset(7)) }
        let frames = server.output()
        #expect(frames.count == 1 && frames[0].type == 7)
        #expect(frames[0].payload.prefix(8) == (big(5, 4) + big(1, 4))[...])
        #expect(throws: HTTP2Error.violation(.idleStream)) { try server.feed(ping()) }
        #expect(server.output().isEmpty)
    }

    @Test func `PING is answered with its own bytes and our PING is reported`() throws {
        let server = Endpoint(.server)
        #expect(try server.feed(ping(0x0102_0304_0506_0708)).isEmpty)
        #expect(server.output() == [TestFrame(type: 6, flags: 1, payload: [1, 2, 3, 4, 5, 6, 7, 8])])
        server.connection.ping(9)
        #expect(server.output() == [TestFrame(type: 6, payload: big(9, 8))])
        #expect(try server.feed(ping(9, flags: 1)) == [.pong(9)])
    }

    @Test func `unknown frames, unknown settings and PRIORITY are ignored`() throws {
        let server = Endpoint(.server)
        let unknown = TestFrame(
            type: 0xbb, flags: 0xff, stream: 99, payload: Array(repeating: 1, count: 70_000))
        let priority = TestFrame(type: 2, stream: 31, payload: [0, 0, 0, 31, 255])
        #expect(try server.feed(unknown.bytes + priority.bytes).isEmpty)
        #expect(try server.feed(settings((0xf0f0, 12))) == [.settingsReceived])
        #expect(server.output() == [TestFrame(type: 4, flags: 1)])
    }

    /// One row a rule: the bytes of a peer, and what ends the connection.
    static let clientMistakes: [(String, [UInt8], HTTP2Error)] = [
        (
            "frame longer than announced", [0x10, 0, 1, 0, 0, 0, 0, 0, 1],
            .frameSize(type: 0, length: 0x10_0001)
        ),
        ("DATA on stream 0", data(0, [1]), .violation(.streamZero)),
        ("HEADERS on stream 0", headers(0, get), .violation(.streamZero)),
        ("RST_STREAM on stream 0", reset(0), .violation(.streamZero)),
        (
            "PRIORITY on stream 0", TestFrame(type: 2, payload: [0, 0, 0, 1, 1]).bytes,
            .violation(.streamZero)
        ),
        ("SETTINGS on a stream", TestFrame(type: 4, stream: 1).bytes, .violation(.notStreamZero)),
        (
            "PING on a stream", TestFrame(type: 6, stream: 1, payload: big(0, 8)).bytes,
            .violation(.notStreamZero)
        ),
        (
            "GOAWAY on a stream", TestFrame(type: 7, stream: 1, payload: big(0, 8)).bytes,
            .violation(.notStreamZero)
        ),
        ("DATA on an idle stream", data(1, [1]), .violation(.idleStream)),
        ("WINDOW_UPDATE on an idle stream", windowUpdate(1, 1), .violation(.idleStream)),
        ("RST_STREAM on an idle stream", reset(1), .violation(.idleStream)),
        ("HEADERS on a server's stream", headers(2, get), .violation(.streamIdentifier)),
        (
            "PUSH_PROMISE", TestFrame(type: 5, flags: 4, stream: 1, payload: big(2, 4)).bytes,
            .violation(.push)
        ),
        ("PING of 7 bytes", TestFrame(type: 6, payload: big(0, 7)).bytes, .frameSize(type: 6, length: 7)),
        ("SETTINGS of 5 bytes", TestFrame(type: 4, payload: big(0, 5)).bytes, .frameSize(type: 4, length: 5)),
        (
            "SETTINGS acknowledgement with content", TestFrame(type: 4, flags: 1, payload: big(0, 6)).bytes,
            .frameSize(type: 4, length: 6)
        ),
        (
            "RST_STREAM of 3 bytes", TestFrame(type: 3, stream: 1, payload: big(0, 3)).bytes,
            .frameSize(type: 3, length: 3)
        ),
        (
            "WINDOW_UPDATE of 3 bytes", TestFrame(type: 8, payload: big(0, 3)).bytes,
            .frameSize(type: 8, length: 3)
        ),
        ("GOAWAY of 7 bytes", TestFrame(type: 7, payload: big(0, 7)).bytes, .frameSize(type: 7, length: 7)),
        ("empty update of the connection", windowUpdate(0, 0), .flowControl(.emptyUpdate)),
        ("update over 2^31-1", windowUpdate(0, 0x7fff_ffff), .flowControl(.windowOverflow)),
        ("ENABLE_PUSH of 2", settings((2, 2)), .violation(.settingValue)),
        ("initial window over 2^31-1", settings((4, 0x8000_0000)), .flowControl(.windowOverflow)),
        ("largest frame of 16,383", settings((5, 16_383)), .violation(.settingValue)),
        ("largest frame of 2^24", settings((5, 1 << 24)), .violation(.settingValue)),
        (
            "CONTINUATION alone", TestFrame(type: 9, flags: 4, stream: 1).bytes,
            .violation(.unexpectedContinuation)
        ),
        (
            "PING within a header block",
            TestFrame(type: 1, flags: 1, stream: 1, payload: literal(get)).bytes + ping(),
            .violation(.continuationExpected)
        ),
        (
            "CONTINUATION of another stream",
            TestFrame(type: 1, flags: 1, stream: 1).bytes + TestFrame(type: 9, flags: 4, stream: 3).bytes,
            .violation(.continuationExpected)
        ),
        (
            "a block that stops within a field",
            TestFrame(type: 1, flags: 5, stream: 1, payload: [0, 3, 0x61]).bytes, .compression
        ),
        (
            "an index that the table lacks",
            TestFrame(type: 1, flags: 5, stream: 1, payload: [0xff, 0x20]).bytes, .compression
        ),
        (
            "padding longer than HEADERS", TestFrame(type: 1, flags: 0xd, stream: 1, payload: [9, 0]).bytes,
            .violation(.padding)
        ),
        (
            "PADDED DATA without a length", headers(1, get) + TestFrame(type: 0, flags: 8, stream: 1).bytes,
            .frameSize(type: 0, length: 0)
        ),
        (
            "padding longer than DATA",
            headers(1, get) + TestFrame(type: 0, flags: 8, stream: 1, payload: [3, 0, 0]).bytes,
            .violation(.padding)
        ),
        (
            "HEADERS on a stream both ended", headers(3, get, end: true) + headers(1, get),
            .violation(.closedStream)
        ),
    ]

    @Test(arguments: clientMistakes, [1, 1_000_000])
    func `ends for a client's mistake`(row: (title: String, bytes: [UInt8], error: HTTP2Error), piece: Int) {
        let server = Endpoint(.server)
        #expect(throws: row.error, "\(row.title)") {
            var rest = row.bytes[...]
            while !rest.isEmpty {
                _ = try server.feed(Array(rest.prefix(piece)))
                rest = rest.dropFirst(piece)
            }
        }
        #expect(server.output().last?.type == 7)
    }

    static let serverMistakes: [(String, [UInt8], HTTP2Error)] = [
        ("ENABLE_PUSH of a server", settings((2, 1)), .violation(.settingValue)),
        (
            "PUSH_PROMISE", TestFrame(type: 5, flags: 4, stream: 1, payload: big(2, 4)).bytes,
            .violation(.push)
        ),
        ("HEADERS on an idle stream", headers(1, ok), .violation(.streamIdentifier)),
        ("HEADERS on a stream of its own", headers(2, ok), .violation(.streamIdentifier)),
        ("GOAWAY that rises", goAway(3) + goAway(5), .violation(.goAwayIncreased)),
    ]

    @Test(arguments: serverMistakes)
    func `ends for a server's mistake`(row: (title: String, bytes: [UInt8], error: HTTP2Error)) {
        let client = Endpoint(.client)
        #expect(throws: row.error, "\(row.title)") { try client.feed(row.bytes) }
    }

    @Test func `GOAWAY refuses the streams above the last one and lets the others go on`() throws {
        let client = Endpoint(.client)
        for _ in 0..<3 {
            _ = try client.connection.openStream(HeaderBlock(connect: "10.0.0.1:80"), endStream: false)
        }
        let events = try client.feed(goAway(3))
        #expect(events == [.goAway(lastStream: 3, .noError, debug: ""), .reset(5, .refusedStream)])
        #expect(client.connection.openStreams == 2)
        #expect(client.connection.canOpenStream == false)
        #expect(throws: HTTP2Error.goingAway) {
            try client.connection.openStream(HeaderBlock(connect: "10.0.0.1:80"), endStream: false)
        }
        #expect(try client.feed(headers(1, ok)).count == 1)
    }

    @Test func `a drain first allows every stream and then names the last`() throws {
        let server = Endpoint(.server)
        _ = try server.feed(headers(1, connect))
        server.connection.drain()
        let first = server.output()
        #expect(first.map(\.type) == [7, 6])
        #expect(first[0].payload.prefix(4) == big(0x7fff_ffff, 4)[...])
        #expect(try server.feed(headers(3, connect)).count == 1)
        #expect(try server.feed(TestFrame(type: 6, flags: 1, payload: first[1].payload).bytes).isEmpty)
        #expect(server.output() == [TestFrame(type: 7, payload: big(3, 4) + big(0, 4))])
        #expect(try server.feed(headers(5, connect) + data(5, [1, 2, 3])).isEmpty)
        #expect(server.output().isEmpty)
        #expect(try server.feed(data(3, [1])).count == 1)
    }
}
