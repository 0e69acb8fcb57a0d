import Address
import Daemon
import Discovery
import EventLoop
import Linux
import Log
import Mesh
import Metrics
import Routing
import TLS
import Telemetry

/// The waypoint: what the control component says goes to the workers.
///
/// Lives on the control loop; it never touches a connection.
final class WaypointAgent {
    enum Phase { case running, draining, ended }

    let configuration: WaypointConfiguration
    let loop: EventLoop
    let registry: Registry
    private let workers: [WorkerHandle]
    private let discovery: NodeDiscovery
    private let memory: SavedStateFile
    private let memoryReturn: MemoryReturn
    private let startedAt = WallClock.now()
    private var phase = Phase.running
    private var snapshot = Snapshot.empty
    private var services: [NamespacedName: CompiledWaypointService] = [:]
    /// The workload that we are.
    private var own: WorkloadEntry?
    private var certificates: [Identity: CertificateState] = [:]
    private var isListening = false
    private var ended: ((Int32) -> Void)?
    private let logger = Logger(scope: "waypoint")
    private lazy var saving = CallbackTimer { [unowned self] in save() }
    private lazy var deadline = CallbackTimer { [unowned self] in cutRemaining() }

    /// How long changes are gathered before they are saved.
    private static let savingDelay = Duration.seconds(2)

    /// - Parameter ended: told the exit status when everything has been let go of.
    init(
        _ loop: EventLoop, _ configuration: WaypointConfiguration, _ discovery: NodeDiscovery,
        accessLog: AccessLog, registry: Registry, ended: @escaping (Int32) -> Void
    ) throws(SystemCallError) {
        self.loop = loop
        self.configuration = configuration
        self.discovery = discovery
        self.registry = registry
        self.ended = ended
        memory = SavedStateFile(directory: configuration.memoryDirectory)
        memoryReturn = MemoryReturn(loop)
        let shared = WorkerShared(registry: registry, accessLog: accessLog, configuration)
        var workers: [WorkerHandle] = []
        for index in 0..<configuration.workerCount {
            workers.append(try WorkerHandle.start(index: index, shared))
        }
        self.workers = workers
        for worker in workers { worker.perform { [workers] in $0.siblings = workers } }
    }

    /// Goes on from what an earlier run has left, then asks the control component.
    func start() {
        discovery.onSnapshot = { [unowned self] in take($0) }
        discovery.onWaypointServices = { [unowned self] in take($0) }
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
        let found = ownWorkload(in: snapshot)
        if found?.identity != own?.identity, let found {
            logger.info("known as", ["workload": found.workload.uid, "identity": "\(found.identity)"])
        }
        own = found
        // While configuration does not know us the last identity is kept: it may come back.
        if let found { discovery.want([found.identity]) }
        // Not before all of it is there: addresses without their policies would let everybody in.
        if discovery.hasFirstState {
            for worker in workers { worker.perform { $0.publish(snapshot, own: found) } }
        }
        listenWhenReady()
        saveSoon()
    }

    private func take(_ services: [NamespacedName: CompiledWaypointService]) {
        self.services = services
        for worker in workers { worker.perform { $0.publish(services) } }
    }

    private func take(_ certificates: [Identity: CertificateState]) {
        self.certificates = certificates
        for worker in workers { worker.perform { $0.publish(certificates) } }
        listenWhenReady()
        saveSoon()
    }

    /// The pod that runs here: the one that is named, or else the one whose address is here.
    private func ownWorkload(in snapshot: Snapshot) -> WorkloadEntry? {
        let namespace = configuration.namespace
        if !configuration.podName.isEmpty {
            return snapshot.workload(
                uid: "\(configuration.clusterID)//Pod/\(namespace)/\(configuration.podName)")
        }
        let here =
            configuration.addresses.isEmpty
            ? ((try? Interfaces.addresses()) ?? []).map(\.address) : configuration.addresses
        return here.lazy.filter { !$0.isLoopback && !$0.isLinkLocal }.compactMap { address in
            snapshot.workload(
                at: NetworkAddress(network: self.configuration.network, address: address.canonical))
        }.first { $0.workload.namespace == namespace && $0.workload.nativeTunnel }
    }

    // MARK: Memory

    private func saveSoon() {
        if !saving.isArmed, phase == .running { loop.schedule(saving, after: Self.savingDelay) }
    }

    private func save() {
        do throws(SystemCallError) {
            try memory.store(discovery.savedState())
        } catch {
            logger.limited(
                .seconds(60), .warn, "cannot save what a restart goes on from", ["error": "\(error)"])
        }
    }

    // MARK: Readiness

