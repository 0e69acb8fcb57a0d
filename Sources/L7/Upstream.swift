import Address
import EventLoop
import HTTP1
import HTTP2
import Linux
import Mesh
import Routing
import Tunnel

/// Where a request may go: one workload's port.
public struct UpstreamEndpoint: Hashable, Sendable {
    /// The workload's, so that whoever connects knows which way leads there.
    public var id: String
    public var address: SocketAddress
    public var weight: UInt32
    public var isHealthy: Bool

    public init(id: String, address: SocketAddress, weight: UInt32 = 1, isHealthy: Bool = true) {
        self.id = id
        self.address = address
        self.weight = weight
        self.isHealthy = isHealthy
    }
}

/// What came of an attempt to connect.
public enum ConnectOutcome {
    case connected(any ByteChannel)
    case failed(CloseReason)
}

/// Who makes connections to endpoints: through tunnels, or over TCP where an endpoint is not in the mesh.
public protocol UpstreamConnector: AnyObject {
    /// - Parameter completion: called once on the loop, never before this returns, unless cancelled.
    /// - Returns: gives the attempt up.
    func connect(
        to endpoint: UpstreamEndpoint, of upstream: Upstream, _ completion: @escaping (ConnectOutcome) -> Void
    )
        -> () -> Void
}

/// Who knows the services that routes lead to.
public protocol UpstreamResolver: AnyObject {
    /// nil where there is no such service, port or subset: answered 503 with the flag NC.
    func upstream(for destination: Destination) -> Upstream?
}

/// The endpoints of a destination, as one loop sees them, with the connections to each. `close` it when it is no longer needed.
///
/// Limits, and what comes of requests, are counted by each loop for itself.
public final class Upstream {
    public enum Balancing: Hashable, Sendable {
        case leastRequest
        case roundRobin
        case random
        /// The same endpoint for the same key, as long as it is well; any for a request without the key.
        case hash(LoadBalancing.HashKey, LoadBalancing.HashAlgorithm)
    }

    public struct Configuration: Sendable {
        /// HTTP/2 with prior knowledge; nil for what the client speaks.
        public var speaksHTTP2: Bool? = false
        public var balancing = Balancing.leastRequest
        public var connectTimeout = Duration.seconds(10)
        /// Idle connections are kept for so long.
        public var idleTimeout = Duration.seconds(3_600)
        /// Idle HTTP/1 connections kept for an endpoint.
        public var idleLimit = 64
        /// Requests on one connection; 0 for no limit, 1 for no second one.
        public var requestsPerConnection = 0
        /// Requests under way at once, on all endpoints together (http2MaxRequests).
        public var requestLimit = Int(UInt32.max)
        /// Requests that wait for a connection (http1MaxPendingRequests).
        public var pendingLimit = Int(UInt32.max)
        /// Nil: endpoints are not put out because of what comes of requests.
        public var outlierDetection: OutlierDetection?
        /// Tries again that are under way at once, their pauses among them (maxRetries).
        public var retryLimit = Int(UInt32.max)
        /// HTTP/1 connections at once, on all endpoints together; beyond it requests wait. One to each endpoint may always be (maxConnections).
        public var connectionLimit = Int(UInt32.max)
        public var http1 = HTTP1Limits.streaming
        public var http2 = HTTP2Configuration.proxied

        public init() {}
    }

    public let loop: EventLoop
    public let destination: Destination
    public let configuration: Configuration
    let connector: any UpstreamConnector
    private var pools: [String: EndpointPool] = [:]
    /// Those that may be chosen at all, in the order that they came in.
    private var members: [EndpointPool] = []
    private var healthy: [EndpointPool] = []
    private var detector: OutlierDetector?
    /// Of those that are well, by their names; made when it is needed.
    private var table: (hashes: HashTable, pools: [EndpointPool])?
    private var totalWeight: UInt64 = 0
    private var hasEqualWeights = true
    private var next = 0
    var activeRequests = 0
    var pendingRequests = 0
    var activeRetries = 0
    var connectionCount = 0
    var mirrorsUnderWay = 0
    /// Nothing new goes here.
    private(set) var isClosed = false
    private lazy var sweep = CallbackTimer { [weak self] in self?.closeIdle() }

