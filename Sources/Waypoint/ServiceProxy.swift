import Address
import Decision
import L7
import Mesh
import Routing
import Telemetry
import Tunnel

/// Everything that one worker has for the requests to one service: its ports, and the services that their routes lead to.
final class ServiceProxy: UpstreamResolver, ExchangeObserver {
    private unowned let worker: WaypointWorker
    private(set) var compiled: CompiledWaypointService
    private var ports: [UInt16: HTTPService] = [:]
    private var upstreams: [Destination: Entry] = [:]
    /// The service is served no longer; requests under way end.
    private var isClosed = false

    private struct Entry {
        let upstream: Upstream
        let policy: TrafficPolicy
        /// As Istio calls it, in the log.
        let name: String
    }

    init(_ worker: WaypointWorker, _ compiled: CompiledWaypointService) {
        self.worker = worker
        self.compiled = compiled
    }

    /// Whether the connections to a port are looked into.
    func readsRequests(port: UInt16) -> Bool { compiled.table(port: port) != nil }

    /// Takes a client's connection.
    func serve(_ channel: ClientChannel, from client: ClientContext, port: UInt16) {
        guard let service = service(port) else { return channel.abort(.notServed("port \(port)")) }
        service.serve(channel, from: client)
    }

    private func service(_ port: UInt16) -> HTTPService? {
        if let known = ports[port] { return known }
        guard let routes = compiled.table(port: port) else { return nil }
        let made = HTTPService(
            loop: worker.loop, port: kind(of: port), routes: routes,
            resolver: self, random: { [unowned worker] in worker.randomness.next() })
        made.onBytes = { channel, _, early in
            guard let client = channel as? ClientChannel else { return channel.close() }
            client.continueAsBytes(early: early)
        }
        made.observer = self
        ports[port] = made
        return made
    }

    private func kind(of port: UInt16) -> PortProtocol {
        compiled.service.ports[port]?.appProtocol == .unknown ? .unknown : .http
    }

    // MARK: Changes

    /// Requests that begin from here on follow these routes; those under way end by the ones that they began with.
    func update(_ new: CompiledWaypointService) {
        compiled = new
        for (port, service) in ports {
            // A port that is for something else now has other connections.
            if let routes = new.table(port: port), service.port == kind(of: port) {
                service.routes = routes
            } else {
                retire(port)
            }
        }
        for (destination, entry) in upstreams where new.traffic(to: destination) != entry.policy {
            drop(destination, entry)
        }
        refreshEndpoints()
    }

    private func retire(_ port: UInt16) {
        guard let service = ports.removeValue(forKey: port) else { return }
        // Its connections keep it until they end.
        service.drain()
    }

    func refreshEndpoints() {
        for (destination, entry) in upstreams {
            let speaksHTTP2 = speaksHTTP2(entry.policy.connectionPool, destination)
            guard let endpoints = endpoints(of: destination),
                speaksHTTP2 == entry.upstream.configuration.speaksHTTP2
            else {
                drop(destination, entry)
                continue
            }
            entry.upstream.update(endpoints)
        }
    }

    private func drop(_ destination: Destination, _ entry: Entry) {
        entry.upstream.close()
        upstreams[destination] = nil
    }

    /// Every connection ends with the request under way.
    func drain() {
        for service in ports.values { service.drain() }
    }

    func close() {
        isClosed = true
        for port in Array(ports.keys) { retire(port) }
        for entry in upstreams.values { entry.upstream.close() }
        upstreams = [:]
    }

    func exchangeEnded(_ exchange: ExchangeRecord) {
        worker.log(
            RequestRecord(
                exchange, to: worker.snapshot.service(compiled.service.key),
                cluster: exchange.destination.flatMap { upstreams[$0]?.name }, snapshot: worker.snapshot))
    }

    // MARK: Where bytes go

    /// Where the stream routes of a port send a connection; nil where that is the service itself.
    ///
    /// A match by server name is about the service's own, whatever a client's TLS says: the address has chosen the service (Istio).
    func streamDestination(
        port: UInt16, at address: IPAddress?, from origin: RequestOrigin, random: UInt64
    ) -> WeightedDestination.Target? {
        guard let table = compiled.streams(port: port),
            let index = table.route(
                serverName: compiled.service.key.name, destination: address, from: origin)
        else { return nil }
        guard let chosen = table.routes[index].destinations.drawn(random)?.target else {
            return .unresolved("no destination has a weight")
        }
        return chosen == .service(Destination(compiled.service.key.name, port: port)) ? nil : chosen
    }

    /// Whether a destination is known, and nothing was asked for on the way to it that is not done.
    func mayCarryBytes(to destination: Destination) -> Bool {
        compiled.traffic(to: destination).map { $0.tls == nil } ?? false
    }