    /// Accepts tunnels once it can say who it is: before that its port refuses, and clients' nodes go elsewhere at once.
    private func listenWhenReady() {
        guard !isListening, phase == .running, discovery.hasFirstState, let own,
            case .available? = certificates[own.identity]
        else { return }
        isListening = true
        do throws(SystemCallError) {
            for worker in workers {
                let listeners = Parcel(try TunnelListeners.open(configuration))
                worker.perform { $0.listen(listeners) }
            }
            logger.info("accepting tunnels", ["identity": "\(own.identity)"])
        } catch {
            logger.error("cannot accept tunnels", ["error": "\(error)"])
            phase = .draining
            finish(1)
        }
    }

    /// What is waited for; it is ready when that is nothing.
    var pending: [String] {
        guard phase == .running else { return ["draining"] }
        var pending: [String] = []
        if !discovery.hasFirstState { pending.append("state manager") }
        if own == nil { pending.append("its own workload") }
        if !isListening { pending.append("its certificate") }
        return pending
    }

    // MARK: The end

    var isDraining: Bool { phase != .running }

    /// Stops accepting and waits for what is under way, for a limited time, then ends.
    func drain() {
        guard phase == .running else { return }
        phase = .draining
        logger.info("draining", ["deadline": "\(configuration.drainDeadline)"])
        memoryReturn.stop()
        loop.cancel(saving)
        save()
        loop.schedule(deadline, after: configuration.drainDeadline)
        let agent = LoopBound(self)
        let mailbox = loop.mailbox
        let countdown = Countdown(workers.count) { mailbox.post { _ in agent.value.finish(0) } }
        for worker in workers { worker.perform { $0.drain { countdown.countDown() } } }
    }

    private func cutRemaining() {
        logger.warn("connections are left at the deadline and are cut")
        for worker in workers { worker.perform { $0.cutAll() } }
    }

    private func finish(_ status: Int32) {
        guard phase == .draining else { return }
        phase = .ended
        loop.cancel(deadline)
        discovery.stop()
        for worker in workers { worker.stop() }
        ended.take()?(status)
    }

    // MARK: Dumps

    func configDump() -> [UInt8] {
        var json = JSONWriter(pretty: true)
        json.object { json in
            json.arrayMember("workloads", of: snapshot.allWorkloads) { $0.workload($1) }
            json.arrayMember("services", of: snapshot.allServices) { $0.service($1) }
            json.arrayMember("policies", of: snapshot.allPolicies) { $0.policy($1) }
            json.routing(services, snapshot, own: own)
            json.objectMember("version") { json in
                for (name, value) in BuildVersion.current.members { json.member(name, value) }
            }
            json.objectMember("config") { json in
                for (name, value) in configuration.members { json.member(name, value) }
            }
            json.arrayMember("certificates", of: certificateReports) { $0.certificate($1) }
        }
        return json.bytes + [UInt8(ascii: "\n")]
    }

    /// The answer of `/status`; it comes when all workers have said what they hold.
    func status(_ done: @escaping ([UInt8]) -> Void) {
        let collected = Collection<WorkerReport>()
        let callback = LoopBound(done)
        let agent = LoopBound(self)
        let mailbox = loop.mailbox
        let countdown = Countdown(workers.count) {
            mailbox.post { _ in callback.value(agent.value.status(collected.parts)) }
        }
        for worker in workers {
            worker.perform { worker in
                collected.add(
                    WorkerReport(connections: worker.connectionCount, tunnels: worker.tunnelReports))
                countdown.countDown()
            }
        }
    }

    private func status(_ workers: [WorkerReport]) -> [UInt8] {
        var json = JSONWriter(pretty: true)
        json.object { json in
            json.member("version", BuildVersion.current.version)
            json.member("ready", pending.isEmpty)
            json.arrayMember("pending", of: pending)
            json.member("waypoint", configuration.qualifiedName.description)
            json.member("pod", own?.workload.name ?? configuration.podName)
            json.member("startedAt", startedAt.rfc3339)
            json.control(
                ControlReport(
                    address: configuration.control, isConnected: discovery.isConnected,
                    since: discovery.connectedSince, lastUpdate: discovery.lastUpdate))
            json.arrayMember("certificates", of: certificateReports) { $0.certificateStatus($1) }
            json.arrayMember("services", of: servedServices)
            json.member("connections", workers.reduce(0) { $0 + $1.connections })
            json.arrayMember("tunnels", of: workers.flatMap(\.tunnels)) { $0.tunnel($1) }
        }
        return json.bytes + [UInt8(ascii: "\n")]
    }

    /// What it stands before.
    private var servedServices: [String] {
        guard let own else { return [] }
        return snapshot.allServices.filter { snapshot.isServed($0, by: own) }.map(\.service.key.description)
    }

    private var certificateReports: [CertificateReport] {
        var wanted = Set(certificates.keys)
        if let own { wanted.insert(own.identity) }
        return wanted.sorted { $0.uri < $1.uri }.map { CertificateReport($0, certificates[$0]) }
    }
}

/// What one worker tells for dumps.
private struct WorkerReport: Sendable {
    var connections: Int
    var tunnels: [TunnelReport]
}
