import Address
import Capture
import Daemon
import Decision
import Discovery
import EventLoop
import HTTP1
import Linux
import Log
import Mesh
import Metrics
import TLS
import Telemetry

/// The node: what the control component says goes to the workers and the captor, what they report goes back.
///
/// Lives on the control loop, in the node's own network namespace; it never touches a connection.
final class NodeAgent {
    enum Phase { case running, draining, ended }

    let configuration: NodeConfiguration
    let loop: EventLoop
    let registry: Registry
    let workers: WorkerSet
    private let discovery: NodeDiscovery
    private let check: NamespaceCheck
    private var captor: CaptorThread?
    private let memory: SavedStateFile
    private let memoryReturn: MemoryReturn
    private let startedAt = WallClock.now()
    private var phase = Phase.running
    private var snapshot = Snapshot.empty
    private var certificates: [Identity: CertificateState] = [:]
    private var localPods: [LocalPod]?
    private var captorState = CaptorState()
    /// Sets of pods that the captor has not looked at yet.
    private var updatesUnderWay = 0
    private var ended: ((Int32) -> Void)?
    private let logger = Logger(scope: "node")
    private lazy var saving = CallbackTimer { [unowned self] in save() }
    private lazy var deadline = CallbackTimer { [unowned self] in cutRemaining() }

    /// How long changes are gathered before they are saved.
    private static let savingDelay = Duration.seconds(2)

    /// - Parameter ended: told the exit status when everything has been let go of.
    init(
        _ loop: EventLoop, _ configuration: NodeConfiguration, _ discovery: NodeDiscovery,
        check: NamespaceCheck, accessLog: AccessLog, registry: Registry, ended: @escaping (Int32) -> Void
    ) throws(SystemCallError) {
        self.loop = loop
        self.configuration = configuration
        self.discovery = discovery
        self.registry = registry
        self.ended = ended
        self.check = check
        memory = SavedStateFile(directory: configuration.memoryDirectory)
        memoryReturn = MemoryReturn(loop)
        let settings = ProxySettings(
            connectionsPerPod: configuration.connectionsPerPod,
            sendsResponseBaggage: configuration.sendsResponseBaggage,
            encryptsOnSameNode: configuration.encryptsOnSameNode,
            streamsPerTunnel: configuration.streamsPerTunnel, tunnelIdle: configuration.tunnelIdle,
            tlsRecords: configuration.tlsRecords, tunnelCongestion: configuration.tunnelCongestion)
        workers = try WorkerSet(
            count: configuration.workerCount,
            WorkerShared(
                registry: registry, accessLog: accessLog, settings: settings,
                metricsIdle: configuration.metricsIdle))
    }

    /// Goes on from what an earlier run has left, then asks the control component.
    func start() throws(SystemCallError) {
        let agent = LoopBound(self)
        let mailbox = loop.mailbox
        captor = try CaptorThread(
            check: check, capture: CaptureConfiguration(daemonUserID: configuration.userID),
            choice: configuration.capture,
            host: workers, registry: registry,
            report: { report in mailbox.post { _ in agent.value.discovery.report(report) } },
            changed: { state in mailbox.post { _ in agent.value.captorState = state } })
        discovery.onSnapshot = { [unowned self] in take($0) }
        discovery.onLocalPods = { [unowned self] in take($0) }
        discovery.onCertificates = { [unowned self] in take($0) }
        if let saved = memory.load() {
            do {
                try discovery.restore(saved)
            } catch {
                logger.warn("the state of an earlier run is of no use", ["error": "\(error)"])
            }
        }
        discovery.start()
        memoryReturn.start { [unowned self] in pending.isEmpty }
    }

    // MARK: What the control component says

    private func take(_ snapshot: Snapshot) {
        self.snapshot = snapshot
        wantCertificates()
        // Not before all of it is there: addresses without their policies would let everybody in.
        if discovery.hasFirstState { workers.publish(snapshot) }
        saveSoon()
    }

    private func take(_ certificates: [Identity: CertificateState]) {
        self.certificates = certificates
        workers.publish(certificates)
        saveSoon()
    }

    private func take(_ pods: [LocalPod]) {
        localPods = pods
        wantCertificates()
        updatesUnderWay += 1
        let agent = LoopBound(self)
        let mailbox = loop.mailbox
        captor?.perform { captor in
            captor.update(pods)
            mailbox.post { _ in agent.value.updatesUnderWay -= 1 }
        }
        saveSoon()
    }

    /// Those of the workloads that are to be captured here: fetched before their first connection needs them.
    private func wantCertificates() {
        let identities = (localPods ?? []).compactMap { pod -> Identity? in
            guard let entry = snapshot.localWorkload(namespace: pod.namespace, name: pod.name),
                entry.workload.serviceAccount == pod.serviceAccount
            else { return nil }
            return entry.identity
        }
        discovery.want(Set(identities))
    }

    // MARK: Readiness

    /// What is waited for; a node is ready when that is nothing.
    var pending: [String] {
        guard phase == .running else { return ["draining"] }
        var pending: [String] = []
        if !discovery.hasFirstState { pending.append("state manager") }
        let isSettled = localPods != nil && updatesUnderWay == 0 && captorState.unsettledCount == 0
        if !isSettled { pending.append("workload proxy manager") }
        return pending
    }

    // MARK: Memory

    private func saveSoon() {
        if !saving.isArmed { loop.schedule(saving, after: Self.savingDelay) }
    }

