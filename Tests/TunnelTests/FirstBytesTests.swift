import Address
import EventLoop
import Glibc
import HTTP2
import Linux
import Mesh
import TLS
import TLSTestSupport
import TestSupport
import Testing
import Transport

@testable import Tunnel

/// What an application says at once goes along with its CONNECT, and never to two applications.
struct FirstBytesTests {
    private static let request = Array("GET / HTTP/1.1\r\n\r\n".utf8)

    /// However slow the machine is, its tunnels count as heard of.
    private static func configuration(within limit: Duration = .seconds(1_000)) -> TunnelPool.Configuration {
        var configuration = TunnelPool.Configuration()
        configuration.firstBytesWithin = limit
        return configuration
    }

    // MARK: Both ends are ours

    @Test(.bothRecordLayers) func `they arrive once, before what follows them`() throws {
        let rig = try TunnelRig(Self.configuration())
        _ = try rig.connected()
        let connection = try rig.open(saying: Self.request)
        try rig.until("an open connection") { connection.relay != nil && rig.applications.count == 2 }
        connection.app.send(Array("more".utf8), thenShutDown: true)
        let server = rig.applications[1]
        try rig.until("everything") {
            connection.app.step()
            server.step()
            return server.ending == 0
        }
        #expect(server.received == Self.request + Array("more".utf8))
        server.send(Array("answer".utf8), thenShutDown: true)
        try rig.until("the end") {
            connection.app.step()
            server.step()
            return connection.reason != nil
        }
        #expect(connection.reason == .completed && connection.app.received == Array("answer".utf8))
        #expect(connection.relay?.bytesFromClient == UInt64(Self.request.count + 4))
        #expect(rig.serverRelays[1].bytesFromClient == UInt64(Self.request.count + 4))
    }

