import Address
import EventLoop
import Linux
import TLS
import Testing
import Transport

@testable import GRPC

struct TestTimeout: Error {}

/// A server and a channel to it, turned on the test's own thread.
final class Rig {
    let loop: EventLoop
    let server: GRPCServer
    private var listener: Listener?
    private(set) var address = SocketAddress(.loopbackIPv4, 0)
    private(set) var accepted = 0

    init(
        _ configuration: GRPCServer.Configuration = .init(), tls: TLSContext? = nil, listens: Bool = true
    ) throws {
        loop = try EventLoop(name: "test")
        server = GRPCServer(on: loop, configuration)
        let socket = try Socket.listen(on: address)
        address = socket.localAddress ?? address
        guard listens else { return }
        listener = try Listener(on: loop, socket) { [unowned self] connection in
            self.accepted += 1
            do {
                try self.server.accept(connection.socket, tls: tls.map { try TLSSession($0) })
            } catch {
                Issue.record("\(error)")
            }
        }
    }

    func channel(
        tls: TLSContext? = nil, _ change: (inout GRPCChannel.Configuration) -> Void = { _ in }
    ) -> GRPCChannel {
        var configuration = GRPCChannel.Configuration(authority: "localhost:\(address.port)")
        configuration.firstBackoff = .milliseconds(20)
        change(&configuration)
        let address = self.address
        return GRPCChannel(on: loop, configuration, tls: tls) { (_) throws(SystemCallError) in
            try Socket.connect(to: address)
        }
    }

    /// Closes what is connected; the server goes on.
    func cutConnections() { server.closeConnections() }

    func stopListening() {
        listener?.close()
        listener = nil
    }

    /// Turns the loop until a condition holds.
    func run(until condition: () -> Bool) throws {
        let limit = MonotonicTime.now() + .seconds(60)
        while !condition() {
            guard MonotonicTime.now() < limit else { throw TestTimeout() }
            loop.turn(waitingAtMost: .milliseconds(100))
        }
    }
}

/// A client's handler that notes what it hears.
final class Notes: GRPCClientHandler {
    var messages: [[UInt8]] = []
    var readyCount = 0
    var statuses: [GRPCStatus] = []
    var trailers = GRPCMetadata()
    var onMessage: (GRPCClientCall) -> Void = { _ in }

    var status: GRPCStatus? { statuses.first }

    func call(_ call: GRPCClientCall, received message: [UInt8]) {
        messages.append(message)
        onMessage(call)
    }
    func callIsReady(_ call: GRPCClientCall) { readyCount += 1 }
    func call(_ call: GRPCClientCall, ended status: GRPCStatus, trailers: GRPCMetadata) {
        statuses.append(status)
        self.trailers = trailers
    }
}

/// A server's handler that does what a test says.
final class Method: GRPCServerHandler {
    var messages: [[UInt8]] = []
    var statuses: [GRPCStatus] = []
    var isHalfClosed = false
    var call: GRPCServerCall?
    var onMessage: (GRPCServerCall, [UInt8]) -> Void = { _, _ in }
    var onHalfClose: (GRPCServerCall) -> Void = { _ in }

    func received(_ message: [UInt8], on call: GRPCServerCall) {
        messages.append(message)
        onMessage(call, message)
    }
    func halfClosed(_ call: GRPCServerCall) {
        isHalfClosed = true
        onHalfClose(call)
    }
    func closed(_ call: GRPCServerCall, _ status: GRPCStatus) { statuses.append(status) }
}

struct DriverTests {
    private func register(_ rig: Rig, _ path: String = "/s/m") -> Method {
        let method = Method()
        rig.server.register(path) { call in
            method.call = call
            return method
        }
        return method
    }

    @Test func `a call goes there and back and ends once on both sides`() throws {
        let rig = try Rig()
        let method = register(rig)
        method.onMessage = { call, message in call.send(message + [0]) }
        method.onHalfClose = { $0.finish(.ok, trailers: ["x": "1"]) }
        let channel = rig.channel()
        let notes = Notes()
        let call = channel.call("/s/m", handler: notes)
        call.send([1])
        call.send([2])
        call.halfClose()
        try rig.run { !notes.statuses.isEmpty && !method.statuses.isEmpty }
        #expect(notes.messages == [[1, 0], [2, 0]])
        #expect(notes.statuses == [.ok] && method.statuses == [.ok])
        #expect(notes.trailers["x"] == "1")
        call.cancel()
        #expect(notes.statuses == [.ok])
        channel.close()
        try rig.run { rig.server.channelCount == 0 }
    }

