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

struct TunnelTests {
    @Test(.bothRecordLayers) func `a connection goes through with the peers' identities and headers`() throws
    {
        let rig = try TunnelRig()
        let (connection, server) = try rig.connected()
        #expect(connection.peer == Certificates.serverIdentity)
        #expect(connection.answer?["baggage"] == "service.name=server")
        let request = try #require(rig.requests.first)
        #expect(request.peer.identity == Certificates.clientIdentity)
        #expect(request.authority == "127.0.0.1:80" && request.headers["baggage"] == "service.name=client")
        connection.app.send(Array("ping".utf8))
        try rig.until("the ping") {
            server.step()
            return server.received == Array("ping".utf8)
        }
        server.send(Array("pong".utf8))
        try rig.until("the pong") {
            connection.app.step()
            return connection.app.received == Array("pong".utf8)
        }
        #expect(connection.relay?.bytesFromClient == 4 && rig.serverRelays[0].bytesToClient == 4)
    }

    @Test(.bothRecordLayers, arguments: 1...200 as ClosedRange<UInt64>)
    func `a half-close passes on its own, in any order, with everything before it`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let rig = try TunnelRig()
        for _ in 0..<3 {
            let (connection, server) = try rig.connected()
            let client = connection.app
            let sizes = [0, 1, 100, 40_000, 700_000]
            let request = [UInt8](repeating: 1, count: sizes.randomElement(using: &random) ?? 0)
            let answer = [UInt8](repeating: 2, count: sizes.randomElement(using: &random) ?? 0)
            func until(_ what: String, _ condition: () -> Bool) throws {
                try rig.until(what) {
                    client.step()
                    server.step()
                    return condition()
                }
            }
            switch Int.random(in: 0..<3, using: &random) {
            case 0:
                client.send(request, thenShutDown: true)
                try until("the request's end") { server.ending != nil }
                #expect(server.received == request)
                server.send(answer, thenShutDown: true)
            case 1:
                server.send(answer, thenShutDown: true)
                try until("the answer's end") { client.ending != nil }
                #expect(client.received == answer)
                client.send(request, thenShutDown: true)
            default:
                client.send(request, thenShutDown: true)
                server.send(answer, thenShutDown: true)
            }
            try until("both ends") {
                client.ending != nil && server.ending != nil && connection.reason != nil
            }
            #expect(client.ending == 0 && server.ending == 0)
            #expect(client.received == answer && server.received == request)
            #expect(connection.reason == .completed)
            #expect(connection.relay?.bytesFromClient == UInt64(request.count))
            #expect(connection.relay?.bytesToClient == UInt64(answer.count))
        }
        try rig.until("the servers' ends") { rig.serverReasons.count == 3 }
        #expect(rig.serverReasons == [.completed, .completed, .completed])
        #expect(rig.pool.openTunnels == 1)
        try rig.until("every stream's end") { rig.pool.descriptions.first?.streams == 0 }
        #expect(rig.loop.buffers.borrowedBytes == 0)
    }

    @Test(arguments: [true, false])
    func `a reset stays a reset`(byClient: Bool) throws {
        let rig = try TunnelRig()
        let (connection, server) = try rig.connected()
        connection.app.send([1])
        try rig.until("a byte") {
            server.step()
            return server.received.count == 1
        }
        (byClient ? connection.app : server).reset()
        let other = byClient ? server : connection.app
        try rig.until("the reset") {
            other.step()
            return other.ending != nil && connection.reason != nil && rig.serverReasons.count == 1
        }
        #expect(other.ending == ECONNRESET)
        #expect(connection.reason == (byClient ? .resetByClient : .resetByServer))
        #expect(rig.serverReasons == [byClient ? .resetByClient : .resetByServer])
    }

    @Test(.bothRecordLayers, arguments: 1...40)
    func `an answer before a reset arrives in full`(round: Int) throws {
        let rig = try TunnelRig()
        let (connection, server) = try rig.connected()
        let client = connection.app
        client.reads = false
        server.reads = false
        client.send([UInt8](repeating: 1, count: 1_000))
        try rig.until("the request's way") { rig.serverRelays[0].bytesFromClient == 1_000 }
        let answer = [UInt8](repeating: 9, count: 3_500_000 + round)
        server.send(answer)
        try rig.until("the answer's way") {
            server.step()
            return rig.serverRelays[0].bytesToClient == answer.count
        }
        // Closing with unread input makes the kernel send a reset behind the answer.
        server.close()
        try rig.until("the server's end") { !rig.serverReasons.isEmpty }
        client.reads = true
        try rig.until("the end") {
            client.step()
            return client.ending != nil && connection.reason != nil
        }
        #expect(client.received.count == answer.count)
        #expect(client.ending == ECONNRESET)
    }

    /// A client may send, and end, before it is answered.
    /// More pieces than one system call takes, to an application that does not take them at once.
    @Test(.bothRecordLayers) func `many frames of one read keep their order`() throws {
        let rig = try TunnelRig()
        rig.applicationBuffers = 65_536
        var opened: TunnelStream?
        rig.pool.open(rig.target(), context: rig.clientContext) {
            if case .opened(let stream, _, _) = $0 { opened = stream }
        }
        try rig.until("an open connection") { opened != nil && !rig.applications.isEmpty }
        let stream = try #require(opened)
        let (server, relay) = (rig.applications[0], rig.serverRelays[0])
        var sent: [UInt8] = []
        func burst() {
            for _ in 0..<800 {
                let piece = [UInt8](
                    repeating: UInt8(truncatingIfNeeded: sent.count >> 10), count: 1_024)
                let count = unsafe piece.withUnsafeBytes { unsafe stream.send($0, endStream: false) }
                sent += piece.prefix(count)
                if count < piece.count { return }
            }
        }
        for _ in 0..<10 {
            try rig.until("the application's socket is full") {
                burst()
                return relay.heldByteCount > 0
            }
            // Nothing waits, and there is hardly any room: what comes now is taken in part.
            try rig.until("everything is in the socket") {
                server.step()
                return relay.heldByteCount == 0
            }
            let before = sent.count
            try rig.until("the window is open again") {
                burst()
                return sent.count > before
            }
        }
        try rig.until("everything") {
            server.step()
            return server.received.count == sent.count
        }
        let isIntact = server.received == sent
        #expect(isIntact)
        stream.reset(.cancel)
    }

    @Test func `a late refusal of a stream that has ended lets the tunnel drain`() throws {
        let rig = try TunnelRig()
        rig.holdsRequests = true
        let client = try EarlyClient(rig)
        // The second is sent behind the content and the end of the first.
        try rig.until("both requests") { rig.requests.count == 2 }
        for request in rig.requests { request.refuse(.unmatchedByAllow) }
        try rig.until("both answers") { client.streams.map(\.status) == [401, 401] }
        try rig.until("the streams' end") { rig.servers[0].openStreams == 0 }
        rig.servers[0].drain()
        try rig.until("the tunnel's end") { rig.closedServers.count == 1 }
    }

    @Test func `content that came early, byte by byte, is one piece`() {
        final class Collector: ByteChannelDelegate {
            func received(_ bytes: UnsafeRawBufferPointer) {}
            func batchEnded() {}
            func writable() {}
            func remoteEnded() {}
            func closed(_ reason: ByteChannelClose) {}
        }
        let stream = TunnelStream()
        let content = (0..<1_000).map { UInt8(truncatingIfNeeded: $0) }
        for byte in content {
            unsafe withUnsafeBytes(of: byte) { unsafe stream.dataReceived($0, endStream: false) }
        }
        var pieces: [[UInt8]] = []
        unsafe stream.attach(Collector()).withBytes { unsafe pieces.append(Array($0)) }
        #expect(pieces == [content])
    }

    @Test func `idle connections borrow no memory`() throws {
        let rig = try TunnelRig()
        let connections = try (0..<10).map { _ in try rig.open() }
        try rig.until("ten") { connections.allSatisfy(\.isSettled) }
        for _ in 0..<20 { rig.loop.turn(waitingAtMost: .milliseconds(1)) }
        #expect(rig.loop.buffers.borrowedBytes == 0)
    }

    @Test(.bothRecordLayers) func `a refusal says its status and why, and leaves the application alone`()
        throws
    {
        let rig = try TunnelRig()
        rig.decide = { _ in .unmatchedByAllow }
        let connection = try rig.open()
        try rig.until("the refusal") { connection.isSettled }
        #expect(
            connection.failure
                == .refusedByPeer(status: 401, reason: CloseReason.unmatchedByAllow.description))
        connection.app.step()
        #expect(connection.app.ending == nil)
        rig.decide = { _ in .connectFailed("connection refused") }
        let another = try rig.open()
        try rig.until("the refusal") { another.isSettled }
        #expect(
            another.failure == .refusedByPeer(status: 503, reason: "connection failed: connection refused"))
        #expect(rig.pool.openTunnels == 1)
    }

    @Test func `a client that gives up while the application is dialled is noticed`() throws {
        let rig = try TunnelRig()
        var pending: TunnelRequest?
        var wasAbandoned = false
        rig.decide = { request in
            pending = request
            request.onAbandoned = { wasAbandoned = true }
            return nil
        }
        rig.holdsRequests = true
        let (near, far) = try rig.pair()
        let attempt = rig.pool.open(rig.target(), context: rig.clientContext) { _ in Issue.record("was told")
        }
        try rig.until("the request") { pending != nil }
        attempt.cancel()
        try rig.until("its end") { wasAbandoned }
        #expect(pending?.accept() == nil)
        _ = (near, far)
    }

    @Test(.bothRecordLayers)
    func `a server of another identity is no tunnel, and everyone who waits hears so at once`() throws {
        let rig = try TunnelRig()
        let expected = Identity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "other")
        let connections = try (0..<20).map { _ in try rig.open(rig.target(expecting: [expected])) }
        try rig.until("the failures") { connections.allSatisfy(\.isSettled) }
        for connection in connections {
            guard case .tlsFailed(let text) = connection.failure else {
                Issue.record("\(String(describing: connection.failure))")
                continue
            }
            #expect(text.contains(expected.uri))
        }
        #expect(rig.pool.openTunnels == 0 && rig.pool.keyCount == 0 && rig.pool.waiterCount == 0)
    }

    @Test func `nobody listening is a failed connect, at once for all`() throws {
        let rig = try TunnelRig()
        let address = try loopback(1)
        let connections = try (0..<150).map { _ in try rig.open(rig.target(address: address)) }
        try rig.until("the failures") { connections.allSatisfy(\.isSettled) }
        #expect(connections.allSatisfy { $0.failure == .connectFailed(errorText(ECONNREFUSED)) })
        #expect(rig.pool.keyCount == 0)
    }

    @Test func `a tunnel takes a hundred connections, then there is another`() throws {
        let rig = try TunnelRig()
        var connections = try (0..<100).map { _ in try rig.open() }
        try rig.until("a hundred") { connections.allSatisfy(\.isSettled) }
        #expect(rig.pool.openTunnels == 1)
        connections += try (0..<50).map { _ in try rig.open() }
        try rig.until("fifty more") { connections.allSatisfy(\.isSettled) }
        #expect(connections.allSatisfy { $0.failure == nil })
        #expect(rig.pool.openTunnels == 2)
        #expect(rig.pool.descriptions.map(\.streams).sorted() == [50, 100])
    }

    @Test func `the peer's limit of streams is kept, whatever it is`() throws {
        var server = ChannelConfiguration()
        server.http2.maxConcurrentStreams = 3
        let rig = try TunnelRig(server: server)
        let connections = try (0..<10).map { _ in try rig.open() }
        try rig.until("ten") { connections.allSatisfy(\.isSettled) }
        #expect(connections.filter { $0.failure == nil }.count == 10)
        #expect(rig.pool.descriptions.allSatisfy { $0.streams <= 3 })
    }

    @Test func `idle tunnels end after their time`() throws {
        var configuration = TunnelPool.Configuration()
        configuration.idle = .milliseconds(50)
        let rig = try TunnelRig(configuration)
        let (connection, server) = try rig.connected()
        connection.app.send([], thenShutDown: true)
        server.send([], thenShutDown: true)
        try rig.until("the tunnel's end") {
            connection.app.step()
            server.step()
            return rig.pool.openTunnels == 0 && rig.servers.isEmpty
        }
        #expect(rig.pool.keyCount == 0)
    }

    @Test func `without an idle time a tunnel ends with its last connection`() throws {
        var configuration = TunnelPool.Configuration()
        configuration.idle = .zero
        let rig = try TunnelRig(configuration)
        for _ in 0..<3 {
            let (connection, server) = try rig.connected()
            connection.app.send([1], thenShutDown: true)
            server.send([2, 3], thenShutDown: true)
            try rig.until("both ends") {
                connection.app.step()
                server.step()
                return connection.reason != nil && rig.pool.openTunnels == 0 && rig.servers.isEmpty
            }
            #expect(connection.app.received == [2, 3] && server.received == [1])
        }
    }

    @Test func `a tunnel whose server went away is replaced without the application's noticing`() throws {
        let rig = try TunnelRig()
        let (first, server) = try rig.connected()
        first.app.send([], thenShutDown: true)
        server.send([], thenShutDown: true)
        try rig.until("the end") {
            first.app.step()
            server.step()
            return first.reason != nil
        }
        for server in rig.servers { server.close() }
        let (second, _) = try rig.connected()
        #expect(second.failure == nil)
    }

    @Test(.bothRecordLayers) func `a tunnel that breaks resets its connections and says why`() throws {
        let rig = try TunnelRig()
        let (connection, server) = try rig.connected()
        for server in rig.servers { server.close() }
        try rig.until("the end") {
            connection.app.step()
            server.step()
            return connection.app.ending != nil && server.ending != nil && connection.reason != nil
        }
        #expect(connection.app.ending == ECONNRESET && server.ending == ECONNRESET)
        guard case .failed = connection.reason else {
            Issue.record("\(String(describing: connection.reason))")
            return
        }
    }

    @Test(.bothRecordLayers) func `draining lets connections finish`() throws {
        let rig = try TunnelRig()
        let (connection, server) = try rig.connected()
        for server in rig.servers { server.drain() }
        let (another, _) = try rig.connected()
        #expect(another.failure == nil)
        connection.app.send(Array("still".utf8), thenShutDown: true)
        server.send([], thenShutDown: true)
        try rig.until("the end") {
            connection.app.step()
            server.step()
            return connection.reason != nil && server.ending != nil
        }
        #expect(connection.reason == .completed && server.received == Array("still".utf8))
        try rig.until("the old tunnel's end") { rig.servers.count == 1 }
    }

    @Test(.bothRecordLayers) func `a connection that is cut is reset on both sides`() throws {
        let rig = try TunnelRig()
        let (connection, server) = try rig.connected()
        rig.serverRelays[0].cut(.policyChanged)
        try rig.until("the end") {
            connection.app.step()
            server.step()
            return connection.app.ending != nil && server.ending != nil
        }
        #expect(connection.app.ending == ECONNRESET && server.ending == ECONNRESET)
        #expect(rig.serverReasons == [.policyChanged] && connection.reason == .resetByServer)
    }

    @Test(.bothRecordLayers) func `a reader that stops holds one window, and its neighbours go on`() throws {
        let rig = try TunnelRig()
        rig.applicationBuffers = 65_536
        let (stopped, stoppedServer) = try rig.connected()
        stoppedServer.reads = false
        stopped.app.send([UInt8](repeating: 5, count: 32 << 20), thenShutDown: true)
        let (busy, busyServer) = try rig.connected()
        let bytes = [UInt8](repeating: 6, count: 24 << 20)
        busy.app.send(bytes, thenShutDown: true)
        var highest = 0
        // Which of the two is faster is the kernel's affair: small buffers make either wait for its timers.
        try rig.until("the neighbour's bytes, and the stopped one's window") {
            stopped.app.step()
            busy.app.step()
            busyServer.step()
            highest = max(highest, rig.serverRelays[0].heldByteCount)
            return busyServer.ending != nil && highest > 1 << 20
        }
        #expect(busyServer.received.count == bytes.count)
        #expect(!stopped.app.hasSentEverything)
        #expect(highest > 1 << 20 && highest <= 4 << 20)
        #expect(rig.pool.openTunnels == 1)
        stoppedServer.reads = true
        try rig.until("the rest") {
            stopped.app.step()
            stoppedServer.step()
            return stoppedServer.ending != nil
        }
        #expect(stoppedServer.received.count == 32 << 20 && stoppedServer.ending == 0)
        #expect(rig.loop.buffers.borrowedBytes == 0)
    }

    @Test func `the connections of a workload move its share in a turn and no more, each in its time`() throws
    {
        let share = 128 << 10
        let rig = try TunnelRig(share: share)
        let connections = try (0..<8).map { _ in try rig.connected() }
        let content = [UInt8](repeating: 7, count: 1 << 20)
        for (connection, _) in connections { connection.app.send(content) }
        var moved = [UInt64](repeating: 0, count: connections.count)
        var busyTurns = 0
        try rig.until("everything") {
            let now = connections.compactMap { $0.0.relay?.bytesFromClient }
            let step = zip(now, moved).reduce(0) { $0 + $1.0 - $1.1 }
            #expect(step <= share)
            if step > 0 { busyTurns += 1 }
            // Nobody is ahead of somebody who has more to give by more than two turns of all of them.
            let waiting = zip(now, connections).filter { !$0.1.0.app.hasSentEverything }.map(\.0)
            if let least = waiting.min(), let most = waiting.max() {
                #expect(most - least <= UInt64(2 * share))
            }
            moved = now
            for (connection, application) in connections {
                connection.app.step()
                application.step()
            }
            return connections.allSatisfy { $0.1.received.count == content.count }
        }
        #expect(busyTurns >= 8 * content.count / share)
    }

    @Test func `ten thousand short connections leave nothing behind`() throws {
        let rig = try TunnelRig()
        var finished = 0
        for _ in 0..<200 {
            let first = rig.applications.count
            let connections = try (0..<50).map { _ in try rig.open() }
            for connection in connections { connection.app.send(Array("hello".utf8), thenShutDown: true) }
            try rig.until("fifty") {
                for server in rig.applications[first...] {
                    server.step()
                    if server.ending == 0, server.hasSentEverything, server.received.count == 5 {
                        server.send(Array("bye".utf8), thenShutDown: true)
                        server.received.removeAll()
                    }
                }
                return connections.allSatisfy { connection in
                    connection.app.step()
                    return connection.reason != nil && connection.app.ending != nil
                }
            }
            finished +=
                connections.filter { $0.reason == .completed && $0.app.received == Array("bye".utf8) }.count
            rig.applications = []
            rig.serverRelays = []
        }
        #expect(finished == 10_000)
        try rig.until("every stream's end") { rig.pool.descriptions.allSatisfy { $0.streams == 0 } }
        #expect(rig.serverReasons.count == 10_000 && rig.serverReasons.allSatisfy { $0 == .completed })
        #expect(rig.loop.buffers.borrowedBytes == 0 && rig.pool.openTunnels == 1)
        // One listener, and both ends of the tunnel.
        #expect(rig.loop.registrationCount == 3)
    }
}