    /// An endpoint of a destination, by its share.
    ///
    /// - Parameter failed: uids of workloads that are passed over.
    func endpoint(of destination: Destination, without failed: Set<String>, random: UInt64)
        -> UpstreamEndpoint?
    {
        let left = (endpoints(of: destination) ?? []).filter { !failed.contains($0.id) }
        let sum = left.reduce(into: UInt64(0)) { $0 += UInt64($1.weight) }
        guard sum > 0 else { return nil }
        var rest = random % sum
        for endpoint in left {
            if rest < UInt64(endpoint.weight) { return endpoint }
            rest -= UInt64(endpoint.weight)
        }
        return nil
    }

    // MARK: Where requests go

    func upstream(for destination: Destination) -> Upstream? {
        if let known = upstreams[destination] { return known.upstream }
        guard !isClosed else { return nil }
        guard let policy = compiled.traffic(to: destination), let endpoints = endpoints(of: destination)
        else { return nil }
        // Sent without the TLS that was asked for, the request would be readable by whoever it was to be hidden from.
        guard policy.tls == nil else { return nil }
        let made = Upstream(
            loop: worker.loop, destination, configuration(of: policy, destination),
            connector: worker.connector)
        made.update(endpoints)
        let name = RequestRecord.clusterName(
            host: destination.host, port: destination.port ?? 0, subset: destination.subset)
        upstreams[destination] = Entry(upstream: made, policy: policy, name: name)
        return made
    }

    private func endpoints(of destination: Destination) -> [UpstreamEndpoint]? {
        worker.own.flatMap { worker.snapshot.endpoints(of: destination, for: compiled, from: $0) }
    }

    private func configuration(of policy: TrafficPolicy, _ destination: Destination) -> Upstream.Configuration
    {
        var configuration = Upstream.Configuration()
        let pool = policy.connectionPool
        configuration.connectTimeout = pool.connectTimeout
        configuration.idleTimeout = pool.httpIdleTimeout == .zero ? .seconds(86_400) : pool.httpIdleTimeout
        configuration.requestsPerConnection = pool.maxRequestsPerConnection ?? 0
        if let limit = pool.maxRequests { configuration.requestLimit = limit }
        if let limit = pool.maxPendingRequests { configuration.pendingLimit = limit }
        if let limit = pool.maxConnections { configuration.connectionLimit = limit }
        if let limit = pool.maxRetries { configuration.retryLimit = limit }
        if let limit = pool.maxConcurrentStreams { configuration.http2.maxConcurrentStreams = limit }
        switch policy.loadBalancing.method {
        case .roundRobin: configuration.balancing = .roundRobin
        case .random: configuration.balancing = .random
        case .hash(let key, let algorithm): configuration.balancing = .hash(key, algorithm)
        case .leastRequest, .passthrough, .peakEWMA: configuration.balancing = .leastRequest
        }
        configuration.outlierDetection = policy.outlierDetection
        configuration.speaksHTTP2 = speaksHTTP2(pool, destination)
        return configuration
    }

    /// What the destination's port is for; where nobody says, what the client speaks.
    private func speaksHTTP2(_ pool: ConnectionPool, _ destination: Destination) -> Bool? {
        if pool.usesClientProtocol { return nil }
        guard let (service, port) = worker.snapshot.entry(of: destination, for: compiled)
        else { return nil }
        switch service.service.ports.first(where: { $0.servicePort == port })?.appProtocol {
        case .http2?, .grpc?: return true
        case .http11?: return pool.h2Upgrade == .always
        default: return pool.h2Upgrade == .always ? true : nil
        }
    }
}

extension Snapshot {
    /// The service that a destination of a waypoint's service is, and its port. Nil where there is no such service or port.
    fileprivate func entry(
        of destination: Destination, for compiled: CompiledWaypointService
    ) -> (service: ServiceEntry, port: UInt16)? {
        guard let policy = compiled.service.destinations[destination.host],
            let entry = service(policy.service)
        else { return nil }
        let known = entry.service.ports.map(\.servicePort)
        if let port = destination.port { return known.contains(port) ? (entry, port) : nil }
        return known.count == 1 ? (entry, known[0]) : nil
    }

    /// Where a waypoint sends what is for a destination; nil where there is no such service, port or subset.
    func endpoints(
        of destination: Destination, for compiled: CompiledWaypointService, from waypoint: WorkloadEntry
    ) -> [UpstreamEndpoint]? {
        guard let (service, port) = entry(of: destination, for: compiled) else { return nil }
        var found = candidates(of: service, port: port, from: waypoint, isIPv4: waypoint.prefersIPv4)
        if let subset = destination.subset {
            guard let named = compiled.service.destinations[destination.host]?.subsets[subset] else {
                return nil
            }
            found.removeAll { !named.endpoints.contains($0.workload.workload.uid) }
        }
        return found.map {
            UpstreamEndpoint(id: $0.workload.workload.uid, address: $0.address, weight: $0.weight)
        }
    }
}

extension WorkloadEntry {
    var prefersIPv4: Bool { workload.addresses.first?.isIPv4 ?? true }
}
