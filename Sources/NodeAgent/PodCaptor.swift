import Capture
import EventLoop
import Linux
import Log
import Mesh
import Metrics
import Transport

/// Who serves the connections of captured pods: the workers. Called from the captor's loop, answered from any thread.
protocol PodHost: Sendable {
    /// How many sets of listeners are wanted.
    var workerCount: Int { get }
    /// By which congestion control tunnels are to send.
    var tunnelCongestion: CongestionChoice { get }
    /// Serve a pod; `done` once every listener accepts.
    func add(
        _ pod: LocalPod, in namespace: PodNamespace, listeners: [Parcel<PodListeners>],
        done: @escaping @Sendable () -> Void)
    /// Close the pod's listeners and connections; `done` once none is left.
    func remove(_ uid: String, done: @escaping @Sendable () -> Void)
}

/// What an operator says of how connections are to come to the daemon.
public enum CaptureChoice: String, CaseIterable, Sendable {
    /// Without connection tracking where the kernel and the pod allow it.
    case auto
    case tracked
}

/// How the pods of the node stand.
struct CaptorState: Sendable {
    var pods: [(pod: LocalPod, isRunning: Bool, reason: String)] = []
    /// How those that are captured are, by uid.
    var methods: [String: CaptureMethod] = [:]
    /// Neither captured nor refused so far.
    var unsettledCount = 0
}

/// Brings this node's pods into the mesh and out of it: opens and checks namespaces, listens, captures, and keeps the
/// rules as they should be.
///
/// Lives on a loop of its own, for every step waits for the kernel. The order fails closed: listeners before rules on the
/// way in, rules last on the way out, for without them what an application still sends to a client whose address we
/// borrowed would leave the pod in the clear. When a step fails, whatever rules are there stay.
final class PodCaptor {
    private let loop: EventLoop
    private let check: NamespaceCheck
    private let configuration: CaptureConfiguration
    /// Without connection tracking, until the kernel has shown that it cannot.
    private var preferredMethod: CaptureMethod
    private let host: any PodHost
    private let report: @Sendable (CaptureReport) -> Void
    private let changed: @Sendable (CaptorState) -> Void
    private var isFrozen = false
    private var table = PodTable()
    private var captured: [String: CapturedPod] = [:]
    /// Namespaces of pods that nobody serves at present, and that may hold our rules: a pod that is being set up anew, could
    /// not be, or is leaving. Until it has left the mesh, its connections are refused rather than let out in the clear.
    private var held: [String: PodNamespace] = [:]
    private let logger = Logger(scope: "node.capture")
    private let metrics: CaptorMetrics
    private lazy var retry = CallbackTimer { [unowned self] in
        perform(table.retry(now: self.loop.now))
    }
    private lazy var inspection = CallbackTimer { [unowned self] in inspect() }

    /// How often namespaces are looked at for having been made anew.
    private static let inspectionInterval = Duration.seconds(2)
    private static let removalAttempts = 5

    /// - Parameters:
    ///   - report: told about every pod that is captured, refused or removed.
    ///   - changed: told how all pods stand after every step.
    init(
        _ loop: EventLoop, check: NamespaceCheck, capture: CaptureConfiguration, choice: CaptureChoice,
        host: any PodHost, registry: Registry,
        report: @escaping @Sendable (CaptureReport) -> Void,
        changed: @escaping @Sendable (CaptorState) -> Void
    ) {
        self.loop = loop
        self.check = check
        configuration = capture
        preferredMethod = choice == .auto ? .untracked : .tracked
        self.host = host
        self.report = report
        self.changed = changed
        metrics = CaptorMetrics(registry)
        loop.schedule(inspection, after: Self.inspectionInterval)
    }

    /// The pods that this node should hold from now on.
    func update(_ pods: [LocalPod]) {
        guard !isFrozen else { return }
        perform(table.update(pods, now: loop.now))
    }

    /// Changes nothing any more: the daemon is ending, and the rules stay for the next one.
    func freeze() {
        isFrozen = true
        for pod in captured.values { pod.stopWatching(loop) }
        loop.cancel(inspection)
        loop.cancel(retry)
    }

    /// Removes the rules of every pod. Its connections must have ended.
    ///
    /// - Returns: what could not be removed, by pod.
    func releaseAll() -> [String: String] {
        freeze()
        var failures: [String: String] = [:]
        for (uid, pod) in captured {
            do throws(CaptureError) {
                try Capture(configuration).remove(from: pod.namespace.handle)
            } catch {
                failures[uid] = error.description
            }
        }
        captured.removeAll()
        for uid in Array(held.keys) { letGo(uid) }
        return failures
    }

    // MARK: Steps

