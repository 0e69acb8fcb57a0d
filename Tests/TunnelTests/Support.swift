import Address
import EventLoop
import Glibc
import HTTP2
import Linux
import Mesh
import Metrics
import TLS
import TLSTestSupport
import Testing
import Transport

@testable import Tunnel

struct TestTimeout: Error, CustomStringConvertible {
    let what: String
    var description: String { "timed out: \(what)" }
}

/// Certificates for the tests' workloads, made once.
struct Certificates: Sendable {
    static let shared = Result { try Certificates() }

    let authority: CertificateAuthority
    let client: CertificateBundle
    let server: CertificateBundle
    static let clientIdentity = Identity(
        trustDomain: "cluster.local", namespace: "shop", serviceAccount: "client")
    static let serverIdentity = Identity(
        trustDomain: "cluster.local", namespace: "shop", serviceAccount: "server")

    init() throws {
        let authority = try CertificateAuthority.createRoot(organization: "cluster.local")
        func bundle(_ identity: Identity) throws -> CertificateBundle {
            let key = try PrivateKey.generate()
            let leaf = try authority.sign(key.publicKey, uri: identity.uri, validity: 3_600)
            return try CertificateBundle(key: key, chain: authority.chain(for: leaf))
        }
        self.authority = authority
        client = try bundle(Self.clientIdentity)
        server = try bundle(Self.serverIdentity)
    }
}

/// Turns a loop on the test's own thread.
class Rig {
    let loop: EventLoop

    init(_ loop: EventLoop) {
        ignoreSIGPIPE()
        self.loop = loop
    }

    convenience init(bufferBudget: Int = 256 << 20, pipeLimit: Int = 64) throws {
        self.init(
            try EventLoop(
                name: "test", .init(bufferBudget: bufferBudget, pipeLimit: pipeLimit), registry: Registry()))
    }

    /// Turns, lets the applications act, and so on until the condition holds.
    func until(_ what: String, _ condition: () throws -> Bool) throws {
        let deadline = MonotonicTime.now() + .seconds(60)
        while try !condition() {
            guard MonotonicTime.now() < deadline else { throw TestTimeout(what: what) }
            loop.turn(waitingAtMost: .milliseconds(1))
        }
    }

