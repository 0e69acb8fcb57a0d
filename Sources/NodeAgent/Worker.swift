import Address
import Daemon
import Decision
import Discovery
import EventLoop
import Linux
import Log
import Mesh
import Metrics
import Telemetry

/// One core's share of the node: its listeners in every pod, the connections they take, tunnels, certificates, and the
/// configuration by which it decides.
final class Worker {
    let loop: EventLoop
    let settings: ProxySettings
    let metrics: ConnectionMetrics
    let limits: LimitMetrics
    /// Tunnels that it carries: those that its pods opened, and those that came to them.
    let outboundTunnels, inboundTunnels: Gauge
    /// For choices among endpoints and for trace ids: nothing that somebody must not guess.
    var randomness = WorkerRandomness()
    /// Every worker of the node, this one included.
    var siblings: [WorkerHandle] = []
    private(set) var snapshot = Snapshot.empty
    private(set) var credentials: CredentialTable
    private(set) var pods: [String: WorkerPod] = [:]
    /// The same pods, as decisions see them.
    private(set) var heldPods: HeldPods
    private let handle: WorkerHandle
    private let accessLog: AccessLog
    private var formatter: AccessLineFormatter
    private var location: NamespaceThread?
    private var drained: (() -> Void)?
    private let logger = Logger(scope: "node.worker")
    private lazy var accounting = CallbackTimer { [unowned self] in account() }

    private static let accountingInterval = Duration.seconds(5)

    init(_ loop: EventLoop, _ handle: WorkerHandle, _ shared: WorkerShared) {
        self.loop = loop
        self.handle = handle
        settings = shared.settings
        credentials = CredentialTable(records: shared.settings.tlsRecords)
        heldPods = HeldPods(alwaysEncrypts: shared.settings.encryptsOnSameNode)
        limits = shared.limits
        metrics = ConnectionMetrics(shared.registry, idle: shared.metricsIdle)
        let tunnels = shared.registry.gauges(
            "warren_worker_tunnels", "Tunnels that a worker carries.", labels: ["worker", "direction"])
        outboundTunnels = tunnels.with("\(handle.index)", "outbound")
        inboundTunnels = tunnels.with("\(handle.index)", "inbound")
        accessLog = shared.accessLog
        formatter = AccessLineFormatter(shared.accessLog.format)
        loop.schedule(accounting, after: Self.accountingInterval)
    }

    /// Which of the node's workers it is.
    var index: Int { handle.index }

    // MARK: Configuration

    func publish(_ snapshot: Snapshot) {
        self.snapshot = snapshot
        metrics.forgetSeries()
        for pod in pods.values { pod.configurationChanged() }
    }

    func publish(_ certificates: [Identity: CertificateState]) {
        credentials.replace(by: certificates)
        for pod in pods.values { pod.wakeWaiting() }
    }

    // MARK: Pods

    func add(
        _ pod: LocalPod, in namespace: PodNamespace, _ listeners: Parcel<PodListeners>, _ budget: PodBudget
    ) {
        guard drained == nil, let listeners = listeners.take() else { return }
        do throws(SystemCallError) {
            pods[pod.uid] = try WorkerPod(pod, namespace, listeners, budget, worker: self)
            heldPods.insert(pod)
        } catch {
            // Without a listener of ours the kernel gives this pod's connections to the other workers' ones.
            logger.error("cannot serve a pod", ["pod": pod.uid, "error": "\(error)"])
        }
    }

    func remove(_ uid: String) {
        if let gone = pods.removeValue(forKey: uid) {
            heldPods.remove(gone.pod)
            gone.close(.workloadRemoved)
        }
        // A thread inside a namespace keeps it alive.
        location?.goHome()
    }

    /// The pod that is this workload, if it is one of this daemon's.
    func pod(of workload: WorkloadEntry) -> WorkerPod? {
        heldPods.pod(of: workload, snapshot).flatMap { pods[$0.uid] }
    }

    /// Stops accepting, tells peers, and calls back when everything has ended.
    func drain(_ done: @escaping () -> Void) {
        drained = done
        for pod in pods.values { pod.drain() }
        checkDrained()
    }

    /// Ends whatever a drain has left.
    func cutAll() {
        for pod in pods.values { pod.close(.drained) }
        pods.removeAll()
        checkDrained()
    }

    /// To be called when something has ended that a drain waits for.
    func checkDrained() {
        guard let done = drained, pods.values.allSatisfy(\.isIdle) else { return }
        drained = {}
        done()
    }

    // MARK: Services to connections

    /// Starts a connection from within a pod's namespace.
    ///
    /// - Parameters:
    ///   - source: an address to come from; nil for the pod's own.
    ///   - isLocal: the address is the pod's own.
    func connect(
        to address: SocketAddress, spoofing source: IPAddress? = nil, isLocal: Bool = false,
        in namespace: PodNamespace
    ) throws(SystemCallError) -> Dialled {
        try enter(namespace)
        return try address.dial(spoofing: source, isLocal: isLocal)
    }

    /// Starts a tunnel from within a pod's namespace.
    ///
    /// - Parameter congestionControls: of which it has the first that the kernel has, if any.
    func connectTunnel(
        to address: SocketAddress, _ congestionControls: [String], in namespace: PodNamespace
    ) throws(SystemCallError) -> Dialled {
        try enter(namespace)
        return try address.dialTunnel(congestionControls)
    }

    private func enter(_ namespace: PodNamespace) throws(SystemCallError) {
        if location == nil { location = try NamespaceThread() }
        try location?.enter(namespace.handle)
    }

    func log(_ record: ConnectionRecord) {
        accessLog.append(formatter.line(record, at: .now()))
    }

    /// Hands an accepted tunnel to the worker with the fewest. The count is given back when the tunnel closes.
    ///
    /// - Parameter budget: of the pod that it came to; has been taken from.
    func assignTunnel(
        _ socket: consuming Socket, from peer: SocketAddress, of uid: String, _ budget: PodBudget
    ) {
        let chosen = siblings.min {
            $0.tunnelCount.load(ordering: .relaxed) < $1.tunnelCount.load(ordering: .relaxed)
        }
        let mine = handle.tunnelCount.load(ordering: .relaxed)
        guard let chosen, chosen !== handle, chosen.tunnelCount.load(ordering: .relaxed) < mine else {
            countTunnel(1)
            serveTunnel(socket, from: peer, of: uid, budget)
            return
        }
        chosen.tunnelCount.add(1, ordering: .relaxed)
        let parcel = Parcel(socket)
        chosen.perform { worker in
            if let socket = parcel.take() { worker.serveTunnel(socket, from: peer, of: uid, budget) }
        }
    }

    func countTunnel(_ change: Int) {
        handle.tunnelCount.add(change, ordering: .relaxed)
    }

    private func serveTunnel(
        _ socket: consuming Socket, from peer: SocketAddress, of uid: String, _ budget: PodBudget
    ) {
        guard let pod = pods[uid], pod.budget === budget, drained == nil else {
            // The pod left while the socket travelled, or came back as another; closing it tells the peer.
            budget.tunnels.release()
            countTunnel(-1)
            return
        }
        pod.serveTunnel(socket, from: peer)
    }

    // MARK: Accounts

    /// Long connections show in the metrics while they live.
    private func account() {
        for pod in pods.values { pod.account() }
        loop.schedule(accounting, after: Self.accountingInterval)
    }

    var liveConnections: [String: [LiveConnection]] { pods.mapValues(\.liveConnections) }
    var tunnels: [NodeStatus.Tunnel] { pods.values.flatMap(\.tunnelStates) }
}
