import Address
import EventLoop
import HTTP1
import Linux
import Metrics

/// Answers HTTP/1 requests on a loop: admin pages, metrics, readiness; over TCP or a Unix socket.
///
/// Small on purpose: whole requests, whole responses, one request of a connection at a time. Slow and silent clients are let
/// go, and there is a limit to how many may be connected: at the limit the one that has waited longest for a request, or
/// to be read, makes room for the next, so that nobody keeps a probe out by being connected.
public final class HTTP1Server {
    public struct Configuration: Sendable {
        public var limits = HTTP1Limits()
        /// From the first byte of a request to its last.
        public var requestDeadline = Duration.seconds(2)
        /// Between two requests of a connection, and before the first.
        public var idleDeadline = Duration.seconds(60)
        /// For the handler's answer and for the client to read it.
        public var responseDeadline = Duration.seconds(30)
        public var connectionLimit = 64

        public init() {}
    }

    public typealias Handler = (HTTP1Exchange) -> Void

    let loop: EventLoop
    let configuration: Configuration
    let handler: Handler
    private var listener: Listener?
    private var connections: [ObjectIdentifier: HTTP1ServerConnection] = [:]
    private var acceptedCount: UInt64 = 0
    private static let refused = Registry.shared.counter(
        "warren_http1_refused", "HTTP/1 connections closed at once because too many were open.")
    private static let evicted = Registry.shared.counter(
        "warren_http1_evicted", "Waiting HTTP/1 connections closed to make room for others.")

    /// - Parameters:
    ///   - socket: a listening one.
    ///   - handler: called on the loop for each request; answers by `HTTP1Exchange.respond`, at once or later.
    public init(
        on loop: EventLoop, _ socket: consuming Socket, _ configuration: Configuration = Configuration(),
        _ handler: @escaping Handler
    ) throws(SystemCallError) {
        self.loop = loop
        self.configuration = configuration
        self.handler = handler
        listener = try Listener(on: loop, socket) { [unowned self] accepted in accept(accepted) }
    }

    /// How many clients are connected.
    public var connectionCount: Int { connections.count }

    /// Stops listening and ends every connection.
    public func close() {
        listener?.close()
        listener = nil
        for connection in connections.values { connection.close() }
    }

    private func accept(_ accepted: consuming Accepted) {
        guard connections.count < configuration.connectionLimit || makeRoom() else {
            HTTP1Server.refused.add()
            return
        }
        let peer = accepted.peer
        acceptedCount += 1
        if let connection = try? HTTP1ServerConnection(self, accepted.socket, peer, number: acceptedCount) {
            connections[ObjectIdentifier(connection)] = connection
        }
    }

    /// Ends the oldest connection without a request under way; where each has one, the oldest that reads its answer.
    private func makeRoom() -> Bool {
        let candidates = connections.values.filter { $0.mayBeEvicted }
        let oldest = candidates.min { a, b in
            a.isWriting == b.isWriting ? a.number < b.number : b.isWriting
        }
        guard let oldest else { return false }
        HTTP1Server.evicted.add()
        oldest.close()
        return true
    }

    func ended(_ connection: HTTP1ServerConnection) {
        connections[ObjectIdentifier(connection)] = nil
    }
}

/// A request and the way to answer it. Bound to the server's loop; other threads carry it as `LoopBound`.
public final class HTTP1Exchange {
    public let request: HTTP1Request
    /// Where the request came from; nil on Unix sockets.
    public let peerAddress: SocketAddress?
    /// Who sent it; nil on TCP.
    public let peerCredentials: PeerCredentials?
    private weak var connection: HTTP1ServerConnection?

    init(
        _ request: HTTP1Request, _ peerAddress: SocketAddress?, _ peerCredentials: PeerCredentials?,
        _ connection: HTTP1ServerConnection
    ) {
        self.request = request
        self.peerAddress = peerAddress
        self.peerCredentials = peerCredentials
        self.connection = connection
    }

    /// Answers. Only the first answer counts, and none when the client has gone meanwhile.
    public func respond(_ response: HTTP1Response) {
        guard let connection else { return }
        self.connection = nil
        connection.respond(response, to: request)
    }
}

/// One client of an `HTTP1Server`.
final class HTTP1ServerConnection: Pollable {
    private enum Phase { case reading, answering, writing, lingering, closed }

