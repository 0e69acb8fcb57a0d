import TestSupport
import Testing

@testable import HTTP2

struct StreamTests {
    @Test func `a request, its content and its trailers arrive in order`() throws {
        let server = Endpoint(.server)
        let events = try server.feed(
            headers(1, post) + data(1, [1, 2]) + data(1, [3], pad: 5)
                + headers(1, [("x-sum", "6")], end: true))
        guard case .headers(1, let request, endStream: false) = events.first else {
            Issue.record("no request in \(events)")
            return
        }
        #expect(request.method == "POST" && request.path == "/")
        #expect(server.content[1] == [1, 2, 3])
        #expect(events.last == .trailers(1, HeaderBlock([Header("x-sum", "6")])))
        #expect(server.connection.openStreams == 1)
        server.connection.sendHeaders(1, HeaderBlock(status: 200), endStream: true)
        // The content is still with the application: the stream is over, its bytes are not.
        #expect(server.connection.openStreams == 0)
        #expect(server.connection.heldBytes == 3)
        server.connection.consumed(1, 3)
        #expect(server.connection.streams.count == 0)
        #expect(server.connection.heldBytes == 0)
    }

    @Test func `content is passed on in the pieces in which it comes`() throws {
        let server = Endpoint(.server)
        let frame = data(1, [1, 2, 3, 4], end: true, pad: 2)
        _ = try server.feed(headers(1, post))
        #expect(try server.feed(Array(frame[..<12])) == [.data(1, 10..<12, endStream: false)])
        #expect(try server.feed(Array(frame[12..<13])) == [.data(1, 0..<1, endStream: false)])
        #expect(try server.feed(Array(frame[13...])) == [.data(1, 0..<1, endStream: true)])
        #expect(try server.feed(ping()).isEmpty)
    }

    @Test func `informational responses precede the final one`() throws {
        let client = Endpoint(.client)
        let stream = try client.connection.openStream(
            HeaderBlock(method: "GET", scheme: "http", authority: "a", path: "/"), endStream: true)
        let events = try client.feed(
            headers(stream, [(":status", "103")]) + headers(stream, ok) + data(stream, [1], end: true))
        #expect(events.count == 3)
        #expect(client.connection.openStreams == 0)
    }

    @Test func `a reset mid-frame gives the rest back and skips it`() throws {
        let server = Endpoint(.server)
        let frame = data(1, [UInt8](repeating: 1, count: 100), pad: 10)
        _ = try server.feed(headers(1, post) + frame[..<60])
        #expect(server.connection.heldBytes == 100)
        server.connection.reset(1, .cancel)
        #expect(server.connection.heldBytes == 0)
        #expect(try server.feed(frame[60...] + ping(3)).isEmpty)
        #expect(server.output().map(\.type) == [3, 6])
    }