    @Test func `a server may finish before the client does`() throws {
        let rig = try Rig()
        let method = register(rig)
        method.onMessage = { call, _ in
            call.send([9])
            call.finish(GRPCStatus(.outOfRange, "enough"))
            call.send([10])
        }
        let channel = rig.channel()
        let notes = Notes()
        let call = channel.call("/s/m", handler: notes)
        call.send([1])
        try rig.run { !notes.statuses.isEmpty && !method.statuses.isEmpty }
        #expect(notes.messages == [[9]])
        #expect(notes.status == GRPCStatus(.outOfRange, "enough"))
        #expect(method.statuses == [GRPCStatus(.outOfRange, "enough")])
        channel.close()
    }

    @Test func `connecting fails calls at once, but not those that wait`() throws {
        let rig = try Rig()
        rig.stopListening()
        let channel = rig.channel()
        let (impatient, patient) = (Notes(), Notes())
        channel.call("/s/m", waitsForReady: true, handler: patient)
        channel.call("/s/m", handler: impatient)
        try rig.run { impatient.status != nil }
        #expect(impatient.status?.code == .unavailable)
        #expect(impatient.status?.message.contains("cannot connect") == true)
        // Within the back-off the answer needs no attempt.
        let second = Notes()
        channel.call("/s/m", handler: second)
        #expect(second.statuses.isEmpty, "no news before the call is in its maker's hands")
        try rig.run { second.status != nil }
        #expect(patient.statuses.isEmpty)
        channel.close()
        try rig.run { patient.status != nil }
        #expect(patient.status?.code == .unavailable)
    }

    @Test func `a call that waits is made when the server comes back`() throws {
        let rig = try Rig()
        let method = register(rig)
        method.onHalfClose = { $0.finish(.ok) }
        var attempts = 0
        var configuration = GRPCChannel.Configuration(authority: "localhost")
        configuration.firstBackoff = .milliseconds(5)
        let (good, bad) = (rig.address, SocketAddress(.loopbackIPv4, 1))
        let channel = GRPCChannel(on: rig.loop, configuration, tls: nil) { (_) throws(SystemCallError) in
            attempts += 1
            return try Socket.connect(to: attempts < 4 ? bad : good)
        }
        var news: [Bool] = []
        channel.onConnectionChange = { news.append($0) }
        let notes = Notes()
        channel.call("/s/m", waitsForReady: true, handler: notes).halfClose()
        try rig.run { notes.status != nil }
        #expect(notes.status == .ok)
        #expect(attempts == 4)
        #expect(news == [false, false, false, true])
        channel.close()
    }