    private func save() {
        do throws(SystemCallError) {
            try memory.store(discovery.savedState())
        } catch {
            logger.limited(
                .seconds(60), .warn, "cannot save what a restart goes on from", ["error": "\(error)"])
        }
    }

    // MARK: The end

    var isDraining: Bool { phase != .running }

    /// Stops accepting and waits for what is under way, for a limited time, then ends.
    ///
    /// - Parameter removesCapture: the pods leave the mesh; else their rules stay and wait for the next daemon.
    func drain(removesCapture: Bool) {
        guard phase == .running else { return }
        phase = .draining
        logger.info(
            "draining", ["deadline": "\(configuration.drainDeadline)", "removes_capture": removesCapture])
        loop.cancel(saving)
        memoryReturn.stop()
        save()
        self.removesCapture = removesCapture
        let agent = LoopBound(self)
        let mailbox = loop.mailbox
        captor?.perform { captor in
            captor.freeze()
            mailbox.post { _ in agent.value.drainWorkers() }
        }
    }

    private var removesCapture = false

    private func drainWorkers() {
        let agent = LoopBound(self)
        let mailbox = loop.mailbox
        loop.schedule(deadline, after: configuration.drainDeadline)
        workers.drain { mailbox.post { _ in agent.value.release() } }
    }

    private func cutRemaining() {
        logger.warn("connections are left at the deadline and are cut")
        workers.cutAll()
    }

    /// No connection is left: only now may what the pods send go its own way.
    private func release() {
        loop.cancel(deadline)
        guard removesCapture else { return finish([:]) }
        let agent = LoopBound(self)
        let mailbox = loop.mailbox
        captor?.perform { captor in
            let failures = captor.releaseAll()
            mailbox.post { _ in agent.value.finish(failures) }
        }
    }

    /// - Parameter failures: whose rules could not be removed, and why.
    private func finish(_ failures: [String: String]) {
        guard phase == .draining else { return }
        phase = .ended
        for (uid, reason) in failures.sorted(by: { $0.key < $1.key }) {
            logger.error("the capture rules could not be removed", ["pod": uid, "error": reason])
        }
        discovery.stop()
        captor?.stop()
        workers.stop()
        ended.take()?(failures.isEmpty ? 0 : 1)
    }

    // MARK: Dumps

    private var heldPods: HeldPods {
        HeldPods(
            captorState.pods.filter(\.isRunning).map(\.pod), alwaysEncrypts: configuration.encryptsOnSameNode)
    }

    func explain(
        namespace: String, name: String, to destination: SocketAddress
    ) -> HTTP1Response {
        guard let source = snapshot.localWorkload(namespace: namespace, name: name) else {
            var json = JSONWriter()
            json.object { $0.member("error", "\(namespace)/\(name) is not a workload of this node") }
            return .json(json.bytes, status: 404)
        }
        var randomness = SystemRandomNumberGenerator()
        let explanation = Explanation(
            from: source, to: destination, held: heldPods, snapshot: snapshot, randomness: &randomness)
        return .json(explanation.json)
    }

    /// Everything that `/config_dump` shows; the answer comes when all workers have said what they hold.
    func configDump(_ done: @escaping (ConfigDump) -> Void) {
        gather { [unowned self] live, _ in
            done(
                ConfigDump(
                    snapshot: snapshot, certificates: certificateStates, pods: podStates(live),
                    configuration: configuration.members, version: .current))
        }
    }

    func status(_ done: @escaping (NodeStatus) -> Void) {
        gather { [unowned self] live, tunnels in
            done(
                NodeStatus(
                    node: configuration.node, pending: pending, startedAt: startedAt,
                    control: .init(
                        address: configuration.control, isConnected: discovery.isConnected,
                        since: discovery.connectedSince, lastUpdate: discovery.lastUpdate),
                    certificates: certificateStates, pods: podStates(live), tunnels: tunnels))
        }
    }

    private func gather(
        _ done: @escaping ([String: [LiveConnection]], [NodeStatus.Tunnel]) -> Void
    ) {
        let callback = LoopBound(done)
        let mailbox = loop.mailbox
        workers.gather({ WorkerReport(connections: $0.liveConnections, tunnels: $0.tunnels) }) { reports in
            mailbox.post { _ in
                var connections: [String: [LiveConnection]] = [:]
                for report in reports { connections.merge(report.connections) { $0 + $1 } }
                callback.value(connections, reports.flatMap(\.tunnels))
            }
        }
    }

    private func podStates(_ live: [String: [LiveConnection]]) -> [ConfigDump.PodState] {
        captorState.pods.map { pod, isRunning, reason in
            ConfigDump.PodState(
                pod: pod, isUp: isRunning, capture: captorState.methods[pod.uid], reason: reason,
                connections: live[pod.uid] ?? [])
        }
    }

    private var certificateStates: [ConfigDump.CertificateState] {
        let wanted = (localPods ?? []).compactMap {
            snapshot.localWorkload(namespace: $0.namespace, name: $0.name)?.identity
        }
        return Set(wanted).union(certificates.keys).sorted { $0.uri < $1.uri }.map { identity in
            ConfigDump.CertificateState(identity, certificates[identity])
        }
    }
}

/// What one worker tells for dumps.
private struct WorkerReport: Sendable {
    var connections: [String: [LiveConnection]]
    var tunnels: [NodeStatus.Tunnel]
}
