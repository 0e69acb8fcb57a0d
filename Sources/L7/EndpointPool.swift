import EventLoop
import Linux
import Mesh
import Tunnel

/// Who wants a stream to an endpoint.
protocol StreamWaiter: AnyObject, MessageStreamDelegate {
    /// - Parameter isReused: its connection was kept idle, so that its endpoint may be closing it at this moment. Not so with HTTP/2, which says
    ///   what it has not begun with.
    func opened(_ stream: any MessageStream, isReused: Bool)
    func failed(_ failure: ConnectFailure)
}

enum ConnectFailure: Equatable {
    case connect(CloseReason)
    case timeout
    case overflow
}

/// The connections to one endpoint.
final class EndpointPool {
    let upstream: Upstream
    var endpoint: UpstreamEndpoint
    private(set) var activeRequests = 0
    private var idle: [HTTP1Upstream] = []
    private var sessions: [HTTP2Session] = []
    /// Who waits for a session to be made, in order.
    private var waiting: [any StreamWaiter] = []
    private var connecting: [ObjectIdentifier: Connecting] = [:]
    /// Who waits for one of the HTTP/1 connections that there are, in order: no further one may be made.
    private var queue: [any StreamWaiter] = []
    /// Connections are handed on from the loop, when who had them before is done with what was read from them.
    private lazy var wake = CallbackTimer { [weak self] in self?.serveQueue() }
    /// HTTP/1 connections, those that are being made among them.
    var connectionCount = 0
    private var hasLeft = false
    private let metrics = L7Metrics.shared

    init(_ upstream: Upstream, _ endpoint: UpstreamEndpoint) {
        self.upstream = upstream
        self.endpoint = endpoint
    }

    var idleCount: Int { idle.count + sessions.count(where: \.isIdle) }

    // MARK: Requests

    /// Finds or makes a connection. `waiter` may be told before this returns.
    func open(_ waiter: any StreamWaiter, http2: Bool) {
        guard upstream.activeRequests < upstream.configuration.requestLimit else {
            return waiter.failed(.overflow)
        }
        if http2 {
            if let session = sessions.first(where: takesAnother) {
                begin()
                return waiter.opened(session.makeStream(waiter), isReused: false)
            }
        } else {
            if queue.isEmpty, let connection = takeIdle() {
                begin()
                connection.take(waiter)
                return waiter.opened(connection, isReused: true)
            }
        }
        guard upstream.pendingRequests < upstream.configuration.pendingLimit else {
            return waiter.failed(.overflow)
        }
        begin()
        upstream.pendingRequests += 1
        if http2 {
            waiting.append(waiter)
            if connecting.isEmpty { connect(nil) }
        } else if queue.isEmpty, mayConnect {
            connect(waiter)
        } else {
            metrics.connectionOverflows.add()
            queue.append(waiter)
        }
    }

    private func takeIdle() -> HTTP1Upstream? {
        while let connection = idle.popLast() {
            if connection.isUsable { return connection }
            connection.close()
        }
        return nil
    }

    private var mayConnect: Bool {
        connectionCount == 0 || upstream.connectionCount < upstream.configuration.connectionLimit
    }

    /// A connection has become idle, or there is room for another one.
    func wakeQueue() {
        if !queue.isEmpty, !wake.isArmed { upstream.loop.schedule(wake, after: .zero) }
    }

    private func serveQueue() {
        while let waiter = queue.first {
            if let connection = takeIdle() {
                queue.removeFirst()
                upstream.pendingRequests -= 1
                connection.take(waiter)
                waiter.opened(connection, isReused: true)
            } else if mayConnect {
                queue.removeFirst()
                connect(waiter)
            } else {
                return
            }
        }
    }

    private func begin() {
        activeRequests += 1
        upstream.activeRequests += 1
    }

    /// A request that was opened is over.
    func ended() {
        activeRequests -= 1
        upstream.activeRequests -= 1
    }

    /// Who waits does so no longer.
    func cancel(_ waiter: any StreamWaiter) {
        if let index = waiting.firstIndex(where: { $0 === waiter }) {
            waiting.remove(at: index)
            upstream.pendingRequests -= 1
        } else if let index = queue.firstIndex(where: { $0 === waiter }) {
            queue.remove(at: index)
            upstream.pendingRequests -= 1
        } else if let attempt = connecting.values.first(where: { $0.waiter === waiter }) {
            connecting[ObjectIdentifier(attempt)] = nil
            attempt.cancel()
            upstream.pendingRequests -= 1
        }
    }

    // MARK: Connecting