    private func perform(_ actions: [PodTable.Action]) {
        guard !isFrozen else { return }
        for action in actions {
            switch action {
            case .start(let pod): start(pod)
            case .stop(let uid): stop(uid)
            case .report(let told): tell(told)
            }
        }
        metrics.active.set(table.runningCount)
        metrics.pending.set(table.pendingCount)
        let methods = captured.compactMapValues { $0.capture?.configuration.method }
        for method in CaptureMethod.allCases {
            metrics.methods[method]?.set(methods.values.count { $0 == method })
        }
        changed(CaptorState(pods: table.pods, methods: methods, unsettledCount: table.unsettledCount))
        loop.cancel(retry)
        if let next = table.nextRetry { loop.schedule(retry, after: max(next - loop.now, .milliseconds(1))) }
    }

    private func tell(_ told: CaptureReport) {
        switch told.state {
        case .captured: logger.info("captured", ["pod": told.uid])
        case .refused: logger.warn("not captured", ["pod": told.uid, "reason": told.reason])
        case .removed:
            letGo(told.uid)
            logger.info("released", ["pod": told.uid])
        }
        report(told)
    }

    private func start(_ pod: LocalPod) {
        let uid = pod.uid
        do {
            let namespace = PodNamespace(
                try check.open(pod.networkNamespace, addresses: pod.addresses) { identity in
                    captured.first { $0.value.namespace.identity == identity }?.key
                })
            // It may have been another namespace before.
            if held[uid]?.identity != namespace.identity { letGo(uid) }
            held[uid] = namespace
            let listeners = try PodListeners.open(
                in: namespace, count: host.workerCount, host.tunnelCongestion)
            captured[uid] = CapturedPod(pod, namespace)
            let captor = LoopBound(self)
            let mailbox = loop.mailbox
            host.add(pod, in: namespace, listeners: listeners) {
                mailbox.post { _ in captor.value.seize(uid, namespace) }
            }
        } catch {
            perform(table.failed(uid, reason: "\(error)", now: loop.now))
        }
    }

    /// Every worker listens: the rules may send connections there.
    private func seize(_ uid: String, _ namespace: PodNamespace) {
        guard !isFrozen, let pod = captured[uid], pod.namespace === namespace else { return }
        do throws(CaptureError) {
            pod.capture = try seize(pod.pod, namespace)
            try pod.watch(loop) { [unowned self] in repair(uid, namespace) }
            held[uid] = nil
            metrics.started.add()
            perform(table.started(uid, now: loop.now))
        } catch {
            let reason = error.description
            captured[uid] = nil
            endConnections(of: uid) { $0.perform($0.table.failed(uid, reason: reason, now: $0.loop.now)) }
        }
    }

    /// Writes the pod's rules, without connection tracking if that is possible.
    private func seize(_ pod: LocalPod, _ namespace: PodNamespace) throws(CaptureError) -> Capture {
        let capture = capture(of: pod)
        do throws(CaptureError) {
            try capture.apply(in: namespace.handle)
            return capture
        } catch {
            guard let obstacle = capture.obstacle(error) else { throw error }
            preferredMethod = .tracked
            let tracked = self.capture(of: pod)
            try tracked.apply(in: namespace.handle)
            logger.warn(
                "capture takes connection tracking here, which costs more",
                ["reason": "\(obstacle)", "error": "\(error)"])
            return tracked
        }
    }

    private func capture(of pod: LocalPod) -> Capture {
        var configuration = configuration
        configuration.preferredMethod = preferredMethod
        configuration.workloadAddresses = pod.addresses.map(\.canonical)
        return Capture(configuration)
    }

    /// Ends what the pod has; its rules go when it has left, or when it is set up in another namespace.
    private func stop(_ uid: String) {
        guard let pod = captured[uid] else {
            perform(table.stopped(uid, now: loop.now))
            return
        }
        pod.stopWatching(loop)
        held[uid] = pod.namespace
        captured[uid] = nil
        metrics.stopped.add()
        endConnections(of: uid) { $0.perform($0.table.stopped(uid, now: $0.loop.now)) }
    }

    /// Closes the pod's listeners and connections; `done` once none is left.
    private func endConnections(of uid: String, done: @escaping @Sendable (PodCaptor) -> Void) {
        let captor = LoopBound(self)
        let mailbox = loop.mailbox
        host.remove(uid) { mailbox.post { _ in done(captor.value) } }
    }

    /// Removes what rules may be in the namespace of a pod that nobody serves, unless another pod is there.
    private func letGo(_ uid: String) {
        if let namespace = held.removeValue(forKey: uid) { removeRules(from: namespace, of: uid, attempt: 1) }
    }

    private func removeRules(from namespace: PodNamespace, of uid: String, attempt: Int) {
        guard !captured.values.contains(where: { $0.namespace.identity == namespace.identity }),
            !held.values.contains(where: { $0.identity == namespace.identity })
        else { return }
        do throws(CaptureError) {
            try Capture(configuration).remove(from: namespace.handle)
        } catch {
            logger.error("cannot remove the rules", ["pod": uid, "error": "\(error)"])
            // In the end its connections are refused, which is the safe end of the two.
            guard attempt < Self.removalAttempts, !isFrozen else { return }
            loop.schedule(after: .seconds(1)) { [unowned self] in
                removeRules(from: namespace, of: uid, attempt: attempt + 1)
            }
        }
    }