    private lazy var outlierSweep = CallbackTimer { [weak self] in self?.sweepOutliers() }

    /// How often an endpoint that was tried before is passed over.
    private static let picks = 5

    public init(
        loop: EventLoop, _ destination: Destination, _ configuration: Configuration = Configuration(),
        connector: any UpstreamConnector
    ) {
        self.loop = loop
        self.destination = destination
        self.configuration = configuration
        self.connector = connector
        detector = configuration.outlierDetection.map(OutlierDetector.init)
    }

    /// The endpoints from here on. Those that are gone end with their last request.
    public func update(_ endpoints: [UpstreamEndpoint]) {
        var old = pools
        pools = [:]
        for endpoint in endpoints {
            let pool = old.removeValue(forKey: endpoint.id)
            if let pool, pool.endpoint.address == endpoint.address {
                pool.endpoint = endpoint
                pools[endpoint.id] = pool
            } else {
                pool?.leave()
                pools[endpoint.id] = EndpointPool(self, endpoint)
            }
        }
        for pool in old.values { pool.leave() }
        members = endpoints.compactMap { $0.weight > 0 ? pools[$0.id] : nil }
        if detector != nil {
            changeDetector { $0.update(members.lazy.map(\.endpoint.id)) }
            if pools.isEmpty { loop.cancel(outlierSweep) }
        }
        sortOut()
        if !sweep.isArmed, !pools.isEmpty { loop.schedule(sweep, after: sweepInterval) }
    }

    /// Finds those that are well.
    private func sortOut() {
        healthy = members.filter {
            $0.endpoint.isHealthy && !(detector?.isEjected($0.endpoint.id) ?? false)
        }
        // With so few of them left, it is likelier that all are overloaded than that most are broken.
        if let least = detector?.policy.minHealthPercent, healthy.count * 100 < least * members.count {
            healthy = members
        }
        table = nil
        totalWeight = healthy.reduce(0) { $0 + UInt64($1.endpoint.weight) }
        hasEqualWeights = Set(healthy.map(\.endpoint.weight)).count <= 1
    }

    // MARK: Outliers

    /// What became of an attempt at an endpoint of this destination.
    func record(_ result: EndpointResult, of pool: EndpointPool) {
        guard detector != nil, pools[pool.endpoint.id] === pool else { return }
        var isEjected = false
        changeDetector { isEjected = $0.record(result, of: pool.endpoint.id, at: loop.now) }
        guard isEjected else { return }
        L7Metrics.shared.ejections.add()
        sortOut()
        armOutlierSweep()
    }

    private func sweepOutliers() {
        var returned = 0
        changeDetector { returned = $0.sweep(at: loop.now) }
        if returned > 0 { sortOut() }
        armOutlierSweep()
    }

    /// Where nobody is out there is nothing to look at.
    private func armOutlierSweep() {
        guard let detector, !detector.isQuiet, !outlierSweep.isArmed else { return }
        loop.schedule(outlierSweep, after: detector.policy.interval)
    }

    private func changeDetector(_ change: (inout OutlierDetector) -> Void) {
        guard var changed = detector.take() else { return }
        let before = changed.ejectedCount
        change(&changed)
        L7Metrics.shared.ejectedEndpoints.add(changed.ejectedCount - before)
        detector = changed
    }

    /// Ends idle connections, and the others with their requests.
    public func close() {
        isClosed = true
        update([])
        loop.cancel(sweep)
    }