    private func connect(_ waiter: (any StreamWaiter)?) {
        let attempt = Connecting(self, waiter)
        if waiter != nil { attempt.slot = ConnectionSlot(self) }
        connecting[ObjectIdentifier(attempt)] = attempt
        attempt.start()
    }

    fileprivate func settled(_ attempt: Connecting, _ outcome: ConnectOutcome?) {
        guard connecting.removeValue(forKey: ObjectIdentifier(attempt)) != nil else { return }
        let configuration = upstream.configuration
        switch outcome {
        case .connected(let channel)?:
            metrics.upstreamConnections.add()
            if let waiter = attempt.waiter, let slot = attempt.slot {
                upstream.pendingRequests -= 1
                let connection = HTTP1Upstream(self, slot, upstream.loop, channel, configuration.http1)
                connection.take(waiter)
                connection.start()
                waiter.opened(connection, isReused: false)
            } else {
                let session = HTTP2Session(.client(self), upstream.loop, channel, configuration.http2)
                sessions.append(session)
                session.start()
                capacityChanged()
                if hasLeft { session.drain() }
            }
        case .failed(let reason)?: fail(attempt, .connect(reason))
        case nil: fail(attempt, .timeout)
        }
    }

    private func fail(_ attempt: Connecting, _ failure: ConnectFailure) {
        metrics.upstreamFailures.add()
        attempt.slot?.free()
        if let waiter = attempt.waiter {
            upstream.pendingRequests -= 1
            return waiter.failed(failure)
        }
        let all = waiting
        waiting = []
        upstream.pendingRequests -= all.count
        for waiter in all { waiter.failed(failure) }
    }

    // MARK: What connections report

    /// Whether a connection with so many requests takes no more.
    func isLast(_ requestCount: Int) -> Bool { hasLeft || isFull(requestCount) }

    private func isFull(_ requestCount: Int) -> Bool {
        let limit = upstream.configuration.requestsPerConnection
        return limit > 0 && requestCount >= limit
    }

    /// Whoever waits was promised a stream, also by a pool that has left since.
    private func takesAnother(_ session: HTTP2Session) -> Bool {
        session.canOpenStream && !isFull(session.requestCount)
    }

    func returned(_ connection: HTTP1Upstream) {
        guard idle.count < upstream.configuration.idleLimit || !queue.isEmpty else {
            return connection.close()
        }
        idle.append(connection)
        wakeQueue()
    }

    func left(_ connection: HTTP1Upstream) { idle.removeAll { $0 === connection } }

    func left(_ session: HTTP2Session) {
        sessions.removeAll { $0 === session }
        capacityChanged()
    }

    /// Whoever waits gets a stream where there is room, and a session of its own where there is none.
    func capacityChanged() {
        while let waiter = waiting.first {
            guard let session = sessions.first(where: takesAnother) else {
                if connecting.isEmpty { connect(nil) }
                return
            }
            waiting.removeFirst()
            upstream.pendingRequests -= 1
            waiter.opened(session.makeStream(waiter), isReused: false)
        }
    }

    // MARK: The end

    /// The endpoint is gone: nothing new goes there.
    func leave() {
        hasLeft = true
        for connection in idle { connection.close() }
        idle = []
        for session in sessions { session.drain() }
    }

    func closeIdle(before now: MonotonicTime, keptFor limit: Duration) {
        for connection in idle where now - connection.idleSince >= limit { connection.close() }
        idle.removeAll { now - $0.idleSince >= limit }
        for session in sessions where session.isIdle && now - session.idleSince >= limit { session.drain() }
    }
}

/// One connection that is being made.
private final class Connecting {
    private let pool: EndpointPool
    /// Whose it is; nil for a session that several wait for.
    let waiter: (any StreamWaiter)?
    var slot: ConnectionSlot?
    private var giveUp: (() -> Void)?
    private lazy var deadline = CallbackTimer { [weak self] in self?.timedOut() }

    init(_ pool: EndpointPool, _ waiter: (any StreamWaiter)?) {
        self.pool = pool
        self.waiter = waiter
    }

    func start() {
        let upstream = pool.upstream
        upstream.loop.schedule(deadline, after: upstream.configuration.connectTimeout)
        giveUp = upstream.connector.connect(to: pool.endpoint, of: upstream) { [self] outcome in
            upstream.loop.cancel(deadline)
            giveUp = nil
            pool.settled(self, outcome)
        }
    }

    func cancel() {
        pool.upstream.loop.cancel(deadline)
        giveUp?()
        giveUp = nil
        slot?.free()
    }

    private func timedOut() {
        giveUp?()
        giveUp = nil
        pool.settled(self, nil)
    }
}
