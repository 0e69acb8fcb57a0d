import Address
import Daemon
import Decision
import Discovery
import EventLoop
import Glibc
import L7
import Linux
import Log
import Mesh
import Metrics
import Routing
import Synchronization
import Telemetry
import Transport
import Tunnel

/// What all workers of a waypoint have in common.
struct WorkerShared: Sendable {
    let registry: Registry
    let accessLog: AccessLog
    let configuration: WaypointConfiguration
    /// Connections and tunnels on all workers together.
    let connections, tunnels: Allowance
    /// Connections that one client's identity may have on one worker: half of what there are, so that it keeps nobody out.
    let connectionsPerClient: Int
    let refusals: LimitMetrics

    /// Tunnels from clients' nodes, handshakes under way included.
    private static let tunnelLimit = 16_384

    init(registry: Registry, accessLog: AccessLog, _ configuration: WaypointConfiguration) {
        self.registry = registry
        self.accessLog = accessLog
        self.configuration = configuration
        connections = Allowance(configuration.connections)
        connectionsPerClient = max(1, configuration.connections / 2 / configuration.workerCount)
        tunnels = Allowance(Self.tunnelLimit)
        refusals = LimitMetrics(registry)
    }
}

/// How often a budget was spent.
struct LimitMetrics: Sendable {
    let connections, tunnels, handshakes: Counter

    init(_ registry: Registry) {
        let refused = registry.counters(
            "warren_limit_refusals", "What was refused because a workload had spent its budget",
            labels: ["budget"])
        connections = refused.with("connections")
        tunnels = refused.with("tunnels")
        handshakes = refused.with("handshakes")
    }
}

/// One core's share of a waypoint: a listener for tunnels, the connections in them, and the tunnels that go on to endpoints.
final class WaypointWorker {
    let loop: EventLoop
    let shared: WorkerShared
    let metrics: ConnectionMetrics
    private let requestMetrics: RequestMetrics
    private var requestLines: RequestLineFormatter
    let outboundTunnels, inboundTunnels: Gauge
    /// For choices among endpoints and for trace ids: nothing that somebody must not guess.
    var randomness = WorkerRandomness()
    var siblings: [WorkerHandle] = []
    private(set) var snapshot = Snapshot.empty
    /// The workload that we are; nil while configuration does not know it.
    private(set) var own: WorkloadEntry?
    /// Those that are attached to us.
    private(set) var policies: PolicySet
    private(set) var credentials: CredentialTable
    private(set) lazy var tunnelPool = TunnelPool(
        loop: loop, poolConfiguration, gauge: outboundTunnels
    ) { [unowned self] (address) throws(SystemCallError) in
        let dialled = try Socket.dial(
            address,
            ConnectOptions(keepAlive: .ztunnel, congestionControls: channelConfiguration.congestion.beginning)
        )
        return dialled.socket
    }
    /// Of tunnels in both directions; the plan is the listeners'.
    private(set) var channelConfiguration = ChannelConfiguration()
    private let handle: WorkerHandle
    private var formatter: AccessLineFormatter
    private var listeners: [Listener] = []
    private var tunnels: [ObjectIdentifier: WaypointTunnel] = [:]
    private var connections: [ObjectIdentifier: WaypointConnection] = [:]
    /// How many of them each client has.
    private var clients: [Identity: Int] = [:]
    private lazy var handshakes = HandshakeQueue<WaypointTunnel>(limit: Self.handshakeLimit) {
        !$0.isHandshaking
    }
    private var waiting: [ObjectIdentifier: WaypointConnection] = [:]
    /// What is to be done with the requests to each service, as far as that has arrived.
    private var compiled: [NamespacedName: CompiledWaypointService] = [:]
    private var proxies: [NamespacedName: ServiceProxy] = [:]
    private(set) lazy var connector = EndpointConnector(self)
    private var drained: (() -> Void)?
    private let logger = Logger(scope: "waypoint.worker")
    private lazy var accounting = CallbackTimer { [unowned self] in account() }
    /// For open connections whose policies had not all arrived when they were asked about.
    private lazy var finalCheck = CallbackTimer { [unowned self] in recheck(isFinal: true) }

    private static let accountingInterval = Duration.seconds(5)
    private static let handshakeLimit = 512

    init(_ loop: EventLoop, _ handle: WorkerHandle, _ shared: WorkerShared) {
        self.loop = loop
        self.handle = handle
        self.shared = shared
        policies = PolicySet(scoped: [], named: [])
        credentials = CredentialTable(records: shared.configuration.tlsRecords)
        metrics = ConnectionMetrics(
            shared.registry, directions: [.waypoint], idle: shared.configuration.metricsIdle)
        requestMetrics = RequestMetrics(shared.registry, idle: shared.configuration.metricsIdle)
        requestLines = RequestLineFormatter(shared.accessLog.format)
        let tunnels = shared.registry.gauges(
            "warren_worker_tunnels", "Tunnels that a worker carries.", labels: ["worker", "direction"])
        outboundTunnels = tunnels.with("\(handle.index)", "outbound")
        inboundTunnels = tunnels.with("\(handle.index)", "inbound")
        formatter = AccessLineFormatter(shared.accessLog.format)
        loop.schedule(accounting, after: Self.accountingInterval)
    }

