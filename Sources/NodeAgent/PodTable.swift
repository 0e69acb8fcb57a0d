import Linux
import Mesh

/// Which pods should be captured, which are, and what has to be done next. A value: events in, actions out; no clock, no
/// socket.
///
/// Each pod has at most one operation under way, so a change that comes meanwhile is kept and acted upon when the
/// operation has ended. What failed is tried again, later and later, for as long as it is wanted.
struct PodTable {
    enum Action: Hashable {
        /// Open and check the namespace, listen in it, then capture. Answered by `started` or `failed`.
        case start(LocalPod)
        /// Close the listeners and connections; the rules stay for now. Answered by `stopped`.
        case stop(uid: String)
        case report(CaptureReport)
    }

    /// What one node can hold; every pod costs listeners on each worker.
    static let limit = 4_096
    static let firstRetry = Duration.seconds(1)
    static let lastRetry = Duration.seconds(15)

    private enum Phase: Hashable {
        /// Nobody listens in the pod's namespace; it is tried at this time.
        case absent(until: MonotonicTime)
        case starting(LocalPod)
        case running(LocalPod)
        case stopping
    }

    private struct Entry {
        /// Nil once the pod has left: what is there is taken down.
        var wanted: LocalPod?
        var phase: Phase
        var failedAttempts = 0
        /// What the control component was last told, so that a retry does not repeat itself.
        var reported: CaptureReport?
    }

    private var entries: [String: Entry] = [:]

    /// The whole set of this node's pods, as configuration has it now.
    mutating func update(_ pods: [LocalPod], now: MonotonicTime) -> [Action] {
        let wanted = Dictionary(pods.map { ($0.uid, $0) }, uniquingKeysWith: { first, _ in first })
        var actions: [Action] = []
        for (uid, var entry) in entries.sorted(by: { $0.key < $1.key }) where wanted[uid] == nil {
            entry.wanted = nil
            actions += settle(uid, entry, now: now)
        }
        for (uid, pod) in wanted.sorted(by: { $0.key < $1.key }) {
            guard entries[uid] != nil || entries.count < Self.limit else {
                let reason = "the node already holds \(Self.limit) workloads"
                actions.append(.report(CaptureReport(uid: uid, state: .refused, reason: reason)))
                continue
            }
            var entry = entries[uid] ?? Entry(phase: .absent(until: now))
            // The change may mend what was wrong: no need to wait for the retry.
            if case .absent = entry.phase, entry.wanted != pod {
                entry.phase = .absent(until: now)
                entry.failedAttempts = 0
            }
            entry.wanted = pod
            actions += settle(uid, entry, now: now)
        }
        return actions
    }

    /// The pod is captured: listeners in place, rules verified.
    mutating func started(_ uid: String, now: MonotonicTime) -> [Action] {
        guard var entry = entries[uid], case .starting(let pod) = entry.phase else { return [] }
        entry.phase = .running(pod)
        entry.failedAttempts = 0
        let actions = report(CaptureReport(uid: uid, state: .captured), of: &entry)
        return actions + settle(uid, entry, now: now)
    }

    /// It could not be captured, or is captured no longer: nobody listens in the namespace.
    mutating func failed(_ uid: String, reason: String, now: MonotonicTime) -> [Action] {
        guard var entry = entries[uid] else { return [] }
        entry.failedAttempts += 1
        let wait = min(Self.firstRetry * (1 << min(entry.failedAttempts - 1, 10)), Self.lastRetry)
        entry.phase = .absent(until: now + wait)
        let actions = report(CaptureReport(uid: uid, state: .refused, reason: reason), of: &entry)
        return actions + settle(uid, entry, now: now)
    }

    /// Listeners and connections of the pod are gone.
    mutating func stopped(_ uid: String, now: MonotonicTime) -> [Action] {
        guard var entry = entries[uid] else { return [] }
        entry.phase = .absent(until: now)
        return settle(uid, entry, now: now)
    }

    /// The name of a running pod's namespace leads to another one, or to none: the pod was made anew.
    mutating func replaced(_ uid: String, now: MonotonicTime) -> [Action] {
        guard var entry = entries[uid], case .running = entry.phase else { return [] }
        entry.phase = .stopping
        entries[uid] = entry
        return [.stop(uid: uid)]
    }

    /// The time has come that `nextRetry` named.
    mutating func retry(now: MonotonicTime) -> [Action] {
        var actions: [Action] = []
        for (uid, entry) in entries.sorted(by: { $0.key < $1.key }) {
            if case .absent(let time) = entry.phase, time <= now { actions += settle(uid, entry, now: now) }
        }
        return actions
    }

    var nextRetry: MonotonicTime? {
        entries.values.compactMap { entry in
            if case .absent(let time) = entry.phase { time } else { nil }
        }.min()
    }

    var runningCount: Int { count { if case .running = $0 { true } else { false } } }
    /// Wanted and not there (yet).
    var pendingCount: Int { entries.values.count { $0.wanted != nil } - runningCount }

    /// Wanted, and neither captured nor refused so far: what a node waits for before it is ready.
    var unsettledCount: Int { entries.values.count { $0.wanted != nil && $0.reported == nil } }

    private func count(_ isCounted: (Phase) -> Bool) -> Int {
        entries.values.count { isCounted($0.phase) && $0.wanted != nil }
    }

    /// Everything known, for dumps and `warren status`.
    var pods: [(pod: LocalPod, isRunning: Bool, reason: String)] {
        entries.sorted { $0.key < $1.key }.compactMap { _, entry in
            guard let pod = entry.wanted else { return nil }
            if case .running = entry.phase { return (pod, true, "") }
            return (pod, false, entry.reported?.reason ?? "")
        }
    }

    /// Every pod whose state the control component should know, as it has to be told on a new stream.
    var reports: [CaptureReport] {
        entries.sorted { $0.key < $1.key }.compactMap { $0.value.reported }
    }

    /// What brings the pod from where it is to where it should be.
    private mutating func settle(_ uid: String, _ entry: Entry, now: MonotonicTime) -> [Action] {
        var entry = entry
        var actions: [Action] = []
        switch entry.phase {
        case .absent(let time):
            guard let pod = entry.wanted else {
                entries[uid] = nil
                return report(CaptureReport(uid: uid, state: .removed), of: &entry)
            }
            if time <= now {
                entry.phase = .starting(pod)
                actions.append(.start(pod))
            }
        case .running(let pod):
            if let wanted = entry.wanted, wanted.isServedAs(pod) {
                entry.phase = .running(wanted)
            } else {
                entry.phase = .stopping
                actions.append(.stop(uid: uid))
            }
        case .starting, .stopping:
            break
        }
        entries[uid] = entry
        return actions
    }

    private func report(_ report: CaptureReport, of entry: inout Entry) -> [Action] {
        guard entry.reported != report else { return [] }
        entry.reported = report
        return [.report(report)]
    }
}

extension LocalPod {
    /// What was set up for `other` serves this one as well: the same account in the same place. Labels may differ.
    func isServedAs(_ other: LocalPod) -> Bool {
        uid == other.uid && namespace == other.namespace && name == other.name
            && serviceAccount == other.serviceAccount && networkNamespace == other.networkNamespace
            && Set(addresses) == Set(other.addresses)
    }
}