    /// Two ends of a TCP connection over loopback.
    func pair(buffers: Int32? = nil) throws -> (near: SocketBox, far: App) {
        let listener = try Socket.listen(on: loopback())
        if let buffers { listener.setBuffers(receive: buffers, send: buffers) }
        let near = try Socket.connect(to: listener.localAddress ?? loopback())
        if let buffers { near.setBuffers(receive: buffers, send: buffers) }
        let box = SocketBox(near)
        var far: App?
        try until("a connection over loopback") {
            if let accepted = try listener.accept() { far = App(accepted.socket) }
            return far != nil
        }
        return (box, try #require(far))
    }
}

func loopback(_ port: UInt16 = 0) throws -> SocketAddress { try #require(SocketAddress("127.0.0.1:\(port)")) }

/// A socket on its way through closures.
final class SocketBox: FirstBytes {
    private var socket: Socket?
    init(_ socket: consuming Socket) { self.socket = .some(socket) }
    func take() throws -> Socket {
        guard let socket = socket.take() else { throw TestTimeout(what: "a socket taken twice") }
        return socket
    }

    func peek(into area: UnsafeMutableRawBufferPointer) -> Int {
        if case .bytes(let count)? = unsafe socket?.peek(into: area) { count } else { 0 }
    }
}

/// An application's end of a connection: does what a test tells it, as far as the socket allows.
final class App {
    var received: [UInt8] = []
    /// nil while the connection goes on; 0 after its peer's FIN; else the errno value.
    private(set) var ending: Int32?
    private var socket: Socket?
    private var outgoing: [UInt8] = []
    private var sent = 0
    private var shutsDown = false
    var reads = true

    init(_ socket: consuming Socket) { self.socket = .some(socket) }

    func send(_ bytes: [UInt8], thenShutDown: Bool = false) {
        outgoing += bytes
        shutsDown = shutsDown || thenShutDown
        step()
    }

    func close() { socket = nil }
    func reset() {
        if let socket = socket.take() { socket.reset() }
    }

    var unsentByteCount: Int { outgoing.count - sent }
    var hasSentEverything: Bool { sent == outgoing.count }

    /// Moves what can be moved.
    func step() {
        write()
        if reads { read() }
    }

    private func write() {
        while sent < outgoing.count {
            let result = unsafe outgoing.withUnsafeBytes { bytes in
                unsafe socket?.write(
                    UnsafeRawBufferPointer(rebasing: bytes[sent..<min(bytes.count, sent + 262_144)]))
            }
            switch result {
            case .bytes(let count): sent += count
            case .failed(let number):
                ending = ending ?? number
                sent = outgoing.count
            default: return
            }
        }
        if shutsDown {
            shutsDown = false
            socket?.shutdownWrite()
        }
    }

    private func read() {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while ending == nil {
            switch unsafe buffer.withUnsafeMutableBytes({ unsafe socket?.read(into: $0) }) {
            case .bytes(let count): received += buffer.prefix(count)
            case .end: ending = 0
            case .failed(let number): ending = number
            default: return
            }
        }
    }
}

/// A client's pool and a node's server joined by a real tunnel over loopback.
final class TunnelRig: Rig, TunnelServerDelegate {
    let address: SocketAddress
    let pool: TunnelPool
    /// Of the client's pod, and of the server's.
    let clientShare, serverShare: TurnShare
    let clientContext: TLSContext
    let serverContext: TLSContext
    private var listener: Listener?
    /// What becomes of requests; by default they are connected to a new application.
    var decide: (TunnelRequest) -> CloseReason? = { _ in nil }
    /// The applications that were connected, in order, with the relay of each.
    var applications: [App] = []
    var serverRelays: [StreamRelay] = []
    var serverReasons: [CloseReason] = []
    var servers: [TunnelServer] = []
    var closedServers: [ChannelClose] = []
    var requests: [TunnelRequest] = []
    var applicationBuffers: Int32?
    /// Requests are neither refused nor connected.
    var holdsRequests = false

    init(
        _ configuration: TunnelPool.Configuration = .init(), bufferBudget: Int = 256 << 20,
        server: ChannelConfiguration = .init(), share: Int = TurnShare.byteCount
    ) throws {
        let certificates = try Certificates.shared.get()
        let roots = certificates.authority.roots
        var clientSide = TLSConfiguration.meshClient(certificates.client, roots: roots)
        clientSide.records = TestedRecords.layer
        clientContext = try TLSContext(clientSide)
        var serverSide = TLSConfiguration.meshServer(
            certificates.server, roots: roots, trustDomains: ["cluster.local"])
        serverSide.records = TestedRecords.layer
        serverContext = try TLSContext(serverSide)
        let socket = try Socket.listen(on: loopback())
        address = try socket.localAddress ?? loopback()
        let made = SocketBox(socket)
        let loop = try EventLoop(name: "test", .init(bufferBudget: bufferBudget), registry: Registry())
        clientShare = TurnShare(loop, byteCount: share)
        serverShare = TurnShare(loop, byteCount: share)
        pool = TunnelPool(loop: loop, configuration, share: clientShare) { address throws(SystemCallError) in
            try Socket.connect(to: address)
        }
        super.init(loop)
        listener = try Listener(on: loop, made.take()) { [unowned self] accepted in
            let connection = SocketBox(accepted.socket)
            do {
                servers.append(
                    try TunnelServer(
                        loop: loop, socket: connection.take(), context: serverContext, configuration: server,
                        share: serverShare, delegate: self))
            } catch { Issue.record("no server: \(error)") }
        }
    }

    func tunnel(_ server: TunnelServer, refused request: TunnelRequest, _ reason: CloseReason) {
        serverReasons.append(reason)
    }

    func tunnel(_ server: TunnelServer, requested request: TunnelRequest) {
        requests.append(request)
        if let reason = decide(request) { return request.refuse(reason) }
        if !holdsRequests { connect(request) }
    }

    func connect(_ request: TunnelRequest) {
        do {
            let (near, far) = try blockingPair()
            guard let stream = request.accept(headers: [Header("baggage", "service.name=server")]) else {
                return
            }
            applications.append(far)
            guard
                let relay = StreamRelay.inbound(
                    server: try near.take(), stream: stream, share: serverShare)
            else { return }
            relay.onEnd = { [unowned self] in serverReasons.append($0) }
            serverRelays.append(relay)
            relay.start()
        } catch { Issue.record("no application: \(error)") }
    }

    func tunnelClosed(_ server: TunnelServer, _ reason: ChannelClose) {
        closedServers.append(reason)
        servers.removeAll { $0 === server }
    }

    /// Over loopback a connection is made before connect(2) returns, so no turn is needed.
    private func blockingPair() throws -> (near: SocketBox, far: App) {
        let listening = try Socket.listen(on: loopback())
        if let applicationBuffers {
            listening.setBuffers(receive: applicationBuffers, send: applicationBuffers)
        }
        guard let address = listening.localAddress else { throw TestTimeout(what: "a listener's address") }
        let near = SocketBox(try Socket.connect(to: address))
        guard let accepted = try listening.accept() else { throw TestTimeout(what: "an accepted connection") }
        return (near, App(accepted.socket))
    }

    func target(
        authority: String = "127.0.0.1:80", address: SocketAddress? = nil,
        expecting: [Identity] = [Certificates.serverIdentity]
    ) -> TunnelTarget {
        TunnelTarget(
            source: Certificates.clientIdentity, expected: expecting, address: address ?? self.address,
            authority: authority,
            headers: [Header("baggage", "service.name=client"), Header("traceparent", "00-1-2-00")])
    }

    /// A connection from a client application through the tunnel to another one.
    final class Connection {
        let app: App
        private(set) var relay: StreamRelay?
        private(set) var reason: CloseReason?
        private(set) var failure: CloseReason?
        private(set) var loss: CloseReason?
        private(set) var answer: HeaderBlock?
        private(set) var peer: Identity?
        fileprivate let near: SocketBox
        private let share: TurnShare

        fileprivate init(_ near: SocketBox, _ app: App, _ share: TurnShare) {
            self.near = near
            self.share = share
            self.app = app
        }

        fileprivate func take(_ outcome: TunnelOutcome) {
            switch outcome {
            case .failed(let reason): failure = reason
            case .lost(let reason): loss = reason
            case .opened(let stream, let headers, let peer):
                answer = headers
                self.peer = peer?.identity
                guard let socket = try? near.take(),
                    let relay = StreamRelay.outbound(client: socket, stream: stream, share: share)
                else { return }
                relay.onEnd = { [weak self] in self?.reason = $0 }
                self.relay = relay
                relay.start()
            }
        }

        var isSettled: Bool { relay != nil || failure != nil || loss != nil }
    }

    /// - Parameter saying: what the application has sent before anybody looks.
    func open(_ target: TunnelTarget? = nil, saying bytes: [UInt8] = [], thenShutDown: Bool = false) throws
        -> Connection
    {
        let (near, far) = try blockingPair()
        if !bytes.isEmpty { far.send(bytes, thenShutDown: thenShutDown) }
        let connection = Connection(near, far, clientShare)
        pool.open(target ?? self.target(), firstBytes: near, context: clientContext) { connection.take($0) }
        return connection
    }

    /// An open connection and the application it reached.
    func connected() throws -> (Connection, App) {
        let connection = try open()
        let count = applications.count
        try until("an open connection") { connection.isSettled && applications.count > count }
        return (connection, applications[count])
    }
}
