import EventLoop
import HTTP2
import Linux
import Log
import TLS
import Transport

/// A way to one server: makes a connection when a call needs one, and another when it ends. Lives on one loop.
///
/// Calls that have to wait for a connection, or for the server's limit of streams, wait in a bounded queue. A call that was
/// made without `waitsForReady` ends as `unavailable` when connecting fails; attempts then follow in growing intervals
/// (gRPC's "Connection Backoff"). `close` it when it is not needed any more.
public final class GRPCChannel: HTTP2ChannelDelegate {
    public struct Configuration: Sendable {
        /// `:authority` of every call.
        public var authority: String
        /// What a TLS session checks the server's certificate against; nil uses the authority's host.
        public var serverName: String?
        public var channel = ChannelConfiguration(.control)
        public var limits = GRPCLimits.client
        /// Calls that may wait.
        public var waitingLimit = 1_000
        public var firstBackoff = Duration.seconds(1)
        public var longestBackoff = Duration.seconds(30)
        public var userAgent = "warren"

        public init(authority: String) {
            self.authority = authority
        }
    }

    private enum State {
        case idle
        case connecting(HTTP2Channel)
        case ready(HTTP2Channel)
        /// Until the timer fires; the reason of the last failure.
        case backingOff(GRPCStatus)
        case closed
    }

    /// How the next connections are secured; nil speaks in the clear. May be set at any time, for a renewed certificate;
    /// `reconnect` makes it take effect.
    public var tls: TLSContext?
    /// Metadata of every call, asked for when it is sent: a bearer token that may have been renewed.
    public var credentials: (() -> GRPCMetadata)?
    /// Tells of every connection that is made (true) and every one that fails or ends (false).
    public var onConnectionChange: ((Bool) -> Void)?
    public let configuration: Configuration

    private let loop: EventLoop
    private let connect: (_ attempt: Int) throws(SystemCallError) -> Socket
    private var state = State.idle
    private var waiting: [GRPCClientCall] = []
    private var attempt = 0
    /// Failures since a server last spoke.
    private var failures = 0
    /// The server has said something of HTTP/2 on the present connection.
    private var hasSpoken = false
    private lazy var backoff = CallbackTimer { [weak self] in self?.backoffEnded() }
    private static let logger = Logger(scope: "grpc")

    /// - Parameter connect: begins a connection (`Socket.connect`); `attempt` counts up, to try several addresses in turn.
    public init(
        on loop: EventLoop, _ configuration: Configuration, tls: TLSContext?,
        connect: @escaping (_ attempt: Int) throws(SystemCallError) -> Socket
    ) {
        self.loop = loop
        self.configuration = configuration
        self.tls = tls
        self.connect = connect
    }

    // MARK: Calls

    /// Starts a call. Messages may be sent at once.
    ///
    /// - Parameters:
    ///   - timeout: after which the call ends as `deadlineExceeded`; the server is told.
    ///   - waitsForReady: wait for a connection however often connecting fails.
    @discardableResult
    public func call(
        _ path: String, metadata: GRPCMetadata = [:], timeout: Duration? = nil, waitsForReady: Bool = false,
        handler: any GRPCClientHandler
    ) -> GRPCClientCall {
        let call = GRPCClientCall(
            loop: loop, path: path, metadata: metadata, timeout: timeout, waitsForReady: waitsForReady,
            limits: configuration.limits, handler: handler)
        start(call)
        return call
    }

    /// One message there, one back.
    ///
    /// - Parameter completion: called exactly once, never before this returns the call.
    @discardableResult
    public func unary(
        _ path: String, _ message: [UInt8], metadata: GRPCMetadata = [:], timeout: Duration? = nil,
        waitsForReady: Bool = false, completion: @escaping (Result<[UInt8], GRPCStatus>) -> Void
    ) -> GRPCClientCall {
        let call = call(
            path, metadata: metadata, timeout: timeout, waitsForReady: waitsForReady,
            handler: UnaryHandler(completion))
        call.send(message)
        call.halfClose()
        return call
    }

    private func start(_ call: GRPCClientCall) {
        switch state {
        case .closed: endLater(call, GRPCStatus(.unavailable, "the channel is closed"))
        case .backingOff(let reason) where !call.waitsForReady: endLater(call, reason)
        case .idle:
            enqueue(call)
            startConnecting()
        case .ready(let channel):
            enqueue(call)
            openWaiting(on: channel)
        case .connecting, .backingOff: enqueue(call)
        }
    }

    private func enqueue(_ call: GRPCClientCall) {
        if waiting.count >= configuration.waitingLimit { waiting.removeAll { $0.isEnded } }
        guard waiting.count < configuration.waitingLimit else {
            return endLater(
                call, GRPCStatus(.resourceExhausted, "\(waiting.count) calls wait for a connection"))
        }
        waiting.append(call)
    }

    /// Ends a call in the loop's next turn, so that its maker has it before its handler hears of it.
    private func endLater(_ call: GRPCClientCall, _ status: GRPCStatus) {
        _ = loop.schedule(after: .zero) { call.end(status) }
    }

    /// Opens calls in their order, until one has to wait.
    private func openWaiting(on channel: HTTP2Channel) {
        while let call = waiting.first {
            if !call.isEnded {
                do throws(HTTP2Error) {
                    try channel.open(call, headers: headers(call), endStream: false)
                } catch {
                    // At the limit of streams the next one that ends makes room; everything else needs another
                    // connection, which the calls that are left wait for.
                    if error != .streamLimit { leave(channel) }
                    return
                }
            }
            waiting.removeFirst()
            call.flush()
        }
    }