    @Test func `frames that cross our reset are ignored and their bytes given back`() throws {
        let server = Endpoint(.server)
        _ = try server.feed(headers(1, post))
        server.connection.reset(1, .cancel)
        _ = server.output()
        #expect(
            try server.feed(
                data(1, [UInt8](repeating: 0, count: 1000)) + windowUpdate(1, 5)
                    + headers(1, [("a", "b")], end: true)
                    + reset(1)
            ).isEmpty)
        #expect(server.output().isEmpty)
        #expect(server.connection.heldBytes == 0)
        #expect(server.connection.glitchCount(.closedStream) == 0)
    }

    @Test func `the peer's reset is reported once and what it held is given back`() throws {
        let server = Endpoint(.server)
        _ = try server.feed(headers(1, post) + data(1, [1, 2, 3]))
        #expect(try server.feed(reset(1, .cancel)) == [.reset(1, .cancel)])
        #expect(server.connection.heldBytes == 0)
        server.connection.consumed(1, 3)
        #expect(server.connection.heldBytes == 0)
        #expect(try server.feed(windowUpdate(1, 1)).isEmpty)
        let sent = server.connection.sendHeaders(1, HeaderBlock(status: 200), endStream: true)
        #expect(!sent)
        #expect(server.connection.sendable(1) == 0)
    }

    /// Mistakes on one stream leave the others alone (§5.4.2).
    static let mistakes: [(String, [UInt8], ErrorCode)] = [
        ("DATA after END_STREAM", headers(1, get, end: true) + data(1, [1]), .streamClosed),
        (
            "HEADERS after END_STREAM", headers(1, get, end: true) + headers(1, [("a", "b")], end: true),
            .streamClosed
        ),
        ("trailers without END_STREAM", headers(1, post) + headers(1, [("a", "b")]), .protocolError),
        (
            "pseudo-headers in trailers", headers(1, post) + headers(1, [(":path", "/")], end: true),
            .protocolError
        ),
        (
            "more content than its length", headers(1, post + [("content-length", "1")]) + data(1, [1, 2]),
            .protocolError
        ),
        (
            "less content than its length",
            headers(1, post + [("content-length", "2")]) + data(1, [1], end: true), .protocolError
        ),
        (
            "no content for its length", headers(1, post + [("content-length", "2")], end: true),
            .protocolError
        ),
        (
            "trailers before all content",
            headers(1, post + [("content-length", "2")]) + data(1, [1]) + headers(1, [("a", "b")], end: true),
            .protocolError
        ),
        ("empty update", headers(1, post) + windowUpdate(1, 0), .protocolError),
        ("update over 2^31-1", headers(1, post) + windowUpdate(1, 0x7fff_ffff), .flowControlError),
    ]

    @Test(arguments: mistakes)
    func `resets a stream for a mistake`(row: (title: String, bytes: [UInt8], code: ErrorCode)) throws {
        let server = Endpoint(.server)
        _ = try server.feed(row.bytes)
        #expect(
            server.output() == [TestFrame(type: 3, stream: 1, payload: big(row.code.rawValue, 4))],
            "\(row.title)")
        #expect(server.connection.glitchCount(.provokedReset) == 1)
        #expect(try server.feed(headers(3, get, end: true)).count == 1)
        #expect(server.connection.heldBytes == 0)
    }

    @Test func `a response may promise content that HEAD and 304 do not send`() throws {
        let client = Endpoint(.client)
        let head = try client.connection.openStream(
            HeaderBlock(method: "HEAD", scheme: "http", authority: "a", path: "/"), endStream: true)
        #expect(try client.feed(headers(head, ok + [("content-length", "9")], end: true)).count == 1)
        let cached = try client.connection.openStream(
            HeaderBlock(method: "GET", scheme: "http", authority: "a", path: "/"), endStream: true)
        let notModified = [(":status", "304"), ("content-length", "9")]
        #expect(try client.feed(headers(cached, notModified, end: true)).count == 1)
        #expect(client.connection.glitchCount(.provokedReset) == 0)
    }

    @Test func `streams over the limit are refused and identifiers never go back`() throws {
        var configuration = HTTP2Configuration.mesh
        configuration.maxConcurrentStreams = 2
        let server = Endpoint(.server, configuration)
        #expect(try server.feed(headers(1, connect) + headers(3, connect) + headers(5, connect)).count == 2)
        #expect(server.output() == [TestFrame(type: 3, stream: 5, payload: big(7, 4))])
        _ = try server.feed(reset(1))
        #expect(try server.feed(headers(7, connect)).count == 1)
    }

    @Test func `a client keeps to the server's limit of streams`() throws {
        let client = Endpoint(.client, settings: (3, 1))
        #expect(client.connection.canOpenStream == true)
        let stream = try client.connection.openStream(HeaderBlock(connect: "a:1"), endStream: false)
        #expect(client.connection.canOpenStream == false)
        #expect(throws: HTTP2Error.streamLimit) {
            try client.connection.openStream(HeaderBlock(connect: "a:1"), endStream: false)
        }
        client.connection.reset(stream, .cancel)
        #expect(client.connection.canOpenStream == true)
    }

    @Test func `header blocks longer than the peer's frame are continued`() throws {
        let client = Endpoint(.client)
        var request = HeaderBlock(connect: "a:1")
        var random = SeededGenerator(seed: 1)
        for index in 0..<30 {
            let value = (0..<1000).map { _ in UInt8.random(in: 0x80...0xff, using: &random) }
            request.append("x-\(index)", bytes: value)
        }
        let stream = try client.connection.openStream(request, endStream: false)
        let bytes = client.outputBytes()
        let frames = TestFrame.all(in: bytes)
        #expect(frames.map(\.type) == [1, 9] || frames.map(\.type) == [1, 9, 9])
        #expect(frames.dropLast().allSatisfy { $0.flags & 4 == 0 && $0.payload.count == 16_384 })
        let server = Endpoint(.server)
        #expect(try server.feed(bytes) == [.headers(stream, request, endStream: false)])
    }

    @Test func `a hundred thousand streams leave nothing behind`() throws {
        let client = Endpoint(.client, greeted: false)
        let server = Endpoint(.server, greeted: false)
        _ = try server.feed(client.outputBytes())
        _ = try client.feed(server.outputBytes())
        let request = HeaderBlock(connect: "10.0.0.1:80")
        let response = HeaderBlock(status: 200)
        for round in 0..<100_000 {
            let stream = try client.connection.openStream(request, endStream: false)
            var up = client.outputBytes()
            if round % 3 != 0 { up += client.dataFrame(stream, [1, 2, 3], end: true) }
            _ = try server.feed(up)
            server.connection.sendHeaders(stream, response, endStream: round % 3 == 1)
            if round % 3 != 0 { server.connection.consumed(stream, 3) }
            if round % 3 == 2 {
                _ = try client.feed(server.outputBytes() + server.dataFrame(stream, [], end: true))
            } else {
                _ = try client.feed(server.outputBytes())
            }
            if round % 3 == 0 { client.connection.reset(stream, .cancel) }
            server.content = [:]
        }
        _ = try server.feed(client.outputBytes())
        _ = try client.feed(server.outputBytes())
        #expect(client.connection.streams.count == 0 && server.connection.streams.count == 0)
        #expect(client.connection.openStreams == 0 && server.connection.openStreams == 0)
        #expect(server.connection.heldBytes == 0)
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func `the table finds what was put in and only that`(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var table = StreamTable()
        var expected: Set<StreamID> = []
        for _ in 0..<20_000 {
            let id = UInt32.random(in: 0..<400, using: &random) * 2 + 1
            if let place = table.place(of: id) {
                #expect(expected.contains(id))
                table.remove(at: place)
                expected.remove(id)
            } else {
                #expect(!expected.contains(id))
                var stream = Stream()
                stream.id = id
                table.insert(stream)
                expected.insert(id)
            }
            #expect(table.count == expected.count)
        }
        #expect(Set(table.ids { _ in true }) == expected)
    }

    @Test func `an idle stream is half a cache line, and a full tunnel of them 4 KiB`() {
        #expect(MemoryLayout<Stream>.stride == 32)
        var table = StreamTable()
        for index in 0..<100 {
            var stream = Stream()
            stream.id = StreamID(2 * index + 1)
            table.insert(stream)
        }
        #expect(table.capacity == 128)
    }

    @Test func `windows take the largest sizes there are, and the most that is taken off them`() throws {
        let largest = 0x7fff_ffff
        var send = SendWindow(largest)
        send.spend(largest)
        #expect(try !send.change(by: -largest) && send.available == -largest)
        #expect(try !send.open(by: largest) && send.open(by: largest) && send.available == largest)
        #expect(throws: FlowControlError.self) { try send.open(by: 1) }
        var receive = ReceiveWindow(size: largest)
        try receive.receive(largest)
        #expect(receive.held == largest && receive.available == 0)
        #expect(throws: FlowControlError.self) { try receive.receive(1) }
        #expect(receive.consume(largest) == largest && receive.available == largest)
    }
}