    /// An endpoint for a request, nil where none is healthy.
    ///
    /// - Parameters:
    ///   - tried: endpoints to be avoided if another is there.
    ///   - hash: of what the request has for the key; nil where it has nothing, or there is no key.
    func choose(avoiding tried: [String], hash: UInt64? = nil, random: () -> UInt64) -> EndpointPool? {
        guard !healthy.isEmpty else { return nil }
        for number in 0..<Self.picks {
            let pool = pick(hash, number, random)
            if !tried.contains(pool.endpoint.id) { return pool }
        }
        return healthy.first { !tried.contains($0.endpoint.id) } ?? pick(hash, 0, random)
    }

    private func pick(_ hash: UInt64?, _ number: Int, _ random: () -> UInt64) -> EndpointPool {
        switch configuration.balancing {
        case .roundRobin:
            next = (next + 1) % healthy.count
            return healthy[next]
        case .random: return weighted(random())
        case .hash(_, let algorithm):
            let (hashes, pools) = table ?? makeTable(algorithm)
            return pools[hashes.member(hash ?? random(), attempt: number)]
        case .leastRequest:
            let (a, b) = (weighted(random()), weighted(random()))
            let loadA = UInt64(a.activeRequests + 1) * UInt64(b.endpoint.weight)
            let loadB = UInt64(b.activeRequests + 1) * UInt64(a.endpoint.weight)
            return loadA <= loadB ? a : b
        }
    }

    private func makeTable(_ algorithm: LoadBalancing.HashAlgorithm) -> (HashTable, [EndpointPool]) {
        let ordered = healthy.sorted { $0.endpoint.id < $1.endpoint.id }
        let members = ordered.map { HashTable.Member(id: $0.endpoint.id, weight: $0.endpoint.weight) }
        let made = (HashTable(algorithm, members), ordered)
        table = made
        return made
    }

    /// Nil where endpoints are not chosen by a key, or the request has nothing for it.
    func hash(of request: HeaderBlock, from client: ClientContext) -> UInt64? {
        guard case .hash(let key, _) = configuration.balancing else { return nil }
        return key.hash(request, from: client)
    }

    /// The cookie that the answer to a request without one is to set.
    func newCookie(random: () -> UInt64) -> (value: String, field: String)? {
        guard case .hash(let key, _) = configuration.balancing else { return nil }
        return key.newCookie(random: random)
    }

    private func weighted(_ random: UInt64) -> EndpointPool {
        if hasEqualWeights { return healthy[Int(random % UInt64(healthy.count))] }
        var left = random % totalWeight
        for pool in healthy {
            if left < pool.endpoint.weight { return pool }
            left -= UInt64(pool.endpoint.weight)
        }
        return healthy[0]
    }

    /// Requests that wait for a connection to any endpoint may get theirs now.
    func connectionFreed() {
        // Below the limit nobody waits for more than the loop's next step.
        guard pendingRequests > 0, connectionCount + 1 >= configuration.connectionLimit else { return }
        for pool in pools.values { pool.wakeQueue() }
    }

    private var sweepInterval: Duration { max(.seconds(1), configuration.idleTimeout / 8) }

    private func closeIdle() {
        for pool in pools.values { pool.closeIdle(before: loop.now, keptFor: configuration.idleTimeout) }
        if !pools.isEmpty { loop.schedule(sweep, after: sweepInterval) }
    }

    /// Endpoints that are out; for dumps and tests.
    var ejectedCount: Int { detector?.ejectedCount ?? 0 }

    /// Connections that wait for a request; for dumps and tests.
    public var idleConnections: Int { pools.values.reduce(0) { $0 + $1.idleCount } }
}

extension HTTP2Configuration {
    /// For clients and endpoints of the proxy: windows that bound what a slow reader makes it hold.
    public static let proxied: HTTP2Configuration = {
        var configuration = HTTP2Configuration()
        configuration.initialWindow = 256 << 10
        configuration.connectionWindow = 1 << 20
        configuration.maxFrame = 64 << 10
        configuration.maxConcurrentStreams = 100
        configuration.enableConnectProtocol = true
        return configuration
    }()
}
