import Daemon
import Discovery
import Linux
import Mesh
import Metrics
import Synchronization
import TLS
import Telemetry
import Transport
import Tunnel

/// What all workers have in common.
struct WorkerShared: Sendable {
    let registry: Registry
    let accessLog: AccessLog
    let settings: ProxySettings
    let limits: LimitMetrics
    /// How long an idle series of the metrics stays.
    let metricsIdle: Duration

    init(
        registry: Registry, accessLog: AccessLog, settings: ProxySettings = ProxySettings(),
        metricsIdle: Duration = .seconds(3_600)
    ) {
        self.registry = registry
        self.accessLog = accessLog
        self.settings = settings
        self.metricsIdle = metricsIdle
        limits = LimitMetrics(registry)
    }
}

/// How often a pod has spent its budget.
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

/// How connections are treated; the same for every worker.
struct ProxySettings: Sendable {
    /// How long a connection waits for its own workload and certificate to arrive.
    var ownWorkloadWait = Duration.seconds(5)
    /// Connections of one pod, on all workers together.
    var connectionsPerPod = 50_000
    /// Tunnels into one pod, handshakes under way included.
    var tunnelsPerPod = 4_096
    /// Handshakes under way into one pod, on one worker.
    var handshakesPerPod = 512
    /// Endpoints tried for one outbound connection.
    var attempts = 3
    /// Answer a CONNECT with who the destination is.
    var sendsResponseBaggage = true
    /// Workloads of this node reach each other by tunnel, whatever they ask for.
    var encryptsOnSameNode = false
    /// Connections that share one tunnel, and how long one without any is kept.
    var streamsPerTunnel = 100
    var tunnelIdle = Duration.seconds(300)
    /// Who seals and opens TLS records.
    var tlsRecords = RecordLayer.own
    /// Whose word it is by which TCP congestion control tunnels send.
    var tunnelCongestion = CongestionChoice.auto

    var tunnels: TunnelPool.Configuration {
        var tunnels = TunnelPool.Configuration()
        tunnels.streamsPerTunnel = streamsPerTunnel
        tunnels.idle = tunnelIdle
        return tunnels
    }
}

/// The workers of a node.
final class WorkerSet: PodHost {
    private let workers: [WorkerHandle]
    private let settings: ProxySettings

    init(count: Int, _ shared: WorkerShared) throws(SystemCallError) {
        var workers: [WorkerHandle] = []
        for index in 0..<count { workers.append(try WorkerHandle.start(index: index, shared)) }
        self.workers = workers
        settings = shared.settings
        for worker in workers { worker.perform { [workers] in $0.siblings = workers } }
    }

    var workerCount: Int { workers.count }
    var tunnelCongestion: CongestionChoice { settings.tunnelCongestion }

    func add(
        _ pod: LocalPod, in namespace: PodNamespace, listeners: [Parcel<PodListeners>],
        done: @escaping @Sendable () -> Void
    ) {
        let budget = PodBudget(
            connections: settings.connectionsPerPod, tunnels: settings.tunnelsPerPod)
        let countdown = Countdown(workers.count, done)
        for (worker, parcel) in zip(workers, listeners) {
            worker.perform { worker in
                worker.add(pod, in: namespace, parcel, budget)
                countdown.countDown()
            }
        }
    }

    func remove(_ uid: String, done: @escaping @Sendable () -> Void) {
        forAll({ $0.remove(uid) }, done: done)
    }

    /// Swaps the configuration of every worker.
    func publish(_ snapshot: Snapshot) {
        forAll { $0.publish(snapshot) }
    }

    func publish(_ certificates: [Identity: CertificateState]) {
        forAll { $0.publish(certificates) }
    }

    /// Accept no more, tell peers, and let what is under way end; `done` when all of it has.
    func drain(done: @escaping @Sendable () -> Void) {
        let countdown = Countdown(workers.count, done)
        for worker in workers { worker.perform { $0.drain { countdown.countDown() } } }
    }

    /// Ends whatever a drain has left, which the drain then reports.
    func cutAll() {
        forAll { $0.cutAll() }
    }

    /// Asks every worker for something and hands over all answers.
    func gather<Part: Sendable>(
        _ part: @escaping @Sendable (Worker) -> Part, done: @escaping @Sendable ([Part]) -> Void
    ) {
        let collected = Collection<Part>()
        let countdown = Countdown(workers.count) { done(collected.parts) }
        for worker in workers {
            worker.perform { worker in
                collected.add(part(worker))
                countdown.countDown()
            }
        }
    }

    func stop() {
        for worker in workers { worker.stop() }
    }

    private func forAll(
        _ body: @escaping @Sendable (Worker) -> Void, done: (@Sendable () -> Void)? = nil
    ) {
        let countdown = Countdown(workers.count) { done?() }
        for worker in workers {
            worker.perform { worker in
                body(worker)
                countdown.countDown()
            }
        }
    }
}

/// What one pod may use of the node, counted over all workers.
final class PodBudget: Sendable {
    let connections: Allowance
    let tunnels: Allowance

    init(connections: Int, tunnels: Int) {
        self.connections = Allowance(connections)
        self.tunnels = Allowance(tunnels)
    }
}