    @Test func `calls that wait are limited`() throws {
        let rig = try Rig()
        let channel = rig.channel { $0.waitingLimit = 3 }
        let notes = (0..<5).map { _ in Notes() }
        for note in notes { channel.call("/s/m", handler: note) }
        try rig.run { notes.allSatisfy { $0.status != nil } }
        #expect(
            notes.map { $0.status?.code } == [
                .unimplemented, .unimplemented, .unimplemented, .resourceExhausted, .resourceExhausted,
            ])
        channel.close()
    }

    @Test func `calls over the server's limit of streams wait for one that ends`() throws {
        var configuration = GRPCServer.Configuration()
        configuration.channel.http2.maxConcurrentStreams = 2
        let rig = try Rig(configuration)
        var calls: [GRPCServerCall] = []
        rig.server.register("/s/m") { call in
            calls.append(call)
            return Method()
        }
        let channel = rig.channel()
        let first = Notes()
        channel.call("/s/m", handler: first)
        try rig.run { calls.count == 1 }
        let others = (0..<3).map { _ in Notes() }
        for note in others { channel.call("/s/m", handler: note) }
        try rig.run { calls.count == 2 }
        calls[0].finish(.ok)
        try rig.run { calls.count == 3 }
        calls[1].finish(.ok)
        try rig.run { calls.count == 4 }
        calls[2].finish(.ok)
        calls[3].finish(.ok)
        try rig.run { others.allSatisfy { $0.status == .ok } }
        #expect(rig.accepted == 1)
        channel.close()
    }

    @Test func `a message over the server's limit ends its call`() throws {
        var configuration = GRPCServer.Configuration()
        configuration.limits.message = 100
        let rig = try Rig(configuration)
        _ = register(rig)
        let channel = rig.channel()
        let notes = Notes()
        let call = channel.call("/s/m", handler: notes)
        call.send([UInt8](repeating: 0, count: 101))
        try rig.run { notes.status != nil }
        #expect(notes.status?.code == .resourceExhausted)
        channel.close()
    }

    @Test func `what is queued without heeding isReady is limited`() throws {
        let rig = try Rig()
        let method = register(rig)
        let channel = rig.channel { $0.limits.queue = 1 << 20 }
        let notes = Notes()
        let call = channel.call("/s/m", handler: notes)
        call.send([1])
        try rig.run { method.call != nil && !method.messages.isEmpty }
        method.call?.pause()
        var count = 0
        while notes.status == nil, count < 1_000 {
            call.send([UInt8](repeating: 0, count: 1 << 16))
            count += 1
            rig.loop.turn(waitingAtMost: .zero)
        }
        #expect(notes.status?.code == .resourceExhausted)
        try rig.run { !method.statuses.isEmpty }
        #expect(method.statuses == [GRPCStatus(.cancelled, "stream reset: CANCEL")])
        channel.close()
    }

    @Test func `a handler that pauses stops its client, and loses nothing`() throws {
        var configuration = GRPCServer.Configuration()
        configuration.channel.http2.initialWindow = 65_535
        let rig = try Rig(configuration)
        let method = register(rig)
        var isSlow = true
        method.onMessage = { call, _ in if isSlow { call.pause() } }
        method.onHalfClose = { $0.finish(.ok) }
        let channel = rig.channel()
        let notes = Notes()
        let call = channel.call("/s/m", handler: notes)
        for index in 0..<100 { call.send([UInt8](repeating: UInt8(index), count: 10_000)) }
        call.halfClose()
        try rig.run { method.messages.count == 1 }
        for _ in 0..<20 { rig.loop.turn(waitingAtMost: .milliseconds(1)) }
        #expect(method.messages.count == 1)
        #expect(!call.isReady && call.queuedBytes > 100 * 10_000 - 65_535 - 10_000)
        method.call?.resume()
        try rig.run { method.messages.count == 2 }
        isSlow = false
        method.call?.resume()
        try rig.run { notes.status != nil }
        #expect(notes.status == .ok && method.messages.count == 100)
        #expect(
            method.messages.enumerated().allSatisfy { $1 == [UInt8](repeating: UInt8($0), count: 10_000) })
        channel.close()
    }

    @Test func `a client that pauses hears the end after the last message`() throws {
        let rig = try Rig()
        let method = register(rig)
        method.onMessage = { call, _ in
            for index in 0..<5 { call.send([UInt8(index)]) }
            call.finish(.ok)
        }
        let channel = rig.channel()
        let notes = Notes()
        notes.onMessage = { $0.pause() }
        let call = channel.call("/s/m", handler: notes)
        call.send([1])
        for count in 1...5 {
            try rig.run { notes.messages.count == count }
            for _ in 0..<5 { rig.loop.turn(waitingAtMost: .milliseconds(1)) }
            #expect(notes.messages.count == count && notes.statuses.isEmpty)
            call.resume()
        }
        try rig.run { notes.status != nil }
        #expect(notes.status == .ok && notes.messages == [[0], [1], [2], [3], [4]])
        channel.close()
    }

    @Test func `deadlines end both sides`() throws {
        let rig = try Rig()
        let method = register(rig)
        let channel = rig.channel()
        let notes = Notes()
        let started = rig.loop.now
        channel.call("/s/m", timeout: .milliseconds(50), handler: notes)
        try rig.run { notes.status != nil && !method.statuses.isEmpty }
        #expect(notes.status?.code == .deadlineExceeded)
        #expect([.deadlineExceeded, .cancelled].contains(method.statuses.first?.code))
        #expect(rig.loop.now - started >= .milliseconds(40))
        // A deadline that has passed already needs no server.
        let late = Notes()
        channel.call("/s/m", timeout: .seconds(-1), handler: late)
        try rig.run { late.status != nil }
        #expect(late.status?.code == .deadlineExceeded)
        channel.close()
    }

    @Test func `a drain finishes what runs, and the next call finds another connection`() throws {
        let rig = try Rig()
        let method = register(rig)
        method.onMessage = { call, message in call.send(message) }
        method.onHalfClose = { $0.finish(.ok) }
        let channel = rig.channel()
        let notes = Notes()
        let call = channel.call("/s/m", handler: notes)
        call.send([1])
        try rig.run { notes.messages.count == 1 }
        channel.reconnect()
        let next = Notes()
        let nextCall = channel.call("/s/m", handler: next)
        nextCall.send([2])
        try rig.run { next.messages.count == 1 }
        #expect(rig.accepted == 2)
        call.send([3])
        call.halfClose()
        nextCall.halfClose()
        try rig.run { notes.status != nil && next.status != nil }
        #expect(notes.status == .ok && next.status == .ok)
        var isDrained = false
        rig.server.drain { isDrained = true }
        try rig.run { isDrained }
        #expect(rig.server.channelCount == 0)
        try rig.run { !channel.isConnected }
    }

    @Test func `connections over the server's limit are closed`() throws {
        var configuration = GRPCServer.Configuration()
        configuration.channelLimit = 1
        let rig = try Rig(configuration)
        let method = register(rig)
        method.onMessage = { call, message in call.send(message) }
        let (first, second) = (rig.channel(), rig.channel())
        let notes = Notes()
        first.call("/s/m", handler: notes).send([1])
        try rig.run { notes.messages.count == 1 }
        let refused = Notes()
        second.call("/s/m", handler: refused)
        try rig.run { refused.status != nil }
        #expect(refused.status?.code == .unavailable)
        #expect(rig.server.channelCount == 1 && rig.accepted == 2)
        first.close()
        second.close()
    }

    @Test func `connections without a call make room for others, the oldest first`() throws {
        var configuration = GRPCServer.Configuration()
        configuration.channelLimit = 3
        let rig = try Rig(configuration)
        let method = register(rig)
        method.onMessage = { call, message in call.send(message) }
        // One with a call, and two that never say anything.
        let first = rig.channel()
        let notes = Notes()
        first.call("/s/m", handler: notes).send([1])
        try rig.run { notes.messages.count == 1 }
        let older = try Socket.connect(to: rig.address)
        try rig.run { rig.server.channelCount == 2 }
        let younger = try Socket.connect(to: rig.address)
        try rig.run { rig.server.channelCount == 3 }
        let second = rig.channel()
        let served = Notes()
        second.call("/s/m", handler: served).send([2])
        try rig.run { served.messages.count == 1 && rig.server.channelCount == 3 }
        try rig.run { Self.isEnded(older) }
        #expect(!Self.isEnded(younger) && notes.statuses.isEmpty && served.statuses.isEmpty)
        first.close()
        second.close()
        try rig.run { rig.server.channelCount == 1 }
    }

    /// Reads what there is; true behind the last byte.
    private static func isEnded(_ socket: borrowing Socket) -> Bool {
        unsafe withUnsafeTemporaryAllocation(byteCount: 4_096, alignment: 1) { buffer in
            while true {
                switch unsafe socket.read(into: buffer) {
                case .bytes: continue
                case .end: return true
                case .wouldBlock, .failed: return false
                }
            }
        }
    }

    @Test func `nothing is kept of a request whose caller is not admitted`() throws {
        let rig = try Rig()
        var calls = 0
        rig.server.registerUnary(
            "/s/u", messageLimit: 10,
            admit: { call -> Result<String, GRPCStatus> in
                call.metadata["authorization"].map { .success($0) }
                    ?? .failure(GRPCStatus(.unauthenticated, "who are you"))
            }
        ) { (_, caller: String, request: [UInt8], reply: @escaping (Result<[UInt8], GRPCStatus>) -> Void) in
            calls += 1
            reply(.success(Array(caller.utf8) + request))
        }
        let channel = rig.channel()
        let (stranger, known, greedy) = (Notes(), Notes(), Notes())
        // It learns so before it has ended its request.
        channel.call("/s/u", handler: stranger).send([UInt8](repeating: 1, count: 10))
        try rig.run { stranger.status != nil }
        #expect(stranger.status?.code == .unauthenticated && calls == 0)
        let call = channel.call("/s/u", metadata: ["authorization": "me"], handler: known)
        call.send([1])
        call.halfClose()
        try rig.run { known.status != nil }
        #expect(known.messages == [Array("me".utf8) + [1]] && calls == 1)
        channel.call("/s/u", metadata: ["authorization": "me"], handler: greedy)
            .send([UInt8](repeating: 1, count: 11))
        try rig.run { greedy.status != nil }
        #expect(greedy.status?.code == .resourceExhausted && calls == 1)
        channel.close()
    }

    @Test func `a connection that breaks is made again at once, one that never spoke after a while`() throws {
        let rig = try Rig()
        let method = register(rig)
        method.onMessage = { call, message in call.send(message) }
        let channel = rig.channel { $0.firstBackoff = .seconds(60) }
        for round in 1...3 {
            let notes = Notes()
            channel.call("/s/m", handler: notes).send([1])
            try rig.run { notes.messages.count == 1 }
            #expect(rig.accepted == round)
            rig.cutConnections()
            try rig.run { notes.status != nil }
            #expect(notes.status?.code == .unavailable)
        }
        channel.close()
    }

    @Test func `credentials are asked for with each call`() throws {
        let rig = try Rig()
        var tokens: [String] = []
        rig.server.register("/s/m") { call in
            tokens.append(call.metadata["authorization"] ?? "-")
            call.finish(.ok)
            return Method()
        }
        let channel = rig.channel()
        var generation = 0
        channel.credentials = {
            generation += 1
            return ["authorization": "Bearer \(generation)"]
        }
        for count in 1...3 {
            let notes = Notes()
            channel.call("/s/m", handler: notes).halfClose()
            try rig.run { notes.status != nil }
            #expect(tokens.count == count)
        }
        #expect(tokens == ["Bearer 1", "Bearer 2", "Bearer 3"])
        channel.close()
    }

    @Test func `a server whose name does not fit is refused, and the reason told`() throws {
        let authority = try CertificateAuthority.createRoot(organization: "test")
        let key = try PrivateKey.generate()
        let leaf = try authority.sign(key.publicKey, uri: nil, hosts: ["control.example"], validity: 600)
        let bundle = try CertificateBundle(key: key, chain: authority.chain(for: leaf))
        let rig = try Rig(tls: TLSContext(.controlServer(bundle, clientRoots: authority.roots)))
        let method = register(rig)
        method.onHalfClose = { $0.finish(.ok) }
        let context = try TLSContext(.controlClient(nil, roots: authority.roots))
        let wrong = rig.channel(tls: context)
        let refused = Notes()
        wrong.call("/s/m", handler: refused)
        try rig.run { refused.status != nil }
        #expect(refused.status?.code == .unavailable)
        let right = rig.channel(tls: context) { $0.serverName = "control.example" }
        let notes = Notes()
        right.call("/s/m", handler: notes).halfClose()
        try rig.run { notes.status != nil }
        #expect(notes.status == .ok)
        wrong.close()
        right.close()
    }

    @Test func `a unary call with two answers, or none, is an error`() throws {
        let rig = try Rig()
        for count in [0, 2] {
            rig.server.register("/s/\(count)") { call in
                for _ in 0..<count { call.send([1]) }
                call.finish(.ok)
                return Method()
            }
        }
        let channel = rig.channel()
        for count in [0, 2] {
            var result: Result<[UInt8], GRPCStatus>?
            channel.unary("/s/\(count)", [1]) { result = $0 }
            try rig.run { result != nil }
            guard case .failure(let status) = result else {
                Issue.record("\(count) answers were taken for one")
                continue
            }
            #expect(status.code == .internal)
        }
        channel.close()
    }
}
