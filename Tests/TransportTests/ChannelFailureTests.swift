import Address
import EventLoop
import HTTP2
import Linux
import TLS
import TLSTestSupport
import TestSupport
import Testing

@testable import Transport

struct ChannelFailureTests {
    @Test func `a refused connection says so`() throws {
        let rig = try Rig()
        let listener = try Socket.listen(on: SocketAddress(.loopbackIPv4, 0))
        guard let address = listener.localAddress else { throw TestTimeout(what: "no address") }
        _ = consume listener
        let side = Recorder()
        let channel = try HTTP2Channel.client(
            on: rig.loop, socket: try Socket.connect(to: address), tls: nil, delegate: side)
        try rig.until("it failed") { side.closings.count == 1 }
        #expect(side.closings == [.connectFailed(111)])
        #expect(!channel.isOpen && side.readyCount == 0)
        #expect(rig.loop.registrationCount == 0 && rig.loop.armedTimerCount == 0)
    }

    @Test func `a client that does not begin its handshake is let go`() throws {
        let rig = try Rig()
        let pair = try Socket.pair()
        let far = pair.second
        let side = Recorder()
        var configuration = ChannelConfiguration()
        configuration.handshakeDeadline = .milliseconds(20)
        configuration.lingerDeadline = .milliseconds(20)
        let session = try #require(Certificates.shared).serverSession()
        _ = try HTTP2Channel.server(
            on: rig.loop, socket: far, tls: session, configuration: configuration, delegate: side)
        try rig.until("it is let go") { side.closings.count == 1 && rig.loop.registrationCount == 0 }
        #expect(side.closings == [.handshakeTimeout])
    }

    @Test(.bothRecordLayers)
    func `a server with another identity than expected is refused, and both sides know`() throws {
        let rig = try Rig()
        let pair = try Socket.pair()
        let near = pair.first
        let far = pair.second
        let (clientSide, serverSide) = (Recorder(), Recorder())
        let certificates = try #require(Certificates.shared)
        let expected = "spiffe://cluster.local/ns/shop/sa/other"
        _ = try HTTP2Channel.client(
            on: rig.loop, socket: near, tls: certificates.clientSession(expecting: expected),
            delegate: clientSide)
        let server = try HTTP2Channel.server(
            on: rig.loop, socket: far, tls: certificates.serverSession(), delegate: serverSide)
        try rig.until("both are over") { clientSide.closings.count == 1 && serverSide.closings.count == 1 }
        #expect(
            clientSide.closings == [
                .tls(.unexpectedIdentity(got: Certificates.serverIdentity, expected: [expected]))
            ])
        guard case .tls(.alert) = serverSide.closings.first else {
            Issue.record("the server got no alert: \(serverSide.closings)")
            return
        }
        #expect(clientSide.readyCount == 0 && serverSide.readyCount == 0 && !server.isOpen)
        try rig.until("the sockets are closed") { rig.loop.registrationCount == 0 }
    }

    @Test(.bothRecordLayers) func `each side knows the other's identity`() throws {
        let rig = try ChannelRig(.tls)
        #expect(rig.client.peer?.uris == [Certificates.serverIdentity])
        #expect(rig.server.peer?.uris == [Certificates.clientIdentity])
        #expect(rig.client.localAddress == rig.server.peerAddress && rig.client.localAddress != nil)
        try rig.close()
    }

    @Test(arguments: [1, 2, 3] as [UInt64]) func `whatever bytes a peer sends, the channel ends in order`(
        seed: UInt64
    ) throws {
        var random = SeededGenerator(seed: seed)
        for round in 0..<60 {
            let rig = try Rig()
            let pair = try Socket.pair()
            let near = pair.first
            let far = pair.second
            let side = Recorder()
            side.accept = { _ in EchoStream() }
            let session = round % 2 == 0 ? nil : try #require(Certificates.shared).serverSession()
            var configuration = ChannelConfiguration()
            configuration.lingerDeadline = .milliseconds(5)
            _ = try HTTP2Channel.server(
                on: rig.loop, socket: far, tls: session, configuration: configuration, delegate: side)
            var bytes = round % 4 == 0 ? Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) : []
            bytes += (0..<Int.random(in: 1...400, using: &random)).map { _ in
                UInt8.random(in: .min ... .max, using: &random)
            }
            _ = unsafe bytes.withUnsafeBytes { unsafe near.write($0) }
            near.shutdownWrite()
            try rig.until("it is over") { side.closings.count == 1 && rig.loop.registrationCount == 0 }
            #expect(rig.loop.buffers.borrowedBytes == 0)
        }
    }

    @Test func `a protocol error is answered with GOAWAY before the end`() throws {
        let rig = try Rig()
        let pair = try Socket.pair()
        let near = pair.first
        let far = pair.second
        let side = Recorder()
        _ = try HTTP2Channel.server(on: rig.loop, socket: far, tls: nil, delegate: side)
        let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
        let ping: [UInt8] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
        _ = unsafe (preface + ping).withUnsafeBytes { unsafe near.write($0) }
        try rig.until("it is over") { side.closings.count == 1 }
        #expect(side.closings == [.http2(.violation(.settingsExpected))])
        var received: [UInt8] = []
        unsafe withUnsafeTemporaryAllocation(byteCount: 4_096, alignment: 1) { buffer in
            while case .bytes(let count) = unsafe near.read(into: buffer) {
                unsafe received += buffer[..<count]
            }
        }
        // The last frame: type GOAWAY, code PROTOCOL_ERROR.
        let text = Array(HTTP2Error.violation(.settingsExpected).description.utf8)
        #expect(received.suffix(text.count) == text[...])
        #expect(received.dropLast(text.count).suffix(17).prefix(4) == [0, 0, UInt8(8 + text.count), 7])
        #expect(received.dropLast(text.count).suffix(4) == [0, 0, 0, 1])
    }

    @Test func `a silent peer is asked for a sign of life, and given up without one`() throws {
        let rig = try Rig()
        let pair = try Socket.pair()
        let near = pair.first
        let side = Recorder()
        var configuration = ChannelConfiguration()
        configuration.keepAliveInterval = .milliseconds(10)
        configuration.keepAliveDeadline = .milliseconds(30)
        configuration.lingerDeadline = .milliseconds(5)
        _ = try HTTP2Channel.client(
            on: rig.loop, socket: near, tls: nil, configuration: configuration, delegate: side)
        try rig.until("it is given up") { side.closings.count == 1 }
        #expect(side.closings == [.keepAliveTimeout])
    }

    @Test(.bothRecordLayers) func `an idle channel stays open by its PINGs`() throws {
        var configuration = ChannelConfiguration()
        configuration.keepAliveInterval = .milliseconds(5)
        configuration.keepAliveDeadline = .seconds(10)
        let rig = try ChannelRig(.tls, client: configuration)
        let before = rig.server.receivedBytes
        try rig.until("several PINGs were exchanged") { rig.server.receivedBytes >= before + 5 * (17 + 22) }
        #expect(rig.client.isOpen && rig.server.isOpen)
        try rig.close()
    }

    @Test(.bothRecordLayers)
    func `an end of TLS without its close_notify is a truncation when streams are open`() throws {
        for hasStream in [true, false] {
            let rig = try ChannelRig(.tls)
            if hasStream {
                _ = try rig.open(SourceStream(10))
                rig.settle()
            }
            rig.server.socket?.shutdownWrite()
            try rig.until("the client is over") { rig.clientSide.closings.count == 1 }
            #expect(rig.clientSide.closings == (hasStream ? [.tls(.truncated)] : [.peerEnded]))
        }
    }
}

