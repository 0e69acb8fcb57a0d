import Address
import EventLoop
import HTTP2
import Linux
import Mesh
import Metrics
import TLS
import Transport

/// The tunnels that one pod has open to others, on one loop. Bound to that loop.
public final class TunnelPool {
    public struct Configuration: Sendable {
        /// Connections in one tunnel; the peer may allow fewer.
        public var streamsPerTunnel = 100
        /// Connections that may wait for tunnels.
        public var waiters = 16_384
        /// How long a tunnel without connections is kept; with zero it ends with its last one.
        public var idle = Duration.seconds(300)
        /// For a tunnel to be ready or to have room; longer than a connect and a handshake may take.
        public var tunnelDeadline = Duration.seconds(25)
        /// For the answer to a CONNECT. The peer has 10 s to reach its application.
        public var answerDeadline = Duration.seconds(15)
        /// An application's first bytes go along with its CONNECT only into a tunnel that was heard of within this; 0: into none.
        ///
        /// Where the peer has died unseen they are lost with their connection, which without them would find another endpoint
        /// in time. So this is what a dead node may cost: the connections of a second. It is short beside the 10 s after which
        /// a silent peer is asked for a sign of life, and long beside the pauses of a tunnel that opens connections so often
        /// that the time of a first byte matters.
        public var firstBytesWithin = Duration.seconds(1)
        public var channel = ChannelConfiguration()

        public init() {}
    }

    let loop: EventLoop
    private let configuration: Configuration
    private let share: TurnShare?
    private let gauge: Gauge?
    private let connect: (SocketAddress) throws(SystemCallError) -> Socket
    private var table: PoolTable
    private var attempts: [PoolTable.WaiterID: TunnelAttempt] = [:]
    private var tunnels: [PoolTable.TunnelID: PooledTunnel] = [:]
    private var nextWaiter: PoolTable.WaiterID = 1
    private var context: TLSContext?
    private var generation: UInt64 = 0
    private var sweep: CallbackTimer?

    /// - Parameters:
    ///   - share: what the pod may move in a turn of the loop.
    ///   - gauge: counts tunnels that are open or being made, with those of other pools.
    ///   - connect: starts a connection from the pod's namespace.
    public init(
        loop: EventLoop, _ configuration: Configuration = Configuration(), share: TurnShare? = nil,
        gauge: Gauge? = nil, connect: @escaping (SocketAddress) throws(SystemCallError) -> Socket
    ) {
        self.loop = loop
        self.configuration = configuration
        self.share = share
        self.gauge = gauge
        self.connect = connect
        table = PoolTable(
            PoolTable.Limits(
                streamsPerTunnel: configuration.streamsPerTunnel, waiters: configuration.waiters,
                idle: UInt64(clamping: configuration.idle.wholeNanoseconds)))
    }

    deinit {
        if let sweep { loop.cancel(sweep) }
    }

    /// Tunnels that are open or being made.
    public var openTunnels: Int { tunnels.count }
    /// Keys for which anything is remembered.
    public var keyCount: Int { table.keyCount }
    /// Connections that wait for a tunnel.
    public var waiterCount: Int { table.waiterCount }

    /// Each tunnel: what it is for, what its server proved, and its connections; for dumps.
    public var descriptions: [TunnelDescription] {
        tunnels.values.map { tunnel in
            TunnelDescription(
                key: tunnel.key, peer: tunnel.channel?.peer?.identity,
                streams: tunnel.channel?.openStreams ?? 0, since: tunnel.since,
                congestionControl: tunnel.channel?.congestionControl ?? "")
        }
    }

    /// Opens a connection through a tunnel, an existing one if there is one with room.
    ///
    /// After a failure no application has had anything of the connection: the caller may try another endpoint. Not so after a
    /// loss.
    ///
    /// - Parameters:
    ///   - firstBytes: of the application, which may go along. They are still to be read from its socket when the outcome is
    ///     there; a relay passes over those that were sent.
    ///   - context: of the source's certificate. With another context than before, tunnels of the old one take no more
    ///     connections.
    ///   - completion: called once on the loop, never before this returns, unless cancelled.
    @discardableResult
    public func open(
        _ target: TunnelTarget, firstBytes: (any FirstBytes)? = nil, context: TLSContext,
        _ completion: @escaping (TunnelOutcome) -> Void
    ) -> TunnelAttempt {
        if context !== self.context {
            self.context = context
            generation += 1
        }
        let attempt = TunnelAttempt(self, target, firstBytes, completion)
        enqueue(attempt)
        return attempt
    }

