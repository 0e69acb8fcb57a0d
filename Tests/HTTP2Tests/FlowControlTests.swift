import TestSupport
import Testing

@testable import HTTP2

struct FlowControlTests {
    @Test func `windows open again in batches of a quarter when bytes are consumed`() throws {
        var configuration = HTTP2Configuration.mesh
        configuration.initialWindow = 80_000
        configuration.connectionWindow = 160_000
        let server = Endpoint(.server, configuration)
        _ = try server.feed(headers(1, post) + data(1, [UInt8](repeating: 0, count: 60_000)))
        #expect(server.output().isEmpty)
        server.connection.consumed(1, 19_999)
        #expect(server.output().isEmpty)
        server.connection.consumed(1, 1)
        #expect(server.output() == [TestFrame(type: 8, stream: 1, payload: big(20_000, 4))])
        server.connection.consumed(1, 20_000)
        #expect(
            server.output() == [
                TestFrame(type: 8, stream: 0, payload: big(40_000, 4)),
                TestFrame(type: 8, stream: 1, payload: big(20_000, 4)),
            ])
    }

    @Test func `a byte beyond the stream's window resets the stream`() throws {
        var configuration = HTTP2Configuration.mesh
        configuration.initialWindow = 65_535
        let server = Endpoint(.server, configuration)
        _ = try server.feed(headers(1, post) + data(1, [UInt8](repeating: 0, count: 65_535)))
        #expect(try server.feed(data(1, [1])) == [.reset(1, .flowControlError)])
        #expect(server.connection.heldBytes == 0)
    }

    @Test func `a byte beyond the connection's window ends the connection`() throws {
        var configuration = HTTP2Configuration.mesh
        configuration.connectionWindow = 70_000
        let server = Endpoint(.server, configuration)
        _ = try server.feed(headers(1, post) + data(1, [UInt8](repeating: 0, count: 70_000)))
        #expect(throws: HTTP2Error.flowControl(.windowExceeded(by: 1))) { try server.feed(data(1, [1])) }
    }

    @Test func `padding is given back without the application`() throws {
        let server = Endpoint(.server)
        _ = try server.feed(headers(1, post) + data(1, [1], pad: 255))
        #expect(server.connection.heldBytes == 1)
    }

    @Test func `a smaller initial window makes windows negative and updates open them again`() throws {
        let client = Endpoint(.client)
        let stream = try client.connection.openStream(HeaderBlock(connect: "a:1"), endStream: false)
        _ = client.outputBytes()
        for _ in 0..<3 { _ = client.dataFrame(stream, [UInt8](repeating: 0, count: 16_000), end: false) }
        #expect(client.connection.sendable(stream) == 16_384)
        _ = try client.feed(settings((4, 10_000)))
        #expect(client.connection.sendable(stream) == 0)
        #expect(try client.feed(windowUpdate(stream, 38_000)).isEmpty)
        #expect(client.connection.sendable(stream) == 0)
        #expect(try client.feed(windowUpdate(stream, 1)) == [.windowOpened(stream)])
        #expect(client.connection.sendable(stream) == 1)
        #expect(try client.feed(settings((4, 10_100))) == [.settingsReceived])
        #expect(client.connection.sendable(stream) == 101)
    }

    @Test func `an initial window that overflows a stream ends the connection`() throws {
        let client = Endpoint(.client)
        let stream = try client.connection.openStream(HeaderBlock(connect: "a:1"), endStream: false)
        _ = try client.feed(windowUpdate(stream, 0x7fff_ffff - 65_535))
        #expect(throws: HTTP2Error.flowControl(.windowOverflow)) { try client.feed(settings((4, 65_536))) }
    }

    @Test func `the connection's window holds every stream and its opening is told`() throws {
        let client = Endpoint(.client, settings: (4, 1 << 20), (5, 1 << 20))
        let stream = try client.connection.openStream(HeaderBlock(connect: "a:1"), endStream: false)
        let other = try client.connection.openStream(HeaderBlock(connect: "a:1"), endStream: false)
        #expect(client.connection.sendable(stream) == 65_535)
        _ = client.dataFrame(stream, [UInt8](repeating: 0, count: 65_535), end: false)
        #expect(client.connection.sendable(other) == 0)
        #expect(try client.feed(windowUpdate(0, 10)) == [.windowOpened(0)])
        #expect(client.connection.sendable(other) == 10)
        _ = client.dataFrame(other, [], end: true)
        #expect(client.connection.sendable(other) == 0)
    }

    @Test func `a stream that is not read does not stop its neighbour`() throws {
        let server = Endpoint(.server)
        _ = try server.feed(headers(1, connect) + headers(3, connect))
        for _ in 0..<4 { _ = try server.feed(data(1, [UInt8](repeating: 0, count: 1 << 20))) }
        for _ in 0..<64 {
            _ = try server.feed(data(3, [UInt8](repeating: 0, count: 1 << 20)))
            server.connection.consumed(3, 1 << 20)
        }
        #expect(server.connection.heldBytes == 4 << 20)
    }

    @Test(arguments: [1, 2, 3, 1_000, 65_535, 16_777_216], [1, 2, 3] as [UInt64])
    func `a receive window never goes negative and frees everything in the end`(size: Int, seed: UInt64)
        throws
    {
        var window = ReceiveWindow(size: size)
        var random = SeededGenerator(seed: seed)
        for _ in 0..<1_000 {
            try window.receive(Int.random(in: 0...window.available, using: &random))
            _ = window.consume(Int.random(in: 0...window.held, using: &random))
            #expect(window.available >= 0 && window.available + window.held <= size)
        }
        _ = window.consume(window.held)
        #expect(window.held == 0)
    }
}