struct ConnectorTests {
    private final class Outcome {
        var text: String?
        func note(_ result: consuming ConnectResult) {
            switch consume result {
            case .connected(let socket): text = "connected \(socket.peerAddress != nil)"
            case .failed(let number): text = "failed \(number)"
            case .timedOut: text = "timed out"
            case .cancelled: text = "cancelled"
            }
        }
    }

    @Test func `a connection is made, refused, given up in time or cancelled`() throws {
        let rig = try Rig()
        let listener = try Socket.listen(on: SocketAddress(.loopbackIPv4, 0), ListenOptions(backlog: 0))
        guard let address = listener.localAddress else { throw TestTimeout(what: "no address") }

        let first = Outcome()
        _ = try Connector(on: rig.loop, try Socket.connect(to: address)) { first.note($0) }
        try rig.until("connected") { first.text != nil }
        #expect(first.text == "connected true")

        // The queue of one is full now; Linux takes one more into its handshake and drops the SYNs of others.
        let second = Outcome()
        _ = try Connector(on: rig.loop, try Socket.connect(to: address)) { second.note($0) }
        let third = Outcome()
        _ = try Connector(on: rig.loop, try Socket.connect(to: address), within: .milliseconds(30)) {
            third.note($0)
        }
        try rig.until("given up") { third.text != nil }
        #expect(third.text == "timed out")

        let fourth = Outcome()
        let connector = try Connector(on: rig.loop, try Socket.connect(to: address)) { fourth.note($0) }
        connector.cancel()
        connector.cancel()
        #expect(fourth.text == "cancelled")
        _ = consume listener

        let fifth = Outcome()
        _ = try Connector(on: rig.loop, try Socket.connect(to: address)) { fifth.note($0) }
        try rig.until("refused") { fifth.text != nil }
        #expect(fifth.text == "failed 111")
    }
}

struct ListenerTests {
    @Test func `more connections than one turn accepts are accepted in the next ones`() throws {
        let rig = try Rig()
        let socket = try Socket.listen(on: SocketAddress(.loopbackIPv4, 0))
        guard let address = socket.localAddress else { throw TestTimeout(what: "no address") }
        var accepted = 0
        let listener = try Listener(on: rig.loop, socket) { _ in accepted += 1 }
        listener.setAccepting(false)
        let clients = Clients(try (0..<150).map { _ in try Client(address) })
        rig.settle()
        #expect(accepted == 0)
        listener.setAccepting(true)
        rig.loop.turn(waitingAtMost: .seconds(1))
        #expect(accepted == 64)
        try rig.until("all are accepted") { accepted == 150 }
        listener.close()
        #expect(rig.loop.registrationCount == 0)
        _ = clients
    }

    private final class Client {
        let socket: Socket
        init(_ address: SocketAddress) throws { socket = try Socket.connect(to: address) }
    }

    private final class Clients {
        let all: [Client]
        init(_ all: [Client]) { self.all = all }
    }
}

struct StreamTableTests {
    @Test(arguments: [1, 2, 3] as [UInt64]) func `agrees with a dictionary`(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var table = StreamTable()
        var reference: [StreamID: HTTP2Stream] = [:]
        for _ in 0..<20_000 {
            let id = StreamID.random(in: 0..<300, using: &random) * 2 + 1
            if Bool.random(using: &random) {
                guard reference[id] == nil else { continue }
                let stream = HTTP2Stream()
                stream.id = id
                table.insert(stream)
                reference[id] = stream
            } else {
                table.remove(id)
                reference[id] = nil
            }
            let probe = StreamID.random(in: 0..<300, using: &random) * 2 + 1
            #expect(table[probe] === reference[probe])
            #expect(table.count == reference.count)
        }
        #expect(Set(table.map(\.id)) == Set(reference.keys))
    }
}