    private func headers(_ call: GRPCClientCall) -> HeaderBlock {
        var metadata = credentials?() ?? [:]
        metadata.append(call.metadata)
        return ClientCallState.request(
            path: call.path, scheme: tls == nil ? "http" : "https", authority: configuration.authority,
            timeout: call.remaining, userAgent: configuration.userAgent, metadata: metadata)
    }

    // MARK: The connection

    /// Whether a connection is made and takes calls.
    public var isConnected: Bool {
        if case .ready = state { true } else { false }
    }

    /// Makes a new connection for what comes from now on; calls on the old one go on.
    public func reconnect() {
        switch state {
        case .ready(let channel): leave(channel)
        case .connecting(let channel):
            channel.delegate = nil
            channel.close()
            startConnecting()
        case .idle, .backingOff, .closed: break
        }
    }

    /// Ends every call as `unavailable`, and the connection. Nothing can be called any more.
    public func close() {
        let previous = state
        state = .closed
        loop.cancel(backoff)
        switch previous {
        case .connecting(let channel), .ready(let channel): channel.close()
        case .idle, .backingOff, .closed: break
        }
        endWaiting(GRPCStatus(.unavailable, "the channel is closed"), all: true)
    }

    private func startConnecting() {
        attempt += 1
        hasSpoken = false
        do throws(SystemCallError) {
            var session: TLSSession?
            if let tls {
                do throws(TLSError) {
                    session = try TLSSession(tls, serverName: serverName)
                } catch {
                    return connectionFailed("TLS: \(error)")
                }
            }
            let channel = try HTTP2Channel.client(
                on: loop, socket: connect(attempt), tls: session, configuration: configuration.channel,
                delegate: self)
            state = .connecting(channel)
        } catch {
            connectionFailed("\(error)")
        }
    }

    private var serverName: String {
        if let name = configuration.serverName { return name }
        let authority = configuration.authority
        if authority.hasPrefix("[") { return String(authority.dropFirst().prefix { $0 != "]" }) }
        return String(authority.prefix { $0 != ":" })
    }

    private func connectionFailed(_ reason: String) {
        let status = GRPCStatus(.unavailable, "cannot connect to \(configuration.authority): \(reason)")
        GRPCChannel.logger.limited(
            .seconds(10), .warn, "connection failed", ["server": configuration.authority, "reason": reason])
        state = .backingOff(status)
        // With jitter, so that the nodes of a mesh do not come back in step.
        let factor =
            Double.random(in: 0.8...1.2) * (0..<min(failures, 16)).reduce(1.0) { delay, _ in delay * 1.6 }
        failures += 1
        loop.schedule(backoff, after: min(configuration.firstBackoff * factor, configuration.longestBackoff))
        endWaiting(status, all: false)
        onConnectionChange?(false)
    }

    private func backoffEnded() {
        guard case .backingOff = state else { return }
        state = .idle
        waiting.removeAll { $0.isEnded }
        if !waiting.isEmpty { startConnecting() }
    }

    private func endWaiting(_ status: GRPCStatus, all: Bool) {
        let calls = waiting
        waiting = calls.filter { !all && $0.waitsForReady && !$0.isEnded }
        for call in calls where all || !call.waitsForReady { endLater(call, status) }
    }

    /// Opens nothing more on a channel; its calls go on until they end.
    private func leave(_ channel: HTTP2Channel) {
        guard case .ready(let current) = state, current === channel else { return }
        state = .idle
        channel.drain()
        onConnectionChange?(false)
        waiting.removeAll { $0.isEnded }
        if !waiting.isEmpty { startConnecting() }
    }

    // MARK: HTTP2ChannelDelegate

    public func channelReady(_ channel: HTTP2Channel) {
        guard case .connecting(let current) = state, current === channel else { return }
        state = .ready(channel)
        onConnectionChange?(true)
        openWaiting(on: channel)
    }

    public func channel(_ channel: HTTP2Channel, accept headers: HeaderBlock, id: StreamID) -> HTTP2Stream? {
        nil
    }

    public func channelCapacityChanged(_ channel: HTTP2Channel) {
        // The server has spoken: with TLS 1.3 a finished handshake does not prove that it took our certificate.
        guard case .ready(let current) = state, current === channel else { return }
        hasSpoken = true
        failures = 0
        openWaiting(on: channel)
    }

    public func channelClosed(_ channel: HTTP2Channel, _ reason: ChannelClose) {
        switch state {
        case .connecting(let current) where current === channel: connectionFailed("\(reason)")
        case .ready(let current) where current === channel:
            // One that ends before the server has said a word has failed, whatever it seemed to be.
            if hasSpoken { leave(channel) } else { connectionFailed("\(reason)") }
        default: break
        }
    }
}

/// Waits for the one message of a unary call.
private final class UnaryHandler: GRPCClientHandler {
    private var completion: ((Result<[UInt8], GRPCStatus>) -> Void)?
    private var message: [UInt8]?

    init(_ completion: @escaping (Result<[UInt8], GRPCStatus>) -> Void) {
        self.completion = completion
    }

    func call(_ call: GRPCClientCall, received message: [UInt8]) {
        guard self.message == nil else {
            return call.end(GRPCStatus(.internal, "a unary call had two responses"))
        }
        self.message = message
    }

    func call(_ call: GRPCClientCall, ended status: GRPCStatus, trailers: GRPCMetadata) {
        let completion = self.completion
        self.completion = nil
        guard status.isOK else { completion?(.failure(status)); return }
        completion?(
            message.map { .success($0) } ?? .failure(GRPCStatus(.internal, "a unary call had no response")))
    }
}