    var index: Int { handle.index }

    private var poolConfiguration: TunnelPool.Configuration {
        var configuration = TunnelPool.Configuration()
        configuration.streamsPerTunnel = shared.configuration.streamsPerTunnel
        configuration.idle = shared.configuration.tunnelIdle
        configuration.channel = channelConfiguration
        return configuration
    }

    // MARK: Configuration

    func publish(_ snapshot: Snapshot, own: WorkloadEntry?) {
        self.snapshot = snapshot
        self.own = own
        if let own {
            policies = snapshot.attachedPolicySet(of: own.workload)
            recheck(isFinal: false)
        }
        for proxy in proxies.values { proxy.refreshEndpoints() }
        metrics.forgetSeries()
        requestMetrics.forgetSeries()
        for connection in waiting.values { connection.proceed() }
    }

    private func recheck(isFinal: Bool) {
        for connection in connections.values
        where !connection.recheck(isFinal: isFinal) && !finalCheck.isArmed {
            loop.schedule(finalCheck, after: WaypointConnection.serviceWait)
        }
    }

    func publish(_ services: [NamespacedName: CompiledWaypointService]) {
        compiled = services
        for (key, proxy) in proxies {
            if let service = services[key] {
                if service !== proxy.compiled { proxy.update(service) }
            } else {
                proxy.close()
                proxies[key] = nil
            }
        }
        for connection in waiting.values { connection.proceed() }
    }

    /// Nil before it is known what to do with requests to the service.
    func proxy(for key: NamespacedName) -> ServiceProxy? {
        if let known = proxies[key] { return known }
        guard let service = compiled[key] else { return nil }
        let made = ServiceProxy(self, service)
        proxies[key] = made
        return made
    }

    func publish(_ certificates: [Identity: CertificateState]) {
        credentials.replace(by: certificates)
    }

    // MARK: Tunnels

    /// Begins to accept.
    func listen(_ sockets: Parcel<TunnelListeners>) {
        guard drained == nil, let sockets = sockets.take() else { return }
        channelConfiguration.congestion = sockets.congestion
        for parcel in sockets.sockets {
            guard let socket = parcel.take() else { continue }
            do throws(SystemCallError) {
                listeners.append(
                    try Listener(on: loop, socket) { [unowned self] accepted in
                        guard let peer = accepted.peer else { return }
                        accept(accepted.socket, from: peer)
                    })
            } catch {
                // Without a listener of ours the kernel gives its connections to the other workers' ones.
                logger.error("cannot accept tunnels", ["error": "\(error)"])
            }
        }
    }

    private func accept(_ socket: consuming Socket, from peer: SocketAddress) {
        guard shared.tunnels.take() else {
            shared.refusals.tunnels.add()
            logger.limited(.seconds(10), .warn, "too many tunnels", ["limit": shared.tunnels.limit])
            socket.reset()
            return
        }
        // Two tunnels hash to one listener half of the time: they go to the worker with the fewest.
        let chosen = siblings.min {
            $0.tunnelCount.load(ordering: .relaxed) < $1.tunnelCount.load(ordering: .relaxed)
        }
        let mine = handle.tunnelCount.load(ordering: .relaxed)
        guard let chosen, chosen !== handle, chosen.tunnelCount.load(ordering: .relaxed) < mine else {
            handle.tunnelCount.add(1, ordering: .relaxed)
            return serve(socket, from: peer)
        }
        chosen.tunnelCount.add(1, ordering: .relaxed)
        let parcel = Parcel(socket)
        chosen.perform { worker in
            if let socket = parcel.take() { worker.serve(socket, from: peer) }
        }
    }

    /// It has been counted.
    private func serve(_ socket: consuming Socket, from peer: SocketAddress) {
        guard drained == nil else {
            release()
            socket.reset()
            return
        }
        let tunnel = WaypointTunnel(self, from: peer)
        tunnels[ObjectIdentifier(tunnel)] = tunnel
        inboundTunnels.add(1)
        if let oldest = handshakes.append(tunnel) {
            shared.refusals.handshakes.add()
            logger.limited(.seconds(10), .warn, "too many handshakes: the oldest are ended")
            oldest.close()
        }
        tunnel.begin(socket)
    }

    private func release() {
        shared.tunnels.release()
        handle.tunnelCount.subtract(1, ordering: .relaxed)
    }