    private unowned let server: HTTP1Server
    /// In the order of arrival.
    let number: UInt64
    private let loop: EventLoop
    private var socket: Socket?
    private let peerAddress: SocketAddress?
    private let peerCredentials: PeerCredentials?
    private var registration = Registration.none
    private var parser: RequestParser
    private var phase = Phase.reading
    private var output: [UInt8] = []
    private var written = 0
    private var keepsAlive = false
    /// The deadline of the request under way has been set: later bytes of it do not move it.
    private var isTimed = false
    private lazy var deadline = CallbackTimer { [weak self] in self?.close() }
    /// Bytes read in one turn.
    private static let readSize = 16_384
    private static let linger = Duration.seconds(1)

    init(
        _ server: HTTP1Server, _ socket: consuming Socket, _ peer: SocketAddress?, number: UInt64
    ) throws(SystemCallError) {
        self.server = server
        self.number = number
        loop = server.loop
        parser = RequestParser(limits: server.configuration.limits)
        peerAddress = peer
        peerCredentials = peer == nil ? socket.peerCredentials : nil
        self.socket = nil
        super.init()
        registration = try loop.register(self, socket, .readable)
        self.socket = consume socket
        loop.schedule(deadline, after: server.configuration.idleDeadline)
    }

    /// The handler is not at work on a request of it.
    var mayBeEvicted: Bool { phase != .answering }
    var isWriting: Bool { phase == .writing }

    override func ready(_ events: Events) {
        switch phase {
        case .reading, .lingering: read()
        case .writing: write()
        // Only a hangup is reported then: nobody is left to answer.
        case .answering: close()
        case .closed: break
        }
    }

    private func read() {
        let area = unsafe UnsafeMutableRawBufferPointer(
            rebasing: loop.scratch.cipher[..<HTTP1ServerConnection.readSize])
        switch unsafe socket?.read(into: area) ?? .end {
        case .bytes(let count):
            guard phase == .reading else { return }
            unsafe parser.append(UnsafeRawBufferPointer(rebasing: area[..<count]))
            takeRequest()
        case .wouldBlock: break
        case .end, .failed: close()
        }
    }

    private func takeRequest() {
        do throws(HTTP1Error) {
            guard let request = try parser.next() else {
                if parser.takeContinue() { sendContinue() }
                if parser.isWithinRequest, !isTimed {
                    isTimed = true
                    loop.schedule(deadline, after: server.configuration.requestDeadline)
                }
                return
            }
            isTimed = false
            phase = .answering
            loop.update(registration, [])
            loop.schedule(deadline, after: server.configuration.responseDeadline)
            server.handler(HTTP1Exchange(request, peerAddress, peerCredentials, self))
        } catch {
            // Where the next request would begin is unknown.
            send(HTTP1Response(error).serialized(keepsAlive: false), keepsAlive: false)
        }
    }

    /// An interim response of 25 bytes: a socket that does not take it at once has a client that reads nothing.
    private func sendContinue() {
        let sent = unsafe HTTP1Response.continue.withUnsafeBytes { unsafe socket?.write($0) }
        if sent != .bytes(HTTP1Response.continue.count) { close() }
    }

    func respond(_ response: HTTP1Response, to request: HTTP1Request) {
        guard phase == .answering else { return }
        let keepsAlive = request.keepsAlive
        send(
            response.serialized(isHead: request.method == "HEAD", keepsAlive: keepsAlive),
            keepsAlive: keepsAlive)
    }

    private func send(_ bytes: [UInt8], keepsAlive: Bool) {
        output = bytes
        written = 0
        self.keepsAlive = keepsAlive
        phase = .writing
        loop.schedule(deadline, after: server.configuration.responseDeadline)
        // Not from within the handler: pipelined requests would nest.
        loop.atEndOfTurn(self)
    }

    override func endOfTurn() {
        if phase == .writing { write() }
    }

    private func write() {
        while written < output.count {
            let result = unsafe output.withUnsafeBytes { all in
                unsafe socket?.write(UnsafeRawBufferPointer(rebasing: all[written...]))
            }
            switch result {
            case .bytes(let count): written += count
            case .wouldBlock: return loop.update(registration, .writable)
            default: return close()
            }
        }
        output = []
        phase = keepsAlive ? .reading : .lingering
        loop.update(registration, .readable)
        guard keepsAlive else {
            // Closed at once, unread bytes would turn into a reset that takes the answer from the client.
            socket?.shutdownWrite()
            loop.schedule(deadline, after: HTTP1ServerConnection.linger)
            return
        }
        loop.schedule(deadline, after: server.configuration.idleDeadline)
        takeRequest()
    }

    func close() {
        guard phase != .closed else { return }
        phase = .closed
        loop.cancel(deadline)
        loop.deregister(registration)
        registration = .none
        socket = nil
        server.ended(self)
    }
}