    // MARK: Keeping

    /// Something about the namespace's rules or routes has changed.
    private func repair(_ uid: String, _ namespace: PodNamespace) {
        guard let capture = captured[uid]?.capture else { return }
        do throws(CaptureError) {
            let drifts = try capture.verify(namespace.handle)
            guard !drifts.isEmpty else { return }
            let text = drifts.map(\.description).joined(separator: "; ")
            logger.limited(.seconds(1), .warn, "repairing capture rules", ["pod": uid, "drift": text])
            metrics.repairs.add()
            try capture.apply(in: namespace.handle)
        } catch {
            logger.limited(.seconds(1), .error, "cannot repair", ["pod": uid, "error": "\(error)"])
        }
    }

    /// Looks whether the names still lead to the namespaces that were captured.
    private func inspect() {
        defer { loop.schedule(inspection, after: Self.inspectionInterval) }
        for (uid, pod) in captured.sorted(by: { $0.key < $1.key }) {
            let current = try? NetworkNamespace(pod.pod.networkNamespace).identity
            if current != pod.namespace.identity { perform(table.replaced(uid, now: loop.now)) }
        }
    }
}

/// A namespace with our rules in it, or about to have them.
private final class CapturedPod {
    let pod: LocalPod
    let namespace: PodNamespace
    /// What its rules are; nil until they are written.
    var capture: Capture?
    private var watch: RuleWatch?

    init(_ pod: LocalPod, _ namespace: PodNamespace) {
        self.pod = pod
        self.namespace = namespace
    }

    func watch(_ loop: EventLoop, _ changed: @escaping () -> Void) throws(CaptureError) {
        watch = try RuleWatch(loop, CaptureMonitor(namespace.handle), changed)
    }

    func stopWatching(_ loop: EventLoop) {
        watch?.close()
        watch = nil
    }
}

/// Calls back when a namespace's rules or routes have changed: at once, for until then connections may leave in the
/// clear, but at most every 100 ms, for changes come in bursts, and our own repairs are among them.
private final class RuleWatch: Pollable {
    private let loop: EventLoop
    private let monitor: CaptureMonitor
    private var registrations: [Registration] = []
    private let changed: () -> Void
    private var calledAt: MonotonicTime
    private lazy var timer = CallbackTimer { [unowned self] in
        calledAt = self.loop.now
        changed()
    }

    private static let delay = Duration.milliseconds(100)

    init(
        _ loop: EventLoop, _ monitor: consuming CaptureMonitor, _ changed: @escaping () -> Void
    ) throws(CaptureError) {
        self.loop = loop
        self.monitor = monitor
        self.changed = changed
        calledAt = loop.now
        super.init()
        do throws(SystemCallError) {
            registrations.append(try loop.register(self, self.monitor.tables, .readable))
            registrations.append(try loop.register(self, self.monitor.routing, .readable))
        } catch {
            close()
            throw .refused(.monitor, object: error.subject, number: error.number, detail: nil)
        }
        // What changed between the writing and this moment.
        loop.schedule(timer, after: .zero)
    }

    override func ready(_ events: Events) {
        // An error means that messages were lost: reason enough to look.
        let hasChanged = (try? monitor.drain()) ?? true
        if hasChanged, !timer.isArmed {
            loop.schedule(timer, after: max(.zero, calledAt + Self.delay - loop.now))
        }
    }

    func close() {
        loop.cancel(timer)
        for registration in registrations { loop.deregister(registration) }
        registrations = []
    }
}

/// ztunnel's names; the first four carry no prefix on the wire either.
private struct CaptorMetrics {
    let active, pending: Gauge
    let started, stopped, repairs: Counter
    let methods: [CaptureMethod: Gauge]

    init(_ registry: Registry) {
        active = registry.gauge(
            "workload_manager_active_proxy_count", "The total number of workloads captured (unstable)")
        pending = registry.gauge(
            "workload_manager_pending_proxy_count",
            "The total number of workloads not captured yet (unstable)")
        started = registry.counter(
            "workload_manager_proxies_started", "The total number of workloads captured so far (unstable)")
        stopped = registry.counter(
            "workload_manager_proxies_stopped", "The total number of workloads released so far (unstable)")
        let family = registry.gauges(
            "warren_capture_pods", "Pods captured with and without connection tracking", labels: ["method"])
        methods = Dictionary(
            uniqueKeysWithValues: CaptureMethod.allCases.map { ($0, family.with([$0.rawValue])) })
        repairs = registry.counter("warren_capture_repairs", "Times that capture rules had to be put right")
    }
}