    func ended(_ tunnel: WaypointTunnel) {
        guard tunnels.removeValue(forKey: ObjectIdentifier(tunnel)) != nil else { return }
        inboundTunnels.add(-1)
        release()
        checkDrained()
    }

    // MARK: Connections

    func begin(_ connection: WaypointConnection) {
        let others = clients[connection.peer] ?? 0
        guard others < shared.connectionsPerClient else {
            shared.refusals.connections.add()
            return connection.refuseUncounted(
                .limitReached("\(shared.connectionsPerClient) connections of this client"))
        }
        guard shared.connections.take() else {
            shared.refusals.connections.add()
            return connection.refuseUncounted(.limitReached("\(shared.connections.limit) connections"))
        }
        clients[connection.peer] = others + 1
        connections[ObjectIdentifier(connection)] = connection
        connection.start()
    }

    func ended(_ connection: WaypointConnection) {
        guard connections.removeValue(forKey: ObjectIdentifier(connection)) != nil else { return }
        waiting[ObjectIdentifier(connection)] = nil
        let others = (clients[connection.peer] ?? 1) - 1
        clients[connection.peer] = others > 0 ? others : nil
        shared.connections.release()
        checkDrained()
    }

    /// Calls `proceed` whenever configuration has changed, until told otherwise.
    func wait(_ connection: WaypointConnection) { waiting[ObjectIdentifier(connection)] = connection }

    func stopWaiting(_ connection: WaypointConnection) { waiting[ObjectIdentifier(connection)] = nil }

    func log(_ record: RequestRecord) {
        requestMetrics.count(record)
        shared.accessLog.append(requestLines.line(record))
    }

    func log(_ record: ConnectionRecord) {
        shared.accessLog.append(formatter.line(record, at: .now()))
    }

    // MARK: The end

    /// Accepts no more, tells peers, lets what is under way end, and calls back when it has.
    func drain(_ done: @escaping () -> Void) {
        drained = done
        for listener in listeners { listener.close() }
        listeners = []
        for tunnel in tunnels.values { tunnel.drain() }
        for proxy in proxies.values { proxy.drain() }
        checkDrained()
    }

    /// Ends whatever a drain has left.
    func cutAll() {
        for connection in connections.values { connection.cut(.drained) }
        for tunnel in tunnels.values { tunnel.close() }
        checkDrained()
    }

    private func checkDrained() {
        guard let done = drained, connections.isEmpty, tunnels.isEmpty else { return }
        drained = {}
        tunnelPool.close()
        done()
    }

    // MARK: Accounts

    /// Long connections show in the metrics while they live.
    private func account() {
        for connection in connections.values { connection.account() }
        loop.schedule(accounting, after: Self.accountingInterval)
    }

    var connectionCount: Int { connections.count }

    var tunnelReports: [TunnelReport] {
        tunnelPool.descriptions.map { tunnel in
            TunnelReport(
                direction: .outbound, source: tunnel.key.source.uri,
                destination: tunnel.peer?.uri ?? tunnel.key.address.address.description,
                address: tunnel.key.address, streamCount: tunnel.streams,
                congestionControl: tunnel.congestionControl, worker: index, since: tunnel.since)
        } + tunnels.values.compactMap(\.report)
    }
}

/// The listeners of one worker, all on one port with those of the others: the kernel spreads connections over them.
struct TunnelListeners: ~Copyable, Sendable {
    var sockets: [Parcel<Socket>]
    /// By which congestion control tunnels send, those that go on too.
    let congestion: CongestionPlan

    static func open(_ configuration: WaypointConfiguration) throws(SystemCallError) -> TunnelListeners {
        var sockets: [Parcel<Socket>] = []
        var plan = CongestionPlan.system
        for address in configuration.listenAddresses {
            let socket = try listen(on: SocketAddress(address, WaypointConfiguration.tunnelPort))
            plan = CongestionPlan(configuration.tunnelCongestion, system: socket.congestionControl)
            if !plan.beginning.isEmpty { socket.setCongestionControl(firstOf: plan.beginning) }
            // Inherited by what is accepted. Tunnels are kept alive by their own PINGs.
            socket.setNoDelay()
            sockets.append(Parcel(socket))
        }
        return TunnelListeners(sockets: sockets, congestion: plan)
    }

    private static func listen(on address: SocketAddress) throws(SystemCallError) -> Socket {
        let options = ListenOptions(reusePort: true)
        do {
            return try Socket.listen(on: address, options)
        } catch
            where (error.number == EAFNOSUPPORT || error.number == EADDRNOTAVAIL)
            && address.address == .anyIPv6
        {
            return try Socket.listen(on: SocketAddress(.anyIPv4, address.port), options)
        }
    }
}
