import Linux

/// The certificates of a node: which are there, which are being fetched, and who waits for them.
///
/// A value without I/O. Whoever drives it calls `step` after every change and carries out the actions, tells it of every
/// answer by `issued` or `failed`, and comes back at `nextWake`.
///
/// A certificate is renewed at about half of its life and serves until it expires, however many renewals fail. Without
/// one, whoever asks waits for the first attempt and afterwards fails at once, with the reason of the last attempt.
public struct CertificateCache<Bundle: Sendable>: Sendable {
    public struct Configuration: Sendable {
        /// Requests that the CA answers at a time.
        public var inFlight = 8
        /// Subjects that are held or fetched.
        public var subjects = 10_000
        /// Connections that wait, over all subjects.
        public var waiters = 10_000
        /// Nothing but the node's own certificate is fetched before that is there: it is what the others are asked with.
        public var needsNodeCertificate = false

        public init() {}
    }

    public typealias WaiterID = UInt64

    public enum Answer: Sendable {
        case ready(Bundle)
        /// `Action.resume` will come, at the waiter's deadline at the latest.
        case waiting
        case unavailable(CertificateUnavailable)
    }

    public enum Action: Sendable {
        /// Ask the CA, then call `issued` or `failed`.
        case fetch(CertificateSubject)
        case resume(WaiterID, Result<Bundle, CertificateUnavailable>)
    }

    private struct Waiter {
        let id: WaiterID
        let deadline: MonotonicTime
    }

    private struct Entry {
        var certificate: IssuedCertificate<Bundle>?
        /// Seconds since 1970.
        var renewal = Int64.max
        var backoff: Backoff
        var retry: MonotonicTime?
        var failure: CertificateUnavailable?
        var queued: CertificatePriority?
        var waiters: [Waiter] = []

        init(_ subject: CertificateSubject) {
            // Everything else waits for the node's own.
            backoff = subject == .node ? .nodeCertificate : .certificate
        }
    }

    /// How long a timer may sleep though no deadline is near: the calendar may have been set.
    private static var longestSleep: Duration { .seconds(60) }

    private let configuration: Configuration
    private var entries: [CertificateSubject: Entry] = [:]
    private var queues: [CertificatePriority: [CertificateSubject]] = [:]
    /// Also those of subjects that were forgotten meanwhile.
    private var inFlight: Set<CertificateSubject> = []
    /// Subjects that the node's workloads need.
    private var wanted: Set<CertificateSubject> = []
    private var waiterCount = 0
    private var pending: [Action] = []

    public init(_ configuration: Configuration = Configuration()) {
        self.configuration = configuration
    }

    // MARK: Asking

    /// The certificate of a subject if it is there and valid. Starts nothing.
    public func current(_ subject: CertificateSubject, _ now: Moment) -> Bundle? {
        guard let certificate = entries[subject]?.certificate, certificate.notAfter > now.wall else {
            return nil
        }
        return certificate.bundle
    }

    /// Asks for a certificate that a connection needs now.
    public mutating func request(
        _ subject: CertificateSubject, waiter: WaiterID, deadline: MonotonicTime, _ now: Moment
    ) -> Answer {
        if let bundle = current(subject, now) { return .ready(bundle) }
        if let entry = entries[subject], let retry = entry.retry, retry > now.monotonic,
            let failure = entry.failure
        {
            return .unavailable(failure)
        }
        guard waiterCount < configuration.waiters else {
            return .unavailable(CertificateUnavailable("too many connections wait for certificates"))
        }
        guard enqueue(subject, .realTime) else { return .unavailable(Self.tooManySubjects) }
        entries[subject]?.waiters.append(Waiter(id: waiter, deadline: deadline))
        waiterCount += 1
        return .waiting
    }

    /// Asks for a certificate that will be needed.
    public mutating func warm(_ subject: CertificateSubject, _ now: Moment) {
        guard current(subject, now) == nil, entries[subject]?.retry == nil else { return }
        _ = enqueue(subject, .warmup)
    }

    /// Tells which subjects the node's workloads have: new ones are fetched, those that left are forgotten.
    public mutating func setWanted(_ subjects: Set<CertificateSubject>, _ now: Moment) {
        for subject in wanted.subtracting(subjects) { forget(subject) }
        for subject in subjects.subtracting(wanted) { warm(subject, now) }
        wanted = subjects
    }

    /// Drops a subject, its key included; whoever waits for it is refused.
    public mutating func forget(_ subject: CertificateSubject) {
        guard let entry = entries.removeValue(forKey: subject) else { return }
        if let priority = entry.queued { queues[priority]?.removeAll { $0 == subject } }
        resume(entry.waiters, .failure(CertificateUnavailable("the workload left the node")))
    }

    // MARK: Answers of the CA

    /// Takes over a certificate that was fetched, or that an earlier run has saved.
    ///
    /// - Parameter random: -1 ... 1: spreads renewals by a tenth of the half-life.
    public mutating func issued(
        _ subject: CertificateSubject, _ certificate: IssuedCertificate<Bundle>, random: Double, _ now: Moment
    ) {
        let wasRequested = inFlight.remove(subject) != nil
        guard certificate.notAfter > now.wall else {
            if wasRequested { fail(subject, "the certificate has expired already", random: random, now) }
            return
        }
        // Forgotten meanwhile.
        guard entries[subject] != nil || !wasRequested else { return }
        var entry = entries[subject] ?? Entry(subject)
        let begin = Double(certificate.notBefore)
        let half = (Double(certificate.notAfter) - begin) / 2 * (1 + 0.1 * max(-1, min(1, random)))
        // A certificate of a clock that is far off must not be renewed in a loop.
        entry.renewal = max(Int64(min(begin + half, 1e15)), now.wall + 1)
        entry.certificate = certificate
        entry.backoff.succeeded()
        entry.retry = nil
        entry.failure = nil
        let waiters = entry.waiters
        entry.waiters = []
        entries[subject] = entry
        resume(waiters, .success(certificate.bundle))
    }