/// A client that sends content and its end right behind each of two CONNECTs.
private final class EarlyClient: HTTP2ChannelDelegate {
    final class Stream: HTTP2Stream {
        private(set) var status: Int?
        override func headersReceived(_ headers: HeaderBlock, endStream: Bool) { status = headers.status }
    }

    let streams = [Stream(), Stream()]
    private let authority: String

    init(_ rig: TunnelRig) throws {
        let target = rig.target()
        authority = target.authority
        let socket = try Socket.connect(to: rig.address)
        _ = try HTTP2Channel.client(
            on: rig.loop, socket: socket,
            tls: try TLSSession(rig.clientContext, expecting: [Certificates.serverIdentity.uri]),
            delegate: self)
    }

    func channelReady(_ channel: HTTP2Channel) {
        for stream in streams {
            do {
                try channel.open(stream, headers: HeaderBlock(connect: authority), endStream: false)
            } catch { Issue.record("no stream: \(error)") }
            let content = [UInt8](repeating: 1, count: 1_000)
            let sent = unsafe content.withUnsafeBytes { unsafe stream.send($0, endStream: true) }
            #expect(sent == content.count)
        }
    }
    func channel(_ channel: HTTP2Channel, accept headers: HeaderBlock, id: StreamID) -> HTTP2Stream? { nil }
    func channelCapacityChanged(_ channel: HTTP2Channel) {}
    func channelClosed(_ channel: HTTP2Channel, _ reason: ChannelClose) {}
}
