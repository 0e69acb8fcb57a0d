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
            if let session = sessions.first(where: { $0.canOpenStream && !isLast($0.requestCount) }) {
                begin()
                return waiter.opened(session.makeStream(waiter), isReused: false)
            }
        } else {
            while let connection = idle.popLast() {
                guard connection.isUsable else {
                    connection.close()
                    continue
                }
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
        } else {
            connect(waiter)
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
        } else if let attempt = connecting.values.first(where: { $0.waiter === waiter }) {
            connecting[ObjectIdentifier(attempt)] = nil
            attempt.cancel()
            upstream.pendingRequests -= 1
        }
    }

    // MARK: Connecting

    private func connect(_ waiter: (any StreamWaiter)?) {
        let attempt = Connecting(self, waiter)
        connecting[ObjectIdentifier(attempt)] = attempt
        attempt.start()
    }

    fileprivate func settled(_ attempt: Connecting, _ outcome: ConnectOutcome?) {
        guard connecting.removeValue(forKey: ObjectIdentifier(attempt)) != nil else { return }
        let configuration = upstream.configuration
        switch outcome {
        case .connected(let channel)?:
            metrics.upstreamConnections.add()
            if let waiter = attempt.waiter {
                upstream.pendingRequests -= 1
                let connection = HTTP1Upstream(self, upstream.loop, channel, configuration.http1)
                connection.take(waiter)
                connection.start()
                waiter.opened(connection, isReused: false)
            } else {
                let session = HTTP2Session(.client(self), upstream.loop, channel, configuration.http2)
                sessions.append(session)
                session.start()
                capacityChanged()
            }
        case .failed(let reason)?: fail(attempt, .connect(reason))
        case nil: fail(attempt, .timeout)
        }
    }

    private func fail(_ attempt: Connecting, _ failure: ConnectFailure) {
        metrics.upstreamFailures.add()
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
    func isLast(_ requestCount: Int) -> Bool {
        let limit = upstream.configuration.requestsPerConnection
        return hasLeft || limit > 0 && requestCount >= limit
    }

    func returned(_ connection: HTTP1Upstream) {
        guard idle.count < upstream.configuration.idleLimit else { return connection.close() }
        idle.append(connection)
    }

    func left(_ connection: HTTP1Upstream) { idle.removeAll { $0 === connection } }

    func left(_ session: HTTP2Session) {
        sessions.removeAll { $0 === session }
        capacityChanged()
    }

    /// Whoever waits gets a stream where there is room, and a session of its own where there is none.
    func capacityChanged() {
        while let waiter = waiting.first {
            guard let session = sessions.first(where: { $0.canOpenStream && !isLast($0.requestCount) }) else {
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
    }

    private func timedOut() {
        giveUp?()
        giveUp = nil
        pool.settled(self, nil)
    }
}