    /// The CA refused, or could not be reached.
    ///
    /// - Parameter random: -1 ... 1.
    public mutating func failed(
        _ subject: CertificateSubject, _ reason: String, random: Double, _ now: Moment
    ) {
        inFlight.remove(subject)
        fail(subject, reason, random: random, now)
    }

    private mutating func fail(
        _ subject: CertificateSubject, _ reason: String, random: Double, _ now: Moment
    ) {
        guard var entry = entries[subject] else { return }
        var wait = entry.backoff.failed(random: random)
        let failure = CertificateUnavailable(reason)
        var waiters: [Waiter] = []
        if let certificate = entry.certificate, certificate.notAfter > now.wall {
            wait = min(wait, .seconds(min(certificate.notAfter - now.wall, 3_600)))
        } else {
            waiters = entry.waiters
            entry.waiters = []
        }
        entry.retry = now.monotonic + wait
        entry.failure = failure
        entries[subject] = entry
        resume(waiters, .failure(failure))
    }

    /// The CA can be reached again: whatever waits for its next attempt gets it now.
    public mutating func retryNow(_ now: Moment) {
        for subject in entries.keys where entries[subject]?.retry != nil {
            entries[subject]?.retry = now.monotonic
        }
    }

    // MARK: Time

    /// What is to be done now.
    public mutating func step(_ now: Moment) -> [Action] {
        for (subject, entry) in entries {
            expireWaiters(of: subject, entry, now)
            guard entry.queued == nil, !inFlight.contains(subject) else { continue }
            let isValid = entry.certificate.map { $0.notAfter > now.wall } ?? false
            if let retry = entry.retry {
                if retry <= now.monotonic { _ = enqueue(subject, isValid ? .background : .warmup) }
            } else if entry.renewal <= now.wall {
                _ = enqueue(subject, isValid ? .background : .warmup)
            }
        }
        while inFlight.count < configuration.inFlight, let subject = dequeue(now) {
            inFlight.insert(subject)
            pending.append(.fetch(subject))
        }
        defer { pending = [] }
        return pending
    }

    private mutating func expireWaiters(
        of subject: CertificateSubject, _ entry: Entry, _ now: Moment
    ) {
        let late = entry.waiters.filter { $0.deadline <= now.monotonic }
        guard !late.isEmpty else { return }
        entries[subject]?.waiters.removeAll { $0.deadline <= now.monotonic }
        resume(late, .failure(CertificateUnavailable("the CA did not answer in time")))
    }

    /// When `step` has something to do again, if nothing happens before; nil when there is nothing to wait for.
    public func nextWake(_ now: Moment) -> Duration? {
        guard !entries.isEmpty else { return nil }
        var wake = Self.longestSleep
        for (subject, entry) in entries {
            for waiter in entry.waiters { wake = min(wake, waiter.deadline - now.monotonic) }
            guard entry.queued == nil, !inFlight.contains(subject) else { continue }
            if let retry = entry.retry {
                wake = min(wake, retry - now.monotonic)
            } else if entry.certificate != nil, entry.renewal < Int64.max {
                wake = min(wake, .seconds(max(0, min(entry.renewal - now.wall, 3_600))))
            }
        }
        return max(wake, .zero)
    }

    // MARK: Inside

    private static var tooManySubjects: CertificateUnavailable {
        CertificateUnavailable("too many identities on this node")
    }

    /// Puts a subject into the queue of a priority, or moves it to a more urgent one.
    private mutating func enqueue(_ subject: CertificateSubject, _ priority: CertificatePriority) -> Bool {
        guard !inFlight.contains(subject) || entries[subject] == nil else { return true }
        if let queued = entries[subject]?.queued {
            guard priority < queued else { return true }
            queues[queued]?.removeAll { $0 == subject }
        }
        if entries[subject] == nil {
            guard entries.count < configuration.subjects else { return false }
            entries[subject] = Entry(subject)
            // Asked for again after it was forgotten, while its request is still under way: that answer will do.
            if inFlight.contains(subject) { return true }
        }
        entries[subject]?.queued = priority
        queues[priority, default: []].append(subject)
        return true
    }

    private mutating func dequeue(_ now: Moment) -> CertificateSubject? {
        let isHeld = configuration.needsNodeCertificate && current(.node, now) == nil
        for priority in CertificatePriority.allCases {
            let index = queues[priority]?.firstIndex { !isHeld || $0 == .node }
            guard let index, let subject = queues[priority]?.remove(at: index) else { continue }
            entries[subject]?.queued = nil
            return subject
        }
        return nil
    }

    private mutating func resume(_ waiters: [Waiter], _ result: Result<Bundle, CertificateUnavailable>) {
        waiterCount -= waiters.count
        pending += waiters.map { .resume($0.id, result) }
    }
}

/// For status pages and metrics.
extension CertificateCache {
    public struct Status: Sendable {
        public let subject: CertificateSubject
        /// Seconds since 1970; nil without a certificate.
        public let notAfter: Int64?
        public let failure: CertificateUnavailable?
    }

    public var status: [Status] {
        entries.map { Status(subject: $0, notAfter: $1.certificate?.notAfter, failure: $1.failure) }
    }

    /// Every certificate that is still valid, to be saved.
    public func valid(_ now: Moment) -> [(subject: CertificateSubject, bundle: Bundle)] {
        entries.compactMap { subject, _ in current(subject, now).map { (subject, $0) } }
    }
}
