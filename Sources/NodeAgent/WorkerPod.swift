import Address
import Daemon
import EventLoop
import Linux
import Log
import Mesh
import Telemetry
import Transport
import Tunnel

/// Something that cannot go on before configuration or a certificate arrives.
protocol Waiting: AnyObject {
    func proceed()
}

/// One pod as one worker serves it.
final class WorkerPod {
    let pod: LocalPod
    let namespace: PodNamespace
    let budget: PodBudget
    unowned let worker: Worker
    /// What its connections may move in a turn of the loop, tunnels included: so it cannot keep the worker from others.
    let share: TurnShare
    /// Of its tunnels, in both directions.
    let channelConfiguration: ChannelConfiguration
    private(set) lazy var tunnelPool = TunnelPool(
        loop: worker.loop, tunnelPoolConfiguration, share: share, gauge: worker.outboundTunnels
    ) {
        [unowned self] (address) throws(SystemCallError) in
        let dialled = try worker.connectTunnel(
            to: address, channelConfiguration.congestion.beginning, in: namespace)
        return dialled.socket
    }
    private var lastBaggage: (workload: WorkloadEntry, text: String)?
    private var listeners: [Listener] = []
    private var connections: [ObjectIdentifier: ProxiedConnection] = [:]
    private var tunnels: [ObjectIdentifier: InboundTunnel] = [:]
    private lazy var handshakes = HandshakeQueue<InboundTunnel>(
        limit: worker.settings.handshakesPerPod
    ) { !$0.isHandshaking }
    private var waiting: [ObjectIdentifier: any Waiting] = [:]
    /// Inbound connections that the present configuration has not been asked about.
    private var unchecked: [InboundConnection] = []
    private lazy var checking = CallbackTimer { [unowned self] in checkInbound() }
    /// Some connections were not decided about for want of a policy that may be on its way.
    private lazy var finalCheck = CallbackTimer { [unowned self] in askAgain(isFinal: true) }
    private var isFinalCheck = false
    private let logger = Logger(scope: "node.proxy")

    /// Connections that are asked about in one turn of the loop.
    private static let checkBatch = 1_000

    init(
        _ pod: LocalPod, _ namespace: PodNamespace, _ sockets: consuming PodListeners, _ budget: PodBudget,
        worker: Worker
    ) throws(SystemCallError) {
        self.pod = pod
        self.namespace = namespace
        self.budget = budget
        self.worker = worker
        share = TurnShare(worker.loop)
        var configuration = ChannelConfiguration()
        configuration.congestion = sockets.congestion
        channelConfiguration = configuration
        do throws(SystemCallError) {
            try listen(sockets)
        } catch {
            closeListeners()
            throw error
        }
    }

    private var tunnelPoolConfiguration: TunnelPool.Configuration {
        var configuration = worker.settings.tunnels
        configuration.channel = channelConfiguration
        return configuration
    }

    private func listen(_ sockets: consuming PodListeners) throws(SystemCallError) {
        listeners.append(
            try Listener(on: worker.loop, sockets.outbound) { [unowned self] accepted in
                // A TCP connection has a peer, unless it is gone already.
                guard let peer = accepted.peer else { return }
                begin(OutboundConnection(self, accepted.socket, from: peer))
            })
        listeners.append(
            try Listener(on: worker.loop, sockets.plaintext) { [unowned self] accepted in
                guard let peer = accepted.peer else { return }
                begin(PlaintextConnection(self, accepted.socket, from: peer))
            })
        listeners.append(
            try Listener(on: worker.loop, sockets.tunnels) { [unowned self] accepted in
                guard let peer = accepted.peer else { return }
                guard budget.tunnels.take() else {
                    worker.limits.tunnels.add()
                    logger.limited(.seconds(10), .warn, "too many tunnels", ["pod": pod.uid])
                    accepted.socket.reset()
                    return
                }
                worker.assignTunnel(accepted.socket, from: peer, of: pod.uid, budget)
            })
    }

    /// The workload that this pod is, by its name and account, never by an address (ztunnel.md §1.4); nil while
    /// configuration does not know it.
    var workload: WorkloadEntry? {
        guard let entry = worker.snapshot.localWorkload(namespace: pod.namespace, name: pod.name),
            entry.workload.serviceAccount == pod.serviceAccount
        else { return nil }
        return entry
    }

    /// The header that says who this pod is; made anew only when that has changed.
    func baggage(of workload: WorkloadEntry) -> String {
        if let (known, text) = lastBaggage, known === workload { return text }
        let text = TunnelHeaders.baggage(of: workload.workload)
        lastBaggage = (workload, text)
        return text
    }