    @Test(.bothRecordLayers, arguments: [1, 16_383, 16_384, 16_385, 300_000])
    func `a half-close right behind them ends the connection in order`(byteCount: Int) throws {
        let rig = try TunnelRig(Self.configuration())
        _ = try rig.connected()
        let message = (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        let connection = try rig.open(saying: message, thenShutDown: true)
        try rig.until("the request") {
            connection.app.step()
            guard rig.applications.count == 2 else { return false }
            rig.applications[1].step()
            return rig.applications[1].ending != nil
        }
        let server = rig.applications[1]
        #expect(server.ending == 0 && server.received == message)
        server.send([7], thenShutDown: true)
        try rig.until("the end") {
            connection.app.step()
            server.step()
            return connection.reason != nil
        }
        #expect(connection.reason == .completed && connection.app.received == [7])
    }

    @Test(.bothRecordLayers)
    func `those of a denied connection reach no application, and cost the tunnel nothing`()
        throws
    {
        var strict = ChannelConfiguration()
        strict.http2.glitches.closedStream = GlitchRate(burst: 10, perSecond: 1)
        let rig = try TunnelRig(Self.configuration(), server: strict)
        _ = try rig.connected()
        rig.decide = { _ in .unmatchedByAllow }
        // More than the budget for frames on streams that are over.
        for _ in 0..<50 {
            let connection = try rig.open(saying: Self.request)
            try rig.until("the refusal") { connection.isSettled }
            guard case .refusedByPeer(status: 401, reason: _) = connection.failure else {
                Issue.record("\(String(describing: connection.failure ?? connection.loss))")
                return
            }
        }
        #expect(rig.applications.count == 1 && rig.servers.count == 1)
        rig.decide = { _ in nil }
        let (connection, server) = try rig.connected()
        connection.app.send([1])
        try rig.until("another connection's bytes") {
            server.step()
            return server.received == [1]
        }
        #expect(rig.servers.count == 1)
    }

    @Test(.bothRecordLayers) func `a request that is decided late brings them, and a refused one does not`()
        throws
    {
        let rig = try TunnelRig(Self.configuration())
        _ = try rig.connected()
        rig.holdsRequests = true
        let connections = try (0..<2).map { _ in try rig.open(saying: Self.request) }
        try rig.until("both requests") { rig.requests.count == 3 }
        rig.requests[1].refuse(.deniedByPolicy(NamespacedName(namespace: "shop", name: "deny")))
        rig.connect(rig.requests[2])
        try rig.until("both answers") { connections.allSatisfy(\.isSettled) }
        let server = rig.applications[1]
        try rig.until("the request") {
            server.step()
            return server.received == Self.request
        }
        #expect(connections[0].failure != nil && connections[1].relay != nil && rig.applications.count == 2)
    }

    @Test func `after a GOAWAY that leaves the stream out they go into another tunnel`() throws {
        let rig = try TunnelRig(Self.configuration())
        _ = try rig.connected()
        for server in rig.servers { server.close() }
        let connection = try rig.open(saying: Self.request)
        try rig.until("the second tunnel") { connection.isSettled && rig.applications.count == 2 }
        try rig.until("the request") {
            rig.applications[1].step()
            return rig.applications[1].received == Self.request
        }
        #expect(rig.applications[0].received.isEmpty)
    }

    @Test func `a server that speaks first is not kept waiting`() throws {
        let rig = try TunnelRig(Self.configuration())
        _ = try rig.connected()
        let (connection, server) = try rig.connected()
        server.send(Array("220 ready".utf8))
        try rig.until("the greeting") {
            connection.app.step()
            return connection.app.received == Array("220 ready".utf8)
        }
    }

    @Test func `those beyond a turn's share wait for the answer`() throws {
        let rig = try TunnelRig(Self.configuration(), share: 20_000)
        _ = try rig.connected()
        let message = [UInt8](repeating: 5, count: 50_000)
        let connections = try (0..<8).map { _ in try rig.open(saying: message, thenShutDown: true) }
        try rig.until("all of them") {
            connections.forEach { $0.app.step() }
            rig.applications.forEach { $0.step() }
            return rig.applications.dropFirst().filter { $0.ending == 0 }.count == 8
        }
        #expect(rig.applications.dropFirst().allSatisfy { $0.received == message })
    }

    // MARK: A server that answers as it likes

    @Test(.bothRecordLayers) func `they come before the answer`() throws {
        let rig = try OddServerRig(Self.configuration())
        try rig.proveAlive()
        _ = try rig.open(saying: Self.request)
        try rig.until("the bytes") { rig.streams.last?.received == Self.request }
        #expect(rig.streams.count == 2 && rig.streams[1].answers == 0)
    }

    @Test func `neither a new tunnel gets any, nor one that was silent for long`() throws {
        for limit in [Duration.zero, .seconds(1_000)] {
            let rig = try OddServerRig(Self.configuration(within: limit))
            if limit == .zero { try rig.proveAlive() }
            let count = rig.streams.count
            // The second CONNECT comes behind all that went along with the first.
            let connections = try (0..<2).map { _ in try rig.open(saying: Self.request) }
            try rig.until("two requests") { rig.streams.count == count + 2 }
            #expect(rig.streams.allSatisfy(\.received.isEmpty) && !connections[0].isSettled)
        }
    }

    @Test(.bothRecordLayers) func `after a refusal they are sent once more, whole`() throws {
        let rig = try OddServerRig(Self.configuration())
        try rig.proveAlive()
        rig.answer = .reset(.refusedStream)
        rig.afterwards = .ok
        let connection = try rig.open(saying: Self.request)
        try rig.until("the second attempt") { connection.relay != nil }
        connection.app.send([1])
        try rig.until("everything") { rig.streams.last?.received == Self.request + [1] }
        #expect(rig.streams.count == 3)
    }

    @Test(arguments: [
        OddServerRig.Answer.reset(.internalError), .reset(.cancel), .reset(.noError), .goAway, .nothing,
    ])
    func `without proof that nobody has begun the connection is lost, and nothing is tried again`(
        answer: OddServerRig.Answer
    ) throws {
        var configuration = Self.configuration()
        if answer == .nothing { configuration.answerDeadline = .seconds(1) }
        let rig = try OddServerRig(configuration)
        try rig.proveAlive()
        rig.answer = answer
        rig.afterwards = .ok
        let connection = try rig.open(saying: Self.request)
        try rig.until("the loss") { connection.isSettled }
        guard case .unanswered = connection.loss else {
            Issue.record("\(String(describing: connection.loss ?? connection.failure))")
            return
        }
        // Whatever else were to be tried would come before this one.
        let another = try rig.open()
        try rig.until("the next connection") { another.isSettled }
        #expect(rig.streams.filter { !$0.received.isEmpty }.count == 1 && rig.streams.count == 3)
    }

    @Test(arguments: [true, false])
    func `giving up resets the stream, and not as if it had ended once they are there`(saysFirst: Bool) throws
    {
        let rig = try OddServerRig(Self.configuration())
        try rig.proveAlive()
        let attempt = try rig.attempt(saying: saysFirst ? Self.request : [])
        try rig.until("the request") {
            rig.streams.count == 2 && (!saysFirst || rig.streams[1].received == Self.request)
        }
        attempt.cancel()
        try rig.until("the reset") { rig.streams[1].ending != nil }
        #expect(rig.streams[1].ending == .reset(saysFirst ? .connectError : .cancel))
    }

    @Test func `another status than 200 lets the caller try elsewhere`() throws {
        let rig = try OddServerRig(Self.configuration())
        try rig.proveAlive()
        rig.answer = .status(503)
        let connection = try rig.open(saying: Self.request)
        try rig.until("the refusal") { connection.isSettled }
        #expect(connection.failure == .refusedByPeer(status: 503, reason: ""))
    }
}

/// A client's pool whose server does what a test wants with each CONNECT, once its first bytes are there.
final class OddServerRig: Rig, HTTP2ChannelDelegate {
    enum Answer: Equatable, Sendable { case ok, nothing, goAway, status(Int), reset(ErrorCode) }