    /// Lets every tunnel end with its last connection.
    public func drain() { perform(table.leaveAll()) }

    /// Ends everything at once.
    public func close() {
        if let sweep { loop.cancel(sweep) }
        for tunnel in tunnels.values { tunnel.channel?.close() }
    }

    // MARK: What attempts and tunnels report

    func enqueue(_ attempt: TunnelAttempt) {
        let key = attempt.target.key
        for id in table.tunnels(of: key) { noteCongestion(id) }
        if let id = table.take(key, generation: generation) { return begin(attempt, on: id) }
        attempt.id = nextWaiter
        nextWaiter += 1
        attempts[attempt.id] = attempt
        attempt.wait(atMost: configuration.tunnelDeadline)
        perform(table.request(attempt.id, key, generation: generation))
    }

    /// What first bytes may take of the pod's share of this turn.
    var firstByteRoom: Int { share?.remaining ?? .max }

    func spend(_ byteCount: Int) {
        if byteCount > 0 { share?.spend(byteCount) }
    }

    func cancel(_ attempt: TunnelAttempt) {
        attempts[attempt.id] = nil
        table.cancel(attempt.id)
    }

    func ready(_ tunnel: PooledTunnel) {
        TunnelMetrics.shared.opened.add()
        updateCapacity(tunnel)
    }

    func updateCapacity(_ tunnel: PooledTunnel) {
        guard let channel = tunnel.channel, channel.isOpen else { return }
        // Below its limit only a GOAWAY forbids a stream.
        if channel.canOpenStream || (channel.openStreams >= channel.streamLimit && channel.streamLimit > 0) {
            perform(table.ready(tunnel.id, capacity: channel.streamLimit, now: loop.now.nanoseconds))
        } else {
            perform(table.leave(tunnel.id))
        }
        armSweep()
    }

    private func noteCongestion(_ id: PoolTable.TunnelID) {
        guard let channel = tunnels[id]?.channel else { return }
        table.note(id, isCongested: channel.isCongested)
    }

    func streamEnded(on tunnel: PooledTunnel) {
        noteCongestion(tunnel.id)
        perform(table.streamEnded(tunnel.id, now: loop.now.nanoseconds))
        armSweep()
    }

    func closed(_ tunnel: PooledTunnel, _ close: ChannelClose) {
        forget(tunnel.id)
        let (failed, actions) = table.closed(tunnel.id)
        if !tunnel.wasReady { TunnelMetrics.shared.failed.add() }
        for waiter in failed { attempts.removeValue(forKey: waiter)?.end(.failed(CloseReason(close))) }
        perform(actions)
    }

    // MARK: Carrying out

    private func perform(_ actions: [PoolTable.Action]) {
        for action in actions {
            switch action {
            case .connect(let id, let key): make(id, key)
            case .open(let waiter, let id): open(waiter, on: id)
            case .refuse(let waiter):
                TunnelMetrics.shared.waitersRefused.add()
                failSoon([waiter], .limitReached("connections that wait for a tunnel"))
            case .drain(let id): tunnels[id]?.channel?.drain()
            }
        }
    }

    private func make(_ id: PoolTable.TunnelID, _ key: TunnelKey) {
        let tunnel = PooledTunnel(self, id, key)
        tunnels[id] = tunnel
        gauge?.add(1)
        do {
            guard let context else { return failTunnel(id, .identityUnavailable("no certificate")) }
            let session = try TLSSession(context, expecting: Set(key.expected.map(\.uri)))
            tunnel.channel = try HTTP2Channel.client(
                on: loop, socket: try connect(key.address), tls: session,
                configuration: configuration.channel, share: share,
                delegate: tunnel)
        } catch let error as TLSError {
            failTunnel(id, .tlsFailed("\(error)"))
        } catch {
            failTunnel(id, .connectFailed("\(error)"))
        }
    }

    private func forget(_ id: PoolTable.TunnelID) {
        if tunnels.removeValue(forKey: id) != nil { gauge?.add(-1) }
    }

    /// A tunnel that could not even be begun.
    private func failTunnel(_ id: PoolTable.TunnelID, _ reason: CloseReason) {
        TunnelMetrics.shared.failed.add()
        forget(id)
        failSoon(table.closed(id).failed, reason)
    }