    // MARK: Connections

    /// Takes a connection on, if the pod's budget has room for it.
    func begin(_ connection: ProxiedConnection) {
        guard budget.connections.take() else {
            worker.limits.connections.add()
            connection.refuseUncounted(
                .limitReached("\(budget.connections.limit) connections of this workload"))
            return
        }
        connections[ObjectIdentifier(connection)] = connection
        connection.start()
    }

    func serveTunnel(_ socket: consuming Socket, from peer: SocketAddress) {
        let tunnel = InboundTunnel(self, socket, from: peer)
        tunnels[ObjectIdentifier(tunnel)] = tunnel
        worker.inboundTunnels.add(1)
        if let oldest = handshakes.append(tunnel) {
            worker.limits.handshakes.add()
            logger.limited(.seconds(10), .warn, "too many handshakes: the oldest are ended", ["pod": pod.uid])
            oldest.close(.limitReached("\(worker.settings.handshakesPerPod) handshakes into this workload"))
        }
        tunnel.proceed()
    }

    func ended(_ connection: ProxiedConnection) {
        guard connections.removeValue(forKey: ObjectIdentifier(connection)) != nil else { return }
        waiting[ObjectIdentifier(connection)] = nil
        budget.connections.release()
        worker.checkDrained()
    }

    func ended(_ tunnel: InboundTunnel) {
        guard tunnels.removeValue(forKey: ObjectIdentifier(tunnel)) != nil else { return }
        waiting[ObjectIdentifier(tunnel)] = nil
        budget.tunnels.release()
        worker.inboundTunnels.add(-1)
        worker.countTunnel(-1)
        worker.checkDrained()
    }

    /// Calls `proceed` whenever configuration or certificates have changed, until told otherwise.
    func wait(_ waiter: any Waiting) {
        waiting[ObjectIdentifier(waiter)] = waiter
    }

    func stopWaiting(_ waiter: any Waiting) {
        waiting[ObjectIdentifier(waiter)] = nil
    }

    func wakeWaiting() {
        for waiter in waiting.values { waiter.proceed() }
    }

    // MARK: Changes

    /// The worker has a new snapshot: what waited may go on, and what is open is asked about again.
    func configurationChanged() {
        wakeWaiting()
        askAgain(isFinal: false)
    }

    private func askAgain(isFinal: Bool) {
        isFinalCheck = isFinal
        unchecked = connections.values.compactMap { $0 as? InboundConnection }
        if !unchecked.isEmpty { checkInbound() }
    }

    private func checkInbound() {
        for connection in unchecked.suffix(Self.checkBatch)
        where !connection.recheck(isFinal: isFinalCheck) && !finalCheck.isArmed {
            worker.loop.schedule(finalCheck, after: worker.settings.ownWorkloadWait)
        }
        unchecked.removeLast(min(Self.checkBatch, unchecked.count))
        if !unchecked.isEmpty { worker.loop.schedule(checking, after: .milliseconds(1)) }
    }

    /// Stops accepting and tells peers; what is under way goes on.
    func drain() {
        closeListeners()
        tunnelPool.drain()
        for tunnel in tunnels.values { tunnel.drain() }
    }

    /// Ends everything at once.
    func close(_ reason: CloseReason) {
        closeListeners()
        worker.loop.cancel(checking)
        worker.loop.cancel(finalCheck)
        unchecked = []
        for connection in connections.values { connection.cut(reason) }
        for tunnel in tunnels.values { tunnel.close(reason) }
        handshakes.removeAll()
        tunnelPool.close()
    }

    private func closeListeners() {
        for listener in listeners { listener.close() }
        listeners = []
    }

    var isIdle: Bool { connections.isEmpty && tunnels.isEmpty }

    // MARK: Accounts

    func account() {
        for connection in connections.values { connection.account() }
    }

    var liveConnections: [LiveConnection] { connections.values.compactMap(\.live) }

    var tunnelStates: [NodeStatus.Tunnel] {
        tunnelPool.descriptions.map { tunnel in
            NodeStatus.Tunnel(
                direction: .outbound, source: tunnel.key.source.uri,
                destination: tunnel.peer?.uri ?? tunnel.key.address.address.description,
                address: tunnel.key.address, streamCount: tunnel.streams,
                congestionControl: tunnel.congestionControl, worker: worker.index, since: tunnel.since)
        } + tunnels.values.compactMap(\.state)
    }
}
