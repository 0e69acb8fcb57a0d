import Address
import Linux
import Mesh

/// What the control component knows of its nodes and waypoints from what they say. Bound to the loop that serves them.
final class NodeRegistry {
    /// Certificates remembered for the status page: the latest of each identity of each caller.
    private static let certificateLimit = 20_000

    struct Certificate {
        let uri: String
        let serial: String
        let notAfter: Int64
        let issuedAt: WallClock
    }

    private(set) var sessions: [ObjectIdentifier: DiscoverySession] = [:]
    private var reports: [String: [String: CaptureReport]] = [:]
    private var certificates: [Caller: [String: Certificate]] = [:]
    private var certificateCount = 0
    private(set) var issuedCount = 0
    private(set) var refusedCount = 0

    func add(_ session: DiscoverySession) {
        sessions[ObjectIdentifier(session)] = session
        ControlMetrics.shared.connected.set(sessions.count)
    }

    func remove(_ session: DiscoverySession) {
        sessions[ObjectIdentifier(session)] = nil
        ControlMetrics.shared.connected.set(sessions.count)
    }

    /// The sessions of a node, two while a new daemon takes over from an old one; or of a waypoint, one of each replica.
    func sessions(of caller: Caller) -> [DiscoverySession] {
        sessions.values.filter { $0.caller == caller }.sorted { $0.since < $1.since }
    }

    /// Notes what became of a pod. Only pods that the node was told of count: there are no more entries than pods.
    func note(_ report: CaptureReport, from node: String, expecting pods: [LocalPod]) {
        if report.state == .removed {
            reports[node]?[report.uid] = nil
        } else if pods.contains(where: { $0.uid == report.uid }) {
            reports[node, default: [:]][report.uid] = report
        }
    }

    func report(of uid: String, on node: String) -> CaptureReport? { reports[node]?[uid] }

    /// Forgets pods and nodes that are no longer there.
    func keepOnly(_ pods: [String: [LocalPod]]) {
        reports = reports.reduce(into: [:]) { result, entry in
            let uids = Set((pods[entry.key] ?? []).map(\.uid))
            let kept = entry.value.filter { uids.contains($0.key) }
            if !kept.isEmpty { result[entry.key] = kept }
        }
    }

    func noteIssued(_ certificate: Certificate, to caller: Caller) {
        issuedCount += 1
        let isNew = certificates[caller]?[certificate.uri] == nil
        guard !isNew || certificateCount < Self.certificateLimit else { return }
        certificates[caller, default: [:]][certificate.uri] = certificate
        if isNew { certificateCount += 1 }
    }

    func noteRefused() { refusedCount += 1 }

    /// Sorted by identity.
    func certificates(of caller: Caller) -> [Certificate] {
        (certificates[caller] ?? [:]).values.sorted { $0.uri < $1.uri }
    }

    func forgetCertificates(except callers: Set<Caller>) {
        certificates = certificates.filter { callers.contains($0.key) }
        certificateCount = certificates.values.reduce(0) { $0 + $1.count }
    }
}