    /// Not at once: whoever asked is still asking.
    private func failSoon(_ waiters: [PoolTable.WaiterID], _ reason: CloseReason) {
        let failed = waiters.compactMap { attempts.removeValue(forKey: $0) }
        guard !failed.isEmpty else { return }
        loop.schedule(after: .zero) { for attempt in failed { attempt.end(.failed(reason)) } }
    }

    private func open(_ waiter: PoolTable.WaiterID, on id: PoolTable.TunnelID) {
        guard let attempt = attempts.removeValue(forKey: waiter) else {
            return perform(table.streamEnded(id, now: loop.now.nanoseconds))
        }
        begin(attempt, on: id)
    }

    /// Opens its stream, which has been counted.
    private func begin(_ attempt: TunnelAttempt, on id: PoolTable.TunnelID) {
        guard let tunnel = tunnels[id], let channel = tunnel.channel else {
            let actions = table.streamEnded(id, now: loop.now.nanoseconds) + table.leave(id)
            enqueue(attempt)
            return perform(actions)
        }
        do throws(HTTP2Error) {
            try attempt.begin(on: tunnel, channel, configuration)
            TunnelMetrics.shared.streams.add()
        } catch {
            // As many as the peer allows, or it is leaving: this tunnel is full, another one is found or made.
            let actions = table.streamEnded(id, now: loop.now.nanoseconds)
            switch error {
            case .streamLimit:
                perform(table.ready(id, capacity: channel.streamLimit, now: loop.now.nanoseconds))
            default: perform(table.leave(id))
            }
            enqueue(attempt)
            perform(actions)
        }
    }

    // MARK: Idle tunnels

    private func armSweep() {
        guard sweep?.isArmed != true, table.hasIdle else { return }
        let timer = sweep ?? CallbackTimer { [weak self] in self?.expire() }
        sweep = timer
        loop.schedule(timer, after: max(.milliseconds(10), configuration.idle / 8))
    }

    private func expire() {
        perform(table.expire(now: loop.now.nanoseconds))
        armSweep()
    }
}

/// A tunnel as dumps show it.
public struct TunnelDescription: Sendable {
    public let key: TunnelKey
    /// What the server proved; nil before the handshake.
    public let peer: Identity?
    public let streams: Int
    public let since: WallClock
    /// By which it sends, as the kernel calls it.
    public let congestionControl: String
}

/// One tunnel of a pool.
final class PooledTunnel: HTTP2ChannelDelegate {
    let id: PoolTable.TunnelID
    let key: TunnelKey
    let since = WallClock.now()
    /// The loop keeps the channel alive; the pool keeps this object.
    var channel: HTTP2Channel?
    private(set) var wasReady = false
    /// Streams may outlive the pool.
    private weak var pool: TunnelPool?

    init(_ pool: TunnelPool, _ id: PoolTable.TunnelID, _ key: TunnelKey) {
        self.pool = pool
        self.id = id
        self.key = key
    }

    func channelReady(_ channel: HTTP2Channel) {
        wasReady = true
        pool?.ready(self)
    }

    func channel(_ channel: HTTP2Channel, accept headers: HeaderBlock, id: StreamID) -> HTTP2Stream? { nil }

    func channelCapacityChanged(_ channel: HTTP2Channel) { pool?.updateCapacity(self) }

    func channelClosed(_ channel: HTTP2Channel, _ reason: ChannelClose) {
        self.channel = nil
        pool?.closed(self, reason)
    }

    func streamEnded() { pool?.streamEnded(on: self) }
}

extension CloseReason {
    /// Why a tunnel that carried nothing yet could not be used.
    init(_ close: ChannelClose) {
        switch close {
        case .connectFailed(let number): self = .connectFailed(errorText(number))
        case .connectTimeout: self = .hboneTimedOut
        case .handshakeTimeout: self = .tlsFailed("the peer did not finish the handshake in time")
        case .tls(let error): self = .tlsFailed("\(error)")
        case .http2(let error): self = .http2Failed("\(error)")
        case .socket(let number): self = .connectFailed("the tunnel broke: \(errorText(number))")
        case .keepAliveTimeout: self = .connectFailed("the tunnel's peer is silent")
        case .local, .drained, .peerLeft, .peerEnded:
            self = .connectFailed("the tunnel ended before an answer")
        }
    }
}