    let rig: TunnelRig
    private var listener: Listener?
    private let address: SocketAddress
    private var channels: [HTTP2Channel] = []
    var streams: [OddStream] = []
    /// What becomes of the next stream, and of those behind it.
    var answer = Answer.nothing
    var afterwards: Answer?

    init(_ configuration: TunnelPool.Configuration) throws {
        rig = try TunnelRig(configuration)
        let loop = rig.loop
        let socket = try Socket.listen(on: loopback())
        address = try socket.localAddress ?? loopback()
        let made = SocketBox(socket)
        super.init(loop)
        listener = try Listener(on: loop, made.take()) { [unowned self] accepted in
            let connection = SocketBox(accepted.socket)
            do {
                channels.append(
                    try HTTP2Channel.server(
                        on: loop, socket: connection.take(), tls: try TLSSession(rig.serverContext),
                        delegate: self))
            } catch { Issue.record("no server: \(error)") }
        }
    }

    func open(saying bytes: [UInt8] = []) throws -> TunnelRig.Connection {
        try rig.open(rig.target(address: address), saying: bytes)
    }

    /// An attempt for a test to give up.
    func attempt(saying bytes: [UInt8]) throws -> TunnelAttempt {
        let (near, far) = try pair()
        attempted = far
        if !bytes.isEmpty { far.send(bytes) }
        return rig.pool.open(rig.target(address: address), firstBytes: near, context: rig.clientContext) {
            _ in
        }
    }
    private var attempted: App?

    /// Opens a connection that stays, so that the tunnel has been heard of.
    func proveAlive() throws {
        answer = .ok
        let first = try open()
        try until("a connection that stays") { first.relay != nil }
        kept = first
        answer = .nothing
    }
    private var kept: TunnelRig.Connection?

    func channelReady(_ channel: HTTP2Channel) {}
    func channel(_ channel: HTTP2Channel, accept headers: HeaderBlock, id: StreamID) -> HTTP2Stream? {
        let stream = OddStream(answer) { [unowned channel] in channel.close() }
        answer = afterwards ?? answer
        streams.append(stream)
        return stream
    }
    func channelCapacityChanged(_ channel: HTTP2Channel) {}
    func channelClosed(_ channel: HTTP2Channel, _ reason: ChannelClose) {
        channels.removeAll { $0 === channel }
    }
}

final class OddStream: HTTP2Stream {
    private let answer: OddServerRig.Answer
    private let closeChannel: () -> Void
    private(set) var received: [UInt8] = []
    private(set) var answers = 0
    private(set) var ending: StreamClose?

    init(_ answer: OddServerRig.Answer, closeChannel: @escaping () -> Void) {
        self.answer = answer
        self.closeChannel = closeChannel
    }

    override func headersReceived(_ headers: HeaderBlock, endStream: Bool) {
        if answer == .ok { act() }
    }

    override func dataReceived(_ bytes: UnsafeRawBufferPointer, endStream: Bool) {
        unsafe received += Array(bytes)
        consumed(bytes.count)
        if answers == 0, answer != .ok { act() }
    }

    override func closed(_ reason: StreamClose) { ending = reason }

    private func act() {
        switch answer {
        case .nothing: return
        case .ok: sendHeaders(HeaderBlock(status: 200), endStream: false)
        case .status(let status): sendHeaders(HeaderBlock(status: status), endStream: true)
        case .reset(let code): reset(code)
        case .goAway: closeChannel()
        }
        answers += 1
    }
}
